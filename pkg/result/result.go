// Package result writes a CNI result from a plan and reads one back into addresses. It is pure.
package result

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	libversion "github.com/containernetworking/cni/pkg/version"

	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// Facts is what only the kernel knows of the interfaces of a plan.
type Facts struct {
	MTU       int // of the pair, bytes
	BridgeMAC net.HardwareAddr
	BridgeMTU int
}

// Build describes an attachment as CNI spec 1.1.0, section "ADD Success", wants it: the host's interfaces first, then
// the container's with its sandbox verbatim, the addresses pointing at it by index, and the container's routes. The
// result is of the newest version, to be converted to the one asked for.
func Build(cfg *netconf.Config, p plan.Plan, addrs plan.Addresses, facts Facts) *current.Result {
	if !tellsMTU(cfg.CNIVersion) {
		facts.MTU, facts.BridgeMTU = 0, 0
	}
	r := begin(cfg)
	if !addrs.DNS.IsEmpty() {
		r.DNS = addrs.DNS
	}
	if cfg.Mode == netconf.Bridged {
		r.Interfaces = append(r.Interfaces, &current.Interface{
			Name: cfg.Bridge.Name, Mac: facts.BridgeMAC.String(), Mtu: facts.BridgeMTU,
		})
	}
	r.Interfaces = append(r.Interfaces, &current.Interface{Name: p.Pair.Host, Mac: p.Pair.MAC.String(), Mtu: facts.MTU})
	inside := len(r.Interfaces)
	for _, o := range p.Inside {
		switch o := o.(type) {
		case plan.Interface:
			r.Interfaces = append(r.Interfaces, &current.Interface{
				Name: o.Name, Mac: o.MAC.String(), Mtu: min(facts.MTU, cmp.Or(o.MTU, facts.MTU)), Sandbox: cfg.Attachment.Netns,
			})
		case plan.Address:
			r.IPs = append(r.IPs, &current.IPConfig{
				Interface: current.Int(inside), Address: ipNet(o.Prefix), Gateway: gateway(p, addrs, o.Prefix.Addr()),
			})
		case plan.Route:
			r.Routes = appendRoute(r.Routes, o)
		}
	}
	inOrder(r.IPs, addrs)
	for _, o := range p.Shared {
		if v, ok := o.(plan.VLANInterface); ok {
			r.Interfaces = append(r.Interfaces, &current.Interface{Name: v.Name, Mac: facts.BridgeMAC.String()})
		}
	}
	if !cfg.DNS.IsEmpty() {
		r.DNS = cfg.DNS
	}
	return r
}

// inOrder puts addresses in the order they were assigned in, which the kernel need not be told in. Those of others stay
// before them.
func inOrder(ips []*current.IPConfig, addrs plan.Addresses) {
	position := func(ip *current.IPConfig) int {
		return slices.IndexFunc(addrs.List, func(a plan.Assigned) bool {
			return ip.Address.IP.Equal(a.Prefix.Addr().AsSlice())
		})
	}
	slices.SortStableFunc(ips, func(a, b *current.IPConfig) int { return position(a) - position(b) })
}

// begin takes over what plugins earlier in the chain reported: a plugin that is given a result hands it on (CNI spec
// 1.1.0, section 4).
func begin(cfg *netconf.Config) *current.Result {
	r := &current.Result{CNIVersion: current.ImplementedSpecVersion}
	if cfg.Prev != nil {
		r.Interfaces = append(r.Interfaces, cfg.Prev.Interfaces...)
		r.IPs = append(r.IPs, cfg.Prev.IPs...)
		r.Routes = append(r.Routes, cfg.Prev.Routes...)
		r.DNS = cfg.Prev.DNS
	}
	return r
}

// tellsMTU reports whether a version of the specification has the key "mtu". The library leaves it in all it converts.
func tellsMTU(version string) bool {
	tells, err := libversion.GreaterThanOrEqualTo(version, "1.1.0")
	return tells && err == nil
}

