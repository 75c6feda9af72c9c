package firewall

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Sets of host ports that are not a family's.
const (
	// attachmentsMap has an element for each attachment that has ports: the host end, the number of the attachment's other
	// elements in the comment, and the address that takes the place of a source that the container could not answer.
	attachmentsMap = "hostports_attachments"
	hairpinSet     = "hostports_hairpin"    // links, twice: what leaves where it came in gets another source
	masqueradeSet  = "hostports_masquerade" // links: what leaves there gets another source
)

// loopback is what only the host itself has.
const loopback = "127.0.0.0/8"

// portSets are the names of one family's sets. Each key has protocol and port, those of an address the address first.
type portSets struct {
	every, on       string // maps to the container: ports on every address of the host, ports on one
	everyFor, onFor string // verdict maps: those of these ports that not everybody may use
	shared          string // ports that are on single addresses, with their number in the comment
	self            string // addresses, twice: what comes from there goes back there
}

func (f *family) ports() portSets {
	p := "hostports4"
	if f == ipv6 {
		p = "hostports6"
	}
	return portSets{every: p, on: p + "_on", everyFor: p + "_for", onFor: p + "_on_for", shared: p + "_shared", self: p + "_self"}
}

// hostPortMark is a bit of the packet mark that says, from the translation of a connection's destination to that of its
// source, that it came by a host port. It is on the connection's first packet only, and no hook that comes after sees
// it. It is the bit that the reference portmap uses for the same.
const hostPortMark = 1 << 13

// hostPorts is the part of the table that leads ports of the host to containers.
//
// The destination is translated where a packet comes in, and where the host itself sends one. Nothing but a packet to an
// address of the host is looked up, and that once per connection: NAT chains see first packets only.
func hostPorts() part {
	return part{sets: hostPortSets, chains: []chain{
		{name: "hostports", uses: 10 + 2, rules: translation},
		{name: "hostports_prerouting", kind: "nat", hook: unix.NF_INET_PRE_ROUTING, priority: -100, uses: 1, rules: toHost},
		{name: "hostports_output", kind: "nat", hook: unix.NF_INET_LOCAL_OUT, priority: -100, uses: 1, rules: toHost},
		// One before masquerading, so that what this chain decides does not depend on which was there first.
		{name: "hostports_postrouting", kind: "nat", hook: unix.NF_INET_POST_ROUTING, priority: 99, uses: 8, rules: sources},
		{name: "hostports_loopback", kind: "filter", hook: unix.NF_INET_PRE_ROUTING, priority: -300, uses: 1, rules: fromOutside},
	}}
}

func hostPortSets() []set {
	return slices.Concat([]set{
		{name: attachmentsMap, key: typeIFName, data: typeIPAddr},
		{name: hairpinSet, key: concatenation(typeIFName, typeIFName)},
		{name: masqueradeSet, key: typeIFName},
	}, ipv4.portSets(), ipv6.portSets())
}

// translation first asks who may use a port, for both families, and then leads to the container.
func translation() []rule {
	return slices.Concat(
		ipv4.permit(), ipv6.permit(), []rule{{what: "marking", exprs: setMark(hostPortMark)}},
		ipv4.translate(), ipv6.translate(), []rule{{what: "unmarking", exprs: setMark(0)}})
}

func (f *family) portSets() []set {
	names, addr := f.ports(), f.addressType()
	port := concatenation(typeInetProto, typeInetService)
	on := concatenation(addr, typeInetProto, typeInetService)
	pod := concatenation(addr, typeInetService)
	return []set{
		{name: names.every, key: port, data: pod, family: f},
		{name: names.on, key: on, data: pod, family: f},
		{name: names.everyFor, key: port, data: typeVerdict, family: f},
		{name: names.onFor, key: on, data: typeVerdict, family: f},
		{name: names.shared, key: port, family: f},
		{name: names.self, key: concatenation(addr, addr), family: f},
	}
}

func (f *family) addressType() datatype {
	if f == ipv4 {
		return typeIPAddr
	}
	return typeIP6Addr
}

