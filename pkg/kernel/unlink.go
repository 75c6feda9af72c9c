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
// says so, lets go of the lock, and waits 10 to 50 ms until nobody can still hold a pointer (rcu_barrier in netdev_run_todo,
// net/core/dev.c). The call that sent the request returns only after that, and cannot be interrupted.
//
// So a child sends it, and this process goes on at the kernel's word. The word is an echo to the socket that both have, and not a
// notification to a group: however much happens on the node, nothing else comes and nothing overflows.

// unlinking is the deletion of one interface.
type unlinking struct {
	fd    int // a rtnetlink socket of its own
	index int
}

// Removal says how an interface is removed.
type Removal struct {
	// Wait until the kernel has no work left with it: without, until it is gone for everybody.
	Wait bool
	// Hold are descriptors whose Close would wait for the kernel too: the child has them until it is done.
	Hold []int
}

// unlink removes an interface, and returns when it is gone. What remains then is the kernel's own bookkeeping, which a
// child of this process waits for. Kernels before 6.2 do not echo a deletion: there it returns when that is done, too; and so it
// does where no child can be had.
func (s *side) unlink(index int, hold []int) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	u := unlinking{fd: fd, index: index}
	if conntrack := s.sockets[unix.NETLINK_NETFILTER]; conntrack != nil {
		hold = append(hold, conntrack.Socket.GetFd())
	}
	child, err := forkWrite(fd, u.request(unix.NLM_F_ECHO), hold)
	if err != nil {
		return u.here()
	}
	return u.await(child)
}

// Sequence numbers tell what answers the child's request from what answers this process's own.
const (
	seqChild = 1
	seqHere  = 2
)

// request is an RTM_DELLINK by index: whatever got the interface's name meanwhile is not meant.
func (u unlinking) request(flags uint16) []byte {
	const size = unix.SizeofNlMsghdr + unix.SizeofIfInfomsg
	b := make([]byte, size)
	seq := uint32(seqHere)
	if flags&unix.NLM_F_ECHO != 0 {
		seq = seqChild
	}
	binary.NativeEndian.PutUint32(b, size)
	binary.NativeEndian.PutUint16(b[4:], unix.RTM_DELLINK)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	binary.NativeEndian.PutUint32(b[8:], seq)
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr+4:], uint32(u.index)) // ifi_index
	return b
}

// here has this process delete the interface, and wait: the answer is there when the request has been sent.
func (u unlinking) here() error {
	if _, err := unix.Write(u.fd, u.request(0)); err != nil {
		return os.NewSyscallError("write", err)
	}
	for {
		done, err := u.receive(seqHere, unix.MSG_DONTWAIT)
		if done || err != nil {
			return err
		}
	}
}

// await waits for the kernel's word. It looks after the child from time to time: one that was killed before it sent
// anything would never be heard of.
func (u unlinking) await(child int) error {
	const patience = 50 * time.Millisecond
	timeout := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(u.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	for flags := 0; ; {
		done, err := u.receive(seqChild, flags)
		switch {
		case done || err != nil && !errors.Is(err, unix.EAGAIN):
			return err
		case err == nil:
		case flags != 0: // the child is gone, and has left nothing
			return u.here()
		default:
			if pid, _ := unix.Wait4(child, nil, unix.WNOHANG, nil); pid == child {
				flags = unix.MSG_DONTWAIT
			}
		}
	}
}

// receive reads one datagram. It is done at the echo of the deletion, or at the answer to the request.
func (u unlinking) receive(seq uint32, flags int) (done bool, err error) {
	const least = unix.SizeofNlMsghdr + 4 // struct nlmsgerr begins with the errno
	var b [unix.SizeofNlMsghdr + unix.SizeofIfInfomsg]byte
	n, _, err := unix.Recvfrom(u.fd, b[:], flags)
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	if err != nil {
		return false, os.NewSyscallError("recvfrom", err)
	}
	if n < least || binary.NativeEndian.Uint32(b[8:]) != seq {
		return false, nil
	}
	switch kind := binary.NativeEndian.Uint16(b[4:]); kind {
	case unix.NLMSG_ERROR:
		if errno := int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); errno != 0 {
			return false, fmt.Errorf("the kernel refuses: %w", syscall.Errno(-errno))
		}
		return true, nil
	case unix.RTM_DELLINK: // of the peer, too, where that is in the same namespace
		return n == len(b) && int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr+4:])) == int32(u.index), nil
	}
	return false, nil
}
