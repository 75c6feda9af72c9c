package plan

import (
	"fmt"
	"net/netip"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/netconf"
)

// HostPorts are the ports of the host that lead to one container. They are elements of nftables maps, which do not die
// with the pair: each says whose it is.
type HostPorts struct {
	Owner lease.Owner
	Ports []HostPort
	// Link is the host's interface that the container is reached through: the host end, the bridge, or its interface in
	// the container's VLAN.
	Link string
	// Source is the IPv4 address that takes the place of a source the container could not answer, where Link is the
	// container's own: the container's gateway, which need not be on Link. Invalid: an address of Link.
	Source netip.Addr
	// Sources are the prefixes that may connect; none: everybody.
	Sources []netip.Prefix
	// Hairpin replaces the source of what comes from where it goes to: the container itself, or another on its bridge.
	Hairpin bool
	// Masquerade replaces every source.
	Masquerade bool
	InUse      netconf.InUse
	// State is what is wrong with the nftables objects that all host ports share, or "ok".
	State string
}

// HostPort is one port of the host.
type HostPort struct {
	Protocol netconf.Protocol
	Host     netip.AddrPort // of an unspecified address: on every address of the host of that family
	Pod      netip.AddrPort
	Holder   string // who has it, if not the owner of the HostPorts
	Open     bool   // whoever can reach the host can use it
}

// Wildcard reports whether the port is on every address of the host.
func (p HostPort) Wildcard() bool { return p.Host.Addr().IsUnspecified() }

func (p HostPort) String() string { return fmt.Sprintf("%s %s", p.Protocol, p.Host) }

func (p HostPort) target() string {
	switch {
	case p.Holder != "":
		return p.Pod.String() + " of " + p.Holder
	case p.Open:
		return p.Pod.String()
	}
	return p.Pod.String() + " for hostPortSources"
}

// ID implements Object.
func (h HostPorts) ID() string { return "host nftables ports of " + h.Owner.HostName() }

// Fields implements Object: one a port.
func (h HostPorts) Fields() []Field {
	f := []Field{{"state", h.State}}
	for _, p := range h.Ports {
		f = append(f, Field{p.String(), p.target()})
	}
	return append(f, Field{"hairpin", onOff(h.Hairpin)}, Field{"masquerade", onOff(h.Masquerade)})
}

// hostPorts adds the ports, and what lets the host reach them at 127.0.0.1: the kernel sends nothing from there through
// another interface unless that interface says so (route_localnet, Documentation/networking/ip-sysctl.rst). The chain
// that keeps packets to 127.0.0.0/8 out comes with the ports, hence before.
func (b *builder) hostPorts() {
	cfg, ports := b.cfg.HostPorts, ports(b.cfg, b.addrs)
	if len(ports) == 0 {
		return
	}
	h := HostPorts{
		Owner: Owner(b.cfg), Ports: ports, Link: b.link(), Sources: cfg.Sources,
		Hairpin: !cfg.KeepSources, Masquerade: cfg.MasqueradeAll, InUse: cfg.InUse, State: "ok",
	}
	if b.cfg.Mode == netconf.Routed {
		h.Source = RoutedGateway4
		if gateway := b.gatewayOf(RoutedGateway4); b.cfg.Type == netconf.TypePTP && gateway.IsValid() {
			h.Source = gateway
		}
	}
	b.add(&b.plan.Shared, h)
	if h.Hairpin && h.reachedFromLoopback() {
		b.add(&b.plan.Shared, Sysctl{Key: "net/ipv4/conf/" + h.Link + "/route_localnet", Value: "1"})
	}
}

func (h HostPorts) reachedFromLoopback() bool {
	for _, p := range h.Ports {
		if a := p.Host.Addr(); a.Is4() && (a.IsUnspecified() || a.IsLoopback()) {
			return true
		}
	}
	return false
}

// needsHairpin reports whether the bridge must send frames back to the port they came from: those of a container to its
// own port of the host, where the kernel translates frames as it forwards them (bridge-nf-call-iptables). A promiscuous
// bridge hands them to the host, which routes them back.
func (b *builder) needsHairpin() bool {
	hp := b.cfg.HostPorts
	return len(hp.Mappings) > 0 && !hp.KeepSources && !b.cfg.Bridge.Promisc
}

// link is the host's interface whose routes lead to the container.
func (b *builder) link() string {
	if br := b.cfg.Bridge; b.cfg.Mode == netconf.Bridged {
		if br.Gateway && br.VLAN != 0 {
			return vlanInterface(br)
		}
		return br.Name
	}
	return b.plan.Pair.Host
}

// ports gives each mapping an entry for each address family, or address of the host, that it is for.
func ports(cfg *netconf.Config, addrs Addresses) []HostPort {
	var list []HostPort
	for _, m := range cfg.HostPorts.Mappings {
		for _, host := range hosts(cfg.HostPorts, m) {
			pod, ok := addrs.first(host.Is4())
			if !ok {
				continue
			}
			list = append(list, HostPort{
				Protocol: m.Protocol, Host: netip.AddrPortFrom(host, m.HostPort),
				Pod: netip.AddrPortFrom(pod, m.ContainerPort), Open: len(cfg.HostPorts.Sources) == 0,
			})
		}
	}
	return list
}

// hosts lists the addresses of the host that a mapping is for.
func hosts(cfg netconf.HostPorts, m netconf.PortMapping) []netip.Addr {
	if m.Host.IsValid() && !m.Host.IsUnspecified() {
		return []netip.Addr{m.Host}
	}
	all := cfg.Addresses
	if len(all) == 0 {
		all = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	var list []netip.Addr
	for _, a := range all {
		if !m.Host.IsValid() || a.Is4() == m.Host.Is4() {
			list = append(list, a)
		}
	}
	return list
}

// first is the first address of a family.
func (a Addresses) first(is4 bool) (netip.Addr, bool) {
	for _, x := range a.List {
		if x.Prefix.Addr().Is4() == is4 {
			return x.Prefix.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// Answerable fails with InvalidConfig for a mapping that could lead nowhere: the container has no address of the family
// that the mapping is for. Build leaves such a mapping out.
func Answerable(cfg *netconf.Config, addrs Addresses) error {
	for _, m := range cfg.HostPorts.Mappings {
		some := false
		for _, host := range hosts(cfg.HostPorts, m) {
			_, ok := addrs.first(host.Is4())
			some = some || ok
		}
		if !some {
			return cnierr.New(cnierr.InvalidConfig, "runtimeConfig.portMappings: %s leads nowhere: "+
				"the container has no address of that family; want a hostIP (or hostPortAddresses) of a family it has", m)
		}
	}
	return nil
}

// ClaimedPorts are the ports that an attachment may have, as far as its configuration tells without its addresses: what
// DEL looks for.
func ClaimedPorts(cfg *netconf.Config) []HostPort {
	var list []HostPort
	for _, m := range cfg.HostPorts.Mappings {
		for _, host := range hosts(cfg.HostPorts, m) {
			list = append(list, HostPort{Protocol: m.Protocol, Host: netip.AddrPortFrom(host, m.HostPort)})
		}
	}
	return list
}
