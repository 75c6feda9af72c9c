package process

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/veth-cni/veth/test/node"
)

// Wherever an ADD is killed, DEL leaves the node as it was before: each step of an ADD is found by the names that only
// this attachment can have.
func TestKilledAddAndDel(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name+", by the clock", func(t *testing.T) {
			t.Parallel()
			h := warm(t, mode.config)
			c := h.Container()
			before, inside := h.Snapshot(), c.Snapshot()
			killed := 0
			for delay := time.Duration(0); delay <= 3*time.Millisecond; delay += 50 * time.Microsecond {
				cmd := h.command("ADD", mode.config, c)
				if err := h.Start(cmd); err != nil {
					t.Fatal(err)
				}
				time.Sleep(delay)
				_ = cmd.Process.Kill() // it may have ended
				if cmd.Wait() != nil {
					killed++
				}
				h.del(mode.config, c)
				if diff := node.Diff(before, h.Snapshot()) + node.Diff(inside, c.Snapshot()); diff != "" {
					t.Fatalf("after a kill at %v and DEL:\n%s", delay, diff)
				}
			}
			if killed == 0 {
				t.Error("every ADD ended before it was killed: the test tests nothing")
			}
		})
		t.Run(mode.name+", before each request to the kernel", func(t *testing.T) {
			t.Parallel()
			h := warm(t, mode.config)
			c := h.Container()
			before, inside := h.Snapshot(), c.Snapshot()
			h.killEverywhere(mode.config, c, func(step int) {
				h.del(mode.config, c)
				if diff := node.Diff(before, h.Snapshot()) + node.Diff(inside, c.Snapshot()); diff != "" {
					t.Fatalf("after a kill before request %d and DEL:\n%s", step, diff)
				}
			})
		})
	}
}

// On a node that has seen nothing of the network yet, the network's own objects are left to GC, and forwarding to the
// administrator.
func TestKilledAddOnANewNode(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			gc := with(mode.config, `{"cni.dev/valid-attachments": []}`)
			h := newHost(t)
			c := h.Container()
			before, inside := h.Snapshot(), c.Snapshot()
			h.killEverywhere(mode.config, c, func(step int) {
				h.del(mode.config, c)
				h.call("GC", gc, nil).succeeds()
				if diff := butForwarding(node.Diff(before, h.Snapshot())) + node.Diff(inside, c.Snapshot()); diff != "" {
					t.Fatalf("after a kill before request %d, DEL and GC:\n%s", step, diff)
				}
			})
			for _, switched := range []string{"net/ipv4/ip_forward 1", "net/ipv6/conf/all/forwarding 1"} {
				if diff := node.Diff(before, h.Snapshot()); !strings.Contains(diff, "+ sysctl "+switched) {
					t.Errorf("%s: want it to stay, found the node to differ by\n%s", switched, diff)
				}
			}
		})
	}
}

// warm is a host that has another attachment on the network, and with it all that the network shares.
func warm(t *testing.T, config string) *host {
	t.Helper()
	h := newHost(t)
	h.add(config, h.Container("other"))
	return h
}

// killEverywhere runs an ADD again and again, killed before its first request to the kernel, before its second, and so
// on until one survives, and calls after every time.
func (h *host) killEverywhere(config string, c *node.Namespace, after func(step int)) {
	h.t.Helper()
	const most = 200 // an ADD makes some dozens
	for step := 1; ; step++ {
		o := h.killed(step, "ADD", config, c)
		after(step)
		switch {
		case o.status == 0 && step < 10:
			h.t.Fatalf("ADD has survived before %d requests: %s", step, o)
		case o.status == 0:
			return
		case step == most:
			h.t.Fatalf("ADD has made %d requests to the kernel and is not done", most)
		case o.stdout != "":
			h.t.Fatalf("a killed ADD answers: %s", o)
		}
	}
}

// killed calls the plugin, which is killed before its nth request to the kernel if it makes so many.
func (h *host) killed(nth int, verb, config string, c *node.Namespace) outcome {
	h.t.Helper()
	cmd := h.command(verb, config, c)
	traced := exec.Command(node.Program(h.t, "strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto,sendmsg,write",
		"-e", "inject=sendto,sendmsg,write:signal=KILL:when="+strconv.Itoa(nth), cmd.Path)
	traced.Env, traced.Stdin, traced.Stdout, traced.Stderr = cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr
	return h.finish(traced, h.Start(traced))
}

// Wherever the last DEL with ports is killed, or the GC after it, the same again leaves nothing.
func TestKilledDelAndGC(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	config := with(bridged, `{"ipMasq": true, "hostPortSources": ["192.0.2.0/24"], "runtimeConfig": {"portMappings":
		[{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}, "cni.dev/valid-attachments": []}`)
	h.add(config, c)
	h.del(config, c)
	subnets := h.Snapshot() // stay until GC
	h.call("GC", config, nil).succeeds()
	none := h.Snapshot()
	for _, x := range []struct {
		verb string
		want string
	}{{"DEL", subnets}, {"GC", none}} {
		for nth, done := 1, false; !done; nth++ {
			h.add(config, c)
			done = h.killed(nth, x.verb, config, c).status == 0
			h.call(x.verb, config, c).succeeds()
			if diff := node.Diff(x.want, h.Snapshot()); diff != "" {
				t.Errorf("%s killed before request %d, and again:\n%s", x.verb, nth, diff)
			}
			if done && nth < 5 || nth == 200 {
				t.Fatalf("%s has made %d requests, done %v", x.verb, nth, done)
			}
		}
	}
}