// gateway is what another IPAM plugin named, because it is shown the result again at CHECK and may compare (CNI spec 1.1.0,
// section 4 "Plugin Delegation"): routes say by which neighbour the container reaches the world. Where it named none, and
// with the built-in IPAM, it is that neighbour, routed mode's own, or else the range's.
func gateway(p plan.Plan, addrs plan.Addresses, a netip.Addr) net.IP {
	var named netip.Addr
	for _, x := range addrs.List {
		if x.Prefix.Addr() == a {
			named = x.Gateway
		}
	}
	if named.IsValid() && !addrs.Leased {
		return named.AsSlice()
	}
	for _, o := range p.Inside {
		if n, ok := o.(plan.Neighbour); ok && n.Addr.Is4() == a.Is4() {
			return n.Addr.AsSlice()
		}
	}
	return named.AsSlice()
}

// appendRoute leaves out what follows from an address: routes that the kernel makes with it, and routes that are directly
// connected and prefer it as their source.
func appendRoute(routes []*types.Route, r plan.Route) []*types.Route {
	if r.Implied || !r.Via.IsValid() && r.Src.IsValid() {
		return routes
	}
	out := &types.Route{
		Dst: ipNet(r.Dst), GW: r.Via.AsSlice(), MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: int(r.Metric),
	}
	if r.Table != 0 {
		table := int(r.Table)
		out.Table = &table
	}
	if r.Scope != nil {
		scope := int(*r.Scope)
		out.Scope = &scope
	}
	return append(routes, out)
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Interface finds the attachment's own interface in a result, and its index; nil when the result does not list it.
func Interface(r *current.Result, a netconf.Attachment) (*current.Interface, int) {
	for i, x := range r.Interfaces {
		if x.Name == a.IfName && x.Sandbox != "" && (x.Sandbox == a.Netns || a.Netns == "") {
			return x, i
		}
	}
	return nil, -1
}

// Addresses reads what an address manager gave, or what an earlier ADD reported. With own >= 0 only the addresses of
// the interface with that index count: other plugins of the chain may have added theirs. Routes name no interface, so all
// of them count.
func Addresses(r *current.Result, own int) (plan.Addresses, error) {
	out := plan.Addresses{DNS: r.DNS}
	for i, x := range r.IPs {
		if x == nil {
			return out, fmt.Errorf("ips[%d]: null is not an address", i)
		}
		if own >= 0 && x.Interface != nil && *x.Interface != own {
			continue
		}
		p, ok := prefix(x.Address)
		if !ok {
			return out, fmt.Errorf("ips[%d].address: %q is not an address with a prefix length", i, x.Address.String())
		}
		gw, _ := netip.AddrFromSlice(x.Gateway)
		out.List = append(out.List, plan.Assigned{Prefix: p, Gateway: gw.Unmap()})
	}
	for i, x := range r.Routes {
		if x == nil {
			return out, fmt.Errorf("routes[%d]: null is not a route", i)
		}
		route, ok := route(x)
		if !ok {
			return out, fmt.Errorf("routes[%d].dst: %q is not a prefix", i, x.Dst.String())
		}
		out.Routes = append(out.Routes, route)
	}
	return out, nil
}

func route(x *types.Route) (netconf.Route, bool) {
	dst, ok := prefix(x.Dst)
	if !ok {
		return netconf.Route{}, false
	}
	out := netconf.Route{
		Dst: dst.Masked(), MTU: int64(x.MTU), AdvMSS: int64(x.AdvMSS), Priority: int64(x.Priority),
	}
	if via, ok := netip.AddrFromSlice(x.GW); ok {
		out.Via = via.Unmap()
	}
	if x.Table != nil {
		out.Table = int64(*x.Table)
	}
	if x.Scope != nil {
		scope := int64(*x.Scope)
		out.Scope = &scope
	}
	return out, true
}

// prefix reads an address of the library, whose IPv4 addresses come in four or in sixteen bytes.
func prefix(n net.IPNet) (netip.Prefix, bool) {
	ip, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}, false
	}
	ip = ip.Unmap()
	if ip.Is4() && bits == net.IPv6len*8 {
		ones, bits = ones-(net.IPv6len-net.IPv4len)*8, net.IPv4len*8
	}
	p := netip.PrefixFrom(ip, ones)
	return p, p.IsValid() && bits == ip.BitLen()
}
