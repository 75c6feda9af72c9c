package process

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// breakage is something that goes wrong with an attachment after its ADD. CHECK must fail and say what and where.
type breakage struct {
	name   string
	config string
	inside bool // in the container
	do     func(b broken) error
	says   []string // $HOST stands for the host end's name
}

// broken is what a breakage can be done to.
type broken struct {
	hostEnd string
	ip4     netip.Addr
	ip6     netip.Addr
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, b := range []breakage{
		{"the container's default route", routed, true, noRoute("0.0.0.0/0"), []string{"container route default", "missing"}},
		{"the container's default route of IPv6", routed, true, noRoute("::/0"), []string{"container route IPv6 default: missing"}},
		{"the bridge's default route", bridged, true, noRoute("0.0.0.0/0"), []string{"container route default", "missing"}},
		{"a default route through somebody else", bridged, true, func(broken) error {
			return byName("eth0", func(l netlink.Link) error {
				return netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.IPv4(10, 88, 0, 77), Dst: everywhere4()})
			})
		}, []string{"container route default", "via", "want 10.88.0.1", "found 10.88.0.77"}},
		{
			"a route from the configuration", with(bridged, `{"ipam": {"routes": [{"dst": "192.0.2.0/24", "mtu": 1400}]}}`), true,
			noRoute("192.0.2.0/24"),
			[]string{"container route 192.0.2.0/24", "missing"},
		},
		{"the subnet's route", bridged, true, noRoute("10.88.0.0/24"), []string{"container route 10.88.0.0/24: missing"}},
		{"the subnet's route of IPv6", bridged, true, noRoute("2001:db8:88::/64"), []string{"container route 2001:db8:88::/64: missing"}},
		{
			"the host's route", routed, false, func(b broken) error { return noRoute(b.ip4.String() + "/32")(b) },
			[]string{"host route 10.88.0.", "missing"},
		},
		{
			"the host's route of IPv6", routed, false, func(b broken) error { return noRoute(b.ip6.String() + "/128")(b) },
			[]string{"host route 2001:db8:88::", "missing"},
		},
		{"an address", routed, true, noAddress("eth0", "10.88.0."), []string{"container address 10.88.0.", "missing"}},
		{"an address of IPv6", routed, true, noAddress("eth0", "2001:db8:88::"), []string{"container address 2001:db8:88::", "missing"}},
		{
			"the gateway's address on the loopback interface", routed, false, noAddress("lo", "169.254.1.1"),
			[]string{"host address 169.254.1.1/32 dev lo", "missing"},
		},
		{
			"the gateway's address of IPv6 on the host end", routed, false, noAddress("$HOST", "fe80::1/"),
			[]string{"host address fe80::1/64 dev $HOST", "missing"},
		},
		{
			"the gateway's address on the bridge", bridged, false, noAddress("br0", "10.88.0.1/"),
			[]string{"host address 10.88.0.1/24 dev br0", "missing"},
		},
		{"the host's neighbour", routed, false, noNeighbour("$HOST", "10.88.0."), []string{"host neighbour 10.88.0.", "$HOST", "missing"}},
		{
			"the container's neighbour", routed, true, noNeighbour("eth0", "169.254.1.1"),
			[]string{"container neighbour 169.254.1.1 dev eth0", "missing"},
		},
		{"another neighbour", routed, true, func(broken) error {
			return byName("eth0", func(l netlink.Link) error {
				return netlink.NeighSet(&netlink.Neigh{
					LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP("fe80::1"),
					HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9},
				})
			})
		}, []string{"container neighbour fe80::1 dev eth0", "found 02:00:00:00:00:09"}},
		{"a lease", routed, false, func(b broken) error {
			return onHostEnd(b, func(l netlink.Link) error { return netlink.LinkDelAltName(l, b.ip4.String()+"@podnet") })
		}, []string{"host altname 10.88.0.", "@podnet", "missing"}},
		{"a lease that somebody else has", routed, false, func(b broken) error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			name := b.ip6.String() + "@podnet"
			if err := onHostEnd(b, func(l netlink.Link) error { return netlink.LinkDelAltName(l, name) }); err != nil {
				return err
			}
			return netlink.LinkAddAltName(lo, name)
		}, []string{"host altname 2001:db8:88::", "want $HOST", "found lo"}},
		{
			"the host end", routed, false, func(b broken) error { return onHostEnd(b, netlink.LinkDel) },
			[]string{"host interface $HOST: missing, and with it the container's eth0 and all that was on either end"},
		},
		{
			"the host end is down", routed, false, func(b broken) error { return onHostEnd(b, netlink.LinkSetDown) },
			[]string{"host interface $HOST: up: want yes"},
		},
		{
			"the container's end is down", bridged, true, func(broken) error { return byName("eth0", netlink.LinkSetDown) },
			[]string{"container interface eth0: up: want yes"},
		},
		{"the container's end is renamed", bridged, true, func(broken) error {
			return byName("eth0", func(l netlink.Link) error {
				if err := netlink.LinkSetDown(l); err != nil {
					return err
				}
				return netlink.LinkSetName(l, "eth7")
			})
		}, []string{"container interface eth0: missing", "peer: want eth0, found eth7"}},
		{
			"no master", bridged, false, func(b broken) error { return onHostEnd(b, netlink.LinkSetNoMaster) },
			[]string{"host interface $HOST: master: want br0, found none"},
		},
		{"another master", bridged, false, func(b broken) error {
			other := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br1"}}
			if err := netlink.LinkAdd(other); err != nil {
				return err
			}
			return onHostEnd(b, func(l netlink.Link) error { return netlink.LinkSetMaster(l, other) })
		}, []string{"host interface $HOST: master: want br0, found br1"}},
		{"the host end's mtu", with(routed, `{"mtu": 1400}`), false, func(b broken) error {
			return onHostEnd(b, func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1300) })
		}, []string{"host interface $HOST: mtu: want 1400, found 1300"}},
		{"the container's mtu", with(routed, `{"mtu": 1400}`), true, func(broken) error {
			return byName("eth0", func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1300) })
		}, []string{"container interface eth0: mtu: want 1400, found 1300"}},
		{
			"the host end's MAC", routed, false, func(b broken) error { return onHostEnd(b, otherMAC) },
			[]string{"host interface $HOST: mac: want 02:", "found 02:00:00:00:00:09"},
		},
		{
			"the container's MAC", bridged, true, func(broken) error { return byName("eth0", otherMAC) },
			[]string{"container interface eth0: mac: want 0a:58:0a:58:00:", "found 02:00:00:00:00:09"},
		},
		{"the nftables table", routed, false, func(broken) error {
			return ruleset(func(c *nftables.Conn, table *nftables.Table) { c.DelTable(table) })
		}, []string{"host nftables masquerade 10.88.0.0/24", "2001:db8:88::/64"}},
		{"the nftables rules", bridged, false, func(broken) error {
			return ruleset(func(c *nftables.Conn, table *nftables.Table) { c.FlushTable(table) })
		}, []string{"host nftables masquerade 10.88.0.0/24"}},
		{
			"the bridge", bridged, false, func(broken) error { return byName("br0", netlink.LinkDel) },
			[]string{"host interface br0: missing", "host interface $HOST: master: want br0, found none"},
		},
		{
			"the bridge is down", bridged, false, func(broken) error { return byName("br0", netlink.LinkSetDown) },
			[]string{"host interface br0: up: want yes"},
		},
		{"the bridge's promiscuity", with(bridged, `{"promiscMode": true}`), false, func(broken) error {
			return byName("br0", netlink.SetPromiscOff)
		}, []string{"host interface br0: promisc: want yes"}},
		{"the port's hairpin", with(bridged, `{"hairpinMode": true}`), false, func(b broken) error {
			return onHostEnd(b, func(l netlink.Link) error { return netlink.LinkSetHairpin(l, false) })
		}, []string{"host bridge port $HOST: hairpin: want on, found off"}},
		{"the port's isolation", with(bridged, `{"portIsolation": true}`), false, func(b broken) error {
			return onHostEnd(b, func(l netlink.Link) error { return netlink.LinkSetIsolated(l, false) })
		}, []string{"host bridge port $HOST: isolated: want on, found off"}},
		{"isolation nobody asked for", bridged, false, func(b broken) error {
			return onHostEnd(b, func(l netlink.Link) error { return netlink.LinkSetIsolated(l, true) })
		}, []string{"host bridge port $HOST: isolated: want off, found on"}},
		{"forwarding", routed, false, sysctl("net/ipv4/ip_forward", "0"), []string{"host sysctl net/ipv4/ip_forward: value: want 1, found 0"}},
		{
			"forwarding of IPv6", bridged, false, sysctl("net/ipv6/conf/all/forwarding", "0"),
			[]string{"host sysctl net/ipv6/conf/all/forwarding: value: want 1, found 0"},
		},
		{
			"the reverse path filter", routed, false, func(b broken) error { return sysctl("net/ipv4/conf/"+b.hostEnd+"/rp_filter", "0")(b) },
			[]string{"host sysctl net/ipv4/conf/$HOST/rp_filter: value: want 1, found 0"},
		},
		{
			"router advertisements in the container", bridged, true, sysctl("net/ipv6/conf/eth0/accept_ra", "1"),
			[]string{"container sysctl net/ipv6/conf/eth0/accept_ra: value: want 0, found 1"},
		},
		{
			"router advertisements on the bridge", bridged, false, sysctl("net/ipv6/conf/br0/accept_ra", "1"),
			[]string{"host sysctl net/ipv6/conf/br0/accept_ra: value: want 0, found 1"},
		},
		{
			"IPv6 switched off in the container", routed, true, sysctl("net/ipv6/conf/eth0/disable_ipv6", "1"),
			[]string{"disable_ipv6: value: want 0, found 1", "container address 2001:db8:88::"},
		},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			added := h.add(b.config, c)
			h.check(b.config, c, added)

			where, ips := h.Namespace, added.addresses()
			if b.inside {
				where = c
			}
			victim := broken{hostEnd: added.hostEnd(), ip4: ips[0], ip6: ips[1]}
			if err := where.Do(func() error { return b.do(victim) }); err != nil {
				t.Fatal(err)
			}
			for i := range b.says {
				b.says[i] = strings.ReplaceAll(b.says[i], "$HOST", victim.hostEnd)
			}
			h.leaves(func() { h.call("CHECK", added.before(b.config), c).refused(105, b.says...) }, c)
		})
	}
}

