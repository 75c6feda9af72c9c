package node_test

import (
	"errors"
	"net"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// changes are the kinds of change that a snapshot must show, each with its undo, on a node that has host0.
var changes = []struct {
	name         string
	change, undo func() error
	want         string
}{
	{
		"link", func() error { return netlink.LinkAdd(bridge) },
		func() error { return netlink.LinkDel(bridge) }, "+ link br0 bridge mtu 1500",
	},
	{
		"link down", host(netlink.LinkSetDown), func() error { return configure("host0", nodeAddr6, linkLocal) },
		"- link host0 veth up mtu 1400",
	},
	{
		"mtu", host(func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1300) }),
		host(func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1400) }), "+ link host0 veth up mtu 1300",
	},
	{
		"promisc", host(netlink.SetPromiscOn), host(netlink.SetPromiscOff), "+ link host0 veth up promisc mtu 1400",
	},
	{
		"alias", host(func(l netlink.Link) error { return netlink.LinkSetAlias(l, "whose it is") }),
		host(func(l netlink.Link) error { return netlink.LinkSetAlias(l, "") }), `alias "whose it is"`,
	},
	{
		"altname", host(func(l netlink.Link) error { return netlink.LinkAddAltName(l, "198.18.0.2@podnet") }),
		host(func(l netlink.Link) error { return netlink.LinkDelAltName(l, "198.18.0.2@podnet") }),
		"mtu 1400 altname 198.18.0.2@podnet",
	},
	{"bridge port", addPort, delPort, "+ link host0 veth up mtu 1400 master br0\n"},
	{
		"bridge port's settings", func() error {
			return errors.Join(addPort(), host(func(l netlink.Link) error { return netlink.LinkSetIsolated(l, true) })())
		}, delPort, "+ port host0 learning flood mcast_flood bcast_flood isolated",
	},
	{"bridge port's VLAN", addPort, delPort, "+ port vlan host0 1 pvid untagged"},
	{
		"forwarding entry", func() error {
			if err := addPort(); err != nil {
				return err
			}
			return host(func(l netlink.Link) error {
				return netlink.NeighAdd(&netlink.Neigh{
					LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_NOARP, Flags: netlink.NTF_MASTER,
					HardwareAddr: stranger,
				})
			})()
		}, delPort, "+ fdb 02:00:00:00:00:09 dev host0",
	},
	{
		"address", host(func(l netlink.Link) error { return netlink.AddrAdd(l, address(other)) }),
		host(func(l netlink.Link) error { return netlink.AddrDel(l, address(other)) }),
		"+ address 198.18.5.1/24 dev host0 scope universe",
	},
	{
		"IPv6 address after its detection", host(func(l netlink.Link) error {
			a := address(other6)
			a.Flags = 0
			return netlink.AddrAdd(l, a)
		}),
		host(func(l netlink.Link) error { return netlink.AddrDel(l, address(other6)) }),
		"+ route inet6 2001:db8:5::1/128 type 2 dev host0",
	},
	{"route", route(netlink.RouteAdd), route(netlink.RouteDel), "+ route inet 192.0.2.0/24 via 198.18.0.9 dev host0"},
	{
		"IPv6 route in a table", route6(netlink.RouteAdd), route6(netlink.RouteDel),
		"+ route inet6 2001:db8:9::/64 dev host0 scope universe proto static table 100 metric 7 mtu 1300",
	},
	{
		"rule", func() error { return netlink.RuleAdd(prohibit) }, func() error { return netlink.RuleDel(prohibit) },
		"+ rule inet6 action 8 ",
	},
	{
		"neighbour", neighbour(netlink.NeighAdd), neighbour(netlink.NeighDel),
		"+ neighbour 198.18.0.9 dev host0 02:00:00:00:00:09",
	},
	{
		"sysctl", func() error { return sysctl("1") }, func() error { return sysctl("0") },
		"+ sysctl net/ipv4/conf/host0/proxy_arp 1",
	},
	{
		"nftables", addRuleset, delRuleset, `+ nft table inet snapshot
+ nft set inet snapshot ports inet_service to ipv4_addr
+ nft element inet snapshot ports 1f90 value c6120002
+ nft set inet snapshot subnets ipv4_addr interval
+ nft element inet snapshot subnets c6120000 comment "podnet"
+ nft element inet snapshot subnets c6120100 end
+ nft chain inet snapshot out nat hook 4 priority 100
+ nft rule inet snapshot out Meta{Key:15 Register:1} Cmp{Register:1 Data:02} ` +
			`Payload{DestRegister:1 Base:1 Offset:12 Len:4} Counter Lookup{SourceRegister:1 SetName:subnets} Masq{} ` +
			`comment "ours"` + "\n",
	},
}

