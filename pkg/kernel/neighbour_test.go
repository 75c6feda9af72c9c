package kernel_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/plan"
)

func TestNeighbour(t *testing.T) {
	t.Parallel()
	var scenarios []scenario
	for _, p := range []plan.Place{plan.Host, plan.Container} {
		for _, a := range []netip.Addr{addr("198.18.0.5"), addr("2001:db8::5"), addr("fe80::1")} {
			n := plan.Neighbour{Place: p, Link: link(p), Addr: a, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 5}}
			set := func(state int, mac net.HardwareAddr) func(m *machine) error {
				return by(p, n.Link, func(l netlink.Link) error {
					return netlink.NeighSet(&netlink.Neigh{
						LinkIndex: l.Attrs().Index, IP: a.AsSlice(), State: state, HardwareAddr: mac,
					})
				})
			}
			scenarios = append(scenarios, scenario{
				name: p.String() + " " + a.String(), given: []plan.Object{pair, inside}, object: n, again: rewrote, sticks: true,
				breaks: []change{
					{"removed", by(p, n.Link, func(l netlink.Link) error {
						return netlink.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: a.AsSlice()})
					}), missing},
					{"another MAC", set(netlink.NUD_PERMANENT, stranger), wants("lladdr", "02:00:00:00:00:05", "02:00:00:00:00:09")},
					{"not permanent", set(netlink.NUD_REACHABLE, n.MAC), missing},
				},
			})
		}
	}
	runScenarios(t, scenarios)
}
