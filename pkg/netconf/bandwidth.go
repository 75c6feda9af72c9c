package netconf

import (
	"fmt"
	"time"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// Bandwidth limits what passes between the host and a container. The directions are the container's: ingress is what it
// receives. The zero Bandwidth limits nothing.
type Bandwidth struct {
	Ingress Limit
	Egress  Limit
	Latency time.Duration // how long a packet may wait for its turn, whole milliseconds
	MTU     int           // bytes, of the frames that bursts and queues are made of, 0: Config's MTU
}

// Limit is a rate and how far a short time may exceed it. The zero Limit is none.
type Limit struct {
	Rate  uint64 // bits a second
	Burst uint64 // bits, 0: as the rate and the latency suggest
}

// The rates that Kubernetes accepts in a pod's annotations (minRsrc and maxRsrc of pkg/util/bandwidth), in bits a second.
const (
	minRate = 1e3
	maxRate = 1e15
)

// Latencies in milliseconds. The default is the reference bandwidth plugin's.
const (
	defaultLatency = 25
	maxLatency     = 1000
)

type rawBandwidth struct {
	IngressRate  uint64 `json:"ingressRate"`
	IngressBurst uint64 `json:"ingressBurst"`
	EgressRate   uint64 `json:"egressRate"`
	EgressBurst  uint64 `json:"egressBurst"`
}

// bandwidth takes each direction from the network's configuration, or where that leaves it open, from the runtime's.
func (p *parser) bandwidth() error {
	static, dynamic := p.raw.rawBandwidth, p.raw.RuntimeConfig.Bandwidth
	var b Bandwidth
	var err error
	if b.Ingress, err = limit("ingress", static.ingress(), dynamic.ingress()); err != nil {
		return err
	}
	if b.Egress, err = limit("egress", static.egress(), dynamic.egress()); err != nil {
		return err
	}
	if err := p.podBandwidth(&b); err != nil {
		return err
	}
	ms := int64(defaultLatency)
	if asked := p.raw.BandwidthLatency; asked != nil {
		ms = *asked
	}
	if ms < 1 || ms > maxLatency {
		return cnierr.Key(cnierr.InvalidConfig, "bandwidthLatency", ms, fmt.Sprintf("1 to %d milliseconds", maxLatency))
	}
	if b != (Bandwidth{}) {
		b.Latency = time.Duration(ms) * time.Millisecond
	}
	p.config.Bandwidth = b
	return nil
}

func (r rawBandwidth) ingress() Limit { return Limit{r.IngressRate, r.IngressBurst} }
func (r rawBandwidth) egress() Limit  { return Limit{r.EgressRate, r.EgressBurst} }

// limit checks both, so that a runtime's mistake does not wait for the day the network's own limit goes.
func limit(direction string, static, dynamic Limit) (Limit, error) {
	if err := static.check(direction); err != nil {
		return Limit{}, err
	}
	if err := dynamic.check("runtimeConfig.bandwidth." + direction); err != nil {
		return Limit{}, err
	}
	if static.Rate != 0 {
		return static, nil
	}
	return dynamic, nil
}

// check takes a rate of 0 for no limit, which is how runtimes leave a direction out.
func (l Limit) check(path string) error {
	switch {
	case l.Rate == 0 && l.Burst != 0:
		return missing(path+"Rate", "a rate beside "+path+"Burst, or neither")
	case l.Rate != 0 && (l.Rate < minRate || l.Rate > maxRate):
		return cnierr.Key(cnierr.InvalidConfig, path+"Rate", l.Rate,
			"1000 (1 kbit/s) to 1000000000000000 (1 Pbit/s) bits a second, or 0 for no limit")
	}
	return nil
}
