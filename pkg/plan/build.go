package plan

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/netconf"
)

// Gateways of routed mode: the same for every container, so that a container's routes never depend on the host.
// 169.254.1.1 is on the host's loopback, which answers for it on every link; fe80::1 is on each host end.
var (
	RoutedGateway4 = netip.MustParseAddr("169.254.1.1")
	RoutedGateway6 = netip.MustParseAddr("fe80::1")
)

// GatewayLabel marks the address that routed mode puts on the loopback interface, so that it is recognised as ours.
const GatewayLabel = "lo:veth"

const (
	scopeLink = 253 // RT_SCOPE_LINK
	loopback  = "lo"
)

var (
	anywhere4 = netip.MustParsePrefix("0.0.0.0/0")
	anywhere6 = netip.MustParsePrefix("::/0")
)

// Wire is the part of a plan that needs no addresses: the bridge and the pair.
func Wire(cfg *netconf.Config) Plan {
	return Plan{Base: base(cfg), Pair: pair(cfg)}
}

// Build is the whole plan for an attachment with the addresses it was given.
func Build(cfg *netconf.Config, addrs Addresses) Plan {
	b := builder{cfg: cfg, addrs: addrs, plan: Wire(cfg)}
	b.leases()
	b.bandwidth()
	b.inside()
	b.masquerade()
	switch cfg.Mode {
	case netconf.Routed:
		b.routed()
	case netconf.Bridged:
		b.bridged()
	}
	b.rules()
	b.isolation()
	b.shared()
	for _, part := range []*[]Object{&b.plan.Common, &b.plan.Guards, &b.plan.Inside, &b.plan.Outside, &b.plan.Shared} {
		*part = distinct(*part)
	}
	return b.plan
}

// ContainerMAC derives a locally administered hardware address from an IP address, so that a reused address always
// comes with the MAC its neighbours already know.
func ContainerMAC(a netip.Addr) net.HardwareAddr {
	if a.Is4() {
		b := a.As4()
		return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
	}
	return hashMAC(0x0e, a.String())
}

// BridgeMAC begins the hardware address of a bridge that the plugin makes, three bytes by which it is recognised. Three
// more are drawn when it is made: bridges of one name on two nodes may meet on one Ethernet.
func BridgeMAC(name string) net.HardwareAddr { return hashMAC(0x06, name)[:3] }

// HostMAC is the hardware address of a host end of that name.
func HostMAC(name string) net.HardwareAddr { return hashMAC(0x02, name) }

// hashMAC derives a locally administered unicast address from a name.
func hashMAC(first byte, name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(name))
	return append(net.HardwareAddr{first}, sum[:5]...)
}

func base(cfg *netconf.Config) []Object {
	if cfg.Mode == netconf.Routed {
		return nil
	}
	br := cfg.Bridge
	return []Object{
		Bridge{
			Name: br.Name, Kind: "bridge", Up: true, MTU: cfg.MTU, MAC: BridgeMAC(br.Name),
			Promisc: br.Promisc, VLANs: br.VLANAware(), Alias: lease.NetworkAlias(cfg.Network),
			Group: Group(cfg.Network),
		},
		refuseRA(br.Name),
	}
}

// refuseRA keeps containers from giving the host routes by router advertisements on an interface they reach. The kernel
// accepts them wherever it does not forward IPv6, on a network of IPv4 alone too.
func refuseRA(link string) Sysctl {
	return Sysctl{Key: "net/ipv6/conf/" + link + "/accept_ra", Value: "0", IfPresent: true}
}

// withoutIPv6 keeps IPv6 off a host end that has no use for it, a port of a bridge or on a network of IPv4 alone: nothing
// listens there to what containers say, and the kernel has no link-local address, multicast groups and routes to keep for
// each of thousands of host ends.
func withoutIPv6(link string) Sysctl {
	return Sysctl{Key: "net/ipv6/conf/" + link + "/disable_ipv6", Value: "1", IfPresent: true}
}

func pair(cfg *netconf.Config) Pair {
	owner := Owner(cfg)
	p := Pair{
		Host: owner.HostName(), MAC: HostMAC(owner.HostName()), MTU: cfg.MTU, Alias: owner.Alias(),
		Peer: cfg.Attachment.IfName, Up: true, Group: pairGroup(cfg), Ends: ends(cfg),
	}
	p.PeerMTU = cfg.ContainerMTU()
	if cfg.Mode == netconf.Bridged {
		p.Master = cfg.Bridge.Name
	} else {
		p.MTU = p.PeerMTU // so that the host tells senders what does not fit
	}
	return p
}

// Owner says whose a configuration's attachment is.
func Owner(cfg *netconf.Config) lease.Owner {
	a := cfg.Attachment
	return lease.Owner{
		Network: cfg.Network, ContainerID: a.ContainerID, IfName: a.IfName,
		PodNamespace: a.PodNamespace, PodName: a.PodName,
	}
}

