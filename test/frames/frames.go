// Package frames makes Ethernet frames byte by byte, those of honest containers and those of cheats, for tests of what
// drops the latter.
package frames

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Host is who a frame is from, or pretends to be from, or is for.
type Host struct {
	MAC       net.HardwareAddr
	IPv4      netip.Addr
	IPv6      netip.Addr
	LinkLocal netip.Addr
}

// Frame is a frame of a container, and whether that is entitled to it.
type Frame struct {
	Name   string
	Honest bool
	Bytes  []byte
}

// Broadcast reaches everybody on a link.
var Broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Ethernet puts a frame together. from and to are MACs.
func Ethernet(to, from net.HardwareAddr, kind uint16, payload ...[]byte) []byte {
	head := binary.BigEndian.AppendUint16(append(slices.Clone([]byte(to)), from...), kind)
	return slices.Concat(append([][]byte{head}, payload...)...)
}

// VLAN is what stands between a frame's type, 802.1Q, and its payload.
func VLAN(id, kind uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, id), kind)
}

// ARP is an ARP packet (RFC 826): 1 asks, 2 answers.
func ARP(operation uint16, sender, target Host) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, operation)
	return slices.Concat(b, sender.MAC, sender.IPv4.AsSlice(), target.MAC, target.IPv4.AsSlice())
}

// IPv4 is a packet with a correct header (RFC 791).
func IPv4(source, destination netip.Addr, protocol byte, payload []byte) []byte {
	b := make([]byte, 20)
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(payload)))
	copy(b[12:], source.AsSlice())
	copy(b[16:], destination.AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^sum(b))
	return append(b, payload...)
}

func sum(b []byte) uint16 {
	var n uint32
	for i := 0; i < len(b); i += 2 {
		n += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
}

// Header6 is what matters of an IPv6 header (RFC 8200).
type Header6 struct {
	Source, Destination netip.Addr
	HopLimit, Next      byte
}

// IPv6 is a packet.
func IPv6(h Header6, payload ...[]byte) []byte {
	body := slices.Concat(payload...)
	b := make([]byte, 8)
	b[0], b[6], b[7] = 0x60, h.Next, h.HopLimit
	binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
	return slices.Concat(b, h.Source.AsSlice(), h.Destination.AsSlice(), body)
}

// UDP is a datagram (RFC 768) to port 9, discard. It has no checksum, which IPv4 allows and who only looks does not mind.
func UDP(text string) []byte {
	b := []byte{0, 9, 0, 9, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)+len(text)))
	return append(b, text...)
}

// Discovery is a neighbour discovery message (RFC 4861) about a target, with options.
func Discovery(kind byte, target netip.Addr, options ...[]byte) []byte {
	b := append([]byte{kind, 0, 0, 0, 0x60, 0, 0, 0}, target.AsSlice()...)
	return slices.Concat(append([][]byte{b}, options...)...)
}

// Option is an option of eight bytes: 1 and 2 are the link-layer address of source and target, 14 is a nonce.
func Option(kind byte, mac net.HardwareAddr) []byte { return append([]byte{kind, 1}, mac...) }

// WithChecksum fills in the checksum that UDP needs in IPv6 (RFC 8200, section 8.1).
func WithChecksum(datagram []byte, source, destination netip.Addr) []byte {
	pseudo := slices.Concat(source.AsSlice(), destination.AsSlice(), []byte{0, 0, 0, 0, 0, 0, 0, unix.IPPROTO_UDP}, datagram)
	binary.BigEndian.PutUint32(pseudo[32:], uint32(len(datagram)))
	if len(pseudo)%2 == 1 {
		pseudo = append(pseudo, 0)
	}
	binary.BigEndian.PutUint16(datagram[6:], ^sum(pseudo))
	return datagram
}

const (
	icmpv6                                      = unix.IPPROTO_ICMPV6
	solicitation, advertisement                 = 135, 136
	routerSolicitation, routerAdvert, redirect_ = 133, 134, 137
)

