package kernel_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

func scope(n uint8) *uint8 { return &n }

// everyField is a route with a value in each field that the plan of an attachment may give.
func everyField(p plan.Place, family int) plan.Route {
	r := plan.Route{Place: p, Link: link(p), OnLink: true, Table: 1000, Metric: 7, MTU: 1300, AdvMSS: 1200, Scope: scope(0)}
	if family == 4 {
		r.Dst, r.Via, r.Src = prefix("192.0.2.0/24"), addr("198.18.7.1"), addr("198.18.0.5")
	} else {
		r.Dst, r.Via, r.Src = prefix("2001:db8:9::/48"), addr("2001:db8:7::1"), addr("2001:db8::5")
	}
	return r
}

func TestRoute(t *testing.T) {
	t.Parallel()
	var scenarios []scenario
	for _, p := range []plan.Place{plan.Host, plan.Container} {
		for _, family := range []int{4, 6} {
			scenarios = append(scenarios, routeScenarios(p, family)...)
		}
	}
	runScenarios(t, scenarios)
}

func routeScenarios(p plan.Place, family int) []scenario {
	full := everyField(p, family)
	given := []plan.Object{
		pair, inside, second, secondInside, plan.Address{Place: p, Link: link(p), Prefix: prefix("198.18.0.5/24")},
	}
	other, otherSrc, otherVia := "vh2", "198.18.0.6", "198.18.7.2"
	one, gateway, anywhere := prefix("192.0.2.5/32"), addr("169.254.1.1"), prefix("0.0.0.0/0")
	elsewhere := prefix("203.0.113.0/24")
	if p == plan.Container {
		other = "eth1"
	}
	if family == 6 {
		given = append(given[:4:4], plan.Address{Place: p, Link: link(p), Prefix: prefix("2001:db8::5/64")})
		otherSrc, otherVia = "2001:db8::6", "2001:db8:7::2"
		one, gateway, anywhere = prefix("2001:db8:5::5/128"), addr("fe80::1"), prefix("::/0")
		elsewhere = prefix("2001:db8:77::/48")
	}
	name := fmt.Sprintf("%s IPv%d ", p, family)
	removed := func(r plan.Route) change {
		return change{"removed", reroute(r, func(_ *machine, x *netlink.Route) { x.Dst = ipNet(elsewhere) }), missing}
	}
	dev := func(r plan.Route) change {
		return change{"dev", reroute(r, func(m *machine, x *netlink.Route) {
			m.must(by(p, other, func(l netlink.Link) error {
				x.LinkIndex = l.Attrs().Index
				return nil
			})(m))
		}), wants("dev", link(p), other)}
	}
	again := map[plan.Place]again{plan.Host: refuses, plan.Container: kept}[p]
	toOne := plan.Route{Place: p, Link: link(p), Dst: one}
	toAll := plan.Route{Place: p, Link: link(p), Dst: anywhere, Via: gateway, OnLink: true}
	s := scenario{
		name: name + "every field", given: given, object: full, again: again, sticks: true,
		breaks: []change{
			removed(full), dev(full),
			{"table", reroute(full, func(_ *machine, x *netlink.Route) { x.Table = 1001 }), missing},
			{"others beside it", func(m *machine) error { return beside(m, full) }, nil},
			{"metric", reroute(full, func(_ *machine, x *netlink.Route) { x.Priority = 8 }), missing},
			{
				"via", reroute(full, func(_ *machine, x *netlink.Route) { x.Gw = addr(otherVia).AsSlice() }),
				wants("via", full.Via.String(), otherVia),
			},
			{
				"no via", reroute(full, func(_ *machine, x *netlink.Route) { x.Gw, x.Flags = nil, 0 }),
				wants("via", full.Via.String(), "none"),
			},
			{"src", reroute(full, func(m *machine, x *netlink.Route) {
				m.must(m.in(p, func() error { return addAddress(link(p), otherSrc+"/32") }))
				x.Src = addr(otherSrc).AsSlice()
			}), wants("src", full.Src.String(), otherSrc)},
			{"no src", reroute(full, func(_ *machine, x *netlink.Route) { x.Src = nil }), wants("src", full.Src.String(), "")},
			{"mtu", reroute(full, func(_ *machine, x *netlink.Route) { x.MTU = 1280 }), wants("mtu", "1300", "1280")},
			{"no mtu", reroute(full, func(_ *machine, x *netlink.Route) { x.MTU = 0 }), wants("mtu", "1300", "")},
			{"advmss", reroute(full, func(_ *machine, x *netlink.Route) { x.AdvMSS = 1000 }), wants("advmss", "1200", "1000")},
		},
	}
	if family == 4 {
		s.breaks = append(s.breaks, change{"scope", reroute(full, func(_ *machine, x *netlink.Route) {
			x.Scope = unix.RT_SCOPE_SITE
		}), wants("scope", "global", "site")})
	} else {
		s.fixed = []string{"scope"} // IPv6 has none
	}
	return []scenario{
		s,
		{
			name: name + "to one address", given: given, object: toOne, again: again, sticks: true,
			breaks: []change{removed(toOne), dev(toOne), {"via", reroute(toOne, func(_ *machine, x *netlink.Route) {
				x.Gw, x.Flags, x.Scope = addr(otherVia).AsSlice(), unix.RTNH_F_ONLINK, unix.RT_SCOPE_UNIVERSE
			}), wants("via", "none", otherVia)}},
		},
		{
			name: name + "default", given: given, object: toAll, again: again, sticks: true,
			breaks: []change{removed(toAll), dev(toAll), {"via", reroute(toAll, func(_ *machine, x *netlink.Route) {
				x.Gw = addr(otherVia).AsSlice()
			}), wants("via", gateway.String(), otherVia)}},
		},
	}
}

