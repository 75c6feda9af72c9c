package kernel

import (
	"math"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forkWrite has a child of this process write b to fd and end. Of the descriptors the child has that one and those in
// hold, so that nobody waits for it who waits for the end of this process's standard output. When this process ends
// before it, init or the nearest subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)) inherits and reaps it.
func forkWrite(fd int, b []byte, hold []int) (child int, err error) {
	var open descriptors
	for i := range open {
		open[i] = uintptr(fd)
	}
	for i, held := range hold[:min(len(hold), len(open)-1)] {
		open[i] = uintptr(held)
	}
	slices.Sort(open[:])
	pid, errno := rawForkWrite(uintptr(fd), unsafe.Pointer(&b[0]), uintptr(len(b)), &open)
	runtime.KeepAlive(b)
	if errno != 0 {
		return 0, errno
	}
	return int(pid), nil
}

// descriptors are a few, ascending.
type descriptors [8]uintptr

// rawForkWrite is fork(2) without exec. Of a Go process only the calling thread lives on in the child, and whatever
// another thread had locked stays locked there for good. So the child may do nothing but system calls: no memory, no
// growth of the stack, no scheduler, no function that might need any of them. That is what syscall.forkAndExecInChild keeps
// to between fork and exec, for the same reason. Signals are blocked throughout, because a handler would be Go code.
//
// nosplit also says that the goroutine is not preempted in here, and so stays on its thread.
//
//go:norace
//go:nosplit
//go:noinline
func rawForkWrite(fd uintptr, p unsafe.Pointer, n uintptr, open *descriptors) (uintptr, syscall.Errno) {
	all, before := ^uint64(0), uint64(0)
	_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&before)), maskSize, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	flags, stack := uintptr(unix.SIGCHLD), uintptr(0)
	if runtime.GOARCH == "s390x" { // clone(2): the order of the arguments
		flags, stack = stack, flags
	}
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, flags, stack, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		closeBut(open)
		_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, fd, uintptr(p), n)
		for {
			_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&before)), 0, maskSize, 0, 0)
	return pid, errno
}

// maskSize is that of the kernel's sigset_t in bytes, on which the system call insists. It is 16 on MIPS: there no child is
// made.
const maskSize = 8

// closeBut closes all other descriptors.
//
//go:norace
//go:nosplit
func closeBut(open *descriptors) {
	next := uintptr(0)
	for _, fd := range open {
		if fd > next {
			closeRange(next, fd-1)
		}
		next = fd + 1
	}
	closeRange(next, math.MaxUint32)
}

// closeRange is close_range(2), and does without before Linux 5.9.
//
//go:norace
//go:nosplit
func closeRange(first, last uintptr) {
	const usual = 1024 // what the kernel gives a process of descriptors, unless it asks for more (RLIMIT_NOFILE)
	if first > last {
		return
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, first, last, 0); errno == 0 {
		return
	}
	for fd := first; fd <= last && fd < usual; fd++ {
		_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	}
}
