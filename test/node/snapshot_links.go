package node

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func (o observation) linkLines() ([]string, error) {
	lines := make([]string, 0, len(o.links))
	for _, link := range o.links {
		a := link.Attrs()
		l := words{"link", a.Name, link.Type()}
		l.flag("up", a.RawFlags&unix.IFF_UP != 0)
		l.flag("promisc", a.RawFlags&unix.IFF_PROMISC != 0)
		l.flag("allmulti", a.RawFlags&unix.IFF_ALLMULTI != 0)
		l.add("mtu", a.MTU)
		l.add("master", o.names[a.MasterIndex])
		if vlan, ok := link.(*netlink.Vlan); ok {
			l.add("link", o.names[a.ParentIndex])
			l.add("vlan", vlan.VlanId)
		}
		if bridge, ok := link.(*netlink.Bridge); ok && bridge.VlanFiltering != nil {
			l.flag("vlan_filtering", *bridge.VlanFiltering)
		}
		if a.Alias != "" {
			l.add("alias", fmt.Sprintf("%q", a.Alias))
		}
		for _, name := range slices.Sorted(slices.Values(a.AltNames)) {
			l.add("altname", name)
		}
		lines = append(lines, l.String())
	}
	return lines, nil
}

// portSettings names the attributes of a bridge port that are settings (linux/if_link.h, IFLA_BRPORT_*): one byte each.
var portSettings = map[uint16]string{
	unix.IFLA_BRPORT_MODE: "hairpin", unix.IFLA_BRPORT_GUARD: "bpdu_guard", unix.IFLA_BRPORT_PROTECT: "root_block",
	unix.IFLA_BRPORT_FAST_LEAVE: "fastleave", unix.IFLA_BRPORT_LEARNING: "learning",
	unix.IFLA_BRPORT_UNICAST_FLOOD: "flood", unix.IFLA_BRPORT_MCAST_FLOOD: "mcast_flood",
	unix.IFLA_BRPORT_BCAST_FLOOD: "bcast_flood", unix.IFLA_BRPORT_PROXYARP: "proxy_arp",
	unix.IFLA_BRPORT_NEIGH_SUPPRESS: "neigh_suppress", unix.IFLA_BRPORT_ISOLATED: "isolated",
	unix.IFLA_BRPORT_LOCKED: "locked",
}

// portLines decodes the settings of bridge ports itself: the netlink package does not know all of them.
func (o observation) portLines() ([]string, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, msg := range msgs {
		header := nl.DeserializeIfInfomsg(msg)
		attrs, err := nl.ParseRouteAttr(msg[header.Len():])
		if err != nil {
			return nil, err
		}
		for _, attr := range attrs {
			if attr.Attr.Type != unix.IFLA_PROTINFO|unix.NLA_F_NESTED {
				continue
			}
			settings, err := nl.ParseRouteAttr(attr.Value)
			if err != nil {
				return nil, err
			}
			l := words{"port", o.names[int(header.Index)]}
			for _, s := range settings {
				if name := portSettings[s.Attr.Type]; name != "" {
					l.flag(name, s.Value[0] != 0)
				}
			}
			lines = append(lines, l.String())
		}
	}
	return lines, nil
}

func (o observation) vlanLines() ([]string, error) {
	vlans, err := netlink.BridgeVlanList()
	if err != nil {
		return nil, err
	}
	var lines []string
	for index, infos := range vlans {
		for _, v := range infos {
			l := words{"port vlan", o.names[int(index)], fmt.Sprint(v.Vid)}
			l.flag("pvid", v.PortVID())
			l.flag("untagged", v.EngressUntag())
			lines = append(lines, l.String())
		}
	}
	return lines, nil
}

// forwardingLines lists the static entries of forwarding databases: not what a bridge learnt, not the addresses of the
// links themselves, not the multicast groups they are in.
func (o observation) forwardingLines() ([]string, error) {
	entries, err := netlink.NeighList(0, unix.AF_BRIDGE)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, e := range entries {
		own := slices.ContainsFunc(o.links, func(l netlink.Link) bool {
			return slices.Equal(l.Attrs().HardwareAddr, e.HardwareAddr)
		})
		group := len(e.HardwareAddr) > 0 && e.HardwareAddr[0]&1 != 0
		if own || group || e.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) == 0 {
			continue
		}
		l := words{"fdb", e.HardwareAddr.String()}
		l.add("dev", o.names[e.LinkIndex])
		l.add("vlan", e.Vlan)
		l.flag("local", e.State&netlink.NUD_PERMANENT != 0)
		lines = append(lines, l.String())
	}
	return lines, nil
}
