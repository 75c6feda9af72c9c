package kernel

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/plan"
)

// doomedAtOnce is how many interfaces are deleted together. The kernel waits for its readers once for all of them, but holds
// the RTNL lock, and with it everybody's ADD, for 0.2 to 0.6 ms each.
const doomedAtOnce = 64

// RemoveAll deletes host ends, many at once: each is set down and moved to a group that no network has, then the group
// is deleted. That deletes also what an earlier call that was killed in between has left there. What is gone already is
// no error. It goes on after a failure, and returns those that are still there.
func (n *Node) RemoveAll(list []Attached) (left []Attached, err error) {
	var failed []error
	for some := range slices.Chunk(list, doomedAtOnce) {
		doomed, err := n.host.doom(some)
		if err == nil && doomed > 0 {
			err = n.host.deleteGroup(plan.GroupDoomed)
		}
		if err == nil || missing(err) {
			continue
		}
		for _, a := range some { // somebody has put something into the group that cannot be deleted
			if err := n.Remove(a); err != nil {
				left = append(left, a)
				failed = append(failed, fmt.Errorf("%s: %w", a, err))
			}
		}
	}
	return left, errors.Join(failed...)
}

// doom sets interfaces down, because the policy of their network does not hold for them any more, and moves them to the
// group, with one system call for all, and counts those that were still there.
func (s *side) doom(list []Attached) (doomed int, err error) {
	reqs := make([]*nl.NetlinkRequest, len(list))
	for i, a := range list {
		req, msg := s.linkRequest(unix.RTM_SETLINK, 0, a.index)
		msg.Change = unix.IFF_UP
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(plan.GroupDoomed)))
		reqs[i] = req
	}
	answers, err := s.socket.exchange(reqs...)
	if err != nil {
		return 0, err
	}
	for _, a := range answers {
		if a.err == nil {
			doomed++
		} else if !missing(a.err) {
			return doomed, a.err
		}
	}
	return doomed, nil
}

// deleteGroup deletes all interfaces of a group, or none: the kernel first looks whether each can be deleted
// (rtnl_group_dellink).
func (s *side) deleteGroup(group uint32) error {
	req, _ := s.linkRequest(unix.RTM_DELLINK, 0, 0)
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	return s.send(req)
}
