package process

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/veth-cni/veth/test/node"
)

// Two networks, each with a bridge of its own and nothing else that they share.
const (
	oneBridge = `{"cniVersion": "1.1.0", "name": "onenet", "type": "veth", "bridge": "br1", "isDefaultGateway": true,
		"antiSpoof": false, "ipam": {"type": "veth", "ranges": [[{"subnet": "10.88.1.0/24"}]]}}`
	otherBridge = `{"cniVersion": "1.1.0", "name": "othernet", "type": "veth", "bridge": "br2", "isDefaultGateway": true,
		"antiSpoof": false, "ipam": {"type": "veth", "ranges": [[{"subnet": "10.88.2.0/24"}]]}}`
)

// besideGC runs a test with the configurations of which a GC can be in the way of oneBridge.
func besideGC(t *testing.T, test func(h *host, c *node.Namespace, gc string)) {
	t.Parallel()
	for name, gc := range map[string]string{"of its network": oneBridge, "of another": otherBridge} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			test(h, h.Container(), gc)
		})
	}
}

// The bridge that an ADD makes or finds is there when the ADD is done, wherever in between a GC of its network or of another
// has been at work.
func TestGCInTheMidstOfAnADD(t *testing.T) {
	besideGC(t, func(h *host, c *node.Namespace, gc string) {
		halting{
			command:   func() *exec.Cmd { return h.command("ADD", oneBridge, c) },
			meanwhile: func() { h.collect(gc, c) },
			then: func(added outcome) {
				h.check(oneBridge, c, added)
				h.del(oneBridge, c)
				h.collect(oneBridge)
			},
		}.everywhere(h)
	})
}

// And the other way round: an ADD from beginning to end, wherever in between in a GC.
func TestADDInTheMidstOfAGC(t *testing.T) {
	besideGC(t, func(h *host, c *node.Namespace, gc string) {
		prepare := func() { // a bridge that nobody is on
			h.add(gc, c)
			h.del(gc, c)
		}
		prepare()
		var added outcome
		halting{
			command:   func() *exec.Cmd { return h.command("GC", valid(gc, c), nil) },
			meanwhile: func() { added = h.add(oneBridge, c) },
			then: func(outcome) {
				h.check(oneBridge, c, added)
				h.del(oneBridge, c)
				prepare()
			},
		}.everywhere(h)
	})
}

// collect calls GC with the containers as those that are attached.
func (h *host) collect(config string, attached ...*node.Namespace) {
	h.t.Helper()
	h.call("GC", valid(config, attached...), nil).succeeds()
}

func valid(config string, attached ...*node.Namespace) string {
	var list []string
	for _, c := range attached {
		list = append(list, `{"containerID": "`+c.Name+`", "ifname": "eth0"}`)
	}
	return with(config, `{"cni.dev/valid-attachments": [`+strings.Join(list, ", ")+`]}`)
}

// halting is a command that is halted somewhere.
type halting struct {
	command   func() *exec.Cmd
	meanwhile func()        // done while it is
	then      func(outcome) // done when it has succeeded for all that
}

// everywhere executes the command again and again: halted after its first request to the kernel, after its second, and so
// on until it is done before.
func (c halting) everywhere(h *host) {
	h.t.Helper()
	const least = 5 // requests, or the test tests nothing
	for step, halted := 1, true; halted; step++ {
		var o outcome
		o, halted = c.after(step, h)
		o.succeeds()
		switch {
		case halted:
			c.then(o)
		case step <= least:
			h.t.Fatalf("not halted after request %d", step)
		}
	}
}

// after executes the command, and reports whether it has come as far as to be halted after a request.
func (c halting) after(step int, h *host) (o outcome, halted bool) {
	h.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Close()
	cmd := c.command()
	traced := exec.Command(node.Program(h.t, "strace"), "-f", "-qq", "-o", "/proc/self/fd/3", "-e", "trace=sendto,sendmsg,write",
		"-e", "inject=sendto,sendmsg,write:signal=STOP:when="+strconv.Itoa(step), cmd.Path)
	traced.Env, traced.Stdin, traced.Stdout, traced.Stderr = cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr
	traced.ExtraFiles = []*os.File{w}
	err = h.Start(traced)
	w.Close()
	for lines := bufio.NewScanner(r); lines.Scan(); {
		thread, event, _ := strings.Cut(lines.Text(), " ")
		if strings.Contains(event, "stopped by SIGSTOP") {
			c.meet(h, thread, halted)
			halted = true
		}
	}
	return h.finish(traced, err), halted
}

// meet has a thread that has halted go on, and its process with it, also when what is done meanwhile fails. Each thread of
// the process says that it has halted.
func (c halting) meet(h *host, thread string, again bool) {
	h.t.Helper()
	id, err := strconv.Atoi(thread)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(id, syscall.SIGCONT) }() // the thread may have ended
	if !again {
		c.meanwhile()
	}
}
