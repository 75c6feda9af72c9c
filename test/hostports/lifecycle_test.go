package hostports

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/test/node"
)

var web8080 = netip.AddrPortFrom(host4, 8080)

// DEL removes what is the attachment's and nothing else, whatever the runtime remembers.
func TestDelRemovesItsOwn(t *testing.T) {
	t.Parallel()
	everything := ports("tcp 8080 80", "udp 53 53 192.0.2.1", "sctp 3868 3868", "tcp 8443 443 ::")
	for _, mode := range []struct {
		name string
		conf object
	}{
		{"routed", routed},
		{"bridge", bridge},
		{"masqAll", object{"masqAll": true}},
		{"sources", object{"hostPortSources": []string{"192.0.2.0/24", "2001:db8::/64"}}},
		{"addresses", object{"hostPortAddresses": []string{"192.0.2.3", "2001:db8::1"}}},
		{"without snat", object{"snat": false, "bridge": "br0"}},
	} {
		for _, forgotten := range [][]string{nil, {"runtimeConfig"}} {
			t.Run(fmt.Sprint(mode.name, " ", forgotten), func(t *testing.T) {
				t.Parallel()
				m := newMachine(t)
				m.pod("stays", mode.conf, ports("tcp 9090 90", "udp 53 53 192.0.2.3"))
				before := m.Snapshot()
				p := m.pod("goes", mode.conf, everything)
				m.must(p.check())
				m.must(p.del(forgotten...))
				if d := node.Diff(before, m.Snapshot()); d != "" {
					t.Errorf("DEL left:\n%s", d)
				}
				m.must(p.del(forgotten...))
				if d := node.Diff(before, m.Snapshot()); d != "" {
					t.Errorf("the second DEL changed:\n%s", d)
				}
			})
		}
	}
}

// With the last port everything that served them is gone.
func TestLastDelLeavesNoTable(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	start := m.Snapshot()
	conf := object{"hostPortSources": []string{"192.0.2.0/24"}, "antiSpoof": false}
	a := m.pod("a", conf, ports("tcp 8080 80"))
	b := m.pod("b", conf, ports("tcp 8081 80 2001:db8::1"))
	m.must(a.del())
	m.must(b.del("runtimeConfig"))
	for line := range strings.Lines(node.Diff(start, m.Snapshot())) {
		if strings.Contains(line, "nft") {
			t.Errorf("left: %s", line)
		}
	}
}

func TestGC(t *testing.T) {
	t.Parallel()
	for _, conf := range []object{routed, bridge} {
		m := newMachine(t)
		a := m.pod("a", conf, ports("tcp 8080 80", "udp 53 53 192.0.2.1"))
		before := m.Snapshot()
		m.pod("unlisted", conf, ports("tcp 8081 80", "udp 53 53 192.0.2.3"))
		m.unplug(m.pod("dead", conf, ports("tcp 8082 80"), object{"hostPortSources": []string{"192.0.2.0/24"}}))
		m.must(m.gc(network(conf), "a"))
		if d := node.Diff(before, m.Snapshot()); d != "" {
			t.Errorf("GC left:\n%s", d)
		}
		m.must(a.check())
		m.must(m.gc(network(conf)))
		if s := m.Snapshot(); strings.Contains(s, "nft table") {
			t.Errorf("the last GC left:\n%s", s)
		}
	}
}

// A UDP client that keeps sending from one port is taken along: to the pod when it comes, to the next when it goes.
func TestUDPClientFollows(t *testing.T) {
	t.Parallel()
	for name, conf := range map[string]object{"routed": routed, "bridge": bridge} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			client := m.client()
			answering := func(who string) {
				t.Helper()
				client.expect(t, who)
			}
			// On the host itself: conntrack notes the connection only where NAT is in use.
			m.pod("any", conf, ports("tcp 1 1"))
			stop := m.respond(m.Namespace, "host", netip.AddrPortFrom(host4, 8080))
			answering("host")
			stop()
			first := m.pod("first", conf, ports("udp 8080 80"))
			m.respond(first.Namespace, "first", netip.AddrPortFrom(netip.IPv4Unspecified(), 80))
			answering("first")
			m.must(first.del())
			second := m.pod("second", conf, ports("udp 8080 80 192.0.2.1"))
			m.respond(second.Namespace, "second", netip.AddrPortFrom(netip.IPv4Unspecified(), 80))
			answering("second")
			m.unplug(second) // and no DEL
			third := m.pod("third", conf, ports("udp 8080 80"))
			m.respond(third.Namespace, "third", netip.AddrPortFrom(netip.IPv4Unspecified(), 80))
			answering("third")
			m.must(third.del())
			stop = m.respond(m.Namespace, "host again", netip.AddrPortFrom(host4, 8080))
			answering("host again")
			stop()
			fourth := m.pod("fourth", conf, ports(many("udp", 8070, 20)...)) // by a list of all
			m.respond(fourth.Namespace, "fourth", netip.AddrPortFrom(netip.IPv4Unspecified(), 8080))
			answering("fourth")
		})
	}
}