// OnBridge lists what a container may send to another on its bridge and what it may not, to its own gain. Each frame ends
// with its name, by which it is recognised where it arrives.
func OnBridge(me, victim, receiver Host) []Frame {
	all := slices.Concat(ethernet(me, victim, receiver), arp(me, victim), ipv4(me, victim, receiver),
		ipv6(me, victim, receiver), discovery(me, victim))
	for i, f := range all {
		all[i].Bytes = append(f.Bytes, f.Name...)
	}
	return all
}

// frame makes one whose payload is data and whose source is the container itself.
func frame(name string, honest bool, bytes []byte) Frame { return Frame{name, honest, bytes} }

func ethernet(me, victim, receiver Host) []Frame {
	own := IPv4(me.IPv4, receiver.IPv4, unix.IPPROTO_UDP, UDP(""))
	forged := ARP(2, Host{MAC: me.MAC, IPv4: victim.IPv4}, receiver)
	return []Frame{
		frame("forged MAC, own address", false, Ethernet(receiver.MAC, victim.MAC, unix.ETH_P_IP, own)),
		frame("last byte of the MAC forged", false, Ethernet(receiver.MAC, append(slices.Clone(me.MAC[:5]), me.MAC[5]^1), unix.ETH_P_IP, own)),
		frame("forged MAC, another protocol", false, Ethernet(receiver.MAC, victim.MAC, 0x88b5)),
		frame("own MAC, another protocol", true, Ethernet(receiver.MAC, me.MAC, 0x88b5)), // IEEE 802, local experiments
		frame("own address with a priority tag", true, Ethernet(receiver.MAC, me.MAC, unix.ETH_P_8021Q, VLAN(0, unix.ETH_P_IP), own)),
		frame("forged ARP with a priority tag", false, Ethernet(receiver.MAC, me.MAC, unix.ETH_P_8021Q, VLAN(0, unix.ETH_P_ARP), forged)),
		frame("forged ARP with two tags", false, Ethernet(receiver.MAC, me.MAC, unix.ETH_P_8021Q,
			VLAN(0, unix.ETH_P_8021Q), VLAN(0, unix.ETH_P_ARP), forged)),
		frame("forged ARP in a provider's tag", false, Ethernet(receiver.MAC, me.MAC, unix.ETH_P_8021AD,
			VLAN(0, unix.ETH_P_8021Q), VLAN(0, unix.ETH_P_ARP), forged)),
		frame("forged ARP behind SNAP", false, snap(receiver.MAC, me.MAC, unix.ETH_P_ARP, forged)),
		frame("forged IPv4 behind SNAP", false, snap(receiver.MAC, me.MAC, unix.ETH_P_IP,
			IPv4(victim.IPv4, receiver.IPv4, unix.IPPROTO_UDP, UDP("")))),
		frame("reverse ARP", false, Ethernet(Broadcast, me.MAC, unix.ETH_P_RARP, ARP(4, victim, victim))),
	}
}

// snap is a frame of IEEE 802.3 whose payload says its protocol in a SNAP header (RFC 1042), which some systems read as
// if Ethernet's own had said it. The length leaves room for the name of a frame.
func snap(to, from net.HardwareAddr, protocol uint16, payload []byte) []byte {
	const names = 64
	header := binary.BigEndian.AppendUint16([]byte{0xaa, 0xaa, 3, 0, 0, 0}, protocol)
	return Ethernet(to, from, uint16(len(header)+len(payload)+names), header, payload)
}

