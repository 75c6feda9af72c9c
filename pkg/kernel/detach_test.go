package kernel_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/plan"
)

// pairOf is the pair that an ADD makes for an owner.
func pairOf(o lease.Owner) plan.Pair {
	p := pair
	p.Host, p.Alias, p.Peer = o.HostName(), o.Alias(), o.IfName
	return p
}

func alias(text string) func(netlink.Link) error {
	return func(l netlink.Link) error { return netlink.LinkSetAlias(l, text) }
}

func TestDetach(t *testing.T) {
	t.Parallel()
	name := owner.HostName()
	for _, test := range []struct {
		name  string
		make  func(m *machine) error
		stays bool
	}{
		{"nothing", func(*machine) error { return nil }, true},
		{"the attachment", func(m *machine) error {
			m.apply(pairOf(owner), inside, plan.Lease{Link: name, Name: lease.Name(owner.Network, addr("198.18.0.5"))})
			return nil
		}, false},
		{"an attachment whose pod was not told", func(m *machine) error {
			m.apply(pairOf(lease.Owner{Network: owner.Network, ContainerID: owner.ContainerID, IfName: owner.IfName}))
			return nil
		}, false},
		{"one whose ADD was killed before it wrote the alias", func(m *machine) error {
			p := pairOf(owner)
			p.Alias = ""
			m.apply(p)
			return nil
		}, false},
		{"a veth that says it is another's", func(m *machine) error {
			m.must(foreign(name))
			return by(plan.Host, name, alias("mine"))(m)
		}, true},
		{"a veth of another network", func(m *machine) error {
			m.must(foreign(name))
			return by(plan.Host, name, alias("othernet/c1/eth0"))(m)
		}, true},
		{"another kind of interface", func(*machine) error { return newBridge(name) }, true},
		{"another attachment", func(m *machine) error {
			m.apply(pairOf(lease.Owner{Network: owner.Network, ContainerID: "c2", IfName: "eth0"}))
			return nil
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				empty := m.snapshot()
				m.must(test.make(m))
				want := m.snapshot()
				if !test.stays {
					want = empty
				}
				for range 2 { // DEL is repeatable
					m.must(m.kernel.Detach(owner, kernel.Removal{}))
					m.unchanged(want, "after Detach")
				}
			})
		})
	}
}

func TestAttachments(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		before := m.snapshot()
		one := lease.Owner{Network: "podnet", ContainerID: "c1", IfName: "eth0"}
		two := lease.Owner{Network: "podnet", ContainerID: "c1", IfName: "eth1"}
		three := lease.Owner{Network: "othernet", ContainerID: "c1", IfName: "eth2"}
		four := lease.Owner{Network: "podnet", ContainerID: "c1", IfName: "eth3"}
		m.apply(pairOf(one), pairOf(two), pairOf(three), killed(four))
		m.must(
			foreign("plain"), foreign("said"), newBridge("br7"),
			// Of the form of an owner's alias, on an interface whose name is not that owner's: somebody else's.
			by(plan.Host, "said", alias("podnet/c1/eth9"))(m),
			by(plan.Host, "br7", alias("podnet/c1/eth8"))(m),
		)
		want := []kernel.Attached{{Name: one.HostName(), Alias: one.Alias()}, {Name: two.HostName(), Alias: two.Alias()}, {Name: four.HostName()}}
		got := m.attachments("podnet")
		byName := func(a, b kernel.Attached) int { return strings.Compare(a.Name, b.Name) }
		slices.SortFunc(want, byName)
		slices.SortFunc(got, byName)
		same := func(a, b kernel.Attached) bool { return a.Name == b.Name && a.Alias == b.Alias }
		if !slices.EqualFunc(got, want, same) {
			m.Fatalf("Attachments lists %v, want %v", got, want)
		}
		for _, a := range got {
			if s := a.String(); !strings.Contains(s, a.Name) || !strings.Contains(s, a.Alias) {
				m.Errorf("%q: want the interface's name and whose it is", s)
			}
			m.must(m.kernel.Remove(a), m.kernel.Remove(a)) // what is gone already is no error
		}
		if got := m.attachments("podnet"); len(got) != 0 {
			m.Errorf("after Remove there is %v", got)
		}
		if got := m.attachments("othernet"); len(got) != 1 {
			m.Errorf("of the other network there is %v, want its attachment", got)
		}
		for _, l := range []string{"plain", "said", "br7"} {
			m.must(by(plan.Host, l, netlink.LinkDel)(m))
		}
		m.must(m.kernel.Detach(three, kernel.Removal{}))
		m.unchanged(before, "after everything is removed")
	})
}

// killed is the pair of an ADD that was killed before it could write the alias.
func killed(o lease.Owner) plan.Pair {
	p := pairOf(o)
	p.Alias, p.Group = "", plan.Group(o.Network)|plan.GroupChecked
	return p
}

func (m *machine) attachments(network string) []kernel.Attached {
	m.Helper()
	list, err := m.kernel.Attachments(network)
	m.must(err)
	return list
}

