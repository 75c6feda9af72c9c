package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// raw reads or writes, as the number of the system call says, and does so again when a signal came between.
func raw(call uintptr, fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