func arp(me, victim Host) []Frame {
	ask := func(name string, honest bool, sender Host) Frame {
		return frame(name, honest, Ethernet(Broadcast, me.MAC, unix.ETH_P_ARP, ARP(1, sender, Host{MAC: make([]byte, 6), IPv4: victim.IPv4})))
	}
	answer := func(name string, honest bool, sender Host) Frame {
		return frame(name, honest, Ethernet(Broadcast, me.MAC, unix.ETH_P_ARP, ARP(2, sender, victim)))
	}
	odd := func(name string, at int, value byte) Frame {
		packet := ARP(2, Host{MAC: me.MAC, IPv4: victim.IPv4}, victim)
		packet[at] = value
		return frame(name, false, Ethernet(Broadcast, me.MAC, unix.ETH_P_ARP, packet))
	}
	return []Frame{
		ask("own ARP request", true, me),
		answer("own ARP answer", true, me),
		ask("ARP probe", true, Host{MAC: me.MAC, IPv4: netip.IPv4Unspecified()}),
		ask("ARP request with a forged address", false, Host{MAC: me.MAC, IPv4: victim.IPv4}),
		answer("ARP answer with a forged address", false, Host{MAC: me.MAC, IPv4: victim.IPv4}),
		answer("ARP answer with a forged MAC", false, Host{MAC: victim.MAC, IPv4: me.IPv4}),
		answer("ARP answer with both forged", false, victim),
		odd("forged ARP of IEEE 802", 1, 6),
		odd("forged ARP with other sizes", 4, 8),
	}
}

func ipv4(me, victim, receiver Host) []Frame {
	from := func(name string, honest bool, source netip.Addr) Frame {
		return frame(name, honest, Ethernet(receiver.MAC, me.MAC, unix.ETH_P_IP, IPv4(source, receiver.IPv4, unix.IPPROTO_UDP, UDP(""))))
	}
	return []Frame{
		from("own IPv4", true, me.IPv4),
		from("forged IPv4", false, victim.IPv4),
		from("forged IPv4 of nobody here", false, netip.MustParseAddr("203.0.113.7")),
		from("forged IPv4, the next", false, me.IPv4.Next()),
		from("forged IPv4, no address", false, netip.IPv4Unspecified()),
	}
}

func ipv6(me, victim, receiver Host) []Frame {
	from := func(name string, honest bool, source netip.Addr) Frame {
		return frame(name, honest, Ethernet(receiver.MAC, me.MAC, unix.ETH_P_IPV6, IPv6(Header6{source, receiver.IPv6, 64, unix.IPPROTO_UDP}, UDP(""))))
	}
	multicast := Ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 0x16}, me.MAC, unix.ETH_P_IPV6)
	routerAlert := []byte{icmpv6, 0, 5, 2, 0, 0, 1, 0}
	report := []byte{143, 0, 0, 0, 0, 0, 0, 0} // MLDv2 (RFC 3810), without groups
	listeners := netip.MustParseAddr("ff02::16")
	return []Frame{
		from("own IPv6", true, me.IPv6),
		from("own link-local IPv6", true, me.LinkLocal),
		from("forged IPv6", false, victim.IPv6),
		from("forged link-local IPv6", false, victim.LinkLocal),
		from("forged IPv6 of nobody here", false, netip.MustParseAddr("2001:db8:ffff::7")),
		from("forged IPv6, the next", false, me.IPv6.Next()),
		from("IPv6 from no address", false, netip.IPv6Unspecified()),
		frame("MLD", true, slices.Concat(multicast, IPv6(Header6{me.LinkLocal, listeners, 1, 0}, routerAlert, report))),
		frame("MLD from no address", true, slices.Concat(multicast, IPv6(Header6{netip.IPv6Unspecified(), listeners, 1, 0}, routerAlert, report))),
		frame("multicast DNS", true, slices.Concat(multicast, IPv6(Header6{me.LinkLocal, netip.MustParseAddr("ff02::fb"), 255, unix.IPPROTO_UDP}, UDP("")))),
	}
}

