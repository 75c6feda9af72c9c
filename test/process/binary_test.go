package process

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/node"
)

func TestBinaryIsSmallAndStatic(t *testing.T) {
	t.Parallel()
	path := filepath.Join(binaries, "veth")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 8_000_000
	if info.Size() >= limit {
		t.Errorf("the binary has %d bytes, want less than %d", info.Size(), limit)
	}
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary asks for a dynamic linker")
		}
	}
}

// starts matches the system calls by which programs and processes start.
var starts = regexp.MustCompile(`\b(execve|execveat|fork|vfork)\(`)

// Where addresses are leased in the kernel no other program is executed: neither by ADD, nor by any other verb.
func TestOneExecvePerCall(t *testing.T) {
	t.Parallel()
	strace := node.Program(t, "strace")
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			trace := func(verb, config string) outcome {
				log := filepath.Join(t.TempDir(), verb)
				cmd := h.command(verb, config, c)
				traced := exec.Command(strace, "-f", "-qq", "-o", log, "-e", "trace=execve,execveat,fork,vfork", cmd.Path)
				traced.Env, traced.Stdin, traced.Stdout, traced.Stderr = cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr
				o := h.finish(traced, h.Start(traced)).succeeds()
				calls, err := os.ReadFile(log)
				if err != nil {
					t.Fatal(err)
				}
				if n := len(starts.FindAll(calls, -1)); n != 1 {
					t.Errorf("%s: %d processes or programs were started, want 1:\n%s", verb, n, calls)
				}
				return o
			}
			added := trace("ADD", mode.config)
			trace("CHECK", added.before(mode.config))
			trace("STATUS", mode.config)
			trace("DEL", mode.config)
			trace("GC", with(mode.config, `{"cni.dev/valid-attachments": []}`))
		})
	}
}

func TestCallWithoutAVerbTellsWhatThisIs(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	o := h.call("", "", nil).succeeds()
	if !strings.Contains(o.stderr, "CNI plugin veth") || !strings.Contains(o.stderr, "1.1.0") {
		t.Errorf("want the plugin's name and the versions it speaks: %s", o)
	}
}

// A runtime may hand over a pipe that is full and does not block. The plugin then waits until there is room.
func TestOutputWaitsForRoom(t *testing.T) {
	t.Parallel()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	out, in := os.NewFile(uintptr(fds[0]), "out"), os.NewFile(uintptr(fds[1]), "in")
	defer out.Close()
	defer in.Close()
	filled := 0
	for err := error(nil); err == nil; {
		var n int
		n, err = unix.Write(fds[1], make([]byte, 4096))
		filled += max(n, 0)
	}
	h := newHost(t)
	cmd := h.command("VERSION", `{"cniVersion": "1.1.0"}`, nil)
	cmd.Stdout = in
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	in.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		doing, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", cmd.Process.Pid))
		if strings.HasPrefix(string(doing), fmt.Sprint(unix.SYS_PPOLL, " ")) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Errorf("it does not wait: system call %s: %v", doing, err)
			break
		}
	}
	said, err := io.ReadAll(out)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Errorf("%v: %s", err, cmd.Stderr)
	}
	if !strings.Contains(string(said[min(filled, len(said)):]), `"supportedVersions"`) {
		t.Errorf("got %q behind the %d bytes that were there", said[min(filled, len(said)):], filled)
	}
}
