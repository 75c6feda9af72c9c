// Command launch executes a program as its child, with the same descriptors and environment, and tells on standard error
// how much memory the child had at most. A process begins with the peak of the one that forked it (exec_mmap in
// fs/exec.c), so a big parent cannot ask: this one is small.
package main

import (
	"os"
	"strconv"
	"syscall"
)

func main() {
	pid, err := syscall.ForkExec(os.Args[1], os.Args[1:], &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		fail(err)
	}
	var status syscall.WaitStatus
	var usage syscall.Rusage
	if _, err := syscall.Wait4(pid, &status, 0, &usage); err != nil {
		fail(err)
	}
	_, _ = os.Stderr.WriteString("\npeak " + strconv.Itoa(int(usage.Maxrss)) + "\n")
	os.Exit(status.ExitStatus())
}

func fail(err error) {
	_, _ = os.Stderr.WriteString("launch: " + err.Error() + "\n")
	os.Exit(1)
}