// register is the number of the 32 bit register n of the verdict machine, as the kernel lists it: where one begins that
// also is one of 128 bit, by that one's number (nft_dump_register in net/netfilter/nf_tables_api.c).
func register(n uint32) uint32 {
	const words = 4
	if n%words == 0 {
		return unix.NFT_REG_1 + n/words
	}
	return unix.NFT_REG32_00 + n
}

// toHost sends what is for an address of the host to the translation.
func toHost() []rule {
	const local = 2 // RTN_LOCAL, include/uapi/linux/rtnetlink.h
	return []rule{{what: "the host's addresses", needs: needsFib, exprs: []expr.Any{
		&expr.Fib{Register: unix.NFT_REG_1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: native(local)},
		&expr.Verdict{Kind: expr.VerdictJump, Chain: "hostports"},
	}}}
}

// fromOutside drops what comes from elsewhere for 127.0.0.0/8, as the kernel does where route_localnet is off: that is on
// where containers with host ports are, so that the host reaches them from 127.0.0.1. This is before any translation, so
// answers, which are to another address here, pass.
func fromOutside() []rule {
	e := append(interfaceIsNot(expr.MetaKeyIIFNAME, "lo"), isFamily(ipv4)...)
	return []rule{{what: "the host's loopback interface", family: ipv4, exprs: append(
		append(e, inPrefix(expr.CmpOpEq, ipv4.dst, netip.MustParsePrefix(loopback))...), &expr.Verdict{Kind: expr.VerdictDrop})}}
}

// permit sends what is for a port that not everybody may use to the chain that knows who may. That chain returns for
// them, and ends the translation for all others.
func (f *family) permit() []rule {
	names := f.ports()
	lookup := func(set string) expr.Any {
		return &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: set, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT}
	}
	return []rule{
		{what: f.name + ", who may use a port on one address", family: f, exprs: f.onPort(lookup(names.onFor))},
		{what: f.name + ", who may use a port on every address", family: f, exprs: f.everyPort(lookup(names.everyFor))},
	}
}

// translate leads ports to containers. Connections to ::1 are left alone: the kernel would not let them leave the
// loopback interface, and who tries "localhost" goes on to 127.0.0.1 at once if nobody listens there.
func (f *family) translate() []rule {
	names := f.ports()
	to := func(set string) []expr.Any {
		return []expr.Any{
			&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: set, IsDestRegSet: true, DestRegister: unix.NFT_REG_1},
			&expr.NAT{
				Type: expr.NATTypeDestNAT, Family: uint32(f.proto), Specified: true,
				RegAddrMin: unix.NFT_REG_1, RegAddrMax: unix.NFT_REG_1,
				RegProtoMin: register(f.size / 4), RegProtoMax: register(f.size / 4),
			},
		}
	}
	return []rule{
		{what: f.name + ", ports on one address", family: f, exprs: f.onPort(to(names.on)...), needs: needsNAT},
		{what: f.name + ", ports on every address", family: f, exprs: f.everyPort(to(names.every)...), needs: needsNAT},
	}
}

// everyPort loads protocol and port of a packet of the family, from register 1 on.
func (f *family) everyPort(then ...expr.Any) []expr.Any {
	e := isFamily(f)
	if f == ipv6 {
		e = append(e, address(f.dst, f.size),
			&expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: netip.IPv6Loopback().AsSlice()})
	}
	return append(append(e, protocolAndPort(0)...), then...)
}

// onPort loads destination, protocol and port.
func (f *family) onPort(then ...expr.Any) []expr.Any {
	e := append(isFamily(f), address(f.dst, f.size))
	return append(append(e, protocolAndPort(f.size/4)...), then...)
}