// reroute has the route changed by hand: taken out, edited, and put back.
func reroute(r plan.Route, edit func(*machine, *netlink.Route)) func(m *machine) error {
	return func(m *machine) error {
		family, table := netlink.FAMILY_V4, int(r.Table)
		if r.Dst.Addr().Is6() {
			family = netlink.FAMILY_V6
		}
		if table == 0 {
			table = unix.RT_TABLE_MAIN
		}
		var route *netlink.Route
		m.must(m.in(r.Place, func() error {
			list, err := netlink.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
			for _, x := range list {
				if x.Dst == nil && r.Dst.Bits() == 0 || x.Dst != nil && x.Dst.String() == r.Dst.String() {
					route = &x
				}
			}
			return err
		}))
		if route == nil {
			return fmt.Errorf("no route to %s", r.Dst)
		}
		m.must(m.in(r.Place, func() error { return netlink.RouteDel(route) }))
		edit(m, route)
		return m.in(r.Place, func() error { return netlink.RouteAdd(route) })
	}
}

// beside adds routes to the same destination that are more and less preferred.
func beside(m *machine, r plan.Route) error {
	r.MTU, r.AdvMSS = 1290, 1100
	for _, metric := range []uint32{r.Metric - 1, r.Metric + 1} {
		r.Metric = metric
		m.apply(r)
	}
	return nil
}

// TestRouteScope: what CHECK does not compare unless the plan says it.
func TestRouteScope(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(pair, inside, plan.Address{Link: "vh", Prefix: prefix("198.18.0.1/24")})
		for _, test := range []struct {
			route plan.Route
			line  string
		}{
			{
				plan.Route{Link: "vh", Dst: prefix("192.0.2.1/32")},
				"route inet 192.0.2.1/32 dev vh scope link proto boot table 254\n",
			},
			{
				plan.Route{Link: "vh", Dst: prefix("192.0.2.2/32"), Via: addr("198.18.0.9")},
				"route inet 192.0.2.2/32 via 198.18.0.9 dev vh scope universe proto boot table 254\n",
			},
			{
				plan.Route{Link: "vh", Dst: prefix("192.0.2.3/32"), Scope: scope(200)},
				"route inet 192.0.2.3/32 dev vh scope site proto boot table 254\n",
			},
			{
				plan.Route{Link: "vh", Dst: prefix("192.0.2.4/32"), Via: addr("192.0.2.200"), OnLink: true},
				"route inet 192.0.2.4/32 via 192.0.2.200 dev vh onlink scope universe proto boot table 254\n",
			},
		} {
			m.apply(test.route)
			m.asPlanned(test.route)
			if got := m.node.Snapshot(); !strings.Contains(got, test.line) {
				m.Errorf("the node is\n%swant %q", got, test.line)
			}
		}
	})
}

