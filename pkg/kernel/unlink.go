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

// unlinking is the deletion of one interface, by its index: whatever got its name meanwhile is not meant.
type unlinking struct {
	fd    int // a rtnetlink socket of its own
	index int
}

// Numbers tell what answers the child's request from what answers this process's own.
const (
	byChild = 1
	byUs    = 2
)

// unlink removes an interface, and returns when it is gone. What remains then is the kernel's own bookkeeping, which a
// child of this process waits for. Kernels before 6.2 do not echo a deletion: there it returns when that is done, too;
// and so it does where no child can be had.
func (s *side) unlink(index int, hold []int) error {
	fd, err := openRoute()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if s.netfilter != nil {
		hold = append(hold, s.netfilter.Socket.GetFd())
	}
	u := unlinking{fd: fd, index: index}
	child, err := forkWrite(fd, linkMessage(unix.RTM_DELLINK, unix.NLM_F_ECHO, byChild, index), hold)
	if err != nil {
		return u.here()
	}
	return u.await(child)
}

// here has this process delete the interface, and wait: the answer is there when the request has been sent. What answers
// a child's earlier request may be there too.
func (u unlinking) here() error {
	if _, err := unix.Write(u.fd, linkMessage(unix.RTM_DELLINK, 0, byUs, u.index)); err != nil {
		return os.NewSyscallError("write", err)
	}
	for {
		if done, err := u.receive(byUs, unix.MSG_DONTWAIT); done || err != nil {
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
		done, err := u.receive(byChild, flags)
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

// receive reads one datagram: it is done if that says that the interface is gone, as the echo or as the answer.
func (u unlinking) receive(number uint32, flags int) (done bool, err error) {
	m, err := receiveLink(u.fd, flags)
	switch {
	case errors.Is(err, unix.EINTR) || err == nil && m.number != number:
		return false, nil
	case err != nil:
		return false, err
	case m.kind == unix.NLMSG_ERROR:
		return m.refusal == nil, m.refusal
	}
	// The peer's echo comes, too, where that is in the same namespace.
	return m.kind == unix.RTM_DELLINK && m.index == u.index, nil
}

// openRoute opens a rtnetlink socket of the thread's namespace.
func openRoute() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// linkMessage is a request about an interface without attributes: struct nlmsghdr and struct ifinfomsg.
func linkMessage(kind, flags uint16, number uint32, index int) []byte {
	const size = unix.SizeofNlMsghdr + unix.SizeofIfInfomsg
	b := make([]byte, size)
	binary.NativeEndian.PutUint32(b, size)
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	binary.NativeEndian.PutUint32(b[8:], number)
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr+4:], uint32(index))
	return b
}

// linkAnswer is the beginning of what the kernel says.
type linkAnswer struct {
	kind    uint16
	number  uint32
	refusal error // of an NLMSG_ERROR; nil: an acknowledgement
	index   int   // of anything else
}

// receiveLink reads one datagram.
func receiveLink(fd, flags int) (m linkAnswer, err error) {
	var b [unix.SizeofNlMsghdr + unix.SizeofIfInfomsg]byte // the kernel drops the rest
	n, _, err := unix.Recvfrom(fd, b[:], flags)
	if err != nil {
		return m, os.NewSyscallError("recvfrom", err)
	}
	if n < unix.SizeofNlMsghdr+8 {
		return m, fmt.Errorf("the kernel sent %d bytes", n)
	}
	m.kind, m.number = binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:])
	body := b[unix.SizeofNlMsghdr:]
	if m.kind != unix.NLMSG_ERROR {
		m.index = int(int32(binary.NativeEndian.Uint32(body[4:])))
	} else if errno := int32(binary.NativeEndian.Uint32(body)); errno != 0 { // struct nlmsgerr
		m.refusal = syscall.Errno(-errno)
	}
	return m, nil
}
