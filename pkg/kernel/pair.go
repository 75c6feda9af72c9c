package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/plan"
)

// applyPair creates both ends with one request. The peer is born in the container's namespace under its final name:
// moving an interface costs the kernel an rcu_barrier under the RTNL lock, and here nothing is moved or renamed.
// Both names are unique in their namespaces, so two calls for one attachment cannot both succeed.
func (n *Node) applyPair(p plan.Pair) (bool, error) {
	master := 0
	if p.Master != "" {
		index, err := n.host.indexOf(p.Master)
		if err != nil {
			return false, err
		}
		master = index
	}
	if err := n.knowsSizes(p.Ends.Host.Sizes); err != nil {
		return false, err
	}
	if err := n.createPair(p, master); err != nil {
		return false, n.explainPair(p, err)
	}
	return n.labelPair(p, master)
}

// labelPair writes whose the pair is and, along with that, makes sure of the bridge that the host end has joined. When that
// is gone it takes the pair back.
func (n *Node) labelPair(p plan.Pair, master int) (created bool, err error) {
	reqs := []*nl.NetlinkRequest{n.host.labelRequest(n.host.known[p.Host].Index, p.Alias)}
	if master != 0 {
		reqs = append(reqs, n.host.askForLink(master))
	}
	answers, err := n.host.socket.exchange(reqs...)
	if err != nil {
		return true, err
	}
	if err := answers[0].err; err != nil {
		return true, fmt.Errorf("write the alias: %w", err)
	}
	if master == 0 {
		return true, nil
	}
	err = n.host.keep(master, answers[1])
	if !missing(err) {
		return true, err
	}
	n.forgetBridge(p.Master)
	if left := present(n.host.deleteLink(p.Host)); left != nil {
		return true, left
	}
	return false, errors.Join(ErrBridgeGone, err)
}

// createPair asks the kernel to echo what it made, which gives both indexes without another request. The echo alone says
// little about a pair that is to join a bridge: the kernel echoes first, then sets the master, and takes the pair back
// when that fails (rtnl_newlink_create).
func (n *Node) createPair(p plan.Pair, master int) error {
	req, msg := n.host.linkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ECHO, 0)
	msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.Host)))
	req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, p.MAC))
	if p.Group > 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(p.Group)))
	}
	if master > 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(master))))
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.Peer))
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(n.netns.fd)))
	if p.MTU > 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(p.MTU))))
	}
	if mtu := cmp.Or(p.PeerMTU, p.MTU); mtu > 0 {
		peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu)))
	}
	endAttributes(func(kind int, value []byte) { req.AddData(nl.NewRtAttr(kind, value)) }, p.Ends.Host)
	endAttributes(func(kind int, value []byte) { peer.AddRtAttr(kind, value) }, p.Ends.Peer)
	req.AddData(info)
	echo, err := n.host.ask(req)
	if err != nil {
		return err
	}
	return n.meetPair(p, echo)
}

// meetPair notes the indexes of both ends, and that they are new: no setting of theirs is anybody's. A kernel before Linux
// 6.2, which does not echo, is asked for them.
func (n *Node) meetPair(p plan.Pair, echo [][]byte) error {
	if len(echo) == 0 {
		made, err := n.host.linkMessage(p.Host)
		if err != nil {
			return errors.Join(err, present(n.host.deleteLink(p.Host)))
		}
		echo = [][]byte{made}
	}
	host := readLink(echo[0]).Attrs()
	peer := &netlink.LinkAttrs{Name: p.Peer, Index: host.ParentIndex, MTU: cmp.Or(p.PeerMTU, host.MTU)}
	n.host.known[p.Host], n.container.known[p.Peer] = host, peer
	n.host.born, n.container.born = p.Host, p.Peer
	return nil
}

// ErrBridgeGone says that the bridge was removed after it had been looked up. Look for it again.
var ErrBridgeGone = errors.New("the bridge was removed meanwhile")

