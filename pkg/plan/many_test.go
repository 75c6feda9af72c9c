package plan_test

import (
	"net/netip"
	"testing"

	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// The work for a plan grows with what is in it, and no faster: twice the routes, about twice the allocations.
func TestBuildOfManyRoutes(t *testing.T) {
	config := `{"cniVersion": "1.1.0", "name": "podnet", "type": "veth", "ipam": {"type": "veth", "ranges": [[{"subnet": "10.88.0.0/16"}]]}}`
	cfg, err := netconf.Parse(netconf.Request{ContainerID: "c", Netns: "/x", IfName: "eth0", Config: []byte(config)})
	if err != nil {
		t.Fatal(err)
	}
	cost := func(routes int) float64 {
		addrs := plan.Addresses{List: []plan.Assigned{{Prefix: netip.MustParsePrefix("10.88.0.5/16")}}, Leased: true}
		for i := range routes {
			to := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
			addrs.Routes = append(addrs.Routes, netconf.Route{Dst: netip.PrefixFrom(to, 32)})
		}
		return testing.AllocsPerRun(1, func() {
			if p := plan.Build(cfg, addrs); len(p.Inside) < routes {
				t.Errorf("%d objects of %d routes", len(p.Inside), routes)
			}
		})
	}
	if few, many := cost(300), cost(600); many > 3*few {
		t.Errorf("%.0f allocations for 300 routes, %.0f for 600", few, many)
	}
}
