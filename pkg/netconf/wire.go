package netconf

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// Wire is how the pair carries packets. All of it holds for both ends.
type Wire struct {
	Queues   Queues
	Sizes    Sizes
	Offloads []Offload // in the order of their names; features that are not named stay as the kernel has them
	RPS      CPUs      // processors that take in what an end receives, whatever its queue; empty: the sender's
	XPS      []CPUs    // for each transmit queue the processors that use it; empty: the kernel's choice
	Qdisc    string    // the kind of the root queueing discipline; empty: the kernel's choice, none
	MTU      int       // bytes, of the interface of an attachment that is there; 0: Config's MTU
}

// Long reports whether containers may send packets longer than 64K, BIG TCP.
func (w Wire) Long() bool { return max(w.Sizes.GSO, w.Sizes.GSO4) > LongestPlain }

// Queues are how many an end has of each; 0: one. More than there are processors gain nothing.
type Queues struct{ Tx, Rx int }

// Sizes are bytes of the longest packets that an end takes unsegmented (GSO) or puts together (GRO); 0: the kernel's choice,
// 65536. Those for IPv4 are of their own from Linux 6.3.
type Sizes struct{ GSO, GRO, GSO4, GRO4 uint32 }

// Offload is a feature of the interface by the kernel's name for it (net/ethtool/common.c, netdev_features_strings).
type Offload struct {
	Feature string
	On      bool
}

// CPUs are numbers of processors, ascending, without duplicates.
type CPUs []int

// String is the list as cpuset(7) writes it: 0-3,8.
func (c CPUs) String() string {
	var b strings.Builder
	for i := 0; i < len(c); {
		last := i
		for last+1 < len(c) && c[last+1] == c[last]+1 {
			last++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(c[i]))
		if last > i {
			b.WriteString("-" + strconv.Itoa(c[last]))
		}
		i = last + 1
	}
	return b.String()
}

type rawWire struct {
	NumTxQueues *int64          `json:"numTxQueues"`
	NumRxQueues *int64          `json:"numRxQueues"`
	GRO         *bool           `json:"gro"`
	Offloads    json.RawMessage `json:"offloads"`
	RPSCPUs     *string         `json:"rpsCPUs"`
	XPSCPUs     []string        `json:"xpsCPUs"`
	Qdisc       *string         `json:"qdisc"`

	GSOMaxSize     *int64 `json:"gsoMaxSize"`
	GROMaxSize     *int64 `json:"groMaxSize"`
	GSOIPv4MaxSize *int64 `json:"gsoIPv4MaxSize"`
	GROIPv4MaxSize *int64 `json:"groIPv4MaxSize"`
}

const (
	maxQueues = 4096 // of rtnl_create_link, net/core/rtnetlink.c

	// LongestPlain is the longest packet without BIG TCP, in bytes (GSO_LEGACY_MAX_SIZE).
	LongestPlain = 65536
	minSize      = 4096   // a few segments; the kernel wants more than the longest headers (MAX_TCP_HEADER)
	maxSize      = 524280 // GSO_MAX_SIZE and GRO_MAX_SIZE of include/linux/netdevice.h

	maxCPU = 8191 // the largest CONFIG_NR_CPUS there is
)

func (p *parser) wire() error {
	for _, part := range []func() error{p.queues, p.sizes, p.offloads, p.steering, p.qdisc} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) queues() error {
	w := &p.config.Wire
	for _, k := range []struct {
		name string
		want *int64
		to   *int
	}{{"numTxQueues", p.raw.NumTxQueues, &w.Queues.Tx}, {"numRxQueues", p.raw.NumRxQueues, &w.Queues.Rx}} {
		if k.want == nil {
			continue
		}
		if *k.want < 1 || *k.want > maxQueues {
			return cnierr.Key(cnierr.InvalidConfig, k.name, *k.want, "1 to 4096 queues")
		}
		*k.to = int(*k.want)
	}
	return nil
}

func (p *parser) sizes() error {
	raw, s := p.raw.rawWire, &p.config.Wire.Sizes
	for _, k := range []struct {
		name string
		want *int64
		to   *uint32
	}{
		{"gsoMaxSize", raw.GSOMaxSize, &s.GSO},
		{"groMaxSize", raw.GROMaxSize, &s.GRO},
		{"gsoIPv4MaxSize", raw.GSOIPv4MaxSize, &s.GSO4},
		{"groIPv4MaxSize", raw.GROIPv4MaxSize, &s.GRO4},
	} {
		if k.want == nil {
			continue
		}
		if *k.want < minSize || *k.want > maxSize {
			return cnierr.Key(cnierr.InvalidConfig, k.name, *k.want, "4096 to 524280 bytes")
		}
		*k.to = uint32(*k.want)
	}
	return nil
}