// explainPair finds out what an errno is about: which of the two names exists, or what is the matter with the bridge.
func (n *Node) explainPair(p plan.Pair, err error) error {
	switch {
	case errors.Is(err, syscall.EXFULL):
		return cnierr.Wrap(cnierr.KernelRefused, err, "bridge %s has all the ports the kernel gives one, 1,023", p.Master)
	case p.Master != "" && n.replaced(p.Master):
		return errors.Join(ErrBridgeGone, err)
	case !errors.Is(err, syscall.EEXIST):
		return fmt.Errorf("create the veth pair: %w", err)
	}
	if l, err := n.host.linkByName(p.Host); err == nil {
		return cnierr.New(cnierr.AttachmentExists,
			"this attachment exists already: interface %s belongs to %q: want a DEL before another ADD", p.Host, l.Attrs().Alias)
	}
	return cnierr.New(cnierr.InterfaceExists,
		"CNI_IFNAME: an interface %q is already in %s: want a name that is free", p.Peer, n.netns.path)
}

// replaced reports whether an interface is not the one any more that was looked up, and forgets it if so.
func (n *Node) replaced(name string) bool {
	now, err := n.host.linkByName(name)
	known, ok := n.host.known[name]
	if err == nil && ok && now.Attrs().Index == known.Index {
		return false
	}
	n.forgetBridge(name)
	return true
}

func (n *Node) observePair(p plan.Pair) (plan.Object, error) {
	l, err := n.host.linkByName(p.Host)
	if err != nil {
		return nil, err
	}
	a := l.Attrs()
	got := plan.Pair{Host: p.Host, MAC: a.HardwareAddr, MTU: a.MTU, Alias: a.Alias, Up: a.Flags&net.FlagUp != 0, Group: a.Group}
	if owner, ok := lease.ParseOwner(a.Alias); ok && owner.HostName() == p.Host {
		got.Alias = p.Alias // the same attachment, though this call may not know the pod that the ADD knew
	}
	host, err := n.host.handle()
	if err != nil {
		return nil, err
	}
	if a.MasterIndex != 0 {
		if br, err := host.LinkByIndex(a.MasterIndex); err == nil {
			got.Master = br.Attrs().Name
		}
	}
	inner, err := n.container.handle()
	if err != nil {
		return nil, err
	}
	// IFLA_LINK of a veth is its peer's index; the peer must point back.
	if peer, err := inner.LinkByIndex(a.ParentIndex); err == nil && peer.Attrs().ParentIndex == a.Index {
		got.Peer = peer.Attrs().Name
		if got.Ends.Peer, err = n.container.observeEnd(p.Ends.Peer, peer.Attrs()); err != nil {
			return nil, err
		}
	}
	got.Ends.Host, err = n.host.observeEnd(p.Ends.Host, a)
	return got, err
}

// undoPair removes the pair, and with it everything that lives on either end.
func (n *Node) undoPair(p plan.Pair) error { return n.host.deleteLink(p.Host) }

// deleteLink removes an interface in one request: the one met under that name, and not whatever has got it meanwhile.
func (s *side) deleteLink(name string) error {
	if met, ok := s.known[name]; ok {
		delete(s.known, name)
		return s.deleteIndex(met.Index)
	}
	req, _ := s.linkRequest(unix.RTM_DELLINK, 0, 0)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	return s.send(req)
}

func (s *side) deleteIndex(index int) error {
	req, _ := s.linkRequest(unix.RTM_DELLINK, 0, index)
	return s.send(req)
}

// interfaceErrand gives the container's end its address and brings it up.
func (n *Node) interfaceErrand(i plan.Interface) (errand, error) {
	index, err := n.container.indexOf(i.Name)
	if err != nil {
		return errand{}, err
	}
	req, msg := n.container.linkRequest(unix.RTM_NEWLINK, 0, index)
	if i.Up {
		msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	}
	if i.MAC != nil {
		req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, i.MAC))
	}
	return errand{side: n.container, req: req}, nil
}

func (n *Node) observeInterface(i plan.Interface) (plan.Object, error) {
	l, err := n.container.linkByName(i.Name)
	if err != nil {
		return nil, err
	}
	a := l.Attrs()
	return plan.Interface{Name: i.Name, MAC: a.HardwareAddr, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0}, nil
}
