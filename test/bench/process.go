package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// call is one execution of a program.
type call struct {
	argv  []string // argv[0] is the path
	env   []string
	stdin []byte // less than a pipe holds, 64 KiB
}

// outcome is what became of a call.
type outcome struct {
	took           time.Duration // from before the fork to the exit and the end of both outputs, what a runtime waits for
	stdout, stderr []byte
}

// run executes the program in the network namespace of the calling goroutine's thread, to which it must be locked. The
// pipes are made and the input is written before the clock starts. Go forks as vfork(2) does, so that the size of this
// process does not matter.
func (c call) run() (outcome, error) {
	var fds [6]int // the two ends of stdin, stdout and stderr
	for i := 0; i < len(fds); i += 2 {
		if err := unix.Pipe2(fds[i:i+2], unix.O_CLOEXEC); err != nil {
			return outcome{}, fmt.Errorf("making a pipe: %w", err)
		}
	}
	defer func() {
		for _, fd := range fds {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
		}
	}()
	if _, err := unix.Write(fds[1], c.stdin); err != nil {
		return outcome{}, fmt.Errorf("writing the configuration: %w", err)
	}
	closeNow(&fds[1])
	attr := &syscall.ProcAttr{Env: c.env, Files: []uintptr{uintptr(fds[0]), uintptr(fds[3]), uintptr(fds[5])}}
	out := outcome{stdout: make([]byte, 0, 16384), stderr: make([]byte, 0, 16384)}

	start := time.Now()
	pid, err := syscall.ForkExec(c.argv[0], c.argv, attr)
	if err != nil {
		return outcome{}, fmt.Errorf("executing %s: %w", c.argv[0], err)
	}
	closeNow(&fds[3])
	closeNow(&fds[5])
	out.stdout = drain(fds[2], out.stdout)
	out.stderr = drain(fds[4], out.stderr)
	var status syscall.WaitStatus
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		_, err = syscall.Wait4(pid, &status, 0, nil)
	}
	out.took = time.Since(start)
	switch {
	case err != nil:
		return out, fmt.Errorf("waiting for %s: %w", c.argv[0], err)
	case status != 0:
		return out, fmt.Errorf("%s: status %#x: %s", c.argv[0], int(status), strings.TrimSpace(string(out.stdout)+string(out.stderr)))
	}
	return out, nil
}

func closeNow(fd *int) {
	_ = unix.Close(*fd)
	*fd = -1
}

// drain reads to the end. An error ends the output, too: the status tells what it was worth.
func drain(fd int, buf []byte) []byte {
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return buf
		}
		buf = buf[:len(buf)+n]
	}
}

// adopt makes processes whose parents end children of this one, so that reap can wait for them.
func adopt() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the reaper of orphans: %w", err)
	}
	return nil
}

// reap waits for every process that a call has left behind, so that its work disturbs no other measurement. No call may
// be under way.
func reap() error {
	for {
		_, err := syscall.Wait4(-1, nil, 0, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("waiting for orphans: %w", err)
		}
	}
}
