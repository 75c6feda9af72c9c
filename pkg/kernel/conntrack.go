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
	ctaStatusMask       = 26 // CTA_STATUS_MASK, Linux 5.18
)

// Flags of a filter: which members of a tuple count (net/netfilter/nf_internals.h).
const (
	matchSource      = 1 << 0 // CTA_FILTER_F_CTA_IP_SRC
	matchDestination = 1 << 1 // CTA_FILTER_F_CTA_IP_DST
	matchProtocol    = 1 << 3 // CTA_FILTER_F_CTA_PROTO_NUM
	matchDstPort     = 1 << 5 // CTA_FILTER_F_CTA_PROTO_DST_PORT
)

// A UDP "connection" lives as long as packets keep coming, and keeps going to where it went when it began: to the host
// itself, or to a container that is gone. Nothing else than deleting it makes its packets be looked at anew.

// ForgetFlowsInto deletes the UDP connections to ports of the host that went to the host itself.
//
// A kernel that can deletes by a filter (6.18 can), in a walk over its table that took 0.3 ms where listing took 10
// (262,144 buckets). To a port on every address it cannot tell the host's addresses from others, so it deletes whatever is sent
// to that port anywhere and not translated: the next packet of a connection that is somebody else's makes it again as it
// was. What is translated is not touched.
func (n *Node) ForgetFlowsInto(ports []plan.HostPort) error {
	const few = 8 // beyond, one list of all is cheaper than a walk for each
	udp := map[netip.AddrPort]plan.HostPort{}
	for _, p := range ports {
		if p.Protocol == netconf.UDP {
			udp[p.Host] = p
		}
	}
	var failed []error
	listed := map[bool]bool{}
	for _, p := range udp {
		filter := flowFilter{is4: p.Host.Addr().Is4(), port: p.Host.Port()}
		if p.Wildcard() {
			filter.untranslated = true
		} else {
			filter.dst = p.Host.Addr()
		}
		if len(udp) > few {
			filter = flowFilter{is4: filter.is4}
			if listed[filter.is4] {
				continue
			}
			listed[filter.is4] = true
		}
		failed = append(failed, n.forget(filter, func(f flow) (bool, error) { return n.leadsElsewhere(f, udp) }))
	}
	return errors.Join(failed...)
}

// leadsElsewhere reports whether a connection goes to a port of the host, but not where the port leads.
func (n *Node) leadsElsewhere(f flow, ports map[netip.AddrPort]plan.HostPort) (bool, error) {
	if p, ok := ports[f.dst]; ok {
		return p.Pod != f.replier, nil
	}
	p, ok := ports[netip.AddrPortFrom(unspecified(f.dst.Addr()), f.dst.Port())]
	if !ok || p.Pod == f.replier {
		return false, nil
	}
	return n.isLocal(f.dst.Addr())
}

