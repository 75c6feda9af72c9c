package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/veth-cni/veth/pkg/netconf"
)

// Every interface that the plugin makes on the host is in a group (IFLA_GROUP) of its network, 0x7nnnnnnn, so that one
// nftables rule knows the host ends of any number of containers, and nothing is left of that when they go. The bits of
// GroupTraits are a container's own: GroupChecked where it may send from its own addresses only, GroupClosed and
// GroupIsolated where its pod asked to be reached by its network, or by no container. The lowest bit is always set: a
// mask of leading bits alone nft lists as the length of a prefix, which it does not read back.
const (
	Groups        uint32 = 0x7000_0001
	GroupsMask    uint32 = 0xf000_0001
	GroupChecked  uint32 = 0x0000_0002
	GroupClosed   uint32 = 0x0000_0004
	GroupIsolated uint32 = 0x0000_0008

	GroupTraits = GroupChecked | GroupClosed | GroupIsolated
)

// GroupDoomed is no network's: GC puts host ends there that it is about to delete. Nothing reaches them meanwhile.
const GroupDoomed = Groups | GroupTraits

// Group is the group of a network: 24 bits of a hash of its name. Two networks share one with a probability of one in 17
// million; a restrictive ingress policy refuses to.
func Group(network string) uint32 {
	const least = 0x0000_0010 // of a name whose hash is nothing but zeros
	sum := sha256.Sum256([]byte(network))
	return Groups | max(least, binary.BigEndian.Uint32(sum[:])&^(GroupsMask|GroupTraits))
}

func pairGroup(cfg *netconf.Config) uint32 {
	g := Group(cfg.Network)
	if cfg.AntiSpoof && cfg.Mode == netconf.Routed {
		g |= GroupChecked
	}
	switch cfg.PodIngress {
	case netconf.IngressSameNetwork:
		g |= GroupClosed
	case netconf.IngressIsolated:
		g |= GroupIsolated
	}
	return g
}

// SourceCheck drops what comes from a host end whose group has GroupChecked unless the host's route back to its source
// is through that host end. It is one nftables chain for all networks in routed mode.
type SourceCheck struct {
	State string // "ok", or in words what is missing
}

// ID implements Object.
func (SourceCheck) ID() string { return "host nftables source check" }

// Fields implements Object.
func (s SourceCheck) Fields() []Field { return []Field{{"state", s.State}} }

// SourceFilter drops what a bridge port receives from its container under any other MAC or IP address than its own, ARP
// and IPv6 neighbour discovery that claims any other, and router advertisements. It dies with the port.
type SourceFilter struct {
	Link    string
	MAC     net.HardwareAddr
	Sources []netip.Addr
	State   string // "ok", or in words what is wrong
}

// ID implements Object.
func (f SourceFilter) ID() string { return "host source filter " + f.Link }

// Fields implements Object.
func (f SourceFilter) Fields() []Field {
	all := []string{f.MAC.String()}
	for _, a := range f.Sources {
		all = append(all, a.String())
	}
	return []Field{{"sources", strings.Join(all, ",")}, {"state", f.State}}
}

// Link is the host's side of a network: packets to its containers leave there, and packets of theirs come from there. It
// has a name in bridge mode and a group in routed mode.
type Link struct {
	Name  string
	Group uint32
}

func (l Link) String() string {
	if l.Name != "" {
		return l.Name
	}
	return "group " + group(l.Group)
}

// Ingress keeps containers of the node out of a network. It is an element or two of nftables sets, which belong to the
// network.
type Ingress struct {
	Network string
	Link    Link
	Policy  netconf.IngressPolicy
	Pods    bool   // some have a policy of their own, which the group of their host end says
	State   string // "ok", or in words what is missing
}

// ID implements Object.
func (i Ingress) ID() string { return "host nftables ingress policy of " + i.Link.String() }

// Fields implements Object.
func (i Ingress) Fields() []Field {
	pods := Field{Name: "pods with policies"}
	if i.Pods {
		pods.Value = set
	}
	return []Field{{"policy", i.Policy.String()}, pods, {"state", i.State}}
}

