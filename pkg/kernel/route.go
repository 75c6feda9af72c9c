package kernel

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// routeErrand adds a route and never replaces one. On the host's side a route to the same destination belongs to somebody
// else: EEXIST is an error there. In the container the kernel may have made the very route with the address.
func (n *Node) routeErrand(r plan.Route) (errand, error) {
	if r.Implied {
		return errand{}, nil
	}
	s := n.side(r.Place)
	index, err := s.indexOf(r.Link)
	if err != nil {
		return errand{}, err
	}
	if r.SrcIfNone.IsValid() && !r.Src.IsValid() && !s.hasSource(r.Dst.Addr()) {
		r.Src = r.SrcIfNone
	}
	e := errand{side: s, req: s.routeRequest(r, index)}
	if r.Place == plan.Container {
		e.judge = func(err error) (bool, error) {
			if !errors.Is(err, syscall.EEXIST) {
				return err == nil, outOfReach(r, err)
			}
			if len(n.differences(r)) == 0 {
				return false, nil
			}
			return false, occupied(r, err)
		}
	}
	return e, nil
}

// outOfReach names the gateway that the kernel refuses a route for: it has to be a neighbour (fib_check_nh_v4_gw of
// net/ipv4/fib_semantics.c, ip6_route_check_nh of net/ipv6/route.c).
func outOfReach(r plan.Route, err error) error {
	if !r.Via.IsValid() || !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.EHOSTUNREACH) {
		return err
	}
	return cnierr.Wrap(cnierr.KernelRefused, err, "its gw, %s, is in no subnet that the container has on %s: "+
		"want the address of a router there, or gw left out", r.Via, r.Link)
}

// occupied says how two networks of one container get along. The kernel takes one route of a destination, table and
// metric.
func occupied(r plan.Route, err error) error {
	want := "table for one of the two networks"
	if r.Dst.Bits() == 0 {
		want = "isDefaultGateway: false, table or defaultRouteMetric for one of the two networks"
	}
	return cnierr.Wrap(cnierr.Conflict, err, "the container has another such route: want %s", want)
}

func (s *side) routeRequest(r plan.Route, index int) *nl.NetlinkRequest {
	req := s.request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	msg := nl.NewRtMsg()
	msg.Family = uint8(family(r.Dst.Addr()))
	msg.Dst_len = uint8(r.Dst.Bits())
	msg.Protocol, msg.Scope = unix.RTPROT_BOOT, routeScope(r)
	req.AddData(msg)
	attr := func(kind int, value []byte) { req.AddData(nl.NewRtAttr(kind, value)) }
	if r.Dst.Bits() > 0 {
		attr(unix.RTA_DST, r.Dst.Addr().AsSlice())
	}
	if r.Via.IsValid() {
		attr(unix.RTA_GATEWAY, r.Via.AsSlice())
	}
	if r.OnLink && r.Via.IsValid() {
		msg.Flags |= unix.RTNH_F_ONLINK
	}
	if r.Src.IsValid() {
		attr(unix.RTA_PREFSRC, r.Src.AsSlice())
	}
	if r.Metric > 0 {
		attr(unix.RTA_PRIORITY, nl.Uint32Attr(r.Metric))
	}
	if r.Table > 0 {
		msg.Table = unix.RT_TABLE_UNSPEC
		attr(unix.RTA_TABLE, nl.Uint32Attr(r.Table))
	}
	metrics := nl.NewRtAttr(unix.RTA_METRICS, nil)
	if r.MTU > 0 {
		metrics.AddRtAttr(unix.RTAX_MTU, nl.Uint32Attr(uint32(r.MTU)))
	}
	if r.AdvMSS > 0 {
		metrics.AddRtAttr(unix.RTAX_ADVMSS, nl.Uint32Attr(uint32(r.AdvMSS)))
	}
	if r.MTU > 0 || r.AdvMSS > 0 {
		req.AddData(metrics)
	}
	attr(unix.RTA_OIF, nl.Uint32Attr(uint32(index)))
	return req
}