// TestRouteSource: a host that has no address of its own to talk from gets the gateway's; one that has keeps choosing.
func TestRouteSource(t *testing.T) {
	t.Parallel()
	gateway := plan.Address{Link: "lo", Prefix: prefix("169.254.1.1/32"), Scope: 253, Label: plan.GatewayLabel}
	route := plan.Route{Link: "vh", Dst: prefix("198.18.0.5/32"), SrcIfNone: addr("169.254.1.1")}
	for _, test := range []struct {
		name  string
		given func(m *machine) error
		route plan.Route
		src   string // in the snapshot
	}{
		{name: "a host without addresses", given: func(*machine) error { return nil }, route: route, src: " src 169.254.1.1"},
		{name: "a host with a default route", route: route, given: func(m *machine) error {
			return uplink(m, "203.0.113.7/24", "203.0.113.1")
		}},
		{name: "a source asked for", route: func() plan.Route {
			r := route
			r.Src = addr("203.0.113.7")
			return r
		}(), given: func(m *machine) error { return uplink(m, "203.0.113.7/24", "203.0.113.1") }, src: " src 203.0.113.7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				m.apply(gateway)
				m.must(test.given(m))
				m.apply(pair, inside, test.route)
				m.asPlanned(test.route)
				line := "route inet 198.18.0.5/32 dev vh" + test.src + " scope link proto boot table 254\n"
				if got := m.node.Snapshot(); !strings.Contains(got, line) {
					m.Errorf("the node is\n%swant %q", got, line)
				}
			})
		})
	}
}

// uplink gives the node an interface to the world.
func uplink(m *machine, address, gateway string) error {
	m.must(foreign("up0"), by(plan.Host, "up0-peer", netlink.LinkSetUp)(m), addAddress("up0", address))
	return netlink.RouteAdd(&netlink.Route{Gw: addr(gateway).AsSlice()})
}

// TestRouteRefused: the kernel's own words reach the reader.
func TestRouteRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		route plan.Route
		errno error
		says  string
	}{
		{
			name:  "the gateway is on no prefix",
			route: plan.Route{Place: plan.Container, Dst: prefix("192.0.2.0/24"), Via: addr("203.0.113.1")},
			errno: syscall.ENETUNREACH, says: "container route 192.0.2.0/24: its gw, 203.0.113.1, is in no subnet that the " +
				"container has on eth0: want the address of a router there, or gw left out: network is unreachable: Nexthop has",
		},
		{
			name:  "the IPv6 gateway is on no prefix",
			route: plan.Route{Place: plan.Container, Dst: prefix("2001:db8:9::/48"), Via: addr("2001:db8:77::1")},
			errno: syscall.EHOSTUNREACH, says: "container route 2001:db8:9::/48: its gw, 2001:db8:77::1, is in no subnet that the " +
				"container has on eth0",
		},
		{
			name:  "on the host's side too",
			route: plan.Route{Dst: prefix("192.0.2.0/24"), Via: addr("203.0.113.1")},
			errno: syscall.ENETUNREACH, says: "host route 192.0.2.0/24: network is unreachable: Nexthop has invalid gateway",
		},
		{
			name:  "the source is not the container's",
			route: plan.Route{Place: plan.Container, Dst: prefix("192.0.2.0/24"), Src: addr("203.0.113.1")},
			errno: syscall.EINVAL, says: "Invalid prefsrc address",
		},
		{
			name:  "IPv6 gateway of the container itself",
			route: plan.Route{Place: plan.Container, Dst: prefix("2001:db8:9::/48"), Via: addr("2001:db8::5")},
			errno: syscall.EINVAL, says: "Gateway can not be a local address",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				m.apply(pair, inside,
					plan.Address{Place: plan.Container, Link: "eth0", Prefix: prefix("198.18.0.5/24")},
					plan.Address{Place: plan.Container, Link: "eth0", Prefix: prefix("2001:db8::5/64")})
				before := m.snapshot()
				test.route.Link = link(test.route.Place)
				created, err := m.kernel.Apply(test.route)
				m.refused(err, cnierr.KernelRefused)
				if created || !errors.Is(err, test.errno) || !strings.Contains(err.Error(), test.says) {
					m.Errorf("created %v, %v, want %v with %q", created, err, test.errno, test.says)
				}
				m.unchanged(before, "after a refused Apply")
			})
		})
	}
}

