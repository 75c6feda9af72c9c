package process

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

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