// routeScope is what ip-route(8) would choose: link for what is directly connected, universe for what has a gateway.
// IPv6 has no scopes and ignores it.
func routeScope(r plan.Route) uint8 {
	if r.Scope != nil {
		return *r.Scope
	}
	if r.Via.IsValid() {
		return unix.RT_SCOPE_UNIVERSE
	}
	return unix.RT_SCOPE_LINK
}

// hasSource reports whether the host would find a source address of its own for packets to a. One that has a default
// route has one. Naming it in each route would do harm: the kernel drops routes whose source address goes away.
func (s *side) hasSource(a netip.Addr) bool {
	req := s.request(unix.RTM_GETROUTE, 0)
	msg := &nl.RtMsg{}
	msg.Family = uint8(family(a))
	msg.Dst_len = uint8(a.BitLen())
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, a.AsSlice()))
	answers, err := s.ask(req)
	if err != nil {
		return false
	}
	for _, m := range answers {
		found := false
		walk(m[unix.SizeofRtMsg:], unix.RTA_PREFSRC, func([]byte) { found = true })
		if found {
			return true
		}
	}
	return false
}

func (n *Node) observeRoute(r plan.Route) (plan.Object, error) {
	s := n.side(r.Place)
	h, err := s.handle()
	if err != nil {
		return nil, err
	}
	filter, mask, err := s.routesLike(r)
	if err != nil {
		return nil, err
	}
	list, err := whole(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(family(r.Dst.Addr()), filter, mask)
	})
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	for _, x := range list {
		if got := seenRoute(r, x); got.ID() == r.ID() {
			if l, err := h.LinkByIndex(x.LinkIndex); err == nil {
				got.Link = l.Attrs().Name
			}
			return got, nil
		}
	}
	return nil, syscall.ESRCH
}

// routesLike says where to look for a route: in its table, or, if an address of a link implies it, in all routes of the
// link. Two networks of a container may share a subnet, and each address has a route of its own then.
func (s *side) routesLike(r plan.Route) (*netlink.Route, uint64, error) {
	if !r.Implied {
		return &netlink.Route{Table: int(cmp.Or(r.Table, unix.RT_TABLE_MAIN))}, netlink.RT_FILTER_TABLE, nil
	}
	index, err := s.indexOf(r.Link)
	return &netlink.Route{Table: unix.RT_TABLE_UNSPEC, LinkIndex: index}, netlink.RT_FILTER_TABLE | netlink.RT_FILTER_OIF, err
}

// seenRoute is a route of the kernel in the plan's terms. A metric that was not asked for is the kernel's own: in IPv6,
// where a route cannot have none, 1024, and 256 for one that an address implies.
func seenRoute(want plan.Route, x netlink.Route) plan.Route {
	got := plan.Route{
		Place: want.Place, Dst: seenPrefix(want.Dst, x.Dst), Table: want.Table,
		Metric: uint32(x.Priority), MTU: x.MTU, AdvMSS: x.AdvMSS,
	}
	own := map[bool]int{false: defaultMetric6, true: impliedMetric6}[want.Implied]
	if want.Metric == 0 && want.Dst.Addr().Is6() && x.Priority == own {
		got.Metric = 0
	}
	if want.Scope != nil {
		scope := uint8(x.Scope)
		if want.Dst.Addr().Is6() {
			scope = *want.Scope // IPv6 has no scopes
		}
		got.Scope = &scope
	}
	if via, ok := netip.AddrFromSlice(x.Gw); ok {
		got.Via = via.Unmap()
	}
	if src, ok := netip.AddrFromSlice(x.Src); ok {
		got.Src = src.Unmap()
	}
	return got
}

const (
	defaultMetric6 = 1024 // IP6_RT_PRIO_USER
	impliedMetric6 = 256  // IP6_RT_PRIO_ADDRCONF
)

func seenPrefix(want netip.Prefix, dst *net.IPNet) netip.Prefix {
	if dst == nil {
		if want.Addr().Is4() {
			return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	ip, _ := netip.AddrFromSlice(dst.IP)
	bits, _ := dst.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits)
}
