package hostports

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/test/node"
)

// A port that somebody has is refused, the holder named, and the ADD leaves nothing.
func TestConflicts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		first, other object
		conf         object
		want         string // in the error; "" if there is none
	}{
		{"the same", ports("tcp 8080 80"), ports("tcp 8080 90"), routed, "hostPort tcp 0.0.0.0:8080 is taken: it leads to 10.88.0."},
		{"bridged", ports("tcp 8080 80"), ports("tcp 8080 90"), bridge, "of pod shop/first (container first, interface eth0, network podnet)"},
		{"another protocol", ports("tcp 8080 80"), ports("udp 8080 80", "sctp 8080 80"), routed, ""},
		{"another family", ports("tcp 8080 80 0.0.0.0"), ports("tcp 8080 80 ::"), routed, ""},
		{"another address", ports("tcp 8080 80 192.0.2.1"), ports("tcp 8080 80 192.0.2.3"), routed, ""},
		{"the same address", ports("tcp 8080 80 192.0.2.1"), ports("tcp 8080 80 192.0.2.1"), routed, "tcp 192.0.2.1:8080 is taken"},
		{"one address of all", ports("tcp 8080 80"), ports("tcp 8080 80 192.0.2.1"), routed, "tcp 192.0.2.1:8080 is taken"},
		{"all but for one address", ports("tcp 8080 80 192.0.2.1"), ports("tcp 8080 80"), routed, "tcp 0.0.0.0:8080 is taken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.pod("first", c.conf, c.first)
			before := m.Snapshot()
			other := &pod{Namespace: m.Container("other"), machine: m, name: "other", conf: network(c.conf, c.other)}
			err := other.add()
			if c.want == "" {
				m.must(err)
				m.must(other.check())
				return
			}
			if err == nil || cnierr.Of(err, 0).Code != cnierr.Conflict || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a conflict: %s", err, c.want)
			}
			if d := node.Diff(before, m.Snapshot()); d != "" {
				t.Errorf("the ADD left:\n%s", d)
			}
		})
	}
}

// Whoever lost its host end has lost its ports, whether a GC has come by or not.
func TestTheDeadHoldNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, dead, next string }{
		{"the same", "tcp 8080 80", "tcp 8080 80"},
		{"one address of all", "tcp 8080 80", "tcp 8080 80 192.0.2.1"},
		{"all but for one address", "tcp 8080 80 192.0.2.1", "tcp 8080 80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.must(m.pod("first", routed).del()) // what all networks share stays
			start := m.Snapshot()
			dead := m.pod("dead", routed, ports(c.dead, "udp 53 53"), object{"hostPortSources": []string{"198.18.0.0/24"}})
			m.unplug(dead)
			next := m.pod("next", routed, ports(c.next))
			next.serve("tcp", 80)
			if _, err := m.world.SeenAs("tcp", netip.AddrPortFrom(host4, 8080)); err != nil {
				t.Error(err)
			}
			m.must(next.check())
			m.must(dead.del()) // late, and not its port any more
			m.must(next.check())
			m.must(next.del())
			if d := node.Diff(start, m.Snapshot()); strings.Contains(d, "nft") {
				t.Errorf("left:\n%s", d)
			}
		})
	}
}

func TestProcessOfTheHostListens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, listen, at, port, setting string
		refused                         bool
	}{
		{"tcp", "tcp", "0.0.0.0:8080", "tcp 8080 80", "refuse", true},
		{"by default", "tcp", "0.0.0.0:8080", "tcp 8080 80", "", true},
		{"udp", "udp", "0.0.0.0:8080", "udp 8080 80", "refuse", true},
		{"on one address", "udp", "127.0.0.53:8080", "udp 8080 80", "refuse", true},
		{"on another address", "tcp", "127.0.0.53:8080", "tcp 8080 80 192.0.2.1", "refuse", false},
		{"on both families", "tcp", "[::]:8080", "tcp 8080 80 0.0.0.0", "refuse", true},
		{"IPv6", "tcp", "[2001:db8::1]:8080", "tcp 8080 80 ::", "refuse", true},
		{"the other family", "tcp", "[2001:db8::1]:8080", "tcp 8080 80 0.0.0.0", "refuse", false},
		{"the other protocol", "udp", "0.0.0.0:8080", "tcp 8080 80", "refuse", false},
		{"warned", "tcp", "0.0.0.0:8080", "tcp 8080 80", "warn", false},
		{"ignored", "tcp", "0.0.0.0:8080", "tcp 8080 80", "ignore", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.Mirror(t, c.listen, netip.MustParseAddrPort(c.at))
			conf := network(ports(c.port))
			if c.setting != "" {
				conf["hostPortInUse"] = c.setting
			}
			p := &pod{Namespace: m.Container("web"), machine: m, name: "web", conf: conf}
			err := p.add()
			want := "a process of the host listens on"
			if (err != nil) != c.refused || (err != nil && !strings.Contains(err.Error(), want)) {
				t.Errorf("got %v, want refused %v: %s", err, c.refused, want)
			}
		})
	}
}

// A client's socket that happens to have the port is nobody's server.
func TestClientOfTheHostIsNoServer(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.world.Mirror(t, "udp", netip.AddrPortFrom(world4, 53))
	m.must(m.Do(func() error {
		return dialFrom(t, "udp", netip.AddrPortFrom(host4, 8080), netip.AddrPortFrom(world4, 53))
	}))
	m.pod("web", ports("udp 8080 80"))
}

// route_localnet would open the host's loopback services to the pods and the world, but for the guard.
func TestLoopbackStaysClosed(t *testing.T) {
	t.Parallel()
	for name, conf := range map[string]object{"routed": routed, "bridge": bridge} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.Mirror(t, "udp", netip.MustParseAddrPort("127.0.0.1:6060"))
			web := m.pod("web", conf, ports("tcp 8080 80"))
			m.must(web.Do(func() error {
				// What a container can do that may change its own network.
				for _, key := range []string{"all", "eth0"} {
					if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+key+"/route_localnet", []byte("1"), 0); err != nil {
						return err
					}
				}
				return loopbackElsewhere()
			}))
			if seen, err := web.SeenAs("udp", netip.MustParseAddrPort("127.0.0.1:6060")); err == nil {
				t.Errorf("the pod reaches a service on the host's loopback interface, as %s", seen)
			}
			m.must(m.Do(func() error { return deleteTable() }))
			if _, err := web.SeenAs("udp", netip.MustParseAddrPort("127.0.0.1:6060")); err != nil {
				t.Errorf("without the guard the pod would not reach it either: %v", err)
			}
		})
	}
}
