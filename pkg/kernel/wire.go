package kernel

import (
	"cmp"
	"errors"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// attributes is where a request for a link keeps what it says of it: the request itself, or the peer nested in it.
type attributes func(kind int, value []byte)

// endAttributes makes an end as it is wanted. Left to itself the kernel makes as many queues as the machine may ever have
// processors, each an object of its own, and then uses one (veth_get_num_queues and veth_init_queues, drivers/net/veth.c).
func endAttributes(add attributes, e plan.End) {
	add(unix.IFLA_NUM_TX_QUEUES, nl.Uint32Attr(uint32(cmp.Or(e.Queues.Tx, 1))))
	add(unix.IFLA_NUM_RX_QUEUES, nl.Uint32Attr(uint32(cmp.Or(e.Queues.Rx, 1))))
	sizeAttributes(add, e.Sizes)
}

// sizeAttributes come in the order in which the kernel reads them: the size for all sets the one for IPv4 too, unless it
// is one of BIG TCP (netif_set_gso_max_size, net/core/dev.h).
func sizeAttributes(add attributes, s netconf.Sizes) {
	for _, a := range []struct {
		kind int
		size uint32
	}{
		{unix.IFLA_GSO_MAX_SIZE, s.GSO},
		{unix.IFLA_GRO_MAX_SIZE, s.GRO},
		{unix.IFLA_GSO_IPV4_MAX_SIZE, s.GSO4},
		{unix.IFLA_GRO_IPV4_MAX_SIZE, s.GRO4},
	} {
		if a.size != 0 {
			add(a.kind, nl.Uint32Attr(a.size))
		}
	}
}

// sizesOf are those of an interface, 0 where the kernel does not know of any.
func sizesOf(a *netlink.LinkAttrs) netconf.Sizes {
	return netconf.Sizes{GSO: a.GSOMaxSize, GRO: a.GROMaxSize, GSO4: a.GSOIPv4MaxSize, GRO4: a.GROIPv4MaxSize}
}

// knowsSizes refuses sizes that this kernel has not. It must be asked before: the kernel ignores attributes it does not
// know, and before Linux 5.19 took any size for a new interface, and then put packets together that it could not take
// apart again. Whatever is known is told of every interface.
func (n *Node) knowsSizes(s netconf.Sizes) error {
	if s == (netconf.Sizes{}) {
		return nil
	}
	l, err := n.host.linkByName("lo")
	if err != nil {
		return err
	}
	a := l.Attrs()
	switch {
	case a.GSOIPv4MaxSize == 0 && s.GSO4 != 0:
		return cnierr.New(cnierr.FeatureMissing, "gsoIPv4MaxSize: the kernel has no size for IPv4 alone: want Linux 6.3 or later")
	case a.GROIPv4MaxSize == 0 && s.GRO4 != 0:
		return cnierr.New(cnierr.FeatureMissing, "groIPv4MaxSize: the kernel has no size for IPv4 alone: want Linux 6.3 or later")
	case a.GROMaxSize == 0 && s.GRO != 0:
		return cnierr.New(cnierr.FeatureMissing, "groMaxSize: the kernel has no such size: want Linux 5.19 or later")
	case a.TSOMaxSize == 0 && s.GSO > netconf.LongestPlain:
		return cnierr.New(cnierr.FeatureMissing, "gsoMaxSize: the kernel takes no more than 65536: want Linux 5.19 or later")
	}
	return nil
}

// applyLongPackets raises what is lower, and leaves what is higher to whoever wants it so.
func (n *Node) applyLongPackets(p plan.LongPackets) (bool, error) {
	l, err := n.host.linkByName(p.Link)
	if err != nil {
		return false, err
	}
	was := sizesOf(l.Attrs())
	lacking := beyond(p.Sizes, was)
	if lacking == (netconf.Sizes{}) {
		return false, nil
	}
	err = n.resize(l.Attrs().Index, lacking)
	if errors.Is(err, unix.EINVAL) { // br_set_gso_limits, net/bridge/br_if.c
		err = cnierr.Wrap(cnierr.Conflict, err, "gsoMaxSize, gsoIPv4MaxSize: more than the %d bytes that a port of bridge %q takes: "+
			"want at most that, or that port off the bridge", l.Attrs().TSOMaxSize, p.Link)
	}
	if err != nil {
		return false, err
	}
	n.shorter[p.Link] = was
	return true, nil
}

func (n *Node) observeLongPackets(p plan.LongPackets) (plan.Object, error) {
	l, err := n.host.linkByName(p.Link)
	if err != nil {
		return nil, err
	}
	return plan.LongPackets{Link: p.Link, Sizes: least(p.Sizes, sizesOf(l.Attrs()))}, nil
}

func (n *Node) undoLongPackets(p plan.LongPackets) error {
	was, changed := n.shorter[p.Link]
	if !changed {
		return nil
	}
	index, err := n.host.indexOf(p.Link)
	if err != nil {
		return err
	}
	return n.resize(index, was)
}

func (n *Node) resize(index int, s netconf.Sizes) error {
	req, _ := n.host.linkRequest(unix.RTM_NEWLINK, 0, index)
	sizeAttributes(func(kind int, value []byte) { req.AddData(nl.NewRtAttr(kind, value)) }, s)
	return n.host.send(req)
}

// beyond keeps of the wanted sizes those that are larger than what there is.
func beyond(want, have netconf.Sizes) netconf.Sizes {
	for _, s := range []struct {
		want *uint32
		have uint32
	}{{&want.GSO, have.GSO}, {&want.GRO, have.GRO}, {&want.GSO4, have.GSO4}, {&want.GRO4, have.GRO4}} {
		if *s.want <= s.have {
			*s.want = 0
		}
	}
	return want
}

// least shows what there is as the wanted where it is more.
func least(want, have netconf.Sizes) netconf.Sizes {
	return netconf.Sizes{
		GSO: atMost(want.GSO, have.GSO), GRO: atMost(want.GRO, have.GRO),
		GSO4: atMost(want.GSO4, have.GSO4), GRO4: atMost(want.GRO4, have.GRO4),
	}
}

func atMost(want, have uint32) uint32 {
	if want == 0 {
		return have
	}
	return min(want, have)
}

// observeEnd looks at an end as it was made. The kernel never forgets how many queues there are, but uses as many as it
// was told last, and asking for that is a call of its own.
func (s *side) observeEnd(want plan.End, a *netlink.LinkAttrs) (plan.End, error) {
	got := plan.End{Sizes: sizesOf(a)}
	if want.Queues == (netconf.Queues{}) {
		return got, nil
	}
	var err error
	got.Queues, err = s.channels(a.Name)
	return got, err
}

// applyWireSettings writes what is named, and the qdisc last: it begins to work with the first packet.
func (n *Node) applyWireSettings(w plan.WireSettings) (bool, error) {
	if len(w.Offloads) > 0 {
		if err := n.side(w.Place).setFeatures(w.Link, w.Offloads); err != nil {
			return false, err
		}
	}
	if len(w.RPS) > 0 || len(w.XPS) > 0 {
		if err := n.steer(w); err != nil {
			return false, err
		}
	}
	if w.Qdisc == "" {
		return true, nil
	}
	return true, n.setQdisc(w)
}

func (n *Node) setQdisc(w plan.WireSettings) error {
	side := n.side(w.Place)
	index, err := side.indexOf(w.Link)
	if err != nil {
		return err
	}
	req := side.discipline(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, nl.TcMsg{
		Ifindex: int32(index), Parent: tcRoot, Handle: handleOne,
	})
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(w.Qdisc)))
	return lacking(side.send(req), "qdisc: this kernel has no "+w.Qdisc+": want the kernel module sch_"+w.Qdisc)
}

