package kernel

import (
	"encoding/binary"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// readLink reads of a message about an interface (RTM_NEWLINK) what this package needs. The library reads all of it, which
// takes a new process as long as two requests.
func readLink(message []byte) netlink.Link {
	header := nl.DeserializeIfInfomsg(message)
	a := netlink.LinkAttrs{Index: int(header.Index), RawFlags: header.Flags}
	if header.Flags&unix.IFF_UP != 0 {
		a.Flags = net.FlagUp
	}
	var info []byte
	walkAll(message[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			a.Name = unix.ByteSliceToString(value)
		case unix.IFLA_IFALIAS:
			a.Alias = unix.ByteSliceToString(value)
		case unix.IFLA_ADDRESS:
			a.HardwareAddr = value
		case unix.IFLA_PROP_LIST:
			walk(value, unix.IFLA_ALT_IFNAME, func(name []byte) {
				a.AltNames = append(a.AltNames, unix.ByteSliceToString(name))
			})
		case unix.IFLA_LINKINFO:
			info = value
		default:
			setNumber(&a, kind, number(value))
		}
	})
	return ofKind(a, info)
}

func setNumber(a *netlink.LinkAttrs, kind uint16, n uint32) {
	switch kind {
	case unix.IFLA_OPERSTATE:
		a.OperState = netlink.LinkOperState(n)
	case unix.IFLA_MTU:
		a.MTU = int(n)
	case unix.IFLA_LINK:
		a.ParentIndex = int(n)
	case unix.IFLA_MASTER:
		a.MasterIndex = int(n)
	case unix.IFLA_TXQLEN:
		a.TxQLen = int(n)
	case unix.IFLA_GROUP:
		a.Group = n
	case unix.IFLA_GSO_MAX_SIZE:
		a.GSOMaxSize = n
	case unix.IFLA_GRO_MAX_SIZE:
		a.GROMaxSize = n
	case unix.IFLA_GSO_IPV4_MAX_SIZE:
		a.GSOIPv4MaxSize = n
	case unix.IFLA_GRO_IPV4_MAX_SIZE:
		a.GROIPv4MaxSize = n
	case unix.IFLA_TSO_MAX_SIZE:
		a.TSOMaxSize = n
	}
}

// ofKind gives an interface its kind, by IFLA_LINKINFO, which a plain one such as "lo" has not.
func ofKind(a netlink.LinkAttrs, info []byte) netlink.Link {
	kind := ""
	var data []byte
	walkAll(info, func(k uint16, value []byte) {
		switch k {
		case unix.IFLA_INFO_KIND:
			kind = unix.ByteSliceToString(value)
		case unix.IFLA_INFO_DATA:
			data = value
		}
	})
	switch kind {
	case "bridge":
		br := &netlink.Bridge{LinkAttrs: a}
		walk(data, unix.IFLA_BR_VLAN_FILTERING, func(value []byte) {
			on := number(value) != 0
			br.VlanFiltering = &on
		})
		return br
	case "vlan":
		v := &netlink.Vlan{LinkAttrs: a}
		walk(data, unix.IFLA_VLAN_ID, func(value []byte) { v.VlanId = int(number(value)) })
		return v
	case "":
		return &netlink.Device{LinkAttrs: a}
	}
	return &netlink.GenericLink{LinkAttrs: a, LinkType: kind}
}

// typeMask takes the flags off an attribute's type (NLA_TYPE_MASK of include/uapi/linux/netlink.h).
const typeMask = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)

// number is the value of an attribute in the machine's byte order, and 0 where that is no number.
func number(value []byte) uint32 {
	switch len(value) {
	case 1:
		return uint32(value[0])
	case 2:
		return uint32(binary.NativeEndian.Uint16(value))
	case 4:
		return binary.NativeEndian.Uint32(value)
	}
	return 0
}

// nlaAlign rounds a length up to where the next attribute begins (NLA_ALIGN, and RTNH_ALIGN for next hops).
func nlaAlign(n int) int { return (n + 3) &^ 3 }

// walk calls fn with the attributes of a kind.
func walk(b []byte, kind uint16, fn func([]byte)) {
	walkAll(b, func(k uint16, value []byte) {
		if k == kind {
			fn(value)
		}
	})
}

// walkAll calls fn with each attribute up to one that is cut off (struct nlattr, include/uapi/linux/netlink.h).
func walkAll(b []byte, fn func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofNlAttr || length > len(b) {
			return
		}
		fn(binary.NativeEndian.Uint16(b[2:])&typeMask, b[unix.SizeofNlAttr:length])
		b = b[min(nlaAlign(length), len(b)):]
	}
}
