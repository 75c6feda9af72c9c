package process

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/node"
)

// DEL leaves a child behind, which waits for the kernel: nobody waits for the child who waits for DEL, it is not the
// runtime's, and soon it has ended.
func TestDelHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	ports := with(routed, `{"capabilities": {"portMappings": true}, "runtimeConfig": {"portMappings": [
		{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}, {"hostPort": 8080, "containerPort": 80, "protocol": "udp"}]}}`)
	for _, mode := range append([]mode{{"with ports", ports}}, modes...) {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			h.del(mode.config, h.Container("warm"))
			seen := 0
			for range 20 {
				h.add(mode.config, c)
				seen += h.delWatched(mode.config, c, h.Start)
			}
			if seen == 0 && leavesChild(t) {
				t.Error("no DEL of 20 has left a child: each has waited for the kernel itself")
			}
			if s := h.Snapshot(); strings.Contains(s, "link veth") {
				t.Errorf("an interface is left:\n%s", s)
			}
		})
	}
}

// With syncDelete, DEL leaves nothing to be done.
func TestSyncDelete(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	config := with(routed, `{"syncDelete": true}`)
	h.add(config, h.Container("other"))
	h.leaves(func() {
		for range 5 {
			h.add(config, c)
			if n := h.delWatched(config, c, h.Start); n > 0 {
				t.Errorf("%d children are left: want DEL to wait", n)
			}
		}
	}, c)
}

// A runtime that is process 1 of its PID namespace would get the child, and may reap nothing but what it has started.
func TestDelByProcess1(t *testing.T) {
	t.Parallel()
	// The shell is process 1 and the plugin 2; its threads and its child have the next numbers.
	const script = `"$0" || exit; for p in $(seq 3 60); do if kill -0 $p 2>/dev/null; then echo "$p is left"; exit 9; fi; done`
	h := newHost(t)
	c := h.Container()
	h.add(routed, h.Container("other"))
	h.leaves(func() {
		for range 5 {
			h.add(routed, c)
			cmd := h.command("DEL", routed, c)
			shell := exec.Command("sh", "-c", script, cmd.Path)
			shell.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
			shell.Stdin, shell.Stdout, shell.Stderr = cmd.Stdin, cmd.Stdout, cmd.Stderr
			shell.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
			h.finish(shell, h.Start(shell)).succeeds()
		}
	}, c)
}

// Where no child can be had, or it cannot do what it is for, DEL does it itself.
func TestDelWithoutAChild(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		filter []unix.SockFilter
	}{
		{"no process can be made", onFork(unix.SECCOMP_RET_ERRNO | uint32(unix.EAGAIN))},
		{"it is killed before it sends anything", onCall(unix.SYS_CLOSE_RANGE, unix.SECCOMP_RET_KILL_PROCESS)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			h.add(routed, h.Container("other"))
			h.leaves(func() {
				for range 3 {
					h.add(routed, c)
					n := h.delWatched(routed, c, func(cmd *exec.Cmd) error {
						return confined(tt.filter, func() error { return h.Start(cmd) })
					})
					if n > 0 {
						t.Errorf("%d children are left, want none", n)
					}
				}
			}, c)
		})
	}
}

// A container's filter of system calls may be older than close_range(2). Nobody waits for the child then either.
func TestDelUnderAnOldFilter(t *testing.T) {
	h := newHost(t)
	c := h.Container()
	h.add(routed, h.Container("other"))
	for range 3 {
		h.add(routed, c)
		h.delRead(routed, c, func(cmd *exec.Cmd) error {
			return confined(onCall(unix.SYS_CLOSE_RANGE, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)), func() error { return h.Start(cmd) })
		})
	}
}

// delWatched is delRead that returns how many children were left, and expects of each that it holds nothing but netlink
// sockets, is not the runtime's, and ends.
func (h *host) delWatched(config string, c *node.Namespace, start func(*exec.Cmd) error) int {
	h.t.Helper()
	left := h.delRead(config, c, start)
	for _, pid := range left {
		h.ends(pid)
	}
	return len(left)
}