func (n *Node) observeWireSettings(w plan.WireSettings) (plan.Object, error) {
	side := n.side(w.Place)
	got := plan.WireSettings{Place: w.Place, Link: w.Link}
	var err error
	if got.Qdisc, err = side.rootQdisc(w.Link); err != nil {
		return nil, err
	}
	if got.Offloads, err = side.features(w.Link, w.Offloads); err != nil {
		return nil, err
	}
	if len(w.RPS) > 0 || len(w.XPS) > 0 {
		got.RPS, got.XPS, err = n.steered(w)
	}
	return got, err
}

// rootQdisc is the kind that the interface shows (IFLA_QDISC): unlike a question to tc it has an answer also where the
// queueing discipline is the kernel's own choice.
func (s *side) rootQdisc(link string) (kind string, err error) {
	attrs, err := s.look(link)
	walk(attrs, unix.IFLA_QDISC, func(b []byte) { kind = nl.BytesToString(b) })
	return kind, err
}

// ProbeWire reports whether the kernel has what a network wants of its wires. It fails with FeatureMissing.
func (n *Node) ProbeWire(w netconf.Wire) error {
	if err := n.knowsSizes(w.Sizes); err != nil {
		return err
	}
	if w.Qdisc == "" || w.Qdisc == "mq" { // mq belongs to several queues, which lo has not, and is always there
		return nil
	}
	return try("queueing disciplines", plan.WireSettings{Link: "lo", Qdisc: w.Qdisc})
}