type builder struct {
	cfg   *netconf.Config
	addrs Addresses
	plan  Plan
}

// add appends objects to a part of the plan. Some it may have already: range sets may share a subnet or a gateway.
func (b *builder) add(part *[]Object, objects ...Object) { *part = append(*part, objects...) }

// distinct is a part of the plan without what it has already.
func distinct(part []Object) []Object {
	held := map[string]bool{}
	return slices.DeleteFunc(part, func(o Object) bool {
		id := o.ID()
		again := held[id]
		held[id] = true
		return again
	})
}

func (b *builder) leases() {
	if !b.addrs.Leased {
		return
	}
	for _, a := range b.addrs.List {
		b.plan.Leases = append(b.plan.Leases, Lease{Link: b.plan.Pair.Host, Name: lease.Name(b.cfg.Network, a.Prefix.Addr())})
	}
}

// has reports whether an address of the family was assigned.
func (b *builder) has(is4 bool) bool {
	for _, a := range b.addrs.List {
		if a.Prefix.Addr().Is4() == is4 {
			return true
		}
	}
	return false
}

// containerMAC is what was asked for, or follows from the first address, or without one from the attachment.
func (b *builder) containerMAC() net.HardwareAddr {
	if b.cfg.MAC != nil {
		return b.cfg.MAC
	}
	if len(b.addrs.List) > 0 {
		return ContainerMAC(b.addrs.List[0].Prefix.Addr())
	}
	return hashMAC(0x0e, b.plan.Pair.Host)
}

// insideSysctl adds a setting of the container's interface. One that is only preferred may be missing in the kernel, and
// in a chain written for the reference its tuning plugin may set it otherwise afterwards.
func (b *builder) insideSysctl(format, value string, preferred bool) {
	b.add(&b.plan.Inside, Sysctl{
		Place: Container, Key: fmt.Sprintf(format, b.plan.Pair.Peer), Value: value,
		IfPresent: preferred, Yields: preferred && b.cfg.Type != netconf.TypeVeth,
	})
}

// insideOnce turns on what matters when the interface comes up. Whoever changes it afterwards, or what it is there for,
// undoes nothing.
func (b *builder) insideOnce(format string) {
	b.add(&b.plan.Inside, Sysctl{
		Place: Container, Key: fmt.Sprintf(format, b.plan.Pair.Peer), Value: "1", IfPresent: true, Yields: true,
	})
}

// inside puts the sysctls before the interface comes up, because the kernel acts on them at that moment, and IPv4
// addresses too, because arp_notify announces those that are there. IPv6 addresses come after: of one that is there
// already the kernel makes the routes when the interface comes up, with memory that it must not wait for, and without a
// word if there is none (fixup_permanent_addr in net/ipv6/addrconf.c, alloc_percpu_gfp with GFP_ATOMIC in fib6_nh_init).
// Routes need the interface up.
func (b *builder) inside() {
	name := b.plan.Pair.Peer
	b.sysctls(general)
	if b.has(false) {
		b.insideSysctl("net/ipv6/conf/%s/disable_ipv6", "0", false)
		b.insideSysctl("net/ipv6/conf/%s/accept_dad", map[bool]string{true: "1", false: "0"}[b.cfg.EnableDAD], true)
	}
	if len(b.addrs.List) > 0 && b.cfg.Mode == netconf.Bridged {
		b.amongNeighbours()
	}
	b.sysctls(ofInterface)
	b.knobs()
	b.wire()
	b.insideAddresses(true)
	b.add(&b.plan.Inside, Interface{
		Name: name, MAC: b.containerMAC(), MTU: b.cfg.ContainerMTU(), Up: !b.cfg.DisableContainerInterface,
	})
	b.insideAddresses(false)
}

func (b *builder) insideAddresses(is4 bool) {
	for _, a := range b.addrs.List {
		if a.Prefix.Addr().Is4() == is4 {
			b.add(&b.plan.Inside, b.insideAddress(a))
		}
	}
}

// amongNeighbours is for a container that shares an Ethernet with others. They are nobody's routers. On a network of
// IPv4 alone it has no IPv6 at all, unless the configuration has settings for it or is one for the reference plugins, which
// leave it on: what it says unasked to find its neighbours and routers would go to each port of the bridge.
func (b *builder) amongNeighbours() {
	if !b.has(false) && b.cfg.Type == netconf.TypeVeth && !b.setsIPv6() {
		b.insideOnce("net/ipv6/conf/%s/disable_ipv6")
	} else {
		b.insideSysctl("net/ipv6/conf/%s/accept_ra", "0", true)
	}
	if b.announces(true) {
		b.insideOnce("net/ipv4/conf/%s/arp_notify")
	}
	if b.announces(false) {
		b.insideOnce("net/ipv6/conf/%s/ndisc_notify")
	}
}

