package kernel_test

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/test/node"
)

// handmade is an address as an administrator would add it.
func handmade(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// addAddress adds an address by hand in the thread's namespace.
func addAddress(link, address string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(l, handmade(prefix(address)))
}

func TestAddress(t *testing.T) {
	t.Parallel()
	var scenarios []scenario
	for _, test := range []struct {
		name    string
		address plan.Address
		scope   string // as CHECK prints it
	}{
		{"the node's gateway", plan.Address{
			Link: "lo", Prefix: prefix("169.254.1.1/32"), Scope: 253, Label: plan.GatewayLabel, State: "ok",
		}, "link"},
		{"host IPv4", plan.Address{Link: "vh", Prefix: prefix("198.18.0.1/24"), State: "ok"}, "global"},
		{"host IPv6", plan.Address{Link: "vh", Prefix: prefix("2001:db8::1/64"), State: "ok"}, "global"},
		{"host IPv6 link-local", plan.Address{Link: "vh", Prefix: prefix("fe80::1/64"), Scope: 253, State: "ok"}, "link"},
		{"container IPv4", inContainer("198.18.0.5/24"), "global"},
		{"container IPv4 quiet", plan.Address{
			Place: plan.Container, Link: "eth0", Prefix: prefix("198.18.0.5/24"), Quiet: true, State: "ok",
		}, "global"},
		{"container IPv4 /31", inContainer("198.18.0.5/31"), "global"},
		{"container IPv6", inContainer("2001:db8::5/64"), "global"},
		{"container IPv6 quiet", plan.Address{
			Place: plan.Container, Link: "eth0", Prefix: prefix("2001:db8::5/64"), Quiet: true, State: "ok",
		}, "global"},
		{"the bridge's gateway IPv4", gatewayOf("198.18.0.1/24"), "global"},
		{"the bridge's gateway IPv6", gatewayOf("2001:db8::1/64"), "global"},
	} {
		a := test.address
		s := scenario{
			name: test.name, given: []plan.Object{bridge, pair, inside}, object: a,
			breaks: []change{
				{"removed", by(a.Place, a.Link, func(l netlink.Link) error {
					return netlink.AddrDel(l, handmade(a.Prefix))
				}), missing},
				{"with another prefix length", func(m *machine) error { return lengthen(m, a) }, missing},
			},
		}
		if a.Prefix.Addr().Is4() {
			s.fixed = []string{"state"} // nothing detects IPv4 duplicates
			s.breaks = append(s.breaks, change{"scope", func(m *machine) error {
				return rescope(m, a)
			}, wants("scope", test.scope, "site")})
		} else {
			s.fixed = []string{"scope"} // it follows from the address
			s.breaks = append(s.breaks, change{"tentative", func(m *machine) error {
				return untried(m, a)
			}, wants("state", "ok", "tentative")})
		}
		scenarios = append(scenarios, s)
	}
	runScenarios(t, scenarios)
}

func inContainer(address string) plan.Address {
	return plan.Address{Place: plan.Container, Link: "eth0", Prefix: prefix(address), State: "ok"}
}

// gatewayOf is the address of a bridge in a subnet.
func gatewayOf(address string) plan.Address {
	return plan.Address{Link: "br0", Prefix: prefix(address), Sole: true, State: "ok"}
}

// replace puts another address in the place of the planned one.
func replace(m *machine, a plan.Address, with *netlink.Addr) error {
	return by(a.Place, a.Link, func(l netlink.Link) error {
		return errors.Join(netlink.AddrDel(l, handmade(a.Prefix)), netlink.AddrAdd(l, with))
	})(m)
}

func lengthen(m *machine, a plan.Address) error {
	return replace(m, a, handmade(netip.PrefixFrom(a.Prefix.Addr(), 23)))
}

func rescope(m *machine, a plan.Address) error {
	with := handmade(a.Prefix)
	with.Scope = unix.RT_SCOPE_SITE
	return replace(m, a, with)
}

// untried adds the address so that its detection waits for a carrier.
func untried(m *machine, a plan.Address) error {
	other := plan.Container
	if a.Place == plan.Container {
		other = plan.Host
	}
	m.must(by(other, link(other), netlink.LinkSetDown)(m)) // without its port the bridge has no carrier either
	m.must(m.in(a.Place, func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/"+a.Link+"/accept_dad", []byte("1"), 0) // bridges made here have it off
	}))
	with := handmade(a.Prefix)
	with.Flags = 0
	return replace(m, a, with)
}