// A translated connection to the same port of somebody else is nobody's business here: it could not be made again as it
// was.
func TestUDPClientOfOthersStays(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.world.Mirror(t, "udp", netip.AddrPortFrom(world4, 8080))
	other := m.pod("other", object{"ipMasq": true}, ports("tcp 1 1"))
	if _, err := other.SeenAs("udp", netip.AddrPortFrom(world4, 8080)); err != nil {
		t.Fatal(err)
	}
	flows := func() (n int) {
		m.must(m.Do(func() error {
			list, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
			for _, f := range list {
				if f.Forward.DstPort == 8080 && f.Forward.DstIP.Equal(world4.AsSlice()) {
					n++
				}
			}
			return err
		}))
		return n
	}
	before := flows()
	for _, list := range [][]string{{"udp 8080 80"}, many("udp", 8080, 20)} {
		p := m.pod(fmt.Sprint("web", len(list)), ports(list...))
		m.must(p.del())
		if after := flows(); before == 0 || after != before {
			t.Errorf("beside %d ports: %d flows to the world, then %d", len(list), before, after)
		}
	}
}

// many are n ports in a row, each to itself.
func many(protocol string, first, n int) (list []string) {
	for p := first; p < first+n; p++ {
		list = append(list, fmt.Sprintf("%s %d %d", protocol, p, p))
	}
	return list
}

// client is a UDP client in the world with one port for all it sends.
type client struct{ conn net.Conn }

func (m *machine) client() *client {
	m.t.Helper()
	var c client
	m.must(m.world.Do(func() (err error) {
		d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(world4, 40000))}
		c.conn, err = d.Dial("udp", web8080.String())
		return err
	}))
	m.t.Cleanup(func() { c.conn.Close() })
	return &c
}

// expect sends until who answers, for no more than five seconds. Whoever answers first must be the one.
func (c *client) expect(t *testing.T, who string) {
	t.Helper()
	buf := make([]byte, 64)
	for range 50 {
		_, _ = c.conn.Write([]byte("who?"))
		_ = c.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := c.conn.Read(buf); err == nil {
			if got := string(buf[:n]); got != who {
				t.Errorf("%s answers, want %s", got, who)
			}
			return
		}
	}
	t.Errorf("nobody answers, want %s", who)
}

// respond answers every datagram with a name, until the test ends or it is stopped.
func (m *machine) respond(ns *node.Namespace, name string, at netip.AddrPort) (stop func()) {
	m.t.Helper()
	var conn *net.UDPConn
	m.must(ns.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		return err
	}))
	var stopped atomic.Bool
	stop = func() {
		if !stopped.Swap(true) {
			conn.Close()
		}
	}
	m.t.Cleanup(stop)
	go func() {
		buf := make([]byte, 64)
		for {
			_, from, err := conn.ReadFromUDPAddrPort(buf)
			if stopped.Load() {
				return
			}
			if err == nil {
				_, _ = conn.WriteToUDPAddrPort([]byte(name), from)
			}
		}
	}()
	return stop
}

