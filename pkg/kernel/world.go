package kernel

import (
	"encoding/binary"
	"net/netip"

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

// way is the host's route to an address of the world.
type way struct {
	to      netip.Addr
	mtu     int // that the route itself carries; 0: none
	uplinks []uplink
}

// uplink is an interface that leads to the world. The MTU of IPv6 is apart: a router's advertisement may have made it
// smaller.
type uplink struct {
	*netlink.LinkAttrs
	mtu6 int
}

// ways are the host's routes to the world. Each question is one look-up, however many routes the host has. A failure is
// taken for no route, and loopback for no way out.
func (n *Node) ways() (list []way) {
	answers, err := n.host.socket.exchange(n.host.routeTo(world[0]), n.host.routeTo(world[1]))
	if err != nil {
		return nil
	}
	met := map[int]*uplink{}
	for i, a := range answers {
		if a.err != nil || len(a.messages) == 0 {
			continue
		}
		route := a.messages[0][unix.SizeofRtMsg:]
		w := way{to: world[i], mtu: routeMTU(route)}
		for _, index := range nextHops(route) {
			if _, ok := met[index]; !ok {
				met[index] = n.host.uplink(index)
			}
			if u := met[index]; u != nil && u.RawFlags&unix.IFF_LOOPBACK == 0 {
				w.uplinks = append(w.uplinks, *u)
			}
		}
		list = append(list, w)
	}
	return list
}

// WorldMTU is the largest packet in bytes that takes the host's routes to the world, the smallest of IPv4 and IPv6 and
// of several next hops; 0 when there are none.
func (n *Node) WorldMTU() int {
	least := 0
	for _, w := range n.ways() {
		least = narrower(least, w.mtu)
		for _, u := range w.uplinks {
			if w.to.Is6() {
				least = narrower(least, u.mtu6)
			}
			least = narrower(least, u.MTU)
		}
	}
	return least
}

// narrower is the smaller of two MTUs, one of which may be 0 for unknown.
func narrower(a, b int) int {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
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

// routeTo asks for the host's route.
func (s *side) routeTo(to netip.Addr) *nl.NetlinkRequest {
	req := s.request(unix.RTM_GETROUTE, 0)
	msg := &nl.RtMsg{}
	msg.Family, msg.Dst_len, msg.Flags = uint8(family(to)), uint8(to.BitLen()), fibMatch
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, to.AsSlice()))
	return req
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

// uplink looks at an interface; nil: it is gone.
func (s *side) uplink(index int) *uplink {
	message, err := s.getLink(index)
	if err != nil {
		return nil
	}
	mtu6, _ := inet6Conf(message, devconfMTU6)
	return &uplink{readLink(message).Attrs(), int(mtu6)}
}
