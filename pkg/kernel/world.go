package kernel

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The world is where the addresses of a root name server are: global, the same for everybody, and on nobody's own
// network. The kernel is asked for the way there, and nothing is ever sent.
var world = []netip.Addr{netip.MustParseAddr("198.41.0.4"), netip.MustParseAddr("2001:503:ba3e::2:30")}

// fibMatch is RTM_F_FIB_MATCH of include/uapi/linux/rtnetlink.h: answer with the route itself, all its next hops and its
// metrics, and not with what path MTU discovery made of one destination.
const fibMatch = 0x2000

// WorldMTU is the largest packet in bytes that takes the host's routes to the world, the smallest of IPv4 and IPv6 and
// of several next hops; 0 when there are none. Each question is one look-up, however many routes the host has.
func (n *Node) WorldMTU() int {
	least := 0
	for _, a := range world {
		if mtu := n.pathMTU(a); mtu > 0 && (least == 0 || mtu < least) {
			least = mtu
		}
	}
	return least
}

// HostMTU is that of an interface of the host, 0 when there is none of that name.
func (n *Node) HostMTU(name string) int {
	l, err := n.host.linkByName(name)
	if err != nil {
		return 0
	}
	n.glimpsed = l
	return l.Attrs().MTU
}

func (n *Node) pathMTU(to netip.Addr) int {
	route := n.routeTo(to)
	least := routeMTU(route)
	for _, index := range nextHops(route) {
		if mtu := n.linkMTU(index, to.Is6()); mtu > 0 && (least == 0 || mtu < least) {
			least = mtu
		}
	}
	return least
}

// routeTo is the attributes of the host's route, none when there is no route. It takes any failure for that.
func (n *Node) routeTo(to netip.Addr) []byte {
	req := n.host.request(unix.RTM_GETROUTE, 0)
	msg := &nl.RtMsg{}
	msg.Family, msg.Dst_len, msg.Flags = uint8(family(to)), uint8(to.BitLen()), fibMatch
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, to.AsSlice()))
	answers, err := n.host.ask(req)
	if err != nil || len(answers) == 0 {
		return nil
	}
	return answers[0][unix.SizeofRtMsg:]
}

// routeMTU is the MTU that a route itself carries (ip route ... mtu), 0: none.
func routeMTU(route []byte) int {
	mtu := 0
	walk(route, unix.RTA_METRICS, func(metrics []byte) {
		walk(metrics, unix.RTAX_MTU, func(value []byte) { mtu = int(binary.NativeEndian.Uint32(value)) })
	})
	return mtu
}

// nextHops lists the interfaces of a route.
func nextHops(route []byte) []int {
	var indexes []int
	walk(route, unix.RTA_OIF, func(value []byte) { indexes = append(indexes, int(binary.NativeEndian.Uint32(value))) })
	walk(route, unix.RTA_MULTIPATH, func(hops []byte) {
		for len(hops) >= unix.SizeofRtNexthop { // struct rtnexthop: length, flags, weight, index, attributes
			length := int(binary.NativeEndian.Uint16(hops))
			indexes = append(indexes, int(binary.NativeEndian.Uint32(hops[4:])))
			hops = hops[min(max(nlaAlign(length), unix.SizeofRtNexthop), len(hops)):]
		}
	})
	return indexes
}

// nlaAlign is RTNH_ALIGN of include/uapi/linux/rtnetlink.h.
func nlaAlign(n int) int { return (n + 3) &^ 3 }

// linkMTU is an interface's. For IPv6 a router's advertisement may have made it smaller. Loopback is no way out.
func (n *Node) linkMTU(index int, v6 bool) int {
	a := n.linkAttrs(index)
	if a == nil || a.RawFlags&unix.IFF_LOOPBACK != 0 {
		return 0
	}
	mtu := a.MTU
	if v6 {
		if s, err := n.Setting("net/ipv6/conf/" + a.Name + "/mtu"); err == nil {
			if advertised, err := strconv.Atoi(s); err == nil {
				mtu = min(mtu, advertised)
			}
		}
	}
	return mtu
}

// linkAttrs is an interface of the host, nil when there is none of that index.
func (n *Node) linkAttrs(index int) *netlink.LinkAttrs {
	req, _ := n.host.linkRequest(unix.RTM_GETLINK, 0, index)
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	answers, err := n.host.ask(req)
	if err != nil || len(answers) == 0 {
		return nil
	}
	return readLink(answers[0]).Attrs()
}
