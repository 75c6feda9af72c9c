package main

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is messages for the kernel, sent as one.
type batch struct {
	buf   []byte
	start int // of the message that is being written
}

func (b *batch) begin(kind, flags int) {
	b.start = len(b.buf)
	b.buf = append(b.buf, make([]byte, unix.SizeofNlMsghdr)...)
	binary.NativeEndian.PutUint16(b.buf[b.start+4:], uint16(kind))
	binary.NativeEndian.PutUint16(b.buf[b.start+6:], uint16(flags|unix.NLM_F_REQUEST))
}

func (b *batch) end() {
	binary.NativeEndian.PutUint32(b.buf[b.start:], uint32(len(b.buf)-b.start))
}

func (b *batch) raw(data []byte) { b.buf = append(b.buf, data...) }

func (b *batch) attr(kind int, data []byte) {
	b.close(b.nestWith(kind, data))
	b.buf = append(b.buf, make([]byte, -len(data)&3)...)
}

func (b *batch) number(kind, value int) {
	b.attr(kind, binary.NativeEndian.AppendUint32(nil, uint32(value)))
}

func (b *batch) nest(kind int) int { return b.nestWith(kind, nil) }

func (b *batch) nestWith(kind int, data []byte) int {
	at := len(b.buf)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, 0)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, uint16(kind))
	b.buf = append(b.buf, data...)
	return at
}

func (b *batch) close(at int) {
	binary.NativeEndian.PutUint16(b.buf[at:], uint16(len(b.buf)-at))
}

// link begins a message about an interface that its attributes name.
func (b *batch) link(kind, flags int, up uint32) {
	b.begin(kind, flags)
	msg := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(msg[8:], up)
	binary.NativeEndian.PutUint32(msg[12:], up)
	b.raw(msg)
}

func (b *batch) up(index int) {
	b.link(unix.RTM_NEWLINK, 0, unix.IFF_UP)
	binary.NativeEndian.PutUint32(b.buf[b.start+unix.SizeofNlMsghdr+4:], uint32(index))
	b.end()
}

func (b *batch) address(index int, prefix byte, addr []byte) {
	b.begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	msg := make([]byte, unix.SizeofIfAddrmsg)
	msg[0], msg[1] = family(addr), prefix
	binary.NativeEndian.PutUint32(msg[4:], uint32(index))
	b.raw(msg)
	b.attr(unix.IFA_LOCAL, addr)
	if len(addr) == 16 {
		b.number(unix.IFA_FLAGS, unix.IFA_F_NODAD)
	}
	b.end()
}

// route leads to a host on the link, or everywhere by a next hop that is on the link.
type route struct {
	link    int
	to, via []byte
}

func (b *batch) route(r route) {
	b.begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	msg := make([]byte, unix.SizeofRtMsg)
	msg[4], msg[5], msg[7] = unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RTN_UNICAST
	if len(r.via) > 0 {
		msg[0] = family(r.via)
		binary.NativeEndian.PutUint32(msg[8:], unix.RTNH_F_ONLINK)
	} else {
		msg[0], msg[1], msg[6] = family(r.to), byte(8*len(r.to)), unix.RT_SCOPE_LINK
	}
	b.raw(msg)
	if len(r.via) > 0 {
		b.attr(unix.RTA_GATEWAY, r.via)
	} else {
		b.attr(unix.RTA_DST, r.to)
	}
	b.number(unix.RTA_OIF, r.link)
	b.end()
}

func family(addr []byte) byte {
	if len(addr) == 16 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func zero(text string) []byte { return append([]byte(text), 0) }

// dial opens a netlink socket in the thread's namespace that hears of groups.
func dial(groups uint32) int {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	check("open a netlink socket", err)
	if groups != 0 {
		check("subscribe", unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}))
	}
	return fd
}

// link is what the kernel's echo says of a new pair.
type link struct{ index, peer int }

// exchange sends a batch, empties it and waits for the kernel to be done: the last message asks to be acknowledged, the
// others speak up only when they fail.
func exchange(what string, fd int, b *batch) (made link) {
	flags := b.buf[b.start+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	_, err := unix.Write(fd, b.buf)
	check(what, err)
	b.buf = b.buf[:0]
	answer := make([]byte, 16384)
	for {
		n, err := unix.Read(fd, answer)
		check(what, err)
		for m := range messages(answer[:n]) {
			if m.kind == unix.RTM_NEWLINK {
				made.index = int(binary.NativeEndian.Uint32(m.body[4:]))
				made.peer = int(binary.NativeEndian.Uint32(m.attr(unix.IFLA_LINK)))
			}
			if m.kind == unix.NLMSG_ERROR {
				if errno := -int32(binary.NativeEndian.Uint32(m.body)); errno != 0 {
					fail(what, unix.Errno(errno))
				}
				return made
			}
		}
	}
}

// message is one of the kernel's. Its attributes begin behind an ifinfomsg.
type message struct {
	kind uint16
	body []byte
}

func messages(buf []byte) func(func(message) bool) {
	return func(yield func(message) bool) {
		for len(buf) >= unix.SizeofNlMsghdr {
			size := int(binary.NativeEndian.Uint32(buf))
			if size < unix.SizeofNlMsghdr || size > len(buf) {
				return
			}
			if !yield(message{binary.NativeEndian.Uint16(buf[4:]), buf[unix.SizeofNlMsghdr:size]}) {
				return
			}
			buf = buf[min((size+3)&^3, len(buf)):]
		}
	}
}

func (m message) attr(kind uint16) []byte {
	for rest := m.body[unix.SizeofIfInfomsg:]; len(rest) >= 4; {
		size := int(binary.NativeEndian.Uint16(rest))
		if size < 4 || size > len(rest) {
			break
		}
		if binary.NativeEndian.Uint16(rest[2:]) == kind {
			return rest[4:size]
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	return nil
}

// bridgeIndex looks a bridge up.
func bridgeIndex(fd int, name string) int {
	if name == "" {
		return 0
	}
	var request struct { // struct ifreq
		name  [unix.IFNAMSIZ]byte
		index int32
		_     [20]byte
	}
	copy(request.name[:], name)
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGIFINDEX, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		fail("look up the bridge", errno)
	}
	return int(request.index)
}