// groFeature has a key of its own: "gro".
const groFeature = "rx-gro"

// offloadNames are what a configuration may name, as ethtool -k prints it, with the features of a veth that each stands
// for (VETH_FEATURES, drivers/net/veth.c, and what the kernel does in software for every interface).
var offloadNames = []struct {
	name     string
	features []string
}{
	{"generic-segmentation-offload", []string{"tx-generic-segmentation"}},
	{"rx-checksumming", []string{"rx-checksum"}},
	{"rx-gro-list", []string{"rx-gro-list"}},
	{"rx-udp-gro-forwarding", []string{"rx-udp-gro-forwarding"}},
	{"rx-vlan-offload", []string{"rx-vlan-hw-parse"}},
	{"scatter-gather", []string{"tx-scatter-gather", "tx-scatter-gather-fraglist"}},
	{"tcp-segmentation-offload", []string{"tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation"}},
	{"tx-checksum-ip-generic", []string{"tx-checksum-ip-generic"}},
	{"tx-checksum-sctp", []string{"tx-checksum-sctp"}},
	{"tx-checksumming", []string{"tx-checksum-ip-generic", "tx-checksum-sctp"}},
	{"tx-gso-list", []string{"tx-gso-list"}},
	{"tx-scatter-gather", []string{"tx-scatter-gather"}},
	{"tx-scatter-gather-fraglist", []string{"tx-scatter-gather-fraglist"}},
	{"tx-sctp-segmentation", []string{"tx-sctp-segmentation"}},
	{"tx-tcp-ecn-segmentation", []string{"tx-tcp-ecn-segmentation"}},
	{"tx-tcp-mangleid-segmentation", []string{"tx-tcp-mangleid-segmentation"}},
	{"tx-tcp-segmentation", []string{"tx-tcp-segmentation"}},
	{"tx-tcp6-segmentation", []string{"tx-tcp6-segmentation"}},
	{"tx-udp-segmentation", []string{"tx-udp-segmentation"}},
	{"tx-vlan-offload", []string{"tx-vlan-hw-insert"}},
}

// offloadNeeds are the features without which the kernel switches one off (netdev_fix_features, net/core/dev.c).
func offloadNeeds(feature string) []string {
	switch feature {
	case "tx-tcp-segmentation", "tx-tcp6-segmentation":
		return []string{"tx-scatter-gather", "tx-checksum-ip-generic"}
	case "tx-udp-segmentation":
		return []string{"tx-checksum-ip-generic"}
	case "tx-generic-segmentation":
		return []string{"tx-scatter-gather"}
	}
	return nil
}

