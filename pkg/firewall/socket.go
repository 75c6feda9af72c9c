package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// socket is a netlink socket that makes plain system calls. A library's starts a goroutine for each call, and on a
// thread locked to a network namespace each of those costs two thread switches: measured, 0.9 ms for what takes 0.12 ms
// here.
//
// It never waits. nfnetlink does its work, and queues all it has to say, before the call that sends a message returns,
// and the next part of a list before the call that receives one part returns (netlink_unicast_kernel and
// netlink_recvmsg in net/netlink/af_netlink.c).
type socket struct {
	fd   int
	room []byte // for what is received next; what was received keeps its place
}

const (
	// usualRoom is for all that a look sends and receives.
	usualRoom = 8 << 10
	// longestAnswer is more than the kernel says about one object by its name, or with an error (NETLINK_CAP_ACK).
	longestAnswer = 2 << 10
	// longestPart is more than the kernel puts into one part of a list (32 KiB, netlink_recvmsg in af_netlink.c), if it is
	// let: into less room it would not put a rule that is longer.
	longestPart = 64 << 10
)

// newSocket opens a socket in the thread's network namespace.
func newSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &socket{fd: fd}
	// The kernel's own words for why it refuses, and no copy of what it refuses. Without the words an error says less, no
	// more; without the latter, Linux before 4.3, a large message that is refused is too long to be explained.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return s, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// send sends all the messages in one datagram.
func (s *socket) send(msgs []message) error {
	size := 0
	for _, m := range msgs {
		size += align(unix.SizeofNlMsghdr + len(m.data))
	}
	s.enlarge(size, len(msgs))
	if len(s.room) < size {
		s.room = make([]byte, max(usualRoom, size))
	}
	datagram := s.room[:0]   // the kernel has read it when it answers
	for i, m := range msgs { // struct nlmsghdr
		datagram = binary.NativeEndian.AppendUint32(datagram, uint32(unix.SizeofNlMsghdr+len(m.data)))
		datagram = binary.NativeEndian.AppendUint16(datagram, m.kind)
		datagram = binary.NativeEndian.AppendUint16(datagram, unix.NLM_F_REQUEST|m.flags)
		datagram = binary.NativeEndian.AppendUint32(datagram, uint32(i))
		datagram = append(datagram, 0, 0, 0, 0)
		datagram = append(datagram, m.data...)
		datagram = append(datagram, make([]byte, align(len(m.data))-len(m.data))...)
	}
	_, err := unix.Write(s.fd, datagram)
	return os.NewSyscallError("write", err)
}

// enlarge grows the buffers where the kernel's defaults (net.core.wmem_default and rmem_default, 208 KiB) do not hold a
// datagram, or one answer for each of its messages: a container may have ten thousands of ports. What cannot be had is
// reported by the system call that needs it.
func (s *socket) enlarge(size, answers int) {
	const usual, answer = 128 << 10, 1 << 10 // what an answer takes of the buffer, with the kernel's own overhead
	if size > usual {
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size)
	}
	if answers*answer > usual {
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, answers*answer)
	}
}

// answer is a message of the kernel's, or the zero value for something that is not there.
type answer struct {
	kind, flags uint16
	data        []byte // from struct nfgenmsg on
}

func (a answer) exists() bool { return a.kind != 0 }

// receive adds the messages of one datagram, of at most so many bytes, to answers.
func (s *socket) receive(answers []answer, most int) ([]answer, error) {
	if len(s.room) < most {
		s.room = make([]byte, max(usualRoom, 2*most))
	}
	n, _, err := unix.Recvfrom(s.fd, s.room, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
	if err != nil {
		return nil, os.NewSyscallError("recvfrom", err)
	}
	if n > len(s.room) {
		return nil, fmt.Errorf("the kernel sent %d bytes at once, more than %d", n, len(s.room))
	}
	if n == 0 {
		return nil, errors.New("the kernel sent an empty message")
	}
	b := s.room[:n:n]
	s.room = s.room[n:]
	for len(b) > 0 {
		size := 0
		if len(b) >= unix.SizeofNlMsghdr {
			size = int(binary.NativeEndian.Uint32(b))
		}
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return nil, errors.New("the kernel sent a message that is cut off")
		}
		answers = append(answers, answer{
			kind: binary.NativeEndian.Uint16(b[4:]), flags: binary.NativeEndian.Uint16(b[6:]),
			data: b[unix.SizeofNlMsghdr:size],
		})
		b = b[min(align(size), len(b)):]
	}
	return answers, nil
}

// refusal is why the kernel did not do what it was asked, in its own words.
type refusal struct {
	errno unix.Errno
	words string
}

func (r refusal) Error() string { return r.errno.Error() + " (" + r.words + ")" }

// Unwrap shows the errno to errors.Is.
func (r refusal) Unwrap() error { return r.errno }

// about is the number, in its datagram, of the message that an acknowledgement is about (struct nlmsgerr).
func (a answer) about() int {
	const sequence = 4 + 8 // int error, and of struct nlmsghdr length, type and flags
	if a.kind != unix.NLMSG_ERROR || len(a.data) < sequence+4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(a.data[sequence:]))
}

// verdict is the error that an answer is (struct nlmsgerr, include/uapi/linux/netlink.h), or that a list ends with, nil
// if it is none.
func (a answer) verdict() error {
	const code = 4 // sizeof(int)
	if a.kind != unix.NLMSG_ERROR && a.kind != unix.NLMSG_DONE || a.kind == unix.NLMSG_DONE && len(a.data) < code {
		return nil
	}
	if len(a.data) < code {
		return errors.New("the kernel sent an acknowledgement that is cut off")
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(a.data)))
	if errno == 0 {
		return nil
	}
	words := ""
	if at := code + unix.SizeofNlMsghdr; a.flags&(unix.NLM_F_ACK_TLVS|unix.NLM_F_CAPPED) ==
		unix.NLM_F_ACK_TLVS|unix.NLM_F_CAPPED && len(a.data) > at {
		_ = attribute{value: a.data[at:]}.attributes(func(x attribute) {
			if x.kind == unix.NLMSGERR_ATTR_MSG {
				words = x.text()
			}
		})
	}
	if words == "" {
		return errno
	}
	return refusal{errno, words}
}