func TestRetireBridge(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		make func(m *machine) error
		goes bool
	}{
		{"the network's own, empty", func(m *machine) error {
			m.apply(bridge, plan.Address{Link: "br0", Prefix: prefix("198.18.0.1/24"), Sole: true})
			return nil
		}, true},
		{"the network's own with a port", func(m *machine) error {
			m.apply(bridge, port)
			return nil
		}, false},
		{"the network's own with somebody else's port", func(m *machine) error {
			m.apply(bridge)
			m.must(foreign("tap"))
			return by(plan.Host, "tap", toBridge("br0"))(m)
		}, false},
		{"the network's own whose ADD was killed before it wrote the alias", unlabelled(owner.Network), true},
		{"another network's whose ADD has not written the alias yet", unlabelled("othernet"), false},
		{"the network's own with the notice of a GC that was killed", func(m *machine) error {
			m.apply(bridge)
			return by(plan.Host, "br0", notice)(m)
		}, true},
		{"somebody else's", func(*machine) error { return newBridge("br0") }, false},
		{"another network's", func(m *machine) error {
			b := bridge
			b.Alias = lease.NetworkAlias("othernet")
			m.apply(b)
			return nil
		}, false},
		{"no bridge", func(m *machine) error {
			m.must(foreign("br0"))
			return by(plan.Host, "br0", alias(bridge.Alias))(m)
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				want := m.snapshot()
				m.must(test.make(m))
				if !test.goes {
					want = m.snapshot()
				}
				for range 2 {
					m.must(m.kernel.Retire(owner.Network, ""))
					m.unchanged(want, "after Retire")
				}
			})
		})
	}
}

// unlabelled makes the bridge of an ADD that has not come any further.
func unlabelled(network string) func(m *machine) error {
	return func(m *machine) error {
		b := bridge
		b.Group = plan.Group(network)
		m.apply(b)
		return by(plan.Host, "br0", alias(""))(m)
	}
}

// TestRetireGateway: routed mode's gateway serves every network of the node.
func TestRetireGateway(t *testing.T) {
	t.Parallel()
	gateway := plan.Address{Link: "lo", Prefix: prefix("169.254.1.1/32"), Scope: 253, Label: plan.GatewayLabel}
	other := pairOf(lease.Owner{Network: "othernet", ContainerID: "c2", IfName: "eth1"})
	on(t, func(m *machine) {
		m.must(addAddress("lo", "198.18.77.1/32"), addAddress("lo", "169.254.7.7/32"))
		before := m.snapshot()
		m.apply(gateway, pairOf(owner), other)
		m.must(m.kernel.Detach(owner, kernel.Removal{}))
		with := m.snapshot()
		m.must(m.kernel.Retire(owner.Network, ""))
		m.unchanged(with, "after Retire while another network has an attachment")

		m.undo(other)
		m.must(m.kernel.Retire("othernet", ""), m.kernel.Retire("othernet", ""))
		m.unchanged(before, "after Retire of the last")
	})
	t.Run("an administrator's own", func(t *testing.T) {
		t.Parallel()
		on(t, func(m *machine) {
			m.must(addAddress("lo", "169.254.1.1/32"))
			m.apply(gateway) // it is there, without the label
			before := m.snapshot()
			m.must(m.kernel.Retire(owner.Network, ""))
			m.unchanged(before, "after Retire")
		})
	})
	t.Run("an alias of the same form on somebody else's interface", func(t *testing.T) {
		t.Parallel()
		on(t, func(m *machine) {
			m.must(foreign("said"), by(plan.Host, "said", alias("othernet/c1/eth0"))(m))
			before := m.snapshot()
			m.apply(gateway)
			m.must(m.kernel.Retire(owner.Network, ""))
			m.unchanged(before, "after Retire")
		})
	})
}

// TestAttached: what may be in use must not be taken away.
func TestAttached(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		make      func(m *machine) error
		ours, any bool
	}{
		{"nothing", func(*machine) error { return foreign("plain") }, false, false},
		{"one of the network", func(m *machine) error {
			m.apply(pairOf(owner))
			return nil
		}, true, true},
		{"one of another network", func(m *machine) error {
			m.apply(pairOf(lease.Owner{Network: "othernet", ContainerID: "c1", IfName: "eth0"}))
			return nil
		}, false, true},
		{"one that has not said whose it is yet", func(m *machine) error {
			m.apply(killed(owner))
			return nil
		}, true, true},
		{"one of another network that has not", func(m *machine) error {
			m.apply(killed(lease.Owner{Network: "othernet", ContainerID: "c1", IfName: "eth0"}))
			return nil
		}, false, true},
		{"another kind of interface", func(m *machine) error {
			m.must(newBridge(owner.HostName()))
			return by(plan.Host, owner.HostName(), alias(owner.Alias()))(m)
		}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				m.must(test.make(m))
				for network, want := range map[string]bool{owner.Network: test.ours, "": test.any} {
					if got, err := m.kernel.Attached(network); err != nil || got != want {
						m.Errorf("Attached(%q): %v, %v, want %v", network, got, err, want)
					}
				}
			})
		})
	}
}
