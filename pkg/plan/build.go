package plan

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"

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
	b.inside()
	switch cfg.Mode {
	case netconf.Routed:
		b.routed()
	case netconf.Bridged:
		b.bridged()
	}
	b.rules()
	b.shared()
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

// hashMAC derives a locally administered unicast address from a name.
func hashMAC(first byte, name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(name))
	return append(net.HardwareAddr{first}, sum[:5]...)
}

func base(cfg *netconf.Config) []Object {
	if cfg.Mode == netconf.Routed {
		return routedBase(cfg)
	}
	br := cfg.Bridge
	return []Object{
		Bridge{
			Name: br.Name, Kind: "bridge", Up: true, MTU: cfg.MTU, MAC: hashMAC(0x06, br.Name),
			Promisc: br.Promisc, VLANs: br.VLANAware(), Alias: lease.NetworkAlias(cfg.Network),
		},
		// A container must not be able to give the host routes by router advertisements.
		Sysctl{Key: "net/ipv6/conf/" + br.Name + "/accept_ra", Value: "0", IfPresent: true},
	}
}

// routedBase is the IPv4 gateway, unless the network has none: it serves IPv6 or layer 2 only, or brings its own.
func routedBase(cfg *netconf.Config) []Object {
	has4 := cfg.IPAM.Delegated()
	for _, subnet := range cfg.IPAM.Pool.Subnets() {
		has4 = has4 || subnet.Addr().Is4()
	}
	if cfg.Type != netconf.TypeVeth || !has4 {
		return nil
	}
	return []Object{Address{
		Link: loopback, Prefix: host(RoutedGateway4), Scope: scopeLink, Label: GatewayLabel, State: "ok",
	}}
}

func pair(cfg *netconf.Config) Pair {
	owner := Owner(cfg)
	p := Pair{
		Host: owner.HostName(), MAC: hashMAC(0x02, owner.HostName()), MTU: cfg.MTU, Alias: owner.Alias(),
		Peer: cfg.Attachment.IfName, Up: true,
	}
	if cfg.Mode == netconf.Bridged {
		p.Master = cfg.Bridge.Name
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

// containerMAC is nil for a container that has no address and asked for no MAC: the kernel then chooses.
func (b *builder) containerMAC() net.HardwareAddr {
	if b.cfg.MAC != nil {
		return b.cfg.MAC
	}
	if len(b.addrs.List) > 0 {
		return ContainerMAC(b.addrs.List[0].Prefix.Addr())
	}
	return hashMAC(0x0e, b.plan.Pair.Host)
}

func (b *builder) insideSysctl(format, value string, ifPresent bool) {
	key := fmt.Sprintf(format, b.plan.Pair.Peer)
	b.plan.Inside = append(b.plan.Inside, Sysctl{Place: Container, Key: key, Value: value, IfPresent: ifPresent})
}

// inside puts the sysctls before the interface comes up, because the kernel acts on them at that moment, the addresses
// too, because arp_notify announces those that are there, and the routes after, because they need the interface up.
func (b *builder) inside() {
	name := b.plan.Pair.Peer
	b.sysctls(general)
	if b.has(false) {
		b.insideSysctl("net/ipv6/conf/%s/disable_ipv6", "0", false)
		b.insideSysctl("net/ipv6/conf/%s/accept_dad", map[bool]string{true: "1", false: "0"}[b.cfg.EnableDAD], true)
	}
	if len(b.addrs.List) > 0 {
		b.insideSysctl("net/ipv6/conf/%s/accept_ra", "0", true)
		if b.cfg.Mode == netconf.Bridged {
			b.insideSysctl("net/ipv4/conf/%s/arp_notify", "1", true)
			b.insideSysctl("net/ipv6/conf/%s/ndisc_notify", "1", true)
		}
	}
	b.sysctls(ofInterface)
	b.knobs()
	for _, a := range b.addrs.List {
		b.plan.Inside = append(b.plan.Inside, b.insideAddress(a))
	}
	b.plan.Inside = append(b.plan.Inside, Interface{
		Name: name, MAC: b.containerMAC(), MTU: b.cfg.MTU, Up: !b.cfg.DisableContainerInterface,
	})
}

func (b *builder) insideAddress(a Assigned) Address {
	o := Address{
		Place: Container, Link: b.plan.Pair.Peer, Prefix: a.Prefix, DAD: b.cfg.EnableDAD, State: "ok",
		Quiet: b.cfg.Routing.OwnTable(), // the kernel would put the subnet's route into the main table
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

// insideRoute adds a route of the container unless one of the same identity is there already.
func (b *builder) insideRoute(r Route) {
	r.Place, r.Link = Container, b.plan.Pair.Peer
	r = b.place(r)
	for _, o := range b.plan.Inside {
		if o.ID() == r.ID() {
			return
		}
	}
	b.plan.Inside = append(b.plan.Inside, r)
}

// ipamRoutes adds the routes IPAM asked for. onLink is for networks whose gateways no prefix covers.
func (b *builder) ipamRoutes(gateway func(netip.Addr) netip.Addr, onLink bool) {
	for _, r := range b.addrs.Routes {
		via := r.Via
		if !via.IsValid() {
			via = gateway(r.Dst.Addr())
		}
		route := Route{
			Dst: r.Dst, Via: via, OnLink: onLink && via.IsValid(),
			Table: r.Table, Metric: r.Priority, MTU: r.MTU, AdvMSS: r.AdvMSS,
		}
		if r.Scope != nil {
			scope := uint8(*r.Scope) //nolint:gosec // netconf keeps it within 0 to 255
			route.Scope = &scope
		}
		b.insideRoute(route)
	}
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

// shared comes last: masquerading, then the forwarding switch.
func (b *builder) shared() {
	if b.cfg.IPMasq {
		for _, a := range b.addrs.List {
			b.plan.Shared = append(b.plan.Shared, Masquerade{Subnet: a.Prefix.Masked(), Network: b.cfg.Network})
		}
	}
	if b.cfg.Mode == netconf.Bridged && !b.cfg.Bridge.Gateway {
		return
	}
	if b.has(true) {
		b.plan.Shared = append(b.plan.Shared, Sysctl{Key: "net/ipv4/ip_forward", Value: "1"})
	}
	if b.has(false) {
		b.plan.Shared = append(b.plan.Shared, Sysctl{Key: "net/ipv6/conf/all/forwarding", Value: "1"})
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
