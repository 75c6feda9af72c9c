package kernel_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/plan"
)

func TestNeighbours(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		own := lease.Owner{Network: "podnet", ContainerID: "c1", IfName: "eth0"}
		second := lease.Owner{Network: "othernet", ContainerID: "c1", IfName: "eth1"}
		third := lease.Owner{Network: "lab", ContainerID: "c1", IfName: "eth2"}
		onBridge := func(o lease.Owner) plan.Pair {
			p := pairOf(o)
			p.Master = bridge.Name
			return p
		}
		m.apply(bridge, onBridge(own), onBridge(second), pairOf(third))
		m.apply(plan.Lease{Link: own.HostName(), Name: lease.Name("podnet", netip.MustParseAddr("198.18.0.9"))},
			plan.Lease{Link: third.HostName(), Name: lease.Name("lab", netip.MustParseAddr("198.18.0.200"))})
		got, err := m.kernel.Neighbours("podnet", "br0")
		m.must(err)
		for link, want := range map[string][]string{"br0": {"othernet"}, "br1": nil, "": nil} {
			if names := got.Behind(link); !slices.Equal(names, want) {
				m.Errorf("behind %q is %q, want %q", link, names, want)
			}
		}
		for network, want := range map[string]bool{"podnet": false, "othernet": true, "lab": true, "nobody": false} {
			if got.Alive(network) != want {
				m.Errorf("%s is alive: %v", network, !want)
			}
		}
		for _, c := range []struct{ first, last, want string }{
			{"198.18.0.0", "198.18.0.255", "lab"}, // and othernet
			{"198.18.0.200", "198.18.0.200", "lab"},
			{"198.18.0.0", "198.18.0.199", "othernet"}, // on the bridge, with addresses that nobody here knows
		} {
			if names := got.Within(netip.MustParseAddr(c.first), netip.MustParseAddr(c.last)); names[0] != c.want {
				m.Errorf("from %s to %s are %q, want %q first", c.first, c.last, names, c.want)
			}
		}
		m.must(m.kernel.Retire("podnet", ""))
		if got := m.observe(bridge); len(got) != 1 || got[0].(plan.Bridge).Alias != lease.NetworkAlias("othernet") {
			m.Errorf("the bridge is %v", got)
		}
	})
}
