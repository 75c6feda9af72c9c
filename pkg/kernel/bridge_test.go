package kernel_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

func TestBridge(t *testing.T) {
	t.Parallel()
	promiscuous := bridge
	promiscuous.Promisc = true
	runScenarios(t, []scenario{
		{
			name: "plain", object: bridge,
			breaks: []change{
				{"gone", by(plan.Host, "br0", netlink.LinkDel), missing},
				{"down", by(plan.Host, "br0", netlink.LinkSetDown), wants("up", "yes", "")},
				{
					"smaller MTU", by(plan.Host, "br0", func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1300) }),
					wants("mtu", "1450", "1300"),
				},
				{"larger MTU", by(plan.Host, "br0", func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1500) }), nil},
				{"promiscuous by choice of others", by(plan.Host, "br0", netlink.SetPromiscOn), nil},
				{"another kind", func(m *machine) error {
					m.must(by(plan.Host, "br0", netlink.LinkDel)(m), foreign("br0"))
					return by(plan.Host, "br0", func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1450) })(m)
				}, wants("kind", "bridge", "veth")},
			},
		},
		{
			name: "promiscuous", object: promiscuous, fixed: []string{"kind", "up", "mtu"},
			breaks: []change{
				{"gone", by(plan.Host, "br0", netlink.LinkDel), missing},
				{"not promiscuous", by(plan.Host, "br0", netlink.SetPromiscOff), wants("promisc", "yes", "")},
			},
		},
		{
			name: "the kernel's MTU", object: func() plan.Bridge {
				b := bridge
				b.MTU = 0
				return b
			}(), fixed: []string{"kind", "up"},
			breaks: []change{{"gone", by(plan.Host, "br0", netlink.LinkDel), missing}},
		},
	})
}

// TestBridgeOfOthers shows what Apply makes of an interface that is there already.
func TestBridgeOfOthers(t *testing.T) {
	t.Parallel()
	mtu := func(n int) plan.Bridge {
		b := bridge
		b.MTU = n
		return b
	}
	promiscuous := mtu(0)
	promiscuous.Promisc = true
	for _, test := range []struct {
		name string
		make func() error
		want plan.Bridge
		code uint   // of the refusal, 0: it serves
		says string // in the refusal
		line string // the bridge's line of the snapshot afterwards
	}{
		{
			name: "it is down", make: func() error { return newBridge("br0") }, want: mtu(0),
			line: "link br0 bridge up mtu 1500\n",
		},
		{
			name: "it is down and not promiscuous", make: func() error { return newBridge("br0") }, want: promiscuous,
			line: "link br0 bridge up promisc mtu 1500\n",
		},
		{
			name: "a smaller MTU will do", make: func() error { return newBridge("br0") }, want: mtu(1400),
			line: "link br0 bridge up mtu 1500\n",
		},
		{
			name: "its MTU is too small", make: func() error { return newBridge("br0") }, want: mtu(1501),
			code: cnierr.Conflict, says: `mtu: 1501 is more than the 1500 of bridge "br0"`, line: "link br0 bridge mtu 1500\n",
		},
		{
			name: "a veth", make: func() error { return foreign("br0") }, want: mtu(0),
			code: cnierr.Conflict, says: `"br0" is an interface of kind "veth"`, line: "link br0 veth up mtu 1400\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				m.must(test.make())
				before := m.node.Snapshot()
				changed, err := m.kernel.Apply(test.want)
				if really := m.node.Snapshot() != before; changed != really {
					m.Errorf("Apply says it changed something: %v, but it is %v", changed, really)
				}
				switch {
				case test.code != 0:
					m.refused(err, test.code)
					if !strings.Contains(err.Error(), test.says) {
						m.Errorf("%v: want it to say %q", err, test.says)
					}
				case err != nil:
					m.Fatal(err)
				default:
					m.asPlanned(test.want)
				}
				if s := m.node.Snapshot(); !strings.Contains(s, test.line) {
					m.Errorf("the node is\n%swant the line %q", s, test.line)
				}
			})
		})
	}
}

// TestBridgeLoopback: lo has no kind, which the kernel tells as an empty IFLA_INFO_KIND.
func TestBridgeLoopback(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		before := m.snapshot()
		_, err := m.kernel.Apply(plan.Bridge{Name: "lo", Kind: "bridge", Up: true, MAC: bridge.MAC})
		m.refused(err, cnierr.Conflict)
		m.unchanged(before, "after a refused Apply")
	})
}

