package kernel

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"

	classic "golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/plan"
)

// What a source filter makes of a frame (include/uapi/linux/pkt_cls.h). A program that reads beyond the end of a frame
// ends with 0, which would let it pass: lengths are checked first.
const (
	filterDrop = 2          // TC_ACT_SHOT
	filterNext = 0xffffffff // TC_ACT_UNSPEC: as the filter after this one says
)

// Offsets into a frame: Ethernet, then ARP (RFC 826), IPv4 (RFC 791), IPv6 (RFC 8200), ICMPv6 (RFC 4861). The kernel has
// taken an outer VLAN tag off before tc sees the frame (skb_vlan_untag in __netif_receive_skb_core).
const (
	frameMAC, frameType, frameData = 6, 12, 14
	maxLength, snapPoints          = 1500, 0xaaaa // IEEE 802.3: a type up to here is a length; 802.2's access points of SNAP

	arpKinds, arpSizes, arpMAC, arpIP, arpEnd = frameData, frameData + 4, frameData + 8, frameData + 14, frameData + 28

	v4Source, v4End = frameData + 12, frameData + 20

	v6Length, v6Next, v6HopLimit, v6Source = frameData + 4, frameData + 6, frameData + 7, frameData + 8
	icmpKind                               = frameData + 40 // also the end of the IPv6 header
	ndTarget                               = icmpKind + 8
	solicitOption, ndOption                = icmpKind + 8, icmpKind + 24 // of a router solicitation, of the others
)

// The kinds of ICMPv6 messages and of their options that matter (RFC 4861; the nonce is RFC 3971's).
const (
	routerSolicitation, routerAdvertisement, neighbourSolicitation, neighbourAdvertisement, redirect = 133, 134, 135, 136, 137

	sourceLinkOption, targetLinkOption, nonceOption = 0x0101, 0x0201, 0x0e01 // with their length, one unit of eight bytes
)

// filterProgram collects instructions of classic BPF, which the kernel takes from anybody who may change the interface,
// in a user namespace too. Its conditional jumps reach 255 instructions, which a list of addresses may exceed, so each
// jumps over an unconditional one that reaches everywhere.
type filterProgram struct {
	code   []classic.Instruction
	labels map[string]int
	jumps  map[int]string
}

// sourceFilterProgram is the program of a source filter, in words:
//
//	Ethernet: the source is the container's MAC; no second VLAN tag, no RARP, no SNAP behind which IP or ARP could hide
//	ARP:      the sender is the container's MAC, with one of its IPv4 addresses, or none (a probe, RFC 5227)
//	IPv4:     the source is one of its addresses
//	IPv6:     the source is one of its addresses, or none: then only MLD and duplicate address detection
//	ND:       (hop limit 255, what everything else is no ND by, RFC 4861) no router's messages; what is advertised, or tried
//	          without an address, is one of its addresses; the link-layer address is its MAC; no extension header, behind
//	          which ND could hide
//
// Everything else is none of its business.
func sourceFilterProgram(f plan.SourceFilter) []classic.Instruction {
	p := &filterProgram{labels: map[string]int{}, jumps: map[int]string{}}
	p.atLeast(frameData)
	p.isMAC(frameMAC, f.MAC)
	p.load(frameType, 2)
	p.when(unix.ETH_P_IP, "IPv4")
	p.when(unix.ETH_P_IPV6, "IPv6")
	p.when(unix.ETH_P_ARP, "ARP")
	for _, kind := range []uint32{unix.ETH_P_8021Q, unix.ETH_P_8021AD, unix.ETH_P_RARP} {
		p.when(kind, "drop")
	}
	p.unless(classic.JumpLessOrEqual, maxLength, "next")
	p.atLeast(frameData + 2)
	p.load(frameData, 2)
	p.when(snapPoints, "drop")
	p.to("next")
	p.arp(f)
	p.ipv4(f)
	p.ipv6(f)
	p.discovery(f)
	p.label("next")
	p.add(classic.RetConstant{Val: filterNext})
	p.label("drop")
	p.add(classic.RetConstant{Val: filterDrop})
	return p.link()
}

func (p *filterProgram) arp(f plan.SourceFilter) {
	const etherIP, sixAndFour = unix.ARPHRD_ETHER<<16 | unix.ETH_P_IP, 6<<8 | 4
	p.label("ARP")
	p.atLeast(arpEnd)
	p.load(arpKinds, 4)
	p.unless(classic.JumpEqual, etherIP, "drop")
	p.load(arpSizes, 2)
	p.unless(classic.JumpEqual, sixAndFour, "drop")
	p.isMAC(arpMAC, f.MAC)
	p.load(arpIP, 4)
	p.when(0, "next")
	p.oneOf4(f.Sources)
}

func (p *filterProgram) ipv4(f plan.SourceFilter) {
	p.label("IPv4")
	p.atLeast(v4End)
	p.load(v4Source, 4)
	p.oneOf4(f.Sources)
}

// oneOf4 ends the program: the number that was loaded is one of the IPv4 addresses, or the frame is dropped.
func (p *filterProgram) oneOf4(list []netip.Addr) {
	for _, a := range list {
		if a.Is4() {
			p.when(binary.BigEndian.Uint32(a.AsSlice()), "next")
		}
	}
	p.to("drop")
}