// ForgetFlowsOutOf deletes the UDP connections to containers that are gone, by the address that answered.
func (n *Node) ForgetFlowsOutOf(ports []plan.HostPort) error {
	done := map[netip.Addr]bool{}
	var failed []error
	for _, p := range ports {
		pod := p.Pod.Addr()
		if p.Protocol != netconf.UDP || !pod.IsValid() || done[pod] {
			continue
		}
		done[pod] = true
		failed = append(failed, n.forget(flowFilter{is4: pod.Is4(), replier: pod}, func(f flow) (bool, error) {
			return f.replier.Addr() == pod, nil
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

// flowFilter says which UDP connections are meant. The zero value of a member means any.
type flowFilter struct {
	is4          bool
	dst          netip.Addr // they were sent to
	port         uint16     // they were sent to
	replier      netip.Addr // who answers
	untranslated bool       // neither their source nor their destination is
}

// few reports whether a filter names what it is about, so that all that passes may be deleted.
func (f flowFilter) few() bool { return f.port != 0 || f.replier.IsValid() }

// flow is a connection: where it was sent to, and who answers.
type flow struct {
	dst, replier netip.AddrPort
	id           []byte // the attributes that name it to the kernel
}

// What can be asked of conntrack (enum cntl_msg_types in include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const (
	listFlows  = 1 // IPCTNL_MSG_CT_GET
	deleteFlow = 2 // IPCTNL_MSG_CT_DELETE
)

// forget deletes the UDP connections that pass a filter. A kernel that cannot delete by a filter refuses, because the
// tuple in it is not a whole one: then it lists them, and stale decides.
func (n *Node) forget(filter flowFilter, stale func(flow) (bool, error)) error {
	if err := n.host.dialNetfilter(); err != nil {
		return err
	}
	if filter.few() {
		err := n.ask(deleteFlow, filter)
		if err == nil || errors.Is(err, syscall.ENOENT) {
			return nil
		}
	}
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
		req := n.host.conntrack(deleteFlow, unix.NLM_F_ACK, filter.is4)
		req.AddRawData(f.id)
		if _, err := req.Execute(unix.NETLINK_NETFILTER, 0); err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("delete the connection to %s: %w", f.dst, err)
		}
	}
	return nil
}

func (n *Node) ask(kind int, filter flowFilter) error {
	req := n.host.conntrack(kind, unix.NLM_F_ACK, filter.is4)
	for _, attr := range filter.attributes() {
		req.AddData(attr)
	}
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

// flows lists what passes a filter, or more on a kernel that does not know all of it.
func (n *Node) flows(filter flowFilter) ([]flow, error) {
	req := n.host.conntrack(listFlows, unix.NLM_F_DUMP, filter.is4)
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
	if s.netfilter != nil {
		return nil
	}
	socket, err := nl.GetNetlinkSocketAt(s.space, netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open a netfilter socket: %w", err)
	}
	s.netfilter = &nl.SocketHandle{Socket: socket}
	return nil
}

func (s *side) conntrack(kind, flags int, is4 bool) *nl.NetlinkRequest {
	const subsystem = 1 // NFNL_SUBSYS_CTNETLINK
	req := nl.NewNetlinkRequest(subsystem<<8|kind, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: s.netfilter}
	fam := uint8(unix.AF_INET6)
	if is4 {
		fam = unix.AF_INET
	}
	req.AddData(&nl.Nfgenmsg{NfgenFamily: fam, Version: unix.NFNETLINK_V0})
	return req
}

func (f flowFilter) attributes() []nl.NetlinkRequestData {
	source, destination := nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	if f.is4 {
		source, destination = nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	}
	flags := nl.NewRtAttr(unix.NLA_F_NESTED|ctaFilter, nil)
	orig, origFlags := []*nl.RtAttr{protocolAttr(f.port)}, uint32(matchProtocol)
	if f.port != 0 {
		origFlags |= matchDstPort
	}
	if f.dst.IsValid() {
		orig, origFlags = append(orig, addressAttr(destination, f.dst)), origFlags|matchDestination
	}
	flags.AddRtAttr(ctaFilterOrigFlags, nl.Uint32Attr(origFlags))
	list := []nl.NetlinkRequestData{tupleAttr(nl.CTA_TUPLE_ORIG, orig...)}
	if f.replier.IsValid() {
		list = append(list, tupleAttr(nl.CTA_TUPLE_REPLY, addressAttr(source, f.replier), protocolAttr(0)))
		flags.AddRtAttr(ctaFilterReplyFlags, nl.Uint32Attr(matchSource|matchProtocol))
	}
	if f.untranslated {
		const srcNAT, dstNAT = 1 << 4, 1 << 5 // IPS_SRC_NAT, IPS_DST_NAT
		list = append(list,
			nl.NewRtAttr(nl.CTA_STATUS, make([]byte, 4)),
			nl.NewRtAttr(ctaStatusMask, binary.BigEndian.AppendUint32(nil, srcNAT|dstNAT)))
	}
	return append(list, flags)
}

func addressAttr(kind int, a netip.Addr) *nl.RtAttr {
	attr := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
	attr.AddRtAttr(kind, a.AsSlice())
	return attr
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