// TestAddressFlags shows what the kernel made of an address, beyond what CHECK compares.
func TestAddressFlags(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		address plan.Address
		want    []string // lines of the container's snapshot
		none    []string
	}{
		{
			"IPv4",
			plan.Address{Prefix: prefix("198.18.0.5/24")},
			[]string{
				"address 198.18.0.5/24 dev eth0 scope universe\n", "route inet 198.18.0.0/24 dev eth0", "198.18.0.255/32 type 3",
			},
			nil,
		},
		{
			"IPv4 quiet",
			plan.Address{Prefix: prefix("198.18.0.5/24"), Quiet: true},
			[]string{"address 198.18.0.5/24 dev eth0 scope universe noprefixroute\n"},
			[]string{"route inet 198.18.0.0/24"},
		},
		{
			"IPv4 /31 has no broadcast address (RFC 3021)",
			plan.Address{Prefix: prefix("198.18.0.4/31")},
			[]string{"address 198.18.0.4/31 dev eth0 scope universe\n"},
			[]string{"198.18.0.5/32 type 3"},
		},
		{
			"IPv4 scope",
			plan.Address{Prefix: prefix("198.18.0.5/24"), Scope: 253},
			[]string{"address 198.18.0.5/24 dev eth0 scope link\n"},
			nil,
		},
		{
			"IPv6 without detection",
			plan.Address{Prefix: prefix("2001:db8::5/64")},
			[]string{"address 2001:db8::5/64 dev eth0 scope universe nodad\n", "route inet6 2001:db8::/64 dev eth0"},
			nil,
		},
		{
			"IPv6 quiet",
			plan.Address{Prefix: prefix("2001:db8::5/64"), Quiet: true},
			[]string{"address 2001:db8::5/64 dev eth0 scope universe noprefixroute nodad\n"},
			[]string{"route inet6 2001:db8::/64"},
		},
		{
			"IPv6 with detection",
			plan.Address{Prefix: prefix("2001:db8::5/64"), DAD: true},
			[]string{"address 2001:db8::5/64 dev eth0 scope universe\n"},
			nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				a := test.address
				a.Place, a.Link = plan.Container, "eth0"
				m.apply(pair, inside, a)
				got := m.container.Snapshot()
				for _, line := range test.want {
					if !strings.Contains(got, line) {
						m.Errorf("the container is\n%swant %q", got, line)
					}
				}
				for _, line := range test.none {
					if strings.Contains(got, line) {
						m.Errorf("the container is\n%swant no %q", got, line)
					}
				}
			})
		})
	}
}

// TestAddressLabel: the label is how Retire recognises routed mode's gateway.
func TestAddressLabel(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(plan.Address{Link: "lo", Prefix: prefix("169.254.1.1/32"), Scope: 253, Label: plan.GatewayLabel})
		if got := labels(m, "lo"); !slices.Contains(got, "169.254.1.1/32 "+plan.GatewayLabel) {
			m.Errorf("lo has %v", got)
		}
	})
}

// labels lists the IPv4 addresses of an interface of the node with their labels.
func labels(m *machine, name string) []string {
	m.Helper()
	l, err := netlink.LinkByName(name)
	m.must(err)
	list, err := netlink.AddrList(l, netlink.FAMILY_V4)
	m.must(err)
	var out []string
	for _, a := range list {
		out = append(out, a.IPNet.String()+" "+a.Label)
	}
	return out
}

// TestSoleAddress is the bridge's gateway among addresses that are there already.
func TestSoleAddress(t *testing.T) {
	t.Parallel()
	const (
		gw4, other4, local4 = "198.18.0.1/24", "198.18.5.1/24", "169.254.7.7/16"
		gw6, other6         = "2001:db8::1/64", "2001:db8:5::1/64"
	)
	for _, test := range []struct {
		name   string
		there  []string
		want   string
		force  bool
		taken  string   // the address that stands in the way; empty: none does
		stays  []string // with the wanted one
		exists bool     // the wanted address is one of those that are there
	}{
		{name: "none", want: gw4},
		{name: "itself", there: []string{gw4}, want: gw4, exists: true},
		{name: "itself among others", there: []string{other4, gw4}, want: gw4, exists: true, stays: []string{other4}},
		{name: "itself with another length", there: []string{"198.18.0.1/16"}, want: gw4, taken: "198.18.0.1/16"},
		{name: "another subnet", there: []string{other4}, want: gw4, taken: other4},
		{name: "IPv4 link-local", there: []string{local4}, want: gw4, stays: []string{local4}},
		{name: "the other family", there: []string{gw6}, want: gw4, stays: []string{gw6}},
		{name: "IPv6 overlap", there: []string{"2001:db8::9/80"}, want: gw6, taken: "2001:db8::9/80"},
		{name: "IPv6 itself with another length", there: []string{"2001:db8::1/80"}, want: gw6, taken: "2001:db8::1/80"},
		{name: "IPv6 another subnet", there: []string{other6}, want: gw6, stays: []string{other6}},
		{name: "IPv6 link-local", there: []string{"fe80::7/64"}, want: "fe80::1/64", stays: []string{"fe80::7/64"}},
		{name: "force", there: []string{other4, "198.18.0.1/16", local4}, want: gw4, force: true, stays: []string{local4}},
		{
			name: "force IPv6", there: []string{"2001:db8::9/80", "2001:db8::1/80", other6}, want: gw6, force: true,
			stays: []string{other6},
		},
		{
			name: "force where it is", there: []string{other4, gw4}, want: gw4, force: true, exists: true,
			stays: []string{other4},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				m.apply(bridge)
				for _, a := range test.there {
					m.must(addAddress("br0", a))
				}
				before := m.snapshot()
				want := plan.Address{Link: "br0", Prefix: prefix(test.want), Sole: true, Force: test.force}
				created, err := m.kernel.Apply(want)
				if test.taken != "" {
					m.refused(err, cnierr.Conflict)
					if !strings.Contains(err.Error(), test.taken) || !strings.Contains(err.Error(), "forceAddress") {
						m.Errorf("%v: want it to name %s and forceAddress", err, test.taken)
					}
					m.unchanged(before, "after a refused Apply")
					return
				}
				if err != nil || created == test.exists {
					m.Fatalf("created %v, %v", created, err)
				}
				wantList := append([]string{test.want}, test.stays...)
				slices.Sort(wantList)
				if got := addresses(m, "br0"); !slices.Equal(got, wantList) {
					m.Errorf("the bridge has %v, want %v", got, wantList)
				}
			})
		})
	}
}