func (p *filterProgram) ipv6(f plan.SourceFilter) {
	// Headers that something else follows, ND perhaps (RFC 8200, section 4; RFC 6275; RFC 7401; RFC 5533).
	const hopByHop, routing, fragment, authentication, destination, mobility, hip, shim6 = 0, 43, 44, 51, 60, 135, 139, 140
	p.label("IPv6")
	p.atLeast(icmpKind)
	p.oneOf6(v6Source, f.Sources, "own source")
	p.oneOf6(v6Source, []netip.Addr{netip.IPv6Unspecified()}, "no source")
	p.to("drop")

	p.label("own source")
	p.load(v6HopLimit, 1)
	p.unless(classic.JumpEqual, 255, "next")
	p.load(v6Next, 1)
	p.when(unix.IPPROTO_ICMPV6, "ND")
	for _, header := range []uint32{hopByHop, routing, fragment, authentication, destination, mobility, hip, shim6} {
		p.when(header, "drop")
	}
	p.to("next")

	p.label("no source")
	p.load(v6HopLimit, 1)
	p.when(255, "detection")
	p.load(v6Next, 1)
	p.when(hopByHop, "next") // as MLD has it, for groups of an address that is still being tried
	p.to("drop")
}

func (p *filterProgram) discovery(f plan.SourceFilter) {
	p.label("ND")
	p.atLeast(icmpKind + 8)
	p.load(icmpKind, 1)
	p.when(neighbourSolicitation, "solicitation")
	p.when(neighbourAdvertisement, "advertisement")
	p.when(routerSolicitation, "router solicitation")
	p.when(routerAdvertisement, "drop")
	p.when(redirect, "drop")
	p.to("next")

	p.label("advertisement")
	p.atLeast(ndOption)
	p.oneOf6(ndTarget, f.Sources, "advertised")
	p.to("drop")
	p.label("advertised")
	p.oneOption(option{at: ndOption, kind: targetLinkOption, mac: f.MAC})

	p.label("solicitation")
	p.oneOption(option{at: ndOption, kind: sourceLinkOption, mac: f.MAC})

	p.label("router solicitation")
	p.oneOption(option{at: solicitOption, kind: sourceLinkOption, mac: f.MAC})

	p.label("detection")
	p.load(v6Next, 1)
	p.unless(classic.JumpEqual, unix.IPPROTO_ICMPV6, "drop")
	p.atLeast(icmpKind + 8)
	p.load(icmpKind, 1)
	p.when(routerSolicitation, "next") // names nobody without a source (RFC 4861, section 4.1)
	p.unless(classic.JumpEqual, neighbourSolicitation, "drop")
	p.atLeast(ndOption)
	p.oneOf6(ndTarget, f.Sources, "tried")
	p.to("drop")
	p.label("tried")
	p.oneOption(option{at: ndOption, kind: nonceOption})
}

// option is an option of a neighbour discovery message at an offset; with a MAC, if it is not nil.
type option struct {
	at, kind uint32
	mac      net.HardwareAddr
}

// oneOption ends the program: the message has that option and no other, or none, or it is dropped. Receivers read the
// first option of a kind wherever it is, so there may be no others.
func (p *filterProgram) oneOption(o option) {
	const unit = 8
	none := o.at - icmpKind
	p.load(v6Length, 2)
	p.when(none, "next")
	p.unless(classic.JumpEqual, none+unit, "drop")
	p.atLeast(o.at + unit)
	p.load(o.at, 2)
	p.unless(classic.JumpEqual, o.kind, "drop")
	if o.mac != nil {
		p.isMAC(o.at+2, o.mac)
	}
	p.to("next")
}

// oneOf6 goes to a label if the address at an offset is one of the IPv6 addresses.
func (p *filterProgram) oneOf6(at uint32, list []netip.Addr, label string) {
	for _, a := range list {
		if a.Is4() {
			continue
		}
		other, words := p.local(), a.As16()
		for i := uint32(0); i < 16; i += 4 {
			p.load(at+i, 4)
			p.unless(classic.JumpEqual, binary.BigEndian.Uint32(words[i:]), other)
		}
		p.to(label)
		p.label(other)
	}
}

func (p *filterProgram) isMAC(at uint32, mac net.HardwareAddr) {
	p.load(at, 4)
	p.unless(classic.JumpEqual, binary.BigEndian.Uint32(mac), "drop")
	p.load(at+4, 2)
	p.unless(classic.JumpEqual, uint32(binary.BigEndian.Uint16(mac[4:])), "drop")
}

func (p *filterProgram) atLeast(length uint32) {
	p.add(classic.LoadExtension{Num: classic.ExtLen})
	p.unless(classic.JumpGreaterOrEqual, length, "drop")
}

func (p *filterProgram) add(i classic.Instruction) { p.code = append(p.code, i) }

func (p *filterProgram) load(at uint32, size int) { p.add(classic.LoadAbsolute{Off: at, Size: size}) }

func (p *filterProgram) when(value uint32, label string) {
	p.add(classic.JumpIf{Cond: classic.JumpEqual, Val: value, SkipFalse: 1})
	p.to(label)
}

func (p *filterProgram) unless(is classic.JumpTest, value uint32, label string) {
	p.add(classic.JumpIf{Cond: is, Val: value, SkipTrue: 1})
	p.to(label)
}

func (p *filterProgram) to(label string) {
	p.jumps[len(p.code)] = label
	p.add(classic.Jump{})
}

func (p *filterProgram) label(name string) { p.labels[name] = len(p.code) }

// local is a label that is used once.
func (p *filterProgram) local() string { return strconv.Itoa(len(p.code)) }

// link fills the jumps in, all of which lead forwards.
func (p *filterProgram) link() []classic.Instruction {
	for at, label := range p.jumps {
		p.code[at] = classic.Jump{Skip: uint32(p.labels[label] - at - 1)}
	}
	return p.code
}
