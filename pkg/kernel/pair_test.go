package kernel_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/plan"
)

func setMTU(n int) func(netlink.Link) error {
	return func(l netlink.Link) error { return netlink.LinkSetMTU(l, n) }
}

func setMAC(l netlink.Link) error { return netlink.LinkSetHardwareAddr(l, stranger) }

func rename(name string) func(netlink.Link) error {
	return func(l netlink.Link) error {
		if err := netlink.LinkSetDown(l); err != nil {
			return err
		}
		return netlink.LinkSetName(l, name)
	}
}

func TestPair(t *testing.T) {
	t.Parallel()
	breaks := []change{
		{"gone", by(plan.Host, "vh", netlink.LinkDel), missing},
		{"gone inside", by(plan.Container, "eth0", netlink.LinkDel), missing},
		{"renamed", by(plan.Host, "vh", rename("other")), missing},
		{"down", by(plan.Host, "vh", netlink.LinkSetDown), wants("up", "yes", "")},
		{"MAC", by(plan.Host, "vh", setMAC), wants("mac", "02:00:00:00:00:01", "02:00:00:00:00:09")},
		{"MTU", by(plan.Host, "vh", setMTU(1300)), wants("mtu", "1400", "1300")},
		{
			"alias", by(plan.Host, "vh", func(l netlink.Link) error { return netlink.LinkSetAlias(l, "mine") }),
			wants("alias", owner.Alias(), "mine"),
		},
		{"peer renamed", by(plan.Container, "eth0", rename("eth7")), wants("peer", "eth0", "eth7")},
		{"peer moved away", func(m *machine) error { return moveHere(m, "eth0") }, wants("peer", "eth0", "")},
		{"peer moved away, its index taken", func(m *machine) error { return supplant(m, "eth0") }, wants("peer", "eth0", "")},
	}
	onBridge := append([]change{
		{"without its bridge", by(plan.Host, "vh", netlink.LinkSetNoMaster), wants("master", "br0", "none")},
		{"bridge gone", by(plan.Host, "br0", netlink.LinkDel), wants("master", "br0", "none")},
		{"on another bridge", func(m *machine) error {
			m.must(newBridge("br1"))
			return by(plan.Host, "vh", toBridge("br1"))(m)
		}, wants("master", "br0", "br1")},
	}, breaks...)
	runScenarios(t, []scenario{
		{name: "alone", object: pair, again: refuses, breaks: append([]change{
			{"on a bridge", func(m *machine) error {
				m.must(newBridge("br1"))
				return by(plan.Host, "vh", toBridge("br1"))(m)
			}, wants("master", "none", "br1")},
		}, breaks...)},
		{name: "bridge port", given: []plan.Object{bridge}, object: port, again: refuses, breaks: onBridge},
	})
}

func toBridge(name string) func(netlink.Link) error {
	return func(l netlink.Link) error {
		br, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetMaster(l, br)
	}
}

// moveHere takes an interface of the container to the node's namespace.
func moveHere(m *machine, name string) error {
	home, err := os.Open(m.node.Path)
	if err != nil {
		return err
	}
	defer home.Close()
	return by(plan.Container, name, func(l netlink.Link) error { return netlink.LinkSetNsFd(l, int(home.Fd())) })(m)
}

// supplant takes an interface out of the container and puts another in, with the same name and index.
func supplant(m *machine, name string) error {
	index := 0
	m.must(by(plan.Container, name, func(l netlink.Link) error {
		index = l.Attrs().Index
		return nil
	})(m), moveHere(m, name))
	return m.in(plan.Container, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, Index: index}, PeerName: "other"})
	})
}

func TestInterface(t *testing.T) {
	t.Parallel()
	down := inside
	down.Up = false
	breaks := []change{
		{"gone", by(plan.Container, "eth0", netlink.LinkDel), missing},
		{"MAC", by(plan.Container, "eth0", setMAC), wants("mac", "0a:58:00:00:00:01", "02:00:00:00:00:09")},
		{"MTU", by(plan.Container, "eth0", setMTU(1300)), wants("mtu", "1400", "1300")},
	}
	withDown := append([]change{
		{"down", by(plan.Container, "eth0", netlink.LinkSetDown), wants("up", "yes", "")},
	}, breaks...)
	runScenarios(t, []scenario{
		{name: "up", given: []plan.Object{pair}, object: inside, again: rewrote, sticks: true, breaks: withDown},
	})
	t.Run("left down", func(t *testing.T) {
		t.Parallel()
		on(t, func(m *machine) {
			m.apply(pair, down)
			m.asPlanned(pair, down)
			if strings.Contains(m.container.Snapshot(), "link eth0 veth up") {
				m.Errorf("the container is\n%swant its interface down", m.container.Snapshot())
			}
		})
	})
}