// In a chain written for the reference, its tuning plugin has the last word on what the plan only prefers. What the
// configuration itself sets stays wanted.
func TestCheckOfPreferences(t *testing.T) {
	t.Parallel()
	const key = "net/ipv6/conf/eth0/accept_ra"
	for _, tt := range []struct {
		name, config string
		says         string // "": CHECK succeeds
	}{
		{"type bridge", with(bridged, `{"type": "bridge"}`), ""},
		{"type ptp", ptp, ""},
		{
			"type bridge, set by the configuration",
			with(bridged, `{"type": "bridge", "sysctl": {"net.ipv6.conf.IFNAME.accept_ra": "1"}}`), "value: want 1, found 2",
		},
		{"type veth", bridged, "value: want 0, found 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			added := h.add(tt.config, c)
			if err := c.Do(func() error { return sysctl(key, "2")(broken{}) }); err != nil {
				t.Fatal(err)
			}
			if tt.says == "" {
				h.check(tt.config, c, added)
				return
			}
			h.call("CHECK", added.before(tt.config), c).refused(105, "container sysctl "+key+": "+tt.says)
		})
	}
}

// The neighbours were told of the addresses when the interface came up: what is set of it later changes nothing.
func TestCheckOfAnnouncements(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	config := with(bridged, `{"capabilities": {"mac": true}, "runtimeConfig": {"mac": "02:00:00:00:00:09"}}`)
	added := h.add(config, c)
	const key = "net/ipv4/conf/eth0/arp_notify"
	if err := c.Do(func() error {
		if now, err := os.ReadFile("/proc/sys/" + key); err != nil || string(now) != "1\n" {
			t.Errorf("%s is %q, %v, want 1: the hardware address is not the one that follows from the address", key, now, err)
		}
		return sysctl(key, "0")(broken{})
	}); err != nil {
		t.Fatal(err)
	}
	h.check(config, c, added)
}

