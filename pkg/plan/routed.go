package plan

import (
	"net/netip"

	"github.com/veth-cni/veth/pkg/netconf"
)

// routed connects the host end by routes: the host has a route and a permanent neighbour for each address of the
// container, the container has routes and a permanent neighbour for its gateway. Nothing is ever resolved or flooded.
func (b *builder) routed() {
	hostEnd := b.plan.Pair.Host
	if b.has(true) {
		b.outsideSysctl("net/ipv4/conf/"+hostEnd+"/rp_filter", "1") // a forged source has no route back through this link
		b.outsideSysctl("net/ipv4/conf/"+hostEnd+"/proxy_arp", "1") // for guests that ask for a neighbour all the same
		b.outsideSysctl("net/ipv4/neigh/"+hostEnd+"/proxy_delay", "0")
	}
	if b.has(false) {
		b.outsideSysctl("net/ipv6/conf/"+hostEnd+"/disable_ipv6", "0")
		b.outsideSysctl("net/ipv6/conf/"+hostEnd+"/accept_ra", "0")
	}
	gateway := b.routedGateways()
	for _, a := range b.addrs.List {
		b.routedAddress(a, gateway(a.Prefix.Addr()))
	}
	if b.cfg.DefaultGateway || b.cfg.Routing.DefaultGateway {
		for _, a := range b.addrs.List {
			if via := gateway(a.Prefix.Addr()); via.IsValid() {
				b.insideRoute(Route{Dst: anywhere(a.Prefix.Addr()), Via: via, OnLink: true})
			}
		}
	}
	b.ipamRoutes(gateway, true)
}

func (b *builder) outsideSysctl(key, value string) {
	b.plan.Outside = append(b.plan.Outside, Sysctl{Key: key, Value: value})
}

// routedGateways puts the gateways on the host end and says which one serves which family.
func (b *builder) routedGateways() func(netip.Addr) netip.Addr {
	if b.cfg.Type == netconf.TypePTP {
		b.ptpGateways()
		return b.gatewayOf
	}
	if b.has(false) {
		b.plan.Outside = append(b.plan.Outside, Address{
			Link: b.plan.Pair.Host, Prefix: netip.PrefixFrom(RoutedGateway6, 64), Scope: scopeLink, State: "ok",
		})
	}
	return func(a netip.Addr) netip.Addr {
		if a.Is4() {
			return RoutedGateway4
		}
		return RoutedGateway6
	}
}

// ptpGateways puts IPAM's gateway on the host end and leads the subnet through it, as the reference ptp plugin does.
func (b *builder) ptpGateways() {
	for _, a := range b.addrs.List {
		if !a.Gateway.IsValid() {
			continue
		}
		b.plan.Outside = append(b.plan.Outside, Address{Link: b.plan.Pair.Host, Prefix: host(a.Gateway), State: "ok"})
		b.insideRoute(Route{Dst: host(a.Gateway), Src: a.Prefix.Addr()})
		b.insideRoute(Route{Dst: a.Prefix.Masked(), Via: a.Gateway, Src: a.Prefix.Addr()})
	}
}

// routedAddress is what one address of the container needs on either side.
func (b *builder) routedAddress(a Assigned, gateway netip.Addr) {
	addr, hostEnd := a.Prefix.Addr(), b.plan.Pair.Host
	route := Route{Link: hostEnd, Dst: host(addr)}
	if addr.Is4() && b.cfg.Type == netconf.TypeVeth {
		route.SrcIfNone = gateway
	}
	b.plan.Outside = append(b.plan.Outside,
		Neighbour{Link: hostEnd, Addr: addr, MAC: b.containerMAC()},
		route,
	)
	if !gateway.IsValid() {
		return
	}
	b.plan.Inside = append(b.plan.Inside,
		Neighbour{Place: Container, Link: b.plan.Pair.Peer, Addr: gateway, MAC: b.plan.Pair.MAC})
	if b.cfg.Type == netconf.TypeVeth && !b.cfg.DefaultGateway && a.Prefix.Bits() != addr.BitLen() {
		b.insideRoute(Route{Dst: a.Prefix.Masked(), Via: gateway, OnLink: true})
	}
}
