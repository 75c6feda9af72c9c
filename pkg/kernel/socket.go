package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// socket is a rtnetlink socket that makes plain system calls, one to send any number of requests. The library's goes
// through the runtime's poller and asks for its own address with each answer: measured over the twenty requests of an
// ADD, a third of a millisecond.
//
// It never waits. The kernel does what it is asked, and queues all it has to say, before the call that sends returns
// (netlink_unicast_kernel in net/netlink/af_netlink.c), lists excepted, for which there is the library.
type socket struct {
	fd     int
	buffer []byte
}

// longest is more than the kernel says at once about an interface without its virtual functions.
const longest = 16 << 10

// newSocket opens a socket in the thread's network namespace. It stays bound to it.
func newSocket() (*socket, error) {
	fd, err := openRoute()
	if err != nil {
		return nil, fmt.Errorf("open a rtnetlink socket: %w", err)
	}
	// The kernel's own words for why it refuses. One that has none still answers with an errno.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	return &socket{fd: fd, buffer: make([]byte, longest)}, nil
}

func openRoute() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// answer is what the kernel says to one request: the messages of the kind asked for, then whether it was carried out.
type answer struct {
	messages [][]byte
	err      error
}

// exchange has the kernel carry out requests in their order, with one system call. One that fails does not keep it from
// the next (netlink_rcv_skb). Each must want an acknowledgement.
func (s *socket) exchange(reqs ...*nl.NetlinkRequest) ([]answer, error) {
	var datagram []byte
	for _, r := range reqs {
		datagram = append(datagram, r.Serialize()...)
	}
	if _, err := unix.Write(s.fd, datagram); err != nil {
		return nil, os.NewSyscallError("write", err)
	}
	answers := make([]answer, len(reqs))
	for i := range reqs {
		if err := s.receive(reqs[i].Seq, &answers[i]); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// receive reads what the kernel says to the request with a number, up to the acknowledgement.
func (s *socket) receive(number uint32, a *answer) error {
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buffer, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		if n > len(s.buffer) {
			return fmt.Errorf("the kernel sent %d bytes at once, more than %d", n, len(s.buffer))
		}
		msgs, err := syscall.ParseNetlinkMessage(s.buffer[:n])
		if err != nil {
			return fmt.Errorf("read the kernel's answer: %w", err)
		}
		for _, m := range msgs {
			switch {
			case m.Header.Seq != number:
			case m.Header.Type == unix.NLMSG_ERROR:
				a.err = verdict(m)
				return nil
			default:
				a.messages = append(a.messages, append([]byte(nil), m.Data...))
			}
		}
	}
}

// verdict reads struct nlmsgerr: an errno, the header of the request, the request itself unless it is left out, and the
// kernel's own words (include/uapi/linux/netlink.h).
func verdict(m syscall.NetlinkMessage) error {
	if len(m.Data) < 4+unix.SizeofNlMsghdr {
		return errors.New("the kernel's acknowledgement is cut off")
	}
	errno := int32(binary.NativeEndian.Uint32(m.Data))
	if errno == 0 {
		return nil
	}
	err := error(syscall.Errno(-errno))
	if m.Header.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return err
	}
	at := 4 + unix.SizeofNlMsghdr
	if m.Header.Flags&unix.NLM_F_CAPPED == 0 {
		at = 4 + nlaAlign(int(binary.NativeEndian.Uint32(m.Data[4:])))
	}
	walk(m.Data[min(at, len(m.Data)):], unix.NLMSGERR_ATTR_MSG, func(words []byte) {
		err = fmt.Errorf("%w: %s", err, unix.ByteSliceToString(words))
	})
	return err
}