// hostPortSources limits who may use the ports; who may not finds what the host itself has on them.
func TestSources(t *testing.T) {
	t.Parallel()
	for name, conf := range map[string]object{"routed": routed, "bridge": bridge} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			p := m.pod("web", conf, ports("tcp 8080 80", "tcp 8443 80 192.0.2.3"),
				object{"hostPortSources": []string{"192.0.2.0/31", "2001:db8::/64"}})
			p.serve("tcp", 80)
			m.must(p.check())
			m.settled(host6, 8080)
			for _, port := range []netip.AddrPort{web8080, netip.AddrPortFrom(second4, 8443)} {
				if _, err := m.world.SeenAs("tcp", port); err == nil {
					t.Errorf("the world, 192.0.2.2, may use %s", port)
				}
			}
			if _, err := m.SeenAs("tcp", web8080); err != nil {
				t.Errorf("the host, 192.0.2.1: %v", err)
			}
			// Another list, as after a change of the configuration: the next ADD applies it to all of the network.
			m.pod("next", conf, ports("tcp 9090 90"), object{"hostPortSources": []string{"192.0.2.2/32"}})
			if _, err := m.world.SeenAs("tcp", web8080); err != nil {
				t.Errorf("the world may use it now: %v", err)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	p := m.pod("web", ports("tcp 8080 80"), object{"hostPortAddresses": []string{"192.0.2.3"}})
	p.serve("tcp", 80)
	if _, err := m.world.SeenAs("tcp", netip.AddrPortFrom(second4, 8080)); err != nil {
		t.Error(err)
	}
	if _, err := m.world.SeenAs("tcp", web8080); err == nil {
		t.Error("another address of the host answers")
	}
}

func TestMasqueradeAll(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		conf object
		want string
	}{"routed": {routed, "192.0.2.1"}, "bridge": {bridge, "10.88.0.1"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			p := m.pod("web", c.conf, ports("tcp 8080 80"), object{"masqAll": true})
			p.serve("tcp", 80)
			seen, err := m.world.SeenAs("tcp", web8080)
			if err != nil || seen.Addr().String() != c.want {
				t.Errorf("the pod sees %s, %v; want %s", seen, err, c.want)
			}
		})
	}
}

// A machine without any address of its own still reaches its containers at 127.0.0.1.
func TestWithoutUplink(t *testing.T) {
	t.Parallel()
	m := &machine{Node: node.New(t), t: t}
	p := m.pod("web", ports("tcp 8080 80"))
	p.serve("tcp", 80)
	if _, err := m.SeenAs("tcp", netip.AddrPortFrom(local4, 8080)); err != nil {
		t.Error(err)
	}
	// Not translated, so refused at once: who asks for localhost goes on to 127.0.0.1.
	begin := time.Now()
	if _, err := m.SeenAs("tcp", netip.MustParseAddrPort("[::1]:8080")); err == nil || time.Since(begin) > time.Second {
		t.Errorf("::1 after %s: %v; want it refused at once", time.Since(begin), err)
	}
}

// Somebody flushes the ruleset: CHECK says what is gone, and the next ADD of the network brings back what is shared.
func TestFlush(t *testing.T) {
	t.Parallel()
	for name, conf := range map[string]object{"routed": routed, "bridge": bridge} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			old := m.pod("old", conf, ports("tcp 8080 80"))
			m.must(old.check())
			m.must(m.Do(deleteTable))
			checkSays(t, old, "state: want ok, found ", "nftables table inet veth is missing", "tcp 0.0.0.0:8080: want 10.88.0.")
			next := m.pod("next", conf, ports("tcp 9090 80"))
			next.serve("tcp", 80)
			m.must(next.check())
			if _, err := m.world.SeenAs("tcp", netip.AddrPortFrom(host4, 9090)); err != nil {
				t.Error(err)
			}
			checkSays(t, old, "tcp 0.0.0.0:8080: want 10.88.0.")
			m.must(old.del())
			m.must(next.check())
		})
	}
}

func checkSays(t *testing.T, p *pod, want ...string) {
	t.Helper()
	err := p.check()
	if err == nil || cnierr.Of(err, 0).Code != cnierr.StateDiffers {
		t.Fatalf("CHECK: %v", err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("CHECK says %q, want %q in it", err, w)
		}
	}
}

// Mappings that can lead nowhere are refused, and leave nothing.
func TestMappingsThatLeadNowhere(t *testing.T) {
	t.Parallel()
	only4 := object{"ipam": object{"type": "veth", "ranges": [][]object{{{"subnet": "10.88.0.0/24"}}}}}
	for _, c := range []struct {
		name string
		conf []object
		want string
	}{
		{"family", []object{only4, ports("tcp 8080 80 2001:db8::1")}, "the container has no address of that family"},
		{"all of the family", []object{only4, ports("tcp 8080 80 ::")}, "the container has no address of that family"},
		{
			"addresses",
			[]object{only4, ports("tcp 8080 80"), {"hostPortAddresses": []string{"2001:db8::1"}}},
			"(or hostPortAddresses)",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			before := m.Snapshot()
			p := &pod{Namespace: m.Container("web"), machine: m, name: "web", conf: network(c.conf...)}
			err := p.add()
			if err == nil || !strings.Contains(err.Error(), c.want) || cnierr.Of(err, 0).Code != cnierr.InvalidConfig {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if d := node.Diff(before, m.Snapshot()); d != "" {
				t.Errorf("the ADD left:\n%s", d)
			}
		})
	}
}
