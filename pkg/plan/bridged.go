package plan

import (
	"fmt"
	"net/netip"

	"github.com/veth-cni/veth/pkg/netconf"
)

// bridged makes the host end a port of the bridge: its settings, its VLANs, and the host's own address on the bridge.
func (b *builder) bridged() {
	br, hostEnd := b.cfg.Bridge, b.plan.Pair.Host
	b.add(&b.plan.Guards, Port{
		Link: hostEnd, Hairpin: br.Hairpin || b.needsHairpin(), Locked: br.MACLocked,
		Isolated: br.Isolated || b.cfg.ContainerIngress() == netconf.IngressIsolated,
	})
	b.add(&b.plan.Guards, withoutIPv6(hostEnd))
	if br.VLANAware() {
		b.add(&b.plan.Guards, b.portVLANs())
	}
	if br.MACLocked {
		b.lockedPort()
	}
	if br.Gateway {
		b.bridgeGateways()
	}
	b.connected()
	b.ipamRoutes(b.gatewayOf, false)
	if b.cfg.DefaultGateway || b.cfg.Routing.DefaultGateway {
		b.defaultRoutes()
	}
	b.implied() // last: IPAM may have its own route to the subnet
}

// lockedPort enters the container's address for the port, once the port is in its VLANs: the kernel refuses an entry for
// a VLAN the port is not in, and one without a VLAN it makes for every VLAN the port is in (net/bridge/br_fdb.c,
// br_fdb_add). Of those, that of the native VLAN is the container's life line, and named so that CHECK looks at it.
func (b *builder) lockedPort() {
	entry := Forwarding{Link: b.plan.Pair.Host, MAC: b.containerMAC()}
	b.add(&b.plan.Guards, entry)
	if b.cfg.Bridge.VLANAware() {
		entry.VLAN = b.portVLANs().PVID
		b.add(&b.plan.Guards, entry)
	}
}

// portVLANs gives a port with nothing but tagged VLANs the native VLAN 1, as the reference does.
func (b *builder) portVLANs() PortVLANs {
	br := b.cfg.Bridge
	v := PortVLANs{Link: b.plan.Pair.Host, PVID: br.VLAN, Tagged: br.Trunk, KeepDefault: br.PreserveDefaultVLAN}
	if v.PVID == 0 {
		v.PVID = 1
	}
	return v
}

// bridgeGateways puts each gateway on the bridge, or on the bridge's own interface in the VLAN.
func (b *builder) bridgeGateways() {
	br := b.cfg.Bridge
	link := br.Name
	if br.VLAN != 0 {
		link = vlanInterface(br)
		b.add(&b.plan.Shared, VLANInterface{Name: link, Bridge: br.Name, VLAN: br.VLAN, Up: true, Group: Group(b.cfg.Network)}, refuseRA(link))
	}
	for _, a := range b.addrs.List {
		if a.Gateway.Is6() {
			// A host may keep IPv6 off new interfaces (net.ipv6.conf.default.disable_ipv6).
			b.add(&b.plan.Shared, Sysctl{Key: "net/ipv6/conf/" + link + "/disable_ipv6", Value: "0"})
		}
		b.add(&b.plan.Shared, Address{
			Link: link, Prefix: netip.PrefixFrom(a.Gateway, a.Prefix.Bits()), State: "ok",
			Sole: true, Force: br.ForceAddress,
		})
	}
}

// vlanInterface names the bridge's own interface in its VLAN.
func vlanInterface(br netconf.Bridge) string { return fmt.Sprintf("%s.%d", br.Name, br.VLAN) }

// defaultRoutes adds a default route for each family whose routes from IPAM hold none.
func (b *builder) defaultRoutes() {
	for _, a := range b.addrs.List {
		if a.Gateway.IsValid() && !b.ipamHasDefault(a.Prefix.Addr()) {
			b.insideRoute(Route{Dst: anywhere(a.Prefix.Addr()), Via: a.Gateway})
		}
	}
}

// WithGateways fills in the gateway that an address manager left out: the first address of the subnet, as the
// reference bridge plugin does for a network whose gateway is the host.
func (a Addresses) WithGateways() Addresses {
	list := append([]Assigned{}, a.List...)
	for i := range list {
		if !list[i].Gateway.IsValid() {
			list[i].Gateway = list[i].Prefix.Masked().Addr().Next()
		}
	}
	a.List = list
	return a
}