// TestRouteThatTheAddressMade: the kernel adds a prefix's route with the address. In the container it is as good as the
// plan's own, and one that differs is not. On the host a route to the same destination is somebody else's.
func TestRouteThatTheAddressMade(t *testing.T) {
	t.Parallel()
	connected := plan.Route{Dst: prefix("198.18.0.0/24"), Src: addr("198.18.0.5")}
	through := plan.Route{Dst: prefix("198.18.0.0/24"), Via: addr("198.18.0.1")}
	for _, test := range []struct {
		name  string
		place plan.Place
		route plan.Route
		fails bool
	}{
		{"container, the same", plan.Container, connected, false},
		{"container, another", plan.Container, through, true},
		{"host, the same", plan.Host, connected, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				m.apply(pair, inside, plan.Address{Place: test.place, Link: link(test.place), Prefix: prefix("198.18.0.5/24")})
				before := m.snapshot()
				r := test.route
				r.Place, r.Link = test.place, link(test.place)
				created, err := m.kernel.Apply(r)
				if created || (err != nil) != test.fails || test.fails && !errors.Is(err, syscall.EEXIST) {
					m.Errorf("created %v, %v, want failure: %v", created, err, test.fails)
				}
				m.unchanged(before, "after an Apply that adds nothing")
			})
		})
	}
}

// TestRouteImplied: what the kernel makes with an address is looked for on the address's own link, in whatever table.
func TestRouteImplied(t *testing.T) {
	t.Parallel()
	for _, subnet := range []string{"198.18.0.5/24", "2001:db8::5/64"} {
		t.Run(subnet, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				implied := plan.Route{Place: plan.Container, Link: "eth0", Dst: prefix(subnet).Masked(), Implied: true}
				if created, err := m.kernel.Apply(implied); created || err != nil {
					m.Errorf("created %v, %v, want nothing done", created, err)
				}
				m.apply(pair, inside, second, secondInside)
				for _, name := range []string{"eth1", "eth0"} {
					m.apply(plan.Address{Place: plan.Container, Link: name, Prefix: prefix(subnet)})
				}
				m.asPlanned(implied)
				change := func(how func(*netlink.Route) error) {
					m.must(m.container.Do(func() error {
						l, err := netlink.LinkByName("eth0")
						m.must(err)
						filter := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(implied.Dst)}
						list, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, filter,
							netlink.RT_FILTER_OIF|netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
						m.must(err)
						if len(list) != 1 {
							m.Fatalf("found the routes %v, want one", list)
						}
						return how(&list[0])
					}))
				}
				change(func(r *netlink.Route) error {
					old := *r
					r.Table = 100
					return errors.Join(netlink.RouteAdd(r), netlink.RouteDel(&old))
				})
				m.asPlanned(implied)
				change(netlink.RouteDel)
				if got := m.findings(implied).String(); got != implied.ID()+": missing" {
					m.Errorf("CHECK finds %q, want the route missing", got)
				}
			})
		})
	}
}