// PortIngress keeps containers of the node from ports of bridges whose pods have a policy of their own. It is one
// nftables table of family bridge for all networks.
type PortIngress struct {
	State string // "ok", or in words what is missing
}

// ID implements Object.
func (PortIngress) ID() string { return "host nftables ingress policies of bridge ports" }

// Fields implements Object.
func (p PortIngress) Fields() []Field { return []Field{{"state", p.State}} }

// ForwardAccept opens the nftables chains of others that would drop what the host forwards from and to a network. The
// rules belong to the network.
type ForwardAccept struct {
	Network    string
	Link       Link
	IPv4, IPv6 bool
	State      string // "ok", or in words which chain drops
}

// ID implements Object.
func (f ForwardAccept) ID() string { return "host nftables rules of others for " + f.Link.String() }

// Fields implements Object.
func (f ForwardAccept) Fields() []Field { return []Field{{"state", f.State}} }

// isolation puts what keeps a container from others before anything that lets it send.
func (b *builder) isolation() {
	switch {
	case b.cfg.AntiSpoof && b.cfg.Mode == netconf.Routed:
		add(&b.plan.Guards, SourceCheck{State: "ok"})
	case b.cfg.AntiSpoof:
		add(&b.plan.Guards, b.sourceFilter())
	}
	pods := b.cfg.PodIngress.Restricts()
	if pods && b.cfg.Mode == netconf.Bridged {
		add(&b.plan.Guards, PortIngress{State: "ok"})
	}
	link, ok := HostSide(b.cfg)
	if !ok {
		return
	}
	if b.cfg.Ingress.Restricts() || pods {
		add(&b.plan.Guards, Ingress{Network: b.cfg.Network, Link: link, Policy: b.cfg.Ingress, Pods: pods, State: "ok"})
	}
	if b.cfg.Forward == netconf.ForwardOpen {
		add(&b.plan.Shared, ForwardAccept{
			Network: b.cfg.Network, Link: link, IPv4: b.has(true), IPv6: b.has(false), State: "ok",
		})
	}
}

// HostSide is where the host forwards to and from a network, false if nowhere: a VLAN of a bridge in which the host has
// no interface.
func HostSide(cfg *netconf.Config) (Link, bool) {
	br := cfg.Bridge
	switch {
	case cfg.Mode == netconf.Routed:
		return Link{Group: Group(cfg.Network)}, true
	case br.VLAN == 0:
		return Link{Name: br.Name}, true
	case br.Gateway:
		return Link{Name: vlanInterface(br)}, true
	}
	return Link{}, false
}

// sourceFilter allows the addresses assigned, and the link-local one that the kernel makes of the MAC.
func (b *builder) sourceFilter() SourceFilter {
	f := SourceFilter{Link: b.plan.Pair.Host, MAC: b.containerMAC(), State: "ok"}
	for _, a := range b.addrs.List {
		f.Sources = append(f.Sources, a.Prefix.Addr())
	}
	f.Sources = append(f.Sources, linkLocal(f.MAC))
	return f
}

// linkLocal is the IPv6 link-local address of an Ethernet interface (RFC 4291, appendix A; RFC 2464, section 4).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	const universal = 1 << 1
	a := [16]byte{0: 0xfe, 1: 0x80, 11: 0xff, 12: 0xfe}
	copy(a[8:11], mac[:3])
	copy(a[13:], mac[3:6])
	a[8] ^= universal
	return netip.AddrFrom16(a)
}

// reversePathFilter is the kernel's own check of IPv4 sources, behind SourceCheck as a second line that no flush of
// nftables takes down. Whoever turns antiSpoof off wants neither.
func (b *builder) reversePathFilter() string {
	if b.cfg.AntiSpoof {
		return "1" // strict: a forged source has no route back through this link
	}
	return "0"
}

func group(g uint32) string {
	if g == 0 {
		return ""
	}
	return fmt.Sprintf("%#x", g)
}