var (
	bridge   = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", MTU: 1500}}
	stranger = net.HardwareAddr{2, 0, 0, 0, 0, 9}
	other    = netip.MustParsePrefix("198.18.5.1/24")
	other6   = netip.MustParsePrefix("2001:db8:5::1/64")
	prohibit = func() *netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Priority, r.IifName, r.Type = netlink.FAMILY_V6, 100, "host0", unix.RTN_PROHIBIT
		r.Table = unix.RT_TABLE_MAIN
		return r
	}()
	table = &nftables.Table{Family: nftables.TableFamilyINet, Name: "snapshot"}
)

func host(fn func(netlink.Link) error) func() error {
	return func() error {
		link, err := netlink.LinkByName("host0")
		if err != nil {
			return err
		}
		return fn(link)
	}
}

func route(fn func(*netlink.Route) error) func() error {
	return host(func(l netlink.Link) error {
		return fn(&netlink.Route{
			LinkIndex: l.Attrs().Index, Gw: net.IPv4(198, 18, 0, 9),
			Dst: &net.IPNet{IP: net.IPv4(192, 0, 2, 0), Mask: net.CIDRMask(24, 32)},
		})
	})
}

func route6(fn func(*netlink.Route) error) func() error {
	return host(func(l netlink.Link) error {
		return fn(&netlink.Route{
			LinkIndex: l.Attrs().Index, Table: 100, Priority: 7, MTU: 1300, Protocol: unix.RTPROT_STATIC,
			Dst: &net.IPNet{IP: net.ParseIP("2001:db8:9::"), Mask: net.CIDRMask(64, 128)},
		})
	})
}

func neighbour(fn func(*netlink.Neigh) error) func() error {
	return host(func(l netlink.Link) error {
		return fn(&netlink.Neigh{
			LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.IPv4(198, 18, 0, 9), HardwareAddr: stranger,
		})
	})
}

func addPort() error {
	if err := netlink.LinkAdd(bridge); err != nil {
		return err
	}
	return host(func(l netlink.Link) error { return netlink.LinkSetMaster(l, bridge) })()
}

func delPort() error { return netlink.LinkDel(bridge) }

func sysctl(value string) error {
	return os.WriteFile("/proc/sys/net/ipv4/conf/host0/proxy_arp", []byte(value), 0o644)
}

// addRuleset makes a table with a masquerading chain, a set of subnets and a map from ports to addresses.
func addRuleset() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.AddTable(table)
	subnets := &nftables.Set{Table: table, Name: "subnets", KeyType: nftables.TypeIPAddr, Interval: true}
	if err := conn.AddSet(subnets, []nftables.SetElement{
		{Key: []byte{198, 18, 0, 0}, Comment: "podnet"},
		{Key: []byte{198, 18, 1, 0}, IntervalEnd: true},
	}); err != nil {
		return err
	}
	ports := &nftables.Set{
		Table: table, Name: "ports", IsMap: true, KeyType: nftables.TypeInetService, DataType: nftables.TypeIPAddr,
	}
	err = conn.AddSet(ports, []nftables.SetElement{{Key: []byte{0x1f, 0x90}, Val: []byte{198, 18, 0, 2}}})
	if err != nil {
		return err
	}
	chain := conn.AddChain(&nftables.Chain{
		Table: table, Name: "out", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	conn.AddRule(&nftables.Rule{
		Table: table, Chain: chain, UserData: userdata.AppendString(nil, userdata.TypeComment, "ours"),
		Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.NFPROTO_IPV4}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
			&expr.Counter{},
			&expr.Lookup{SourceRegister: 1, SetName: "subnets"},
			&expr.Masq{},
		},
	})
	return conn.Flush()
}

func delRuleset() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.DelTable(table)
	return conn.Flush()
}
