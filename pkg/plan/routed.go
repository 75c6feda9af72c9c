package plan

import (
	"net/netip"

	"github.com/veth-cni/veth/pkg/netconf"
)

// routed connects the host end by routes: the host has a route and a permanent neighbour for each address of the
// container, the container has routes and a permanent neighbour for its gateway. Nothing is ever resolved or flooded.
// Only for type "ptp" do the two resolve each other: in a chain written for the reference, the tuning plugin may change the
// container's hardware address afterwards, and take the link down for that, which flushes its neighbours.
func (b *builder) routed() {
	hostEnd := b.plan.Pair.Host
	if b.has(true) {
		b.guardSysctl("net/ipv4/conf/"+hostEnd+"/rp_filter", b.reversePathFilter())
		b.guardSysctl("net/ipv4/conf/"+hostEnd+"/proxy_arp", "1") // for guests that ask for a neighbour all the same
		b.guardSysctl("net/ipv4/neigh/"+hostEnd+"/proxy_delay", "0")
	}
	if b.has(false) {
		b.guardSysctl("net/ipv6/conf/"+hostEnd+"/disable_ipv6", "0")
		add(&b.plan.Guards, refuseRA(hostEnd))
	} else {
		add(&b.plan.Guards, withoutIPv6(hostEnd))
	}
	gateway := b.routedGateways()
	for _, a := range b.addrs.List {
		b.routedAddress(a, gateway(a.Prefix.Addr()))
	}
	b.ipamRoutes(gateway, true)
	switch {
	case b.cfg.Type == netconf.TypeVeth:
		b.routedRoutes(gateway)
	case b.cfg.Routing.DefaultGateway:
		b.defaultRoutes()
	}
}

func (b *builder) guardSysctl(key, value string) {
	add(&b.plan.Guards, Sysctl{Key: key, Value: value})
}

// routedGateways puts the gateways on the host end and says which one serves which family.
func (b *builder) routedGateways() func(netip.Addr) netip.Addr {
	if b.cfg.Type == netconf.TypePTP {
		b.ptpGateways()
		return b.gatewayOf
	}
	if b.has(true) {
		add(&b.plan.Common, Address{
			Link: loopback, Prefix: host(RoutedGateway4), Scope: scopeLink, Label: GatewayLabel, State: "ok",
		})
	}
	b.linkLocal()
	return func(a netip.Addr) netip.Addr {
		if a.Is4() {
			return RoutedGateway4
		}
		return RoutedGateway6
	}
}

// linkLocal gives the host end an address that is usable at once. Until duplicate address detection is over for the one
// that the kernel makes, the host has no source to ask a neighbour from (ndisc_send_ns of net/ipv6/ndisc.c): what it
// forwards to a container of type "ptp" would be lost meanwhile. Type "veth" has its gateway there.
func (b *builder) linkLocal() {
	if b.has(false) {
		add(&b.plan.Outside, Address{
			Link: b.plan.Pair.Host, Prefix: netip.PrefixFrom(RoutedGateway6, 64), Scope: scopeLink, State: "ok",
		})
	}
}

// ptpGateways puts IPAM's gateway on the host end and leads the subnet through it, as the reference ptp plugin does.
func (b *builder) ptpGateways() {
	b.linkLocal()
	for _, a := range b.addrs.List {
		if !a.Gateway.IsValid() {
			continue
		}
		add(&b.plan.Outside, Address{Link: b.plan.Pair.Host, Prefix: host(a.Gateway), State: "ok"})
		b.insideRoute(Route{Dst: host(a.Gateway), Src: a.Prefix.Addr()})
		b.insideRoute(Route{Dst: a.Prefix.Masked(), Via: a.Gateway, Src: a.Prefix.Addr()})
	}
}

// routedAddress is what one address of the container needs on either side.
func (b *builder) routedAddress(a Assigned, gateway netip.Addr) {
	addr, hostEnd := a.Prefix.Addr(), b.plan.Pair.Host
	route := Route{Link: hostEnd, Dst: host(addr)}
	if b.cfg.Type == netconf.TypeVeth {
		add(&b.plan.Outside, Neighbour{Link: hostEnd, Addr: addr, MAC: b.containerMAC()})
		add(&b.plan.Inside, Neighbour{Place: Container, Link: b.plan.Pair.Peer, Addr: gateway, MAC: b.plan.Pair.MAC})
		if addr.Is4() {
			route.SrcIfNone = gateway
		}
	}
	add(&b.plan.Outside, route)
}

// routedRoutes leads everything to the gateway, unless IPAM has its own default route, or just the container's subnet.
func (b *builder) routedRoutes(gateway func(netip.Addr) netip.Addr) {
	for _, a := range b.addrs.List {
		r := Route{Dst: a.Prefix.Masked(), Via: gateway(a.Prefix.Addr()), OnLink: true}
		switch {
		case !b.cfg.DefaultGateway && a.Prefix.IsSingleIP(), b.cfg.DefaultGateway && b.ipamHasDefault(a.Prefix.Addr()):
			continue
		case b.cfg.DefaultGateway:
			r.Dst = anywhere(a.Prefix.Addr())
		}
		b.insideRoute(r)
	}
}
