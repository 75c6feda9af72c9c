package firewall

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/lease"
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

// hostPortsWith is hostPorts with the chain of a network that not everybody may use the ports of.
func hostPortsWith(permit chain) part {
	p := hostPorts()
	p.chains = append([]chain{permit}, p.chains...)
	return p
}

func hostPortSets() []set {
	return slices.Concat([]set{
		{name: attachmentsMap, key: typeIFName, data: typeIPAddr, keeps: true},
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

// toHost sends what is for an address of the host to the translation.
func toHost() []rule {
	route := loadRoute(unix.NFT_FIB_RESULT_ADDRTYPE, unix.NFTA_FIB_F_DADDR)
	return []rule{{
		what: "the host's addresses", needs: needsFib,
		exprs: route.then(equal(native(unix.RTN_LOCAL)), jump("hostports")),
	}}
}

// fromOutside drops what comes from elsewhere for 127.0.0.0/8, as the kernel does where route_localnet is off: that is on
// where containers with host ports are, so that the host reaches them from 127.0.0.1. This is before any translation, so
// answers, which are to another address here, pass.
func fromOutside() []rule {
	e := interfaceIsNot(unix.NFT_META_IIFNAME, "lo").then(
		isFamily(ipv4), inside(ipv4.dst, netip.MustParsePrefix(loopback)), drop())
	return []rule{{what: "the host's loopback interface", family: ipv4, exprs: e}}
}

// permit sends what is for a port that not everybody may use to the chain that knows who may. That chain returns for
// them, and ends the translation for all others.
func (f *family) permit() []rule {
	names, who := f.ports(), f.name+", who may use a port on "
	return []rule{
		{what: who + "one address", family: f, exprs: f.onPort().then(obeyed(names.onFor))},
		{what: who + "every address", family: f, exprs: f.everyPort().then(obeyed(names.everyFor))},
	}
}

// translate leads ports to containers. Connections to ::1 are left alone: the kernel would not let them leave the
// loopback interface, and who tries "localhost" goes on to 127.0.0.1 at once if nobody listens there.
func (f *family) translate() []rule {
	names := f.ports()
	to := func(set string) expressions { return mapped(set).then(destinationIs(f)) }
	return []rule{
		{what: f.name + ", ports on one address", family: f, exprs: f.onPort().then(to(names.on)), needs: needsNAT},
		{what: f.name + ", ports on every address", family: f, exprs: f.everyPort().then(to(names.every)), needs: needsNAT},
	}
}

// everyPort loads protocol and port of a packet of the family.
func (f *family) everyPort() expressions {
	e := isFamily(f)
	if f == ipv6 {
		e = e.then(address(f.dst, f.size), unequal(netip.IPv6Loopback().AsSlice()))
	}
	return e.then(protocolAndPort(0))
}

// onPort loads destination, protocol and port.
func (f *family) onPort() expressions {
	return isFamily(f).then(address(f.dst, f.size), protocolAndPort(f.size/4))
}

func protocolAndPort(word uint32) expressions {
	const offset, size = 2, 2 // of the destination port, in TCP, UDP and SCTP
	return loadAt(word, unix.NFT_META_L4PROTO).then(loadHeader(word+1, unix.NFT_PAYLOAD_TRANSPORT_HEADER, offset, size))
}

// sources gives a connection another source where the container could not answer to its own: the host's 127.0.0.1, the
// container itself, and another container of the same bridge, to whom it would answer without asking the host. And where
// the network wants it for all.
func sources() []rule {
	local := translated().then(isFamily(ipv4), inside(ipv4.src, netip.MustParsePrefix(loopback)),
		interfaceIsNot(unix.NFT_META_OIFNAME, "lo"))
	hairpin := marked().then(loadLinks(), in(hairpinSet))
	everything := marked().then(interfaceIn(unix.NFT_META_OIFNAME, masqueradeSet), masquerades())
	return []rule{
		{what: "127.0.0.1 by address", family: ipv4, exprs: local.then(withSource()), needs: needsNAT},
		{what: "127.0.0.1", family: ipv4, exprs: local.then(masquerades()), needs: needsMasquerade},
		{what: "hairpins by address", family: ipv4, exprs: isFamily(ipv4).then(hairpin, withSource()), needs: needsNAT},
		{what: "hairpins", exprs: hairpin.then(masquerades()), needs: needsMasquerade},
		ipv4.selfRule(),
		ipv6.selfRule(),
		{what: "masqAll", exprs: everything, needs: needsMasquerade},
		{what: "unmarking", exprs: marked().then(setMark(0))},
	}
}

// selfRule is for a container that comes back to itself over a bridge whose frames the kernel shows to nftables as it
// forwards them (bridge-nf-call-iptables, which Kubernetes wants): there is no interface they came in by.
func (f *family) selfRule() rule {
	return rule{what: f.name + " to itself", family: f, needs: needsMasquerade, exprs: marked().then(isFamily(f),
		address(f.src, f.size), addressAt(f.size/4, f.dst, f.size), in(f.ports().self), masquerades())}
}

// withSource gives a packet the address that the attachment behind the interface it leaves by is to answer to.
func withSource() expressions {
	return load(unix.NFT_META_OIFNAME).then(mapped(attachmentsMap), sourceIs(ipv4))
}

func isFamily(f *family) expressions { return load(unix.NFT_META_NFPROTO).then(equal([]byte{f.proto})) }

func interfaceIsNot(key uint32, name string) expressions {
	return load(key).then(unequal(interfaceName(name)))
}

// loadLinks loads the names of the interfaces that a packet comes from and goes to.
func loadLinks() expressions {
	return load(unix.NFT_META_IIFNAME).then(loadAt(unix.IFNAMSIZ/4, unix.NFT_META_OIFNAME))
}

// interfaceName is a name as a register holds it.
func interfaceName(name string) []byte {
	return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)
}

// translated matches connections whose destination was translated (IPS_DST_NAT, nf_conntrack_common.h).
func translated() expressions {
	const dstNAT = 1 << 5
	return loadConnection(unix.NFT_CT_STATUS).then(keep(0, native(dstNAT)), unequal(native(0)))
}

// marked matches packets with hostPortMark.
func marked() expressions { return hasMark(hostPortMark) }

// hasMark matches packets with a bit of the packet mark.
func hasMark(bit uint32) expressions {
	return load(unix.NFT_META_MARK).then(keep(0, native(bit)), equal(native(bit)))
}

// setMark sets hostPortMark, or with 0 clears it.
func setMark(to uint32) expressions { return changeMark(hostPortMark, to) }

// changeMark gives some bits of the packet mark values.
func changeMark(bits, to uint32) expressions {
	return load(unix.NFT_META_MARK).then(keepAndFlip(0, native(^bits), native(to)), store(unix.NFT_META_MARK))
}

// native is a number in the byte order of the machine.
func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// permitChain is the chain of a network that not everybody may use the ports of: it returns for those who may.
func permitChain(network string, from []netip.Prefix) chain {
	return chain{name: permitName(network), uses: anyNumber, rules: func() []rule {
		var rules []rule
		for _, p := range from {
			f := familyOf(p)
			rules = append(rules, rule{what: p.String(), family: f, exprs: isFamily(f).then(inside(f.src, p), back())})
		}
		return append(rules, rule{what: "all others", exprs: accept()})
	}}
}

// permitName names the chain of a network. nft does not read the "~" in the name of a chain; neither it nor the "/" is in
// the name of a network.
func permitName(network string) string {
	return "hostports_for_" + strings.ReplaceAll(lease.Network(network), "~", "/")
}
