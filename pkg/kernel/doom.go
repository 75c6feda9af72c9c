package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/plan"
)

// doomedAtOnce is how many interfaces are deleted together. The kernel waits for its readers once for all of them, but holds
// the RTNL lock, and with it everybody's ADD, for 0.2 to 0.6 ms each.
const doomedAtOnce = 64

// RemoveAll deletes host ends, many at once: each is set down and moved to a group that no network has, then the group is
// deleted. That deletes also what an earlier call that was killed in between has left there. What is gone already is no error. It goes
// on after a failure, and returns those that are still there.
func (n *Node) RemoveAll(list []Attached) (left []Attached, err error) {
	var failed []error
	for some := range slices.Chunk(list, doomedAtOnce) {
		doomed, err := doom(some)
		if err == nil && doomed > 0 {
			err = deleteGroup(plan.GroupDoomed)
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
func doom(list []Attached) (doomed int, err error) {
	fd, err := openRoute()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var datagram []byte
	for i, a := range list {
		datagram = append(datagram, groupMessage(unix.RTM_SETLINK, uint32(i), a.index, plan.GroupDoomed)...)
	}
	if _, err := unix.Write(fd, datagram); err != nil {
		return 0, os.NewSyscallError("write", err)
	}
	for range list { // the answers, which are all there now, in the requests' order
		m, err := receiveLink(fd, unix.MSG_DONTWAIT)
		if err = errors.Join(err, m.refusal); err == nil {
			doomed++
		} else if !missing(err) {
			return doomed, err
		}
	}
	return doomed, nil
}

// deleteGroup deletes all interfaces of a group, or none: the kernel first looks whether each can be deleted
// (rtnl_group_dellink).
func deleteGroup(group uint32) error {
	fd, err := openRoute()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, groupMessage(unix.RTM_DELLINK, 0, 0, group)); err != nil {
		return os.NewSyscallError("write", err)
	}
	m, err := receiveLink(fd, unix.MSG_DONTWAIT)
	return errors.Join(err, m.refusal)
}

// groupMessage has IFLA_GROUP as its only attribute, and IFF_UP as the flag to change, to 0. Without an index it is about all
// interfaces of the group.
func groupMessage(kind uint16, number uint32, index int, group uint32) []byte {
	b := linkMessage(kind, 0, number, index)
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr+12:], unix.IFF_UP) // ifi_change
	b = binary.NativeEndian.AppendUint16(b, unix.SizeofRtAttr+4)
	b = binary.NativeEndian.AppendUint16(b, unix.IFLA_GROUP)
	b = binary.NativeEndian.AppendUint32(b, group)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}
