package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel deletes an interface in two steps. Holding the RTNL lock it takes the interface, and a veth's peer, out of
// every table: names, addresses, routes and neighbours are free, no packet passes, and whoever asks finds nothing. Then it
// says so, lets go of the lock, and waits 10 to 50 ms until nobody can still hold a pointer (rcu_barrier in
// netdev_run_todo, net/core/dev.c). The call that sent the request returns only after that, and cannot be interrupted.
//
// So a child sends it, and this process goes on at the kernel's word. The word is an echo to the socket that both have,
// and not a notification to a group: however much happens on the node, nothing else comes and nothing overflows.

// Removal says how an interface is removed.
type Removal struct {
	// Wait until the kernel has no work left with it: without, until it is gone for everybody.
	Wait bool
	// Hold are descriptors whose Close would wait for the kernel too: the child has them until it is done.
	Hold []int
}

// unlink removes an interface by its index, and returns when it is gone. What remains then is the kernel's own bookkeeping,
// which a child of this process waits for. Kernels before 6.2 do not echo a deletion: there it returns when that is done,
// too; and so it does where no child can be had.
func (s *side) unlink(index int, hold []int) error {
	fd, err := openRoute()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if s.netfilter != nil {
		hold = append(hold, s.netfilter.Socket.GetFd())
	}
	req, _ := s.linkRequest(unix.RTM_DELLINK, unix.NLM_F_ECHO, index)
	child, err := startWrite(fd, req.Serialize(), hold)
	if err != nil {
		return s.deleteIndex(index)
	}
	heard, err := awaitUnlinked(fd, index, child)
	if err == nil && !heard {
		return s.deleteIndex(index)
	}
	return err
}

// awaitUnlinked waits for the kernel's word on a socket that has the child's request alone. It looks after the child from
// time to time: one that was killed before it sent anything would never be heard of.
func awaitUnlinked(fd, index, child int) (heard bool, err error) {
	const patience = 50 * time.Millisecond
	timeout := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return false, os.NewSyscallError("setsockopt", err)
	}
	for flags := 0; ; {
		done, err := receiveUnlinked(fd, index, flags)
		switch {
		case done || err != nil && !errors.Is(err, unix.EAGAIN):
			return true, err
		case err == nil:
		case flags != 0: // the child is gone, and has left nothing
			return false, nil
		default:
			if pid, _ := unix.Wait4(child, nil, unix.WNOHANG, nil); pid == child {
				flags = unix.MSG_DONTWAIT
			}
		}
	}
}

// receiveUnlinked reads one datagram: it is done if that says that the interface is gone, as the echo or as the answer.
func receiveUnlinked(fd, index, flags int) (done bool, err error) {
	var b [unix.SizeofNlMsghdr + unix.SizeofIfInfomsg]byte // the kernel drops the rest
	n, _, err := unix.Recvfrom(fd, b[:], flags)
	switch {
	case errors.Is(err, unix.EINTR):
		return false, nil
	case err != nil:
		return false, os.NewSyscallError("recvfrom", err)
	case n < unix.SizeofNlMsghdr+8:
		return false, fmt.Errorf("the kernel sent %d bytes", n)
	}
	kind, body := binary.NativeEndian.Uint16(b[4:]), b[unix.SizeofNlMsghdr:]
	if kind != unix.NLMSG_ERROR {
		// The peer's echo comes, too, where that is in the same namespace.
		return kind == unix.RTM_DELLINK && int(int32(binary.NativeEndian.Uint32(body[4:]))) == index, nil
	}
	if errno := int32(binary.NativeEndian.Uint32(body)); errno != 0 { // struct nlmsgerr
		return false, syscall.Errno(-errno)
	}
	return true, nil
}
