package kernel

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forkWrite has a child of this process write b to fd and end. The child holds nothing else that could be waited for:
// neither standard output nor any other descriptor. When this process ends before it, init or the nearest subreaper
// (PR_SET_CHILD_SUBREAPER, prctl(2)) inherits and reaps it.
func forkWrite(fd int, b []byte) (child int, err error) {
	pid, errno := rawForkWrite(uintptr(fd), unsafe.Pointer(&b[0]), uintptr(len(b)))
	runtime.KeepAlive(b)
	if errno != 0 {
		return 0, errno
	}
	return int(pid), nil
}

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
func rawForkWrite(fd uintptr, p unsafe.Pointer, n uintptr) (uintptr, syscall.Errno) {
	var all, before [maskSize]byte
	for i := range all {
		all[i] = 0xff
	}
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
	if errno != 0 || pid != 0 {
		_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
			uintptr(unsafe.Pointer(&before)), 0, maskSize, 0, 0)
		return pid, errno
	}

	// The child. Somebody waits for the end of standard output, and must not wait for the kernel.
	closeOthers(fd)
	_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, fd, uintptr(p), n)
	for {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// maskSize is that of the kernel's sigset_t in bytes, on which the system call insists. It is 16 on MIPS: there no child is
// made.
const maskSize = 8

//go:norace
//go:nosplit
func closeOthers(fd uintptr) {
	const usual = 1024 // descriptors; the kernel's default of RLIMIT_NOFILE
	_, _, first := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, fd+1, ^uintptr(0)>>32, 0)
	if fd > 0 && first == 0 {
		_, _, first = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, 0, fd-1, 0)
	}
	if first == 0 {
		return
	}
	for i := uintptr(0); i < usual; i++ { // before Linux 5.9
		if i != fd {
			_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, i, 0, 0)
		}
	}
}