// TestPairIsBornComplete: the kernel's default MTU on both ends, and both known without another look.
func TestPairIsBornComplete(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		p := pair
		p.MTU = 0
		m.apply(p)
		if mac, mtu := m.kernel.Seen("vh"); mac.String() != p.MAC.String() || mtu != 1500 {
			m.Errorf("Seen says %s and MTU %d, want %s and 1500", mac, mtu, p.MAC)
		}
		if got := m.observe(plan.Interface{Name: "eth0"}); len(got) != 1 || got[0].(plan.Interface).MTU != 1500 {
			m.Errorf("the container's end is %v, want MTU 1500", got)
		}
		if mac, mtu := m.kernel.Seen("never met"); mac != nil || mtu != 0 {
			m.Errorf("Seen of an interface never met says %s and %d", mac, mtu)
		}
	})
}

// TestPairNamesTaken: the kernel answers both with EEXIST, and the two mean different things to a runtime.
func TestPairNamesTaken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		make func(m *machine) error
		code uint
		says string
	}{
		{
			name: "the attachment exists", code: cnierr.AttachmentExists, says: owner.Alias(),
			make: func(m *machine) error {
				other := pair
				other.Peer = "eth7"
				m.apply(other)
				return nil
			},
		},
		{
			name: "both names are taken, as by an earlier ADD", code: cnierr.AttachmentExists, says: owner.Alias(),
			make: func(m *machine) error {
				m.apply(pair)
				return nil
			},
		},
		{
			name: "CNI_IFNAME is taken", code: cnierr.InterfaceExists, says: `CNI_IFNAME: an interface "eth0" is already in`,
			make: func(m *machine) error {
				return m.in(plan.Container, func() error {
					return errors.Join(foreign("eth0"), addAddress("eth0", "198.18.9.1/24"))
				})
			},
		},
		{
			name: "CNI_IFNAME is another interface's second name", code: cnierr.InterfaceExists, says: "CNI_IFNAME",
			make: func(m *machine) error {
				m.must(m.in(plan.Container, func() error { return foreign("other") }))
				return by(plan.Container, "other", func(l netlink.Link) error { return netlink.LinkAddAltName(l, "eth0") })(m)
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				m.must(test.make(m))
				before := m.snapshot()
				created, err := m.kernel.Apply(pair)
				if created {
					m.Error("Apply says that it created the pair it could not create")
				}
				m.refused(err, test.code)
				if !strings.Contains(err.Error(), test.says) {
					m.Errorf("%v: want it to say %q", err, test.says)
				}
				m.unchanged(before, "after a refused Apply")
			})
		})
	}
}

// TestPairWhoseMasterRefuses: the kernel registers the pair before it sets the master, and takes it back when that
// fails. Apply must not say that it created anything: an ADD tries again only then.
func TestPairWhoseMasterRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		make func(m *machine)
		on   string
		want error
		says string
	}{
		{
			name: "the bridge went since it was looked up", on: "br0", want: kernel.ErrBridgeGone,
			make: func(m *machine) {
				m.apply(bridge)
				m.must(by(plan.Host, "br0", netlink.LinkDel)(m))
			},
		},
		{name: "it was never there", on: "br0", want: syscall.ENODEV, make: func(*machine) {}},
		{
			name: "it is none", on: "other", want: syscall.EOPNOTSUPP, says: "create the veth pair",
			make: func(m *machine) { m.must(foreign("other")) },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				test.make(m)
				before := m.snapshot()
				p := port
				p.Master = test.on
				created, err := m.kernel.Apply(p)
				if created || !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
					m.Errorf("created %v, %v, want %v and nothing created", created, err, test.want)
				}
				m.unchanged(before, "after a refused Apply")
				m.apply(bridge, port) // and the next try succeeds
				m.asPlanned(bridge, port)
			})
		})
	}
}
