package kernel

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// Ready waits until an attachment whose ends are both up carries packets. The requests of an ADD have been answered by
// then, but the kernel leaves the last steps to work queues, and on a busy machine a container's first packets would be
// lost before they have run.
//
// The ends have a carrier at once, but what they send is dropped, and a bridge does not forward to the port, until
// linkwatch_do_dev has run (net/core/link_watch.c). Looking at an interface has that done on the spot since Linux 6.8
// (linkwatch_sync_dev in rtnl_getlink); before, it takes a look or two more. The bridge gets its own carrier from its
// first port, unless it has one already or a spanning tree has it wait, which is not waited for.
//
// An IPv6 address receives once its local route is there, which addrconf_dad_work adds, with or without detection. After
// five seconds Ready gives up with ErrLate: nothing is wrong that another ADD would set right.
func (n *Node) Ready(p plan.Plan) error {
	if err := n.container.awaitCarrier(p.Pair.Peer); err != nil {
		return cnierr.Wrap(cnierr.KernelRefused, err, "container interface %s", p.Pair.Peer)
	}
	if err := n.host.awaitCarrier(p.Pair.Host); err != nil {
		return cnierr.Wrap(cnierr.KernelRefused, err, "%s", p.Pair.ID())
	}
	if p.Pair.Master != "" && !n.host.wasUp(p.Pair.Master) {
		if _, err := n.host.look(p.Pair.Master); err != nil {
			return cnierr.Wrap(cnierr.KernelRefused, err, "%s", p.Pair.ID())
		}
	}
	for _, o := range p.Objects() {
		if a, ok := o.(plan.Address); ok && a.Prefix.Addr().Is6() {
			if err := n.side(a.Place).awaitLocal(a); err != nil {
				return cnierr.Wrap(cnierr.KernelRefused, err, "%s", o.ID())
			}
		}
	}
	return nil
}

// wasUp reports whether an interface had a carrier when it was met.
func (s *side) wasUp(name string) bool {
	met, ok := s.known[name]
	return ok && met.OperState == netlink.OperUp
}

// ErrLate says that an address is not usable yet. The kernel does its last step for all addresses of the machine one by
// one, each behind the RTNL lock: while hundreds of namespaces come and go it may be seconds behind.
var ErrLate = errors.New("not usable")

func (s *side) awaitCarrier(name string) error {
	up, err := await(func() (bool, error) {
		l, err := s.linkByName(name)
		return err == nil && l.Attrs().OperState == netlink.OperUp, err
	})
	if err == nil && !up {
		err = cnierr.New(cnierr.KernelRefused, "no carrier %s after it was set up: is one of its ends down?", patience)
	}
	return err
}

// awaitLocal asks for the way to an address of the namespace itself.
func (s *side) awaitLocal(a plan.Address) error {
	index, err := s.indexOf(a.Link)
	if err != nil {
		return err
	}
	there, err := await(func() (bool, error) {
		req := s.request(unix.RTM_GETROUTE, 0)
		msg := &nl.RtMsg{}
		msg.Family, msg.Dst_len = unix.AF_INET6, 128
		req.AddData(msg)
		req.AddData(nl.NewRtAttr(unix.RTA_DST, a.Prefix.Addr().AsSlice()))
		req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
		answers, err := s.ask(req)
		if missing(err) || errors.Is(err, syscall.ENETUNREACH) {
			return false, nil
		}
		return err == nil && len(answers) == 1 && nl.DeserializeRtMsg(answers[0]).Type == unix.RTN_LOCAL, err
	})
	if err == nil && !there {
		err = fmt.Errorf("%w %s after it was set up", ErrLate, patience)
	}
	return err
}

// patience is how long Ready waits for one thing.
const patience = 5 * time.Second

// await asks until the answer is yes, or patience is at its end. Nearly always the first one is.
func await(ready func() (bool, error)) (bool, error) {
	const longest = 20 * time.Millisecond
	pause := 200 * time.Microsecond
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		pause = min(2*pause, longest)
		if yes, err := ready(); yes || err != nil || time.Now().After(deadline) {
			return yes, err
		}
	}
}