// TestBridgeKeepsItsMAC: a bridge whose address was not given takes the least of its ports', and containers that know
// the gateway's address lose it when a port comes or goes.
func TestBridgeKeepsItsMAC(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		mac := func() string {
			l, err := netlink.LinkByName("br0")
			m.must(err)
			return l.Attrs().HardwareAddr.String()
		}
		m.apply(bridge)
		first := mac()
		if !strings.HasPrefix(first, bridge.MAC.String()+":") {
			m.Fatalf("the bridge has %s, want %s and three random bytes", first, bridge.MAC)
		}
		if got, mtu := m.kernel.Seen("br0"); got.String() != first || mtu != bridge.MTU {
			m.Errorf("Seen says %s and MTU %d, want %s and %d", got, mtu, first, bridge.MTU)
		}
		low := port
		low.MAC = net.HardwareAddr{2, 0, 0, 0, 0, 0} // less than the bridge's
		m.apply(low)
		if mac() != first {
			m.Errorf("with a port the bridge has %s, want %s", mac(), first)
		}
		m.undo(low)
		if mac() != first {
			m.Errorf("without the port the bridge has %s, want %s", mac(), first)
		}
	})
}

func TestBridgeSaysWhoseItIs(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(bridge)
		if want := fmt.Sprintf("alias %q", bridge.Alias); !strings.Contains(m.node.Snapshot(), want) {
			m.Errorf("the node is\n%swant %s", m.node.Snapshot(), want)
		}
	})
}

// TestUndoBridgeKeepsAJoinedOne: another call may have put a port on the bridge since this one made it.
func TestUndoBridgeKeepsAJoinedOne(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		empty := m.snapshot()
		m.apply(bridge, port)
		joined := m.snapshot()
		m.undo(bridge)
		m.unchanged(joined, "after Undo of a bridge that has a port")
		m.undo(bridge, port)
		m.undo(bridge)
		m.unchanged(empty, "after Undo of a bridge that has none")
	})
}

func TestProbeBridge(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		make func() error
		code uint
	}{
		{name: "no interface of that name", make: func() error { return nil }},
		{name: "a bridge", make: func() error { return newBridge("br0") }},
		{name: "another kind", make: func() error { return foreign("br0") }, code: cnierr.Conflict},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				m.must(test.make())
				before := m.snapshot()
				err := m.kernel.ProbeBridge(plan.Bridge{Name: "br0", Kind: "bridge"})
				if test.code != 0 {
					m.refused(err, test.code)
				} else if err != nil {
					m.Error(err)
				}
				m.unchanged(before, "after the probe")
			})
		})
	}
}

// TestBridgeKeepsItsMTU: a bridge whose MTU counts as the kernel's own takes the least of its ports', and 1500 when the
// last one leaves: the next container with jumbo frames would not fit.
func TestBridgeKeepsItsMTU(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		jumbo, jumboPort := bridge, port
		jumbo.MTU, jumboPort.MTU = 9000, 9000
		small := second
		small.Master, small.MTU = "br0", 1400
		m.apply(jumbo)
		for range 2 {
			if _, mtu := m.kernel.Seen("br0"); mtu != 9000 {
				m.Errorf("Seen says MTU %d, want 9000", mtu)
			}
			m.apply(jumboPort, small)
			m.asPlanned(jumbo)
			m.undo(jumboPort, small)
			m.asPlanned(jumbo)
			m.apply(jumbo)
		}
	})
}

// TestBridgeHalfMade: an ADD may be killed between the two requests that make a bridge. The next one finishes it.
func TestBridgeHalfMade(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		jumbo := bridge
		jumbo.MTU = 9000
		half := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: append(plan.BridgeMAC("br0"), 1, 2, 3)}}
		m.must(netlink.LinkAdd(half))
		if _, err := m.kernel.Apply(jumbo); err != nil {
			m.Fatalf("%v, want the bridge found and finished", err)
		}
		m.asPlanned(jumbo)
		want, got := fmt.Sprintf("link br0 bridge up mtu 9000 alias %q\n", bridge.Alias), m.node.Snapshot()
		if !strings.Contains(got, want) {
			m.Errorf("the node is\n%swant %s", got, want)
		}
	})
}
