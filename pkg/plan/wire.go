package plan

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/veth-cni/veth/pkg/netconf"
)

// Ends are what the two ends of a pair are made with, from the first moment and without another request.
type Ends struct{ Host, Peer End }

// End is what an end of a pair is made with.
type End struct {
	Queues netconf.Queues
	Sizes  netconf.Sizes
}

func (e End) fields(prefix string) []Field {
	return append([]Field{
		{prefix + "txqueues", number(e.Queues.Tx)},
		{prefix + "rxqueues", number(e.Queues.Rx)},
	}, sizeFields(prefix, e.Sizes)...)
}

// sizeFields have the names of ip-link(8).
func sizeFields(prefix string, s netconf.Sizes) []Field {
	return []Field{
		{prefix + "gso_max_size", number(int(s.GSO))},
		{prefix + "gro_max_size", number(int(s.GRO))},
		{prefix + "gso_ipv4_max_size", number(int(s.GSO4))},
		{prefix + "gro_ipv4_max_size", number(int(s.GRO4))},
	}
}

// WireSettings are how an end of the pair treats the packets that pass it. They die with the pair.
type WireSettings struct {
	Place    Place
	Link     string
	Offloads []netconf.Offload // features that are named; the others stay as they are
	RPS      netconf.CPUs      // of every receive queue; empty leaves them as they are
	XPS      []netconf.CPUs    // of each transmit queue; empty leaves them as they are
	Qdisc    string            // empty leaves the root queueing discipline as it is
}

// ID implements Object.
func (w WireSettings) ID() string { return w.Place.String() + " wire settings " + w.Link }

// Fields implements Object.
func (w WireSettings) Fields() []Field {
	offloads := make([]string, len(w.Offloads))
	for i, o := range w.Offloads {
		offloads[i] = o.Feature + " " + onOff(o.On)
	}
	xps := make([]string, len(w.XPS))
	for i, cpus := range w.XPS {
		xps[i] = strconv.Itoa(i) + ":" + cpus.String()
	}
	return []Field{
		{"offloads", strings.Join(offloads, ", ")},
		{"rps", w.RPS.String()},
		{"xps", strings.Join(xps, " ")},
		{"qdisc", w.Qdisc},
	}
}

// LongPackets let a bridge take packets at least as long from the host itself, as its ports take from each other. They come
// after the first port: until then the kernel holds a bridge to 65536 bytes, from then on to what all ports can take.
type LongPackets struct {
	Link  string
	Sizes netconf.Sizes
}

// ID implements Object.
func (l LongPackets) ID() string { return "host packet sizes of " + l.Link }

// Fields implements Object.
func (l LongPackets) Fields() []Field { return sizeFields("", l.Sizes) }

// ends leaves out sizes where a rate is enforced: packets beyond a bucket's depth are taken apart there one by one.
func ends(cfg *netconf.Config) Ends {
	w := cfg.Wire
	e := Ends{Host: End{w.Queues, w.Sizes}, Peer: End{w.Queues, w.Sizes}}
	if cfg.Bandwidth.Ingress.Rate != 0 {
		e.Host.Sizes.GSO, e.Host.Sizes.GSO4 = 0, 0
	}
	if cfg.Bandwidth.Egress.Rate != 0 {
		e.Peer.Sizes.GSO, e.Peer.Sizes.GSO4 = 0, 0
	}
	return e
}

// jumboHeader is the hop-by-hop header, in bytes, that a packet of IPv6 longer than 64K carries (RFC 2675; struct
// hop_jumbo_hdr of include/net/ipv6.h).
const jumboHeader = 8

// forwardable is the MTU of a container's route, in bytes, 0 for the interface's. A host that forwards a long packet of
// IPv6 counts the header which says how long it is to each of the segments, none of which will have it, and refuses it as
// too big (ip6_pkt_too_big, net/ipv6/ip6_output.c). So segments on their way to a gateway leave room for it.
func (b *builder) forwardable(r Route) int {
	if b.plan.Pair.Ends.Peer.Sizes.GSO <= netconf.LongestPlain || !r.Via.IsValid() || r.Dst.Addr().Is4() {
		return r.MTU
	}
	const least = 1280 // RFC 8200, section 5
	most := max(cmp.Or(b.cfg.ContainerMTU(), b.cfg.Wire.MTU, vethMTU)-jumboHeader, least)
	return min(cmp.Or(r.MTU, most), most)
}

// wire comes before an end is up inside: a qdisc is changed without a wait then, and GRO starts with the interface. A
// shaper is the root qdisc of its end.
func (b *builder) wire() {
	w := b.cfg.Wire
	if b.cfg.Mode == netconf.Bridged && w.Sizes != (netconf.Sizes{}) {
		b.plan.Shared = append(b.plan.Shared, LongPackets{Link: b.cfg.Bridge.Name, Sizes: w.Sizes})
	}
	if len(w.Offloads) == 0 && len(w.RPS) == 0 && len(w.XPS) == 0 && w.Qdisc == "" {
		return
	}
	host := WireSettings{Place: Host, Link: b.plan.Pair.Host, Offloads: w.Offloads, RPS: w.RPS, XPS: w.XPS, Qdisc: w.Qdisc}
	inside := host
	inside.Place, inside.Link = Container, b.plan.Pair.Peer
	if b.cfg.Bandwidth.Ingress.Rate != 0 {
		host.Qdisc = ""
	}
	if b.cfg.Bandwidth.Egress.Rate != 0 {
		inside.Qdisc = ""
	}
	b.plan.Guards = append(b.plan.Guards, host)
	b.plan.Inside = append(b.plan.Inside, inside)
}
