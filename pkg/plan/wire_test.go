package plan_test

import (
	"testing"

	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

func sizes() netconf.Sizes {
	return netconf.Sizes{GSO: 200_000, GRO: 200_001, GSO4: 200_002, GRO4: 200_003}
}

func ends() plan.Ends {
	e := plan.End{Queues: netconf.Queues{Tx: 2, Rx: 4}, Sizes: sizes()}
	return plan.Ends{Host: e, Peer: e}
}

func longPackets() plan.LongPackets { return plan.LongPackets{Link: "br0", Sizes: sizes()} }

func wireSettings() plan.WireSettings {
	return plan.WireSettings{
		Place: plan.Container, Link: "eth0", Qdisc: "fq", RPS: netconf.CPUs{0, 1, 2, 5}, XPS: []netconf.CPUs{{0}, {1, 3}},
		Offloads: []netconf.Offload{{Feature: "rx-gro", On: true}, {Feature: "tx-tcp-segmentation"}},
	}
}

// wireDifferences continues differences.
func wireDifferences() []difference {
	var list []difference
	for i, name := range []string{"gso_max_size", "gro_max_size", "gso_ipv4_max_size", "gro_ipv4_max_size"} {
		value := string(rune('0' + i))
		list = append(list, difference{
			longPackets(), but(longPackets(), func(o *plan.LongPackets) { *sizeOf(&o.Sizes, i) = 65536 }),
			"host packet sizes of br0: " + name + ": want 20000" + value + ", found 65536",
		})
	}
	for _, end := range []struct {
		prefix string
		of     func(*plan.Pair) *plan.End
	}{{"", func(p *plan.Pair) *plan.End { return &p.Ends.Host }}, {"peer ", func(p *plan.Pair) *plan.End { return &p.Ends.Peer }}} {
		at := "host interface vh: " + end.prefix
		list = append(list,
			difference{pair(), but(pair(), func(o *plan.Pair) { end.of(o).Queues.Tx = 1 }), at + "txqueues: want 2, found 1"},
			difference{pair(), but(pair(), func(o *plan.Pair) { end.of(o).Queues.Rx = 1 }), at + "rxqueues: want 4, found 1"})
		for i, name := range []string{"gso_max_size", "gro_max_size", "gso_ipv4_max_size", "gro_ipv4_max_size"} {
			value := string(rune('0' + i))
			list = append(list, difference{
				pair(), but(pair(), func(o *plan.Pair) { *sizeOf(&end.of(o).Sizes, i) = 65536 }),
				at + name + ": want 20000" + value + ", found 65536",
			})
		}
	}
	const at = "container wire settings eth0: "
	return append(list,
		difference{wireSettings(), but(wireSettings(), func(o *plan.WireSettings) {
			o.Offloads = []netconf.Offload{{Feature: "rx-gro", On: true}, {Feature: "tx-tcp-segmentation", On: true}}
		}), at + "offloads: want rx-gro on, tx-tcp-segmentation off, found rx-gro on, tx-tcp-segmentation on"},
		difference{wireSettings(), but(wireSettings(), func(o *plan.WireSettings) { o.RPS = nil }), at + "rps: want 0-2,5, found nothing"},
		difference{wireSettings(), but(wireSettings(), func(o *plan.WireSettings) { o.XPS = []netconf.CPUs{{0}, nil} }), at + "xps: want 0:0 1:1,3, found 0:0 1:"},
		difference{wireSettings(), but(wireSettings(), func(o *plan.WireSettings) { o.Qdisc = "noqueue" }), at + "qdisc: want fq, found noqueue"},
	)
}

func sizeOf(s *netconf.Sizes, i int) *uint32 { return []*uint32{&s.GSO, &s.GRO, &s.GSO4, &s.GRO4}[i] }

// TestAnEndWithARateKeepsOrdinaryPackets: a token bucket is no place for packets that are longer than it is deep.
func TestAnEndWithARateKeepsOrdinaryPackets(t *testing.T) {
	cfg := &netconf.Config{Wire: netconf.Wire{Sizes: sizes(), Qdisc: "fq", Queues: netconf.Queues{Tx: 2}}}
	plain := netconf.Sizes{GRO: sizes().GRO, GRO4: sizes().GRO4}
	for _, tt := range []struct {
		name         string
		rates        netconf.Bandwidth
		host, peer   netconf.Sizes
		hostQ, peerQ string
	}{
		{"none", netconf.Bandwidth{}, sizes(), sizes(), "fq", "fq"},
		{"towards the container", netconf.Bandwidth{Ingress: netconf.Limit{Rate: 1e6}}, plain, sizes(), "", "fq"},
		{"from it", netconf.Bandwidth{Egress: netconf.Limit{Rate: 1e6}}, sizes(), plain, "fq", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := *cfg
			c.Bandwidth = tt.rates
			p := plan.Build(&c, plan.Addresses{})
			if p.Pair.Ends.Host.Sizes != tt.host || p.Pair.Ends.Peer.Sizes != tt.peer {
				t.Errorf("the ends are %+v, want sizes %+v and %+v", p.Pair.Ends, tt.host, tt.peer)
			}
			kinds := map[plan.Place]string{}
			for _, o := range p.Objects() {
				if w, ok := o.(plan.WireSettings); ok {
					kinds[w.Place] = w.Qdisc
				}
			}
			if kinds[plan.Host] != tt.hostQ || kinds[plan.Container] != tt.peerQ {
				t.Errorf("queueing disciplines are %v, want %q on the host and %q inside", kinds, tt.hostQ, tt.peerQ)
			}
		})
	}
}
