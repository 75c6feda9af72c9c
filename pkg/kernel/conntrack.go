package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// What include/uapi/linux/netfilter/nfnetlink_conntrack.h has and the library has not.
const (
	ctaFilter           = 25 // CTA_FILTER, Linux 5.8; older kernels ignore it
	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2
)

// Flags of a filter: which members of a tuple count (net/netfilter/nf_internals.h).
const (
	matchSource   = 1 << 0 // CTA_FILTER_F_CTA_IP_SRC
	matchProtocol = 1 << 3 // CTA_FILTER_F_CTA_PROTO_NUM
	matchDstPort  = 1 << 5 // CTA_FILTER_F_CTA_PROTO_DST_PORT
)

// A UDP "connection" lives as long as packets keep coming, and keeps going to where it went when it began: to the host
// itself, or to a container that is gone. Nothing else than deleting it makes its packets be looked at anew.

// ForgetFlowsInto deletes the UDP connections to ports of the host that do not lead where the ports lead now.
func (n *Node) ForgetFlowsInto(ports []plan.HostPort) error {
	const few = 8 // beyond, one list of all is cheaper than a list for each
	udp := map[netip.AddrPort]plan.HostPort{}
	for _, p := range ports {
		if p.Protocol == netconf.UDP {
			udp[p.Host] = p
		}
	}
	var failed []error
	asked := map[flowFilter]bool{}
	for _, p := range udp {
		filter := flowFilter{is4: p.Host.Addr().Is4(), port: p.Host.Port()}
		if len(udp) > few {
			filter.port = 0
		}
		if asked[filter] {
			continue
		}
		asked[filter] = true
		failed = append(failed, n.forget(filter, func(f flow) (bool, error) {
			for _, host := range []netip.Addr{f.dst.Addr(), unspecified(f.dst.Addr())} {
				now, ok := udp[netip.AddrPortFrom(host, f.dst.Port())]
				if !ok || now.Pod == f.replier {
					continue
				}
				if !now.Wildcard() {
					return true, nil
				}
				return n.isLocal(f.dst.Addr())
			}
			return false, nil
		}))
	}
	return errors.Join(failed...)
}

// ForgetFlowsOutOf deletes the UDP connections that ports have led to containers that are gone.
func (n *Node) ForgetFlowsOutOf(ports []plan.HostPort) error {
	asked := map[flowFilter]bool{}
	var failed []error
	for _, p := range ports {
		filter := flowFilter{is4: p.Pod.Addr().Is4(), replier: p.Pod.Addr()}
		if p.Protocol != netconf.UDP || !p.Pod.IsValid() || asked[filter] {
			continue
		}
		asked[filter] = true
		failed = append(failed, n.forget(filter, func(f flow) (bool, error) {
			return f.replier.Addr() == filter.replier && f.dst != f.replier, nil
		}))
	}
	return errors.Join(failed...)
}

func unspecified(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// isLocal asks the kernel whether an address is the host's.
func (n *Node) isLocal(a netip.Addr) (bool, error) {
	h, err := n.host.handle()
	if err != nil {
		return false, err
	}
	routes, err := h.RouteGet(a.AsSlice())
	if err != nil {
		return false, nil //nolint:nilerr // an address without a route is not local
	}
	return len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL, nil
}

// flowFilter says which UDP connections the kernel lists.
type flowFilter struct {
	is4     bool
	port    uint16     // they were sent to, 0: any
	replier netip.Addr // who answers, invalid: whoever
}

// flow is a connection: where it was sent to, and who answers.
type flow struct {
	dst, replier netip.AddrPort
	id           []byte // the attributes that name it to the kernel
}

// forget deletes what stale says of the UDP connections that pass a filter. The kernel walks its table and returns those
// alone; what an older kernel returns besides, stale sorts out.
func (n *Node) forget(filter flowFilter, stale func(flow) (bool, error)) error {
	list, err := n.flows(filter)
	if err != nil {
		return err
	}
	for _, f := range list {
		gone, err := stale(f)
		if err != nil {
			return err
		}
		if !gone {
			continue
		}
		const remove = 2 // IPCTNL_MSG_CT_DELETE
		req := n.host.conntrack(remove, unix.NLM_F_ACK, filter.is4)
		req.AddRawData(f.id)
		if _, err := req.Execute(unix.NETLINK_NETFILTER, 0); err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("delete the connection to %s: %w", f.dst, err)
		}
	}
	return nil
}

func (n *Node) flows(filter flowFilter) ([]flow, error) {
	if err := n.host.dialNetfilter(); err != nil {
		return nil, err
	}
	const list = 1 // IPCTNL_MSG_CT_GET
	req := n.host.conntrack(list, unix.NLM_F_DUMP, filter.is4)
	for _, attr := range filter.attributes() {
		req.AddData(attr)
	}
	answers, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return nil, fmt.Errorf("list UDP connections: %w", err)
	}
	var flows []flow
	for _, m := range answers {
		if f, ok := decodeFlow(m); ok {
			flows = append(flows, f)
		}
	}
	return flows, nil
}

