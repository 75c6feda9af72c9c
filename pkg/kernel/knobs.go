package kernel

import (
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/plan"
)

// applyKnobs sets what the plan names, in one request.
func (n *Node) applyKnobs(k plan.Knobs) (bool, error) {
	index, err := n.container.indexOf(k.Link)
	if err != nil {
		return false, err
	}
	req, msg := n.container.linkRequest(unix.RTM_NEWLINK, 0, index)
	if k.Promisc {
		msg.Flags, msg.Change = unix.IFF_PROMISC, unix.IFF_PROMISC
	}
	if k.AllMulti != nil {
		msg.Change |= unix.IFF_ALLMULTI
		if *k.AllMulti {
			msg.Flags |= unix.IFF_ALLMULTI
		}
	}
	if k.TxQLen != nil {
		req.AddData(nl.NewRtAttr(unix.IFLA_TXQLEN, nl.Uint32Attr(uint32(*k.TxQLen))))
	}
	return true, n.container.send(req)
}

// observeKnobs reads the flags as they were set: the kernel does not count what packet sockets ask for meanwhile
// (dev_get_flags, net/core/dev.c).
func (n *Node) observeKnobs(k plan.Knobs) (plan.Object, error) {
	l, err := n.container.linkByName(k.Link)
	if err != nil {
		return nil, err
	}
	a := l.Attrs()
	allMulti := a.RawFlags&unix.IFF_ALLMULTI != 0
	return plan.Knobs{Link: k.Link, Promisc: a.RawFlags&unix.IFF_PROMISC != 0, AllMulti: &allMulti, TxQLen: &a.TxQLen}, nil
}