// A namespace that is not there, or is another's, is no place for CHECK to look in.
func TestCheckInTheWrongNamespace(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c, other := h.Container(), h.Container()
	added := h.add(routed, c)
	h.call("CHECK", added.before(routed), c, "CNI_NETNS="+other.Path).refused(105)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	h.call("CHECK", added.before(routed), c).refused(3, "CNI_NETNS", c.Path)
}

func TestCheckAsksTheDelegate(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := newDelegate(h)
	c := h.Container()
	config := with(bridged, delegatedIPAM)
	added := h.add(config, c)
	d.fails("CHECK", `{"cniVersion": "1.1.0", "code": 11, "msg": "never heard of it"}`)
	h.call("CHECK", added.before(config), c).refused(11, `"delegate"`, "never heard of it")
	d.called("ADD", "CHECK")
}

func byName(name string, do func(netlink.Link) error) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return do(l)
}

func onHostEnd(b broken, do func(netlink.Link) error) error { return byName(b.hostEnd, do) }

func otherMAC(l netlink.Link) error {
	return netlink.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 9})
}

func everywhere4() *net.IPNet { return &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)} }

// noRoute deletes the route to a destination.
func noRoute(dst string) func(broken) error {
	return func(broken) error {
		prefix := netip.MustParsePrefix(dst)
		family := netlink.FAMILY_V4
		if prefix.Addr().Is6() {
			family = netlink.FAMILY_V6
		}
		list, err := netlink.RouteList(nil, family)
		if err != nil {
			return err
		}
		for _, r := range list {
			if r.Dst.String() == prefix.String() {
				return netlink.RouteDel(&r)
			}
		}
		return unix.ESRCH
	}
}