func protocolAndPort(at uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register(at)},
		// The destination port has the same place in TCP, UDP and SCTP.
		&expr.Payload{DestRegister: register(at + 1), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// sources gives a connection another source where the container could not answer to its own: the host's 127.0.0.1, the
// container itself, and another container of the same bridge, to whom it would answer without asking the host. And where
// the network wants it for all.
func sources() []rule {
	local := append(append(translated(), isFamily(ipv4)...), inPrefix(expr.CmpOpEq, ipv4.src, netip.MustParsePrefix(loopback))...)
	local = append(local, interfaceIsNot(expr.MetaKeyOIFNAME, "lo")...)
	hairpin := append(marked(),
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register(0)},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register(4)},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: hairpinSet})
	everything := append(marked(),
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: unix.NFT_REG_1},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: masqueradeSet},
		&expr.Masq{})
	return []rule{
		{what: "127.0.0.1 by address", family: ipv4, exprs: withSource(local), needs: needsNAT},
		{what: "127.0.0.1", family: ipv4, exprs: append(slices.Clone(local), &expr.Masq{}), needs: needsMasquerade},
		{what: "hairpins by address", family: ipv4, exprs: withSource(append(isFamily(ipv4), hairpin...)), needs: needsNAT},
		{what: "hairpins", exprs: append(slices.Clone(hairpin), &expr.Masq{}), needs: needsMasquerade},
		ipv4.selfRule(),
		ipv6.selfRule(),
		{what: "masqAll", exprs: everything, needs: needsMasquerade},
		{what: "unmarking", exprs: append(marked(), setMark(0)...)},
	}
}

// selfRule is for a container that comes back to itself over a bridge whose frames the kernel shows to nftables as it
// forwards them (bridge-nf-call-iptables, which Kubernetes wants): there is no interface they came in by.
func (f *family) selfRule() rule {
	e := append(marked(), isFamily(f)...)
	return rule{what: f.name + " to itself", family: f, needs: needsMasquerade, exprs: append(e,
		address(f.src, f.size),
		&expr.Payload{DestRegister: register(f.size / 4), Base: expr.PayloadBaseNetworkHeader, Offset: f.dst, Len: f.size},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: f.ports().self},
		&expr.Masq{})}
}

// withSource gives what matches the address that the attachment behind the interface it leaves by is to answer to.
func withSource(match []expr.Any) []expr.Any {
	return append(slices.Clone(match),
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: unix.NFT_REG_1},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: attachmentsMap, IsDestRegSet: true, DestRegister: unix.NFT_REG_1},
		&expr.NAT{
			Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4,
			RegAddrMin: unix.NFT_REG_1, RegAddrMax: unix.NFT_REG_1,
		})
}

func isFamily(f *family) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{f.proto}},
	}
}

func interfaceIsNot(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: interfaceName(name)},
	}
}

// interfaceName is a name as a register holds it.
func interfaceName(name string) []byte {
	return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)
}

// translated matches connections whose destination was translated (IPS_DST_NAT, nf_conntrack_common.h).
func translated() []expr.Any {
	const dstNAT = 1 << 5
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: unix.NFT_REG_1},
		&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4, Mask: native(dstNAT), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: native(0)},
	}
}

// marked matches packets with hostPortMark.
func marked() []expr.Any { return hasMark(hostPortMark) }

// hasMark matches packets with a bit of the packet mark.
func hasMark(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: unix.NFT_REG_1},
		&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4, Mask: native(bit), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: native(bit)},
	}
}

// setMark sets hostPortMark, or with 0 clears it.
func setMark(to uint32) []expr.Any { return changeMark(hostPortMark, to) }

// changeMark gives some bits of the packet mark values.
func changeMark(bits, to uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: unix.NFT_REG_1},
		&expr.Bitwise{
			SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4, Mask: native(^bits), Xor: native(to),
		},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: unix.NFT_REG_1, SourceRegister: true},
	}
}

// native is a number in the byte order of the machine.
func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// permitChain is the chain of a network that not everybody may use the ports of: it returns for those who may.
func permitChain(network string, from []netip.Prefix) chain {
	return chain{name: permitName(network), uses: anyNumber, rules: func() []rule {
		var rules []rule
		for _, p := range from {
			f := familyOf(p)
			e := append(isFamily(f), inPrefix(expr.CmpOpEq, f.src, p)...)
			rules = append(rules, rule{what: p.String(), family: f, exprs: append(e, &expr.Verdict{Kind: expr.VerdictReturn})})
		}
		return append(rules, rule{what: "all others", exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}})
	}}
}

// permitName names the chain of a network. nft does not read the "~" in the name of a chain; neither it nor the "/" is in
// the name of a network.
func permitName(network string) string {
	return "hostports_for_" + strings.ReplaceAll(owner(network), "~", "/")
}