func (p *parser) offloads() error {
	list, err := members(nil, "offloads", p.raw.Offloads)
	if err != nil {
		return err
	}
	wanted := map[string]Offload{}
	askedBy := map[string]string{} // the configuration's key for a feature
	if gro := p.raw.GRO; gro != nil {
		wanted[groFeature], askedBy[groFeature] = Offload{groFeature, *gro}, "gro"
	}
	for _, m := range list {
		path := join("offloads", m.name)
		features, err := offloadFeatures(path, m.name)
		if err != nil {
			return err
		}
		var on bool
		if absent(m.value) || json.Unmarshal(m.value, &on) != nil {
			return wrongType(path, m.value, "true or false")
		}
		for _, f := range features {
			if _, twice := wanted[f]; twice {
				return cnierr.New(cnierr.InvalidConfig, "%s: %s is given by %s already: want it once", path, f, askedBy[f])
			}
			wanted[f], askedBy[f] = Offload{f, on}, path
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		f := wanted[name]
		for _, need := range offloadNeeds(f.Feature) {
			if n, named := wanted[need]; f.On && named && !n.On {
				return cnierr.New(cnierr.InvalidConfig, "%s: the kernel has no %s without %s, which %s turns off: want both on, or both off",
					askedBy[f.Feature], f.Feature, need, askedBy[need])
			}
		}
		p.config.Wire.Offloads = append(p.config.Wire.Offloads, f)
	}
	return p.segments(askedBy)
}

func offloadFeatures(path, name string) ([]string, error) {
	if slices.Contains([]string{"gro", groFeature, "generic-receive-offload"}, name) {
		return nil, cnierr.New(cnierr.UnsupportedField, `%s: has a key of its own: want "gro" beside "offloads"`, path)
	}
	var names []string
	for _, known := range offloadNames {
		if known.name == name {
			return known.features, nil
		}
		names = append(names, known.name)
	}
	return nil, cnierr.New(cnierr.UnsupportedField, "%s: no feature that a veth can change%s: want one of %s",
		path, didYouMean(name, names), strings.Join(names, ", "))
}

// segments refuses sizes that nothing makes use of: packets are cut to the MTU before an end without segmentation.
func (p *parser) segments(askedBy map[string]string) error {
	s := p.config.Wire.Sizes
	for _, f := range p.config.Wire.Offloads {
		key := ""
		switch {
		case f.On:
		case s.GSO > LongestPlain && (f.Feature == "tx-tcp6-segmentation" || f.Feature == "tx-checksum-ip-generic" || f.Feature == "tx-scatter-gather"):
			key = "gsoMaxSize"
		case s.GSO4 > LongestPlain && (f.Feature == "tx-tcp-segmentation" || f.Feature == "tx-checksum-ip-generic" || f.Feature == "tx-scatter-gather"):
			key = "gsoIPv4MaxSize"
		}
		if key != "" {
			return cnierr.New(cnierr.InvalidConfig, "%s: contradicts %s: no packet is longer than the MTU without %s",
				key, askedBy[f.Feature], f.Feature)
		}
	}
	return nil
}

// steering reads which processors have to do with which queues.
func (p *parser) steering() error {
	raw, w := p.raw.rawWire, &p.config.Wire
	if raw.RPSCPUs != nil {
		cpus, err := parseCPUs("rpsCPUs", *raw.RPSCPUs)
		if err != nil {
			return err
		}
		w.RPS = cpus
	}
	if len(raw.XPSCPUs) == 0 {
		return nil
	}
	if w.Queues.Tx < 2 {
		return cnierr.New(cnierr.InvalidConfig, "xpsCPUs: has no effect with one transmit queue: want numTxQueues, one for each entry")
	}
	if len(raw.XPSCPUs) != w.Queues.Tx {
		return cnierr.New(cnierr.InvalidConfig, "xpsCPUs: %d entries: want one for each of the %d queues of numTxQueues",
			len(raw.XPSCPUs), w.Queues.Tx)
	}
	for i, list := range raw.XPSCPUs {
		cpus, err := parseCPUs(index("xpsCPUs", i), list)
		if err != nil {
			return err
		}
		w.XPS = append(w.XPS, cpus)
	}
	return nil
}

// parseCPUs reads a list of processors in the format of cpuset(7): numbers and ranges.
func parseCPUs(path, list string) (CPUs, error) {
	bad := cnierr.Key(cnierr.InvalidConfig, path, list, `processors such as "0-3,8", each at most 8191`)
	var cpus CPUs
	for _, span := range strings.Split(list, ",") {
		first, last, ranged := strings.Cut(span, "-")
		if !ranged {
			last = first
		}
		from, err := cpu(first)
		if err != nil {
			return nil, bad
		}
		to, err := cpu(last)
		if err != nil || to < from {
			return nil, bad
		}
		for n := from; n <= to; n++ {
			cpus = append(cpus, n)
		}
	}
	slices.Sort(cpus)
	return slices.Compact(cpus), nil
}

func cpu(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && n > maxCPU {
		err = fmt.Errorf("%d: more than %d", n, maxCPU)
	}
	return int(n), err
}

// qdiscs are the queueing disciplines that work without any parameter.
var qdiscs = []string{"noqueue", "pfifo", "bfifo", "pfifo_fast", "fq", "fq_codel", "fq_pie", "codel", "pie", "sfq", "cake", "mq"}

func (p *parser) qdisc() error {
	asked := p.raw.Qdisc
	if asked == nil {
		return nil
	}
	if !slices.Contains(qdiscs, *asked) {
		return cnierr.Key(cnierr.UnsupportedField, "qdisc", *asked, "one of "+strings.Join(qdiscs, ", "))
	}
	if *asked == "mq" && p.config.Wire.Queues.Tx < 2 {
		return cnierr.New(cnierr.InvalidConfig, `qdisc: "mq" is for several transmit queues: want numTxQueues of 2 or more, or another`)
	}
	if r := p.raw.rawBandwidth; r.IngressRate != 0 || r.EgressRate != 0 {
		return cnierr.New(cnierr.InvalidConfig, "qdisc: contradicts ingressRate and egressRate, which need tbf in its place: want one of them")
	}
	p.config.Wire.Qdisc = *asked
	return nil
}
