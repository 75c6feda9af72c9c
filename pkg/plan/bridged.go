package plan

import (
	"fmt"
	"net/netip"
)

// bridged makes the host end a port of the bridge: its settings, its VLANs, and the host's own address on the bridge.
func (b *builder) bridged() {
	br, hostEnd := b.cfg.Bridge, b.plan.Pair.Host
	b.plan.Outside = append(b.plan.Outside,
		Port{Link: hostEnd, Hairpin: br.Hairpin, Isolated: br.Isolated, Locked: br.MACLocked})
	if br.MACLocked {
		b.plan.Outside = append(b.plan.Outside, Forwarding{Link: hostEnd, MAC: b.containerMAC(), VLAN: br.VLAN})
	}
	if br.VLANAware() {
		b.plan.Outside = append(b.plan.Outside, b.portVLANs())
	}
	if br.Gateway {
		b.bridgeGateways()
	}
	b.connected()
	if b.cfg.DefaultGateway || b.cfg.Routing.DefaultGateway {
		b.bridgeDefaultRoutes()
	}
	b.ipamRoutes(b.gatewayOf, false)
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
		link = fmt.Sprintf("%s.%d", br.Name, br.VLAN)
		b.plan.Shared = append(b.plan.Shared, VLANInterface{Name: link, Bridge: br.Name, VLAN: br.VLAN, Up: true})
	}
	for _, a := range b.addrs.List {
		b.plan.Shared = append(b.plan.Shared, Address{
			Link: link, Prefix: netip.PrefixFrom(a.Gateway, a.Prefix.Bits()), State: "ok",
			Sole: true, Force: br.ForceAddress,
		})
	}
}

// bridgeDefaultRoutes adds a default route for each family whose routes from IPAM hold none with a gateway.
func (b *builder) bridgeDefaultRoutes() {
	for _, a := range b.addrs.List {
		dst := anywhere(a.Prefix.Addr())
		if !a.Gateway.IsValid() || b.ipamHasDefault(dst) {
			continue
		}
		b.insideRoute(Route{Dst: dst, Via: a.Gateway})
	}
}

func (b *builder) ipamHasDefault(dst netip.Prefix) bool {
	for _, r := range b.addrs.Routes {
		if r.Dst == dst && r.Via.IsValid() && (r.Table == 0 || r.Table == Table(b.cfg)) {
			return true
		}
	}
	return false
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
