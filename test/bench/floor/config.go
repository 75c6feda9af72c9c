package main

import (
	"golang.org/x/sys/unix"
)

// config is a JSON object of strings. Addresses are in it twice: as text for the result, and as hexadecimal digits for
// the kernel.
//
//	host              name of the host end
//	lease             alternative name that claims the address
//	bridge            the host end's master; absent: routed
//	cidr, cidr6       addresses as the result shows them
//	address, address6 the same as bytes
//	prefix, prefix6   length of their prefix, one byte
//	gateway, gateway6 next hop of the default routes, as bytes
//	quiet             not empty: no IPv6 on the host end
type config map[string]string

// text is a value, empty where there is none.
func (c config) text(key string) string { return c[key] }

// bytes is a value written in hexadecimal digits.
func (c config) bytes(key string) []byte {
	digits := c.text(key)
	out := make([]byte, len(digits)/2)
	for i := range out {
		out[i] = digit(digits[2*i])<<4 | digit(digits[2*i+1])
	}
	return out
}

func digit(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// gateway6 is the host end's address in routed mode. It is there at once, or the container's first packet would wait
// for duplicate address detection of the address that the kernel makes.
var gateway6 = []byte{0: 0xfe, 1: 0x80, 15: 1}

// pair asks for both ends: the host end up and in its bridge, the peer in the container's namespace.
func (c config) pair(b *batch, ifname string, netns, bridge int) {
	b.link(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ECHO, unix.IFF_UP)
	b.attr(unix.IFLA_IFNAME, zero(c.text("host")))
	if bridge != 0 {
		b.number(unix.IFLA_MASTER, bridge)
	}
	info := b.nest(unix.IFLA_LINKINFO)
	b.attr(unix.IFLA_INFO_KIND, []byte("veth"))
	data := b.nest(unix.IFLA_INFO_DATA)
	peer := b.nest(vethInfoPeer)
	b.raw(make([]byte, unix.SizeofIfInfomsg))
	b.attr(unix.IFLA_IFNAME, zero(ifname))
	b.number(unix.IFLA_NET_NS_FD, netns)
	b.close(peer)
	b.close(data)
	b.close(info)
	b.end()
}

// lease claims the address by an alternative name, which the kernel keeps unique.
func (c config) lease(b *batch) {
	b.link(unix.RTM_NEWLINKPROP, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0)
	b.attr(unix.IFLA_IFNAME, zero(c.text("host")))
	list := b.nest(unix.IFLA_PROP_LIST | unix.NLA_F_NESTED)
	b.attr(unix.IFLA_ALT_IFNAME, zero(c.text("lease")))
	b.close(list)
	b.end()
}

// inside gives the container's end its addresses, brings it up and makes the default routes.
func (c config) inside(b *batch, index int) {
	b.address(index, c.bytes("prefix")[0], c.bytes("address"))
	if six := c.bytes("address6"); len(six) > 0 {
		b.address(index, c.bytes("prefix6")[0], six)
	}
	b.up(index)
	b.route(route{link: index, via: c.bytes("gateway")})
	if via := c.bytes("gateway6"); len(via) > 0 {
		b.route(route{link: index, via: via})
	}
}

// outside gives the host its routes to the container.
func (c config) outside(b *batch, index int) {
	b.route(route{link: index, to: c.bytes("address")})
	if six := c.bytes("address6"); len(six) > 0 {
		b.address(index, 64, gateway6)
		b.route(route{link: index, to: six})
	}
}

// vethInfoPeer is VETH_INFO_PEER of include/uapi/linux/veth.h.
const vethInfoPeer = 1