// noAddress deletes the address of an interface whose text begins so.
func noAddress(link, begins string) func(broken) error {
	return func(b broken) error {
		return byName(strings.ReplaceAll(link, "$HOST", b.hostEnd), func(l netlink.Link) error {
			list, err := netlink.AddrList(l, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			for _, a := range list {
				if strings.HasPrefix(a.IPNet.String(), begins) {
					return netlink.AddrDel(l, &a)
				}
			}
			return unix.EADDRNOTAVAIL
		})
	}
}

// noNeighbour deletes the neighbour of an interface whose address begins so.
func noNeighbour(link, begins string) func(broken) error {
	return func(b broken) error {
		return byName(strings.ReplaceAll(link, "$HOST", b.hostEnd), func(l netlink.Link) error {
			list, err := netlink.NeighList(l.Attrs().Index, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			for _, n := range list {
				if strings.HasPrefix(n.IP.String(), begins) {
					return netlink.NeighDel(&n)
				}
			}
			return unix.ENOENT
		})
	}
}

// ruleset changes the plugin's nftables table.
func ruleset(change func(*nftables.Conn, *nftables.Table)) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	change(conn, &nftables.Table{Family: nftables.TableFamilyINet, Name: "veth"})
	return conn.Flush()
}

func sysctl(key, value string) func(broken) error {
	return func(broken) error { return os.WriteFile("/proc/sys/"+key, []byte(value), 0o644) }
}
