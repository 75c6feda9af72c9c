package kernel

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A child sends what this process does not want to wait for. It is made as vfork(2) makes one, with this process's memory
// and not a copy of it, but without the wait: to copy the page tables, and then each page that is still written to, takes
// a tenth of a DEL, and to give memory back at the end takes time as well, which is the child's now. On the other hand it
// can run nothing that was compiled: the stack is this thread's, which goes on. So it makes system calls from a list, and
// no more (child_*.s). Before Linux 5.16 a child that dumped core would take this process along.

// syscallArgs is an entry of a child's list: a system call's number and its arguments.
type syscallArgs struct {
	number  uintptr
	a, b, c uintptr
}

// startWrite has a child of this process write b to fd and end. Of the descriptors the child has that one and those in
// hold, so that nobody waits for it who waits for the end of this process's standard output. When this process ends
// before it, init or the nearest subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)) inherits and reaps it.
func startWrite(fd int, b []byte, hold []int) (child int, err error) {
	list := closeBut(append([]int{fd}, hold...))
	list = append(list,
		syscallArgs{unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))},
		syscallArgs{unix.SYS_EXIT_GROUP, 0, 0, 0})
	keep(list, b)
	pid := start(list)
	if pid < 0 {
		return 0, syscall.Errno(-pid)
	}
	return pid, nil
}

// start makes the child. It blocks signals meanwhile, because a handler would be compiled code. They stay blocked in the
// child, except SIGKILL.
func start(list []syscallArgs) int {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i]-- // all ones
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return -int(unix.EAGAIN)
	}
	pid := clone(unix.CLONE_VM|uintptr(unix.SIGCHLD), &list[0])
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	return pid
}

// kept is what children may still read. Nothing tells when one has, and a process makes one.
var kept struct {
	sync.Mutex
	lists [][]syscallArgs
	bytes [][]byte
}

func keep(list []syscallArgs, b []byte) {
	kept.Lock()
	defer kept.Unlock()
	kept.lists, kept.bytes = append(kept.lists, list), append(kept.bytes, b)
}

// closeBut closes all other descriptors, with close_range(2). Before Linux 5.9, and under a filter of system calls that
// does not know it, they stay open, but not those that a runtime reads to their end.
func closeBut(open []int) (list []syscallArgs) {
	for fd := range 3 {
		if !slices.Contains(open, fd) {
			list = append(list, syscallArgs{unix.SYS_CLOSE, uintptr(fd), 0, 0})
		}
	}
	slices.Sort(open)
	next := 0
	for _, fd := range open {
		if next < fd {
			list = append(list, syscallArgs{unix.SYS_CLOSE_RANGE, uintptr(next), uintptr(fd - 1), 0})
		}
		next = fd + 1
	}
	return append(list, syscallArgs{unix.SYS_CLOSE_RANGE, uintptr(next), math.MaxUint32, 0})
}