func discovery(me, victim Host) []Frame {
	nodes, none := netip.MustParseAddr("ff02::1"), netip.IPv6Unspecified()
	head := Ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, me.MAC, unix.ETH_P_IPV6)
	from := func(source netip.Addr, next byte, payload ...[]byte) []byte {
		return slices.Concat(head, IPv6(Header6{source, nodes, 255, next}, payload...))
	}
	nd := func(name string, honest bool, source netip.Addr, message []byte) Frame {
		return frame(name, honest, from(source, icmpv6, message))
	}
	mine, theirs := Option(2, me.MAC), Option(2, victim.MAC)
	ask, askFor := Option(1, me.MAC), Option(1, victim.MAC)
	forged := Discovery(advertisement, victim.IPv6, mine)
	pad := []byte{icmpv6, 0, 1, 4, 0, 0, 0, 0} // an extension header with nothing but padding
	return []Frame{
		nd("own advertisement", true, me.IPv6, Discovery(advertisement, me.IPv6, mine)),
		nd("own advertisement of the link-local address", true, me.LinkLocal, Discovery(advertisement, me.LinkLocal, mine)),
		nd("own advertisement without a MAC", true, me.IPv6, Discovery(advertisement, me.IPv6)),
		nd("forged advertisement", false, me.IPv6, forged),
		nd("forged advertisement from the forged address", false, victim.IPv6, forged),
		nd("forged advertisement of a link-local address", false, me.LinkLocal, Discovery(advertisement, victim.LinkLocal, mine)),
		nd("own advertisement with a forged MAC", false, me.IPv6, Discovery(advertisement, me.IPv6, theirs)),
		nd("own advertisement with a forged MAC before its own", false, me.IPv6, Discovery(advertisement, me.IPv6, theirs, mine)),
		nd("own advertisement with a forged MAC behind its own", false, me.IPv6, Discovery(advertisement, me.IPv6, mine, theirs)),
		nd("own advertisement with a forged MAC behind something else", false, me.IPv6, Discovery(advertisement, me.IPv6, Option(14, me.MAC), theirs)),
		frame("forged advertisement behind destination options", false, from(me.IPv6, 60, pad, forged)),
		frame("forged advertisement behind hop-by-hop options", false, from(me.IPv6, 0, pad, forged)),
		frame("forged advertisement behind a routing header", false, from(me.IPv6, 43, []byte{icmpv6, 0, 4, 0, 0, 0, 0, 0}, forged)),
		frame("forged advertisement in a fragment", false, from(me.IPv6, 44, []byte{icmpv6, 0, 0, 0, 0, 0, 0, 1}, forged)),
		nd("own solicitation", true, me.IPv6, Discovery(solicitation, victim.IPv6, ask)),
		nd("own solicitation from the link-local address", true, me.LinkLocal, Discovery(solicitation, victim.IPv6, ask)),
		nd("own solicitation with a forged MAC", false, me.IPv6, Discovery(solicitation, victim.IPv6, askFor)),
		nd("solicitation from a forged address", false, victim.IPv6, Discovery(solicitation, me.IPv6, ask)),
		nd("duplicate address detection", true, none, Discovery(solicitation, me.IPv6)),
		nd("duplicate address detection with a nonce", true, none, Discovery(solicitation, me.LinkLocal, Option(14, me.MAC))),
		nd("duplicate address detection of a forged address", false, none, Discovery(solicitation, victim.IPv6)),
		nd("advertisement from no address", false, none, Discovery(advertisement, me.IPv6, mine)),
		nd("own router solicitation", true, me.LinkLocal, append([]byte{routerSolicitation, 0, 0, 0, 0, 0, 0, 0}, ask...)),
		nd("router solicitation from no address", true, none, []byte{routerSolicitation, 0, 0, 0, 0, 0, 0, 0}),
		nd("router solicitation with a forged MAC", false, me.LinkLocal, append([]byte{routerSolicitation, 0, 0, 0, 0, 0, 0, 0}, askFor...)),
		nd("router advertisement", false, me.LinkLocal, append([]byte{routerAdvert, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, ask...)),
		nd("redirect", false, me.LinkLocal, slices.Concat(Discovery(redirect_, victim.IPv6), me.LinkLocal.AsSlice(), mine)),
		nd("echo request with the longest way to go", true, me.IPv6, []byte{128, 0, 0, 0, 0, 1, 0, 1}),
	}
}
