package node

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func (o observation) routeLines() ([]string, error) {
	everyTable := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	var lines []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, everyTable, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if !incidental(r) {
				lines = append(lines, o.route(family, r))
			}
		}
	}
	return lines, nil
}

// incidental reports whether the kernel keeps the route for IPv6 itself: for the link-local prefix and multicast on
// every link that is up, for automatic addresses, and for a router's anycast addresses of these.
func incidental(r netlink.Route) bool {
	if r.Protocol != unix.RTPROT_KERNEL || r.Dst == nil || r.Dst.IP.To4() != nil {
		return false
	}
	ones, _ := r.Dst.Mask.Size()
	linkLocal := netip.MustParsePrefix("fe80::/64").Addr().AsSlice()
	return r.Dst.IP.IsMulticast() || automatic(r.Dst.IP) || r.Dst.IP.Equal(linkLocal) && ones >= 64
}

func (o observation) route(family int, r netlink.Route) string {
	l := words{"route", map[int]string{netlink.FAMILY_V4: "inet", netlink.FAMILY_V6: "inet6"}[family]}
	if r.Dst == nil {
		l = append(l, "default")
	} else {
		l = append(l, r.Dst.String())
	}
	if r.Type != unix.RTN_UNICAST {
		l.add("type", r.Type)
	}
	if r.Gw != nil {
		l.add("via", r.Gw)
	}
	if r.Via != nil {
		l.add("via", r.Via)
	}
	l.add("dev", o.names[r.LinkIndex])
	for _, hop := range r.MultiPath {
		l.add("nexthop", fmt.Sprintf("%v@%s*%d", hop.Gw, o.names[hop.LinkIndex], hop.Hops+1))
	}
	if r.Src != nil {
		l.add("src", r.Src)
	}
	l.flag("onlink", r.Flags&unix.RTNH_F_ONLINK != 0)
	l.add("scope", r.Scope)
	l.add("proto", r.Protocol)
	l.add("table", r.Table)
	l.add("metric", r.Priority)
	l.add("mtu", r.MTU)
	l.add("advmss", r.AdvMSS)
	return l.String()
}

// ruleAttributes names the attributes of a rule (linux/fib_rules.h); others are shown by number. The bool says that the
// value is a name.
var ruleAttributes = map[uint16]struct {
	name string
	text bool
}{
	nl.FRA_DST: {"to", false}, nl.FRA_SRC: {"from", false}, nl.FRA_IIFNAME: {"iif", true}, nl.FRA_OIFNAME: {"oif", true},
	nl.FRA_PRIORITY: {"priority", false}, nl.FRA_FWMARK: {"fwmark", false}, nl.FRA_FWMASK: {"fwmask", false},
	nl.FRA_TABLE: {"table", false}, nl.FRA_PROTOCOL: {"protocol", false},
	nl.FRA_SUPPRESS_PREFIXLEN: {"suppress_prefixlen", false},
}

// ruleLines decodes the rules itself: netlink.RuleList drops the action, which is the point of a prohibit rule.
func ruleLines() ([]string, error) {
	var lines []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		req := nl.NewNetlinkRequest(unix.RTM_GETRULE, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfInfomsg(family))
		msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWRULE)
		if err != nil {
			return nil, err
		}
		for _, msg := range msgs {
			line, err := ruleLine(msg)
			if err != nil {
				return nil, err
			}
			lines = append(lines, line)
		}
	}
	return lines, nil
}

func ruleLine(msg []byte) (string, error) {
	header := nl.DeserializeRtMsg(msg) // struct fib_rule_hdr has the layout of struct rtmsg; the action is its type
	attrs, err := nl.ParseRouteAttr(msg[header.Len():])
	if err != nil {
		return "", err
	}
	l := words{"rule", map[uint8]string{unix.AF_INET: "inet", unix.AF_INET6: "inet6"}[header.Family]}
	l.add("action", header.Type)
	l.flag("not", header.Flags&netlink.FibRuleInvert != 0)
	for _, attr := range attrs {
		l.add(ruleAttribute(attr, header))
	}
	return l.String(), nil
}

func ruleAttribute(attr syscall.NetlinkRouteAttr, header *nl.RtMsg) (name, value string) {
	known := ruleAttributes[attr.Attr.Type]
	name, value = known.name, hex.EncodeToString(attr.Value)
	switch {
	case name == "":
		name = fmt.Sprintf("attribute%d", attr.Attr.Type)
	case known.text:
		value = nl.BytesToString(attr.Value)
	case attr.Attr.Type == nl.FRA_SRC:
		value = fmt.Sprintf("%s/%d", net.IP(attr.Value), header.Src_len)
	case attr.Attr.Type == nl.FRA_DST:
		value = fmt.Sprintf("%s/%d", net.IP(attr.Value), header.Dst_len)
	case len(attr.Value) == 4:
		value = fmt.Sprint(nl.NativeEndian().Uint32(attr.Value))
	}
	return name, value
}