// setsIPv6 reports whether the configuration has a setting of IPv6.
func (b *builder) setsIPv6() bool {
	return slices.ContainsFunc(b.cfg.Tuning.Sysctls, func(s netconf.Sysctl) bool {
		return strings.HasPrefix(s.Key, "net/ipv6/")
	})
}

// announces reports whether the neighbours are to be told of the addresses of a family when the interface comes up:
// where one has another hardware address than follows from it. An announcement goes to each port of the bridge, and
// says nothing new of an address that always has the same.
func (b *builder) announces(is4 bool) bool {
	return b.cfg.Mode == netconf.Bridged && slices.ContainsFunc(b.addrs.List, func(a Assigned) bool {
		ip := a.Prefix.Addr()
		return ip.Is4() == is4 && !bytes.Equal(ContainerMAC(ip), b.containerMAC())
	})
}

func (b *builder) insideAddress(a Assigned) Address {
	o := Address{
		Place: Container, Link: b.plan.Pair.Peer, Prefix: a.Prefix, DAD: b.cfg.EnableDAD, State: "ok",
		Announced: a.Prefix.Addr().Is6() && b.announces(false),
		Quiet:     b.cfg.Routing.OwnTable(), // the kernel would put the subnet's route into the main table
	}
	if b.cfg.Mode == netconf.Routed {
		// Nothing but the gateway is on this link, so no prefix is.
		o.Quiet = true
		if b.cfg.Type == netconf.TypeVeth {
			o.Prefix = host(a.Prefix.Addr())
		}
	}
	return o
}

func (b *builder) insideRoute(r Route) {
	r.Place, r.Link = Container, b.plan.Pair.Peer
	r.MTU = b.forwardable(r)
	b.add(&b.plan.Inside, b.place(r))
}

// ipamRoutes adds the routes IPAM asked for, ahead of the builder's own: of two to one destination the first counts, and
// IPAM's may carry an MTU or another gateway. onLink is for networks whose gateways no prefix covers.
func (b *builder) ipamRoutes(gateway func(netip.Addr) netip.Addr, onLink bool) {
	for _, r := range b.addrs.Routes {
		via := r.Via
		if b.standsIn(via) || !via.IsValid() && !r.Direct() {
			via = gateway(r.Dst.Addr())
		}
		route := Route{
			Dst: r.Dst, Via: via, OnLink: onLink && via.IsValid(),
			Table: uint32(r.Table), Metric: uint32(r.Priority), MTU: int(r.MTU), AdvMSS: int(r.AdvMSS),
		}
		if r.Scope != nil {
			scope := uint8(*r.Scope)
			route.Scope = &scope
		}
		b.insideRoute(route)
	}
}

// standsIn reports whether via is a gateway of IPAM's for which routed mode has its own: both mean the host.
func (b *builder) standsIn(via netip.Addr) bool {
	return b.cfg.Mode == netconf.Routed && b.cfg.Type == netconf.TypeVeth &&
		slices.ContainsFunc(b.addrs.List, func(a Assigned) bool { return a.Gateway == via })
}

// ipamHasDefault reports whether IPAM itself leads all destinations of the family of a somewhere, in the attachment's
// table.
func (b *builder) ipamHasDefault(a netip.Addr) bool {
	own := int64(cmp.Or(Table(b.cfg), mainTable))
	return slices.ContainsFunc(b.addrs.Routes, func(r netconf.Route) bool {
		return r.Dst == anywhere(a) && cmp.Or(r.Table, own) == own
	})
}

// gatewayOf is the first assigned gateway of the family of a.
func (b *builder) gatewayOf(a netip.Addr) netip.Addr {
	for _, x := range b.addrs.List {
		if x.Gateway.IsValid() && x.Gateway.Is4() == a.Is4() {
			return x.Gateway
		}
	}
	return netip.Addr{}
}

// masquerade comes first of what is shared: it may be refused, and nothing else that others use has been touched then.
func (b *builder) masquerade() {
	if !b.cfg.IPMasq {
		return
	}
	for _, a := range b.addrs.List {
		m := Masquerade{Subnet: a.Prefix.Masked(), Network: b.cfg.Network, State: "ok"}
		if b.cfg.IPAM.Delegated() && a.Prefix.IsSingleIP() {
			m.Holder = b.plan.Pair.Host // IPAM names no subnet, so there is none that the network could have
		}
		b.add(&b.plan.Shared, m)
	}
}

// shared ends with the switches that let the host pass packets on.
func (b *builder) shared() {
	b.hostPorts()
	if b.cfg.Mode == netconf.Bridged && !b.cfg.Bridge.Gateway {
		return
	}
	if b.has(true) {
		b.add(&b.plan.Shared, Sysctl{Key: "net/ipv4/ip_forward", Value: "1"})
	}
	if b.has(false) {
		b.add(&b.plan.Shared, Sysctl{Key: "net/ipv6/conf/all/forwarding", Value: "1"})
	}
}

// host is the prefix that holds one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func anywhere(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return anywhere4
	}
	return anywhere6
}
