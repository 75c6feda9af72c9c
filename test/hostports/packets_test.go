package hostports

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/veth-cni/veth/test/node"
)

// From everywhere, in both modes, with both protocols and families: the pod is reached, and sees who comes.
func TestReach(t *testing.T) {
	t.Parallel()
	const preserved = "its own"
	for _, mode := range []struct {
		name                   string
		conf                   object
		loopback               string
		itself4, itself6       string
		neighbour4, neighbour6 string
	}{
		{"routed", routed, "169.254.1.1", "169.254.1.1", "", preserved, preserved},
		{
			"ptp",
			object{"type": "ptp", "ipam": object{"type": "veth", "ranges": [][]object{
				{{"subnet": "10.88.0.0/24"}}, {{"subnet": "2001:db8:88::/64"}},
			}, "routes": []object{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}}}},
			"10.88.0.1", "10.88.0.1", "", preserved, preserved,
		},
		{"bridge", bridge, "10.88.0.1", "10.88.0.1", "2001:db8:88::1", "10.88.0.1", "2001:db8:88::1"},
		{"bridge with bridge-nf-call", bridge, "10.88.0.1", "10.88.0.1", "2001:db8:88::1", preserved, preserved},
	} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.BridgeCallsNetfilter(strings.HasSuffix(mode.name, "call"))
			web := m.pod("web", mode.conf, ports("tcp 8080 80", "udp 8080 80", "tcp 9090 90 127.0.0.1"))
			other := m.pod("other", mode.conf)
			web.serve("tcp", 80)
			web.serve("udp", 80)
			web.serve("tcp", 90)
			m.must(web.check())
			m.settled(host6, 8080)
			for _, c := range []struct {
				name   string
				from   *node.Namespace
				to     netip.Addr
				port   uint16
				source netip.Addr
				want   string // the source that the pod sees; "" any
			}{
				{"world", m.world, host4, 8080, world4, preserved},
				{"world to the second address", m.world, second4, 8080, world4, preserved},
				{"world, IPv6", m.world, host6, 8080, world6, preserved},
				{"host", m.Namespace, host4, 8080, host4, preserved},
				{"host, IPv6", m.Namespace, host6, 8080, host6, preserved},
				{"host's loopback", m.Namespace, local4, 8080, local4, mode.loopback},
				{"host's loopback alone", m.Namespace, local4, 9090, local4, mode.loopback},
				{"another pod", other.Namespace, host4, 8080, other.address(true), mode.neighbour4},
				{"another pod, IPv6", other.Namespace, host6, 8080, other.address(false), mode.neighbour6},
				{"itself", web.Namespace, host4, 8080, web.address(true), mode.itself4},
				{"itself, IPv6", web.Namespace, host6, 8080, web.address(false), mode.itself6},
			} {
				for _, protocol := range []string{"tcp", "udp"} {
					if protocol == "udp" && c.port == 9090 {
						continue
					}
					t.Run(c.name+" "+protocol, func(t *testing.T) {
						seen, err := c.from.SeenAs(protocol, netip.AddrPortFrom(c.to, c.port))
						if err != nil {
							t.Fatal(err)
						}
						want := c.want
						if want == preserved {
							want = c.source.String()
						}
						if want != "" && seen.Addr().String() != want {
							t.Errorf("the pod sees %s, want %s", seen.Addr(), want)
						}
					})
				}
			}
			if seen, err := m.world.SeenAs("tcp", netip.AddrPortFrom(host4, 9090)); err == nil {
				t.Errorf("a port on 127.0.0.1 answers the world: %s", seen)
			}
		})
	}
}
