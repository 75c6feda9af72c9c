package main

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deleteInChild sends a request from a child and returns the child's process id. The kernel answers only after a wait
// for its RCU machinery, some ten milliseconds, and the child is who waits. Between fork and exit only system calls are
// made, for of Go's threads the child has this one alone; nosplit keeps the runtime from growing the stack there.
// The child lets go of the descriptors whose closing whoever called the plugin waits for.
//
//go:nosplit
func deleteInChild(fd int, request []byte) int {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return -1
	}
	if pid != 0 {
		return int(pid)
	}
	for std := uintptr(0); std < 3; std++ {
		_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, std, 0, 0)
	}
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&request[0])), uintptr(len(request)))
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// pollfd is struct pollfd, include/uapi/asm-generic/poll.h.
type pollfd struct {
	fd              int32
	events, revents int16
}

const pollIn = 1

// awaitRemoval returns when the kernel tells that the interface is gone, or fails with what it answers to the request. A
// bridge tells of its lost port before, as AF_BRIDGE.
func awaitRemoval(news, ask int, name string) {
	buf := make([]byte, 16384)
	for {
		fds := [2]pollfd{{fd: int32(news), events: pollIn}, {fd: int32(ask), events: pollIn}}
		_, _, errno := unix.Syscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds)), 2, 0, 0, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			fail("wait", errno)
		}
		if fds[0].revents != 0 {
			n, err := unix.Read(news, buf)
			check("listen", err)
			for m := range messages(buf[:n]) {
				if m.kind == unix.RTM_DELLINK && m.body[0] == unix.AF_UNSPEC &&
					string(m.attr(unix.IFLA_IFNAME)) == name+"\x00" {
					return
				}
			}
		}
		if fds[1].revents != 0 {
			n, err := unix.Read(ask, buf)
			check("delete", err)
			for m := range messages(buf[:n]) {
				if errno := -int32(binary.NativeEndian.Uint32(m.body)); m.kind == unix.NLMSG_ERROR && errno != 0 {
					fail("delete", unix.Errno(errno))
				}
			}
		}
	}
}