// addresses lists what an interface of the node has, sorted, without what the kernel derives from the MAC.
func addresses(m *machine, name string) []string {
	m.Helper()
	var list []string
	for line := range strings.Lines(m.node.Snapshot()) {
		if f := strings.Fields(line); len(f) > 3 && f[0] == "address" && f[3] == name {
			list = append(list, f[1])
		}
	}
	slices.Sort(list)
	return list
}

// TestUndoAddressTakesOnlyItsOwn: the same address with another prefix length is another address.
func TestUndoAddressTakesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, there, own string }{
		{"IPv4", "198.18.0.1/16", "198.18.0.1/24"},
		{"IPv4 within", "198.18.0.1/32", "198.18.0.1/24"},
		{"IPv6", "2001:db8::2/64", "2001:db8::1/64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				m.apply(pair, inside)
				m.must(addAddress("vh", test.there))
				before := m.snapshot()
				own := plan.Address{Link: "vh", Prefix: prefix(test.own)}
				m.apply(own)
				m.undo(own)
				m.unchanged(before, "after Undo of "+test.own)
			})
		})
	}
}

// TestSettle lets duplicate address detection run against a neighbour on the same bridge.
func TestSettle(t *testing.T) {
	t.Parallel()
	own := plan.Address{Place: plan.Container, Link: "eth0", Prefix: prefix("2001:db8::5/64"), DAD: true, State: "ok"}
	for _, test := range []struct {
		name      string
		neighbour string
		fails     bool
	}{
		{name: "unique", neighbour: "2001:db8::6/64"},
		{name: "duplicate", neighbour: "2001:db8::5/64", fails: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				m.apply(bridge, port, inside,
					plan.Address{Place: plan.Container, Link: "eth0", Prefix: prefix("198.18.0.5/24")},
					// Detection, too, begins after a random part of this delay.
					plan.Sysctl{Place: plan.Container, Key: "net/ipv6/conf/eth0/router_solicitation_delay", Value: "0"},
				)
				other := m.node.Container()
				neighbour(m, other, test.neighbour)
				crosses(m, "198.18.0.6")
				m.apply(own)
				err := m.kernel.Settle([]plan.Object{inside, own})
				if !test.fails {
					m.must(err)
					m.asPlanned(own)
					return
				}
				m.refused(err, cnierr.AddressTaken)
				want := plan.Findings{{Object: own.ID(), Field: "state", Want: "ok", Got: "dadfailed"}}
				if got := m.findings(own); !slices.Equal(got, want) {
					m.Errorf("CHECK finds %s, want %s", got, want)
				}
			})
		})
	}
}

// crosses waits until packets reach an address: a bridge forwards to a port a moment after it has come up.
func crosses(m *machine, to string) {
	m.Helper()
	var err error
	for range 50 {
		if err = m.container.PingWith(addr(to), node.PingOptions{Timeout: 100 * time.Millisecond}); err == nil {
			return
		}
	}
	m.Fatal(err)
}

// neighbour attaches another container to the bridge.
func neighbour(m *machine, c *node.Namespace, address string) {
	m.Helper()
	attached(m.T, c, func(k *kernel.Node) {
		p := port
		p.Host, p.MAC, p.Alias = second.Host, second.MAC, ""
		for _, o := range []plan.Object{
			p,
			plan.Interface{Name: "eth0", MAC: stranger, Up: true},
			plan.Address{Place: plan.Container, Link: "eth0", Prefix: prefix("198.18.0.6/24")},
			plan.Address{Place: plan.Container, Link: "eth0", Prefix: prefix(address)},
		} {
			_, err := k.Apply(o)
			m.must(err)
		}
	})
}

// TestSettleDoesNotWait for addresses whose detection nobody asked for.
func TestSettleDoesNotWait(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		// Neither is there: a wait would fail.
		err := m.kernel.Settle([]plan.Object{
			plan.Address{Place: plan.Container, Link: "eth0", Prefix: prefix("2001:db8::5/64")},
			plan.Address{Place: plan.Container, Link: "eth0", Prefix: prefix("198.18.0.5/24"), DAD: true},
		})
		m.must(err)
		m.refused(m.kernel.Settle([]plan.Object{
			plan.Address{Place: plan.Container, Link: "eth0", Prefix: prefix("2001:db8::5/64"), DAD: true},
		}), cnierr.KernelRefused)
	})
}