// delRead is del by a runtime that waits for the end of standard output and error. It returns the children that were left
// when it had ended.
func (h *host) delRead(config string, c *node.Namespace, start func(*exec.Cmd) error) (left []int) {
	h.t.Helper()
	mark := fmt.Sprintf("WATCHED=%s %d", h.t.Name(), time.Now().UnixNano())
	cmd := h.command("DEL", config, c, mark)
	r, w, err := os.Pipe()
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	if err = start(cmd); err == nil {
		err = cmd.Wait()
	}
	w.Close()
	left = processes(mark)
	at := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}
	const forks = 5 // milliseconds: a test beside this one that is about to execute something has all descriptors for a moment
	if _, polled := unix.Poll(at, forks); polled != nil || at[0].Revents&unix.POLLHUP == 0 {
		h.t.Errorf("somebody still has standard output or error (%v)", polled)
	}
	if err != nil {
		text := make([]byte, 4096)
		n, _ := r.Read(text)
		h.t.Fatalf("DEL: %v\n%s", err, text[:n])
	}
	return left
}

// ends expects of a child what delWatched says. At any moment it may have ended.
func (h *host) ends(pid int) {
	h.t.Helper()
	dir := fmt.Sprintf("/proc/%d/", pid)
	fds, _ := filepath.Glob(dir + "fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && !strings.HasPrefix(to, "socket:") {
			h.t.Errorf("a child of DEL has %s", to)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(dir + "stat")
		if err != nil {
			return
		}
		_, after, _ := bytes.Cut(stat, []byte(") ")) // state, parent
		fields := bytes.Fields(after)
		if string(fields[1]) == strconv.Itoa(os.Getpid()) {
			h.t.Fatalf("the runtime is the parent of what DEL has left: %s", stat)
		}
		if string(fields[0]) == "Z" { // init's to reap
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("a child of DEL does not end: %s", stat)
		}
	}
}

// processes lists those that have a variable in their environment.
func processes(variable string) []int {
	var list []int
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		environ, _ := os.ReadFile(dir + "/environ") // of a zombie it is empty
		if bytes.Contains(environ, []byte(variable+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			list = append(list, pid)
		}
	}
	return list
}

// leavesChild reports whether DEL can leave a child: the processor is one that pkg/kernel has a child for, and the kernel
// says when an interface is gone, Linux 6.2.
func leavesChild(t *testing.T) bool {
	t.Helper()
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		return false
	}
	var name unix.Utsname
	var major, minor int
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 6 || major == 6 && minor >= 2
}

// confined runs fn on a thread with a filter of system calls (seccomp(2)), which ends with it. What fn starts keeps it.
func confined(filter []unix.SockFilter, fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		err := confine(filter)
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

// confine puts the thread under a filter, for good.
func confine(filter []unix.SockFilter) error {
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

// Offsets in struct seccomp_data (include/uapi/linux/seccomp.h).
const (
	seccompNumber   = 0
	seccompArgument = 16
)

// onCall is a filter for one system call, as this process makes them.
func onCall(number, action uint32) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: seccompNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: number, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: action},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
}

// onGetsockname is a filter for getsockname(2), which on some processors the system call library makes as socketcall(2).
func onGetsockname(action uint32) []unix.SockFilter {
	if runtime.GOARCH != "386" && runtime.GOARCH != "s390x" {
		return onCall(unix.SYS_GETSOCKNAME, action)
	}
	const socketCall, getsockname = 102, 6
	return onCallWith(socketCall, getsockname, action)
}

// onFork is a filter for clone(2) of what shares the memory and nothing else. Threads share more, and whoever is about to
// execute another program is waited for.
func onFork(action uint32) []unix.SockFilter {
	return onCallWith(unix.SYS_CLONE, unix.CLONE_VM|uint32(unix.SIGCHLD), action)
}

// onCallWith is onCall for a first argument.
func onCallWith(number, argument, action uint32) []unix.SockFilter {
	lower := uint32(seccompArgument)
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		lower += 4 // of the halves of the argument
	}
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: seccompNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: number, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: lower},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: argument, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: action},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
}