// dialNetfilter opens the socket at its first use: most calls have none.
func (s *side) dialNetfilter() error {
	if s.sockets[unix.NETLINK_NETFILTER] != nil {
		return nil
	}
	socket, err := nl.GetNetlinkSocketAt(s.space, netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open a netfilter socket: %w", err)
	}
	s.sockets[unix.NETLINK_NETFILTER] = &nl.SocketHandle{Socket: socket}
	return nil
}

func (s *side) conntrack(kind, flags int, is4 bool) *nl.NetlinkRequest {
	const subsystem = 1 // NFNL_SUBSYS_CTNETLINK
	req := nl.NewNetlinkRequest(subsystem<<8|kind, flags)
	req.Sockets = s.sockets
	fam := uint8(unix.AF_INET6)
	if is4 {
		fam = unix.AF_INET
	}
	req.AddData(&nl.Nfgenmsg{NfgenFamily: fam, Version: unix.NFNETLINK_V0})
	return req
}

func (f flowFilter) attributes() []nl.NetlinkRequestData {
	orig, origFlags := protocolAttr(f.port), uint32(matchProtocol)
	if f.port != 0 {
		origFlags |= matchDstPort
	}
	list := []nl.NetlinkRequestData{tupleAttr(nl.CTA_TUPLE_ORIG, orig)}
	flags := nl.NewRtAttr(unix.NLA_F_NESTED|ctaFilter, nil)
	flags.AddRtAttr(ctaFilterOrigFlags, nl.Uint32Attr(origFlags))
	if f.replier.IsValid() {
		kind := nl.CTA_IP_V6_SRC
		if f.is4 {
			kind = nl.CTA_IP_V4_SRC
		}
		addr := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
		addr.AddRtAttr(kind, f.replier.AsSlice())
		list = append(list, tupleAttr(nl.CTA_TUPLE_REPLY, addr, protocolAttr(0)))
		flags.AddRtAttr(ctaFilterReplyFlags, nl.Uint32Attr(matchSource|matchProtocol))
	}
	return append(list, flags)
}

func tupleAttr(kind int, parts ...*nl.RtAttr) *nl.RtAttr {
	t := nl.NewRtAttr(unix.NLA_F_NESTED|kind, nil)
	for _, p := range parts {
		t.AddChild(p)
	}
	return t
}

func protocolAttr(port uint16) *nl.RtAttr {
	p := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
	p.AddRtAttr(nl.CTA_PROTO_NUM, []byte{byte(netconf.UDP)})
	if port != 0 {
		p.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, port))
	}
	return p
}

// decodeFlow reads a UDP connection. What names it goes back to the kernel as it came.
func decodeFlow(m []byte) (f flow, ok bool) {
	const header = 4 // sizeof(struct nfgenmsg)
	if len(m) < header {
		return f, false
	}
	attrs, err := nl.ParseRouteAttr(m[header:])
	if err != nil {
		return f, false
	}
	for _, a := range attrs {
		switch kind := int(a.Attr.Type & nl.NLA_TYPE_MASK); kind {
		case nl.CTA_TUPLE_ORIG:
			_, f.dst, ok = decodeTuple(a.Value)
		case nl.CTA_TUPLE_REPLY:
			f.replier, _, _ = decodeTuple(a.Value)
		case nl.CTA_ID, nl.CTA_ZONE:
		default:
			continue
		}
		if int(a.Attr.Type&nl.NLA_TYPE_MASK) != nl.CTA_TUPLE_REPLY {
			f.id = append(f.id, nl.NewRtAttr(int(a.Attr.Type), a.Value).Serialize()...)
		}
	}
	return f, ok
}

// decodeTuple reads source and destination. It is false for what is not UDP.
func decodeTuple(b []byte) (src, dst netip.AddrPort, udp bool) {
	var from, to netip.Addr
	var sport, dport uint16
	visitAll(b, func(kind int, value []byte) {
		visitAll(value, func(inner int, v []byte) {
			switch {
			case kind == nl.CTA_TUPLE_IP && (inner == nl.CTA_IP_V4_SRC || inner == nl.CTA_IP_V6_SRC):
				from, _ = netip.AddrFromSlice(v)
			case kind == nl.CTA_TUPLE_IP && (inner == nl.CTA_IP_V4_DST || inner == nl.CTA_IP_V6_DST):
				to, _ = netip.AddrFromSlice(v)
			case kind == nl.CTA_TUPLE_PROTO && inner == nl.CTA_PROTO_NUM && len(v) > 0:
				udp = v[0] == byte(netconf.UDP)
			case kind == nl.CTA_TUPLE_PROTO && inner == nl.CTA_PROTO_SRC_PORT && len(v) > 1:
				sport = binary.BigEndian.Uint16(v)
			case kind == nl.CTA_TUPLE_PROTO && inner == nl.CTA_PROTO_DST_PORT && len(v) > 1:
				dport = binary.BigEndian.Uint16(v)
			}
		})
	})
	return netip.AddrPortFrom(from, sport), netip.AddrPortFrom(to, dport), udp
}

// visitAll calls visit for each attribute.
func visitAll(b []byte, visit func(kind int, value []byte)) {
	attrs, err := nl.ParseRouteAttr(b)
	if err != nil {
		return
	}
	for _, a := range attrs {
		visit(int(a.Attr.Type&nl.NLA_TYPE_MASK), a.Value)
	}
}
