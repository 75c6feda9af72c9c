package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/veth-cni/veth/test/node"
)

// host is a machine and the runtime on it, for one test.
type host struct {
	*node.Node
	t    testing.TB
	name string // the file name the plugin is executed by: "veth", "bridge" or "ptp"
	path string // CNI_PATH
}

func newHost(t testing.TB) *host {
	t.Helper()
	if err := opened(); err != nil {
		t.Fatal(err)
	}
	return &host{Node: node.New(t), t: t, name: "veth", path: binaries}
}

// as is the same host whose runtime executes the plugin by another file name.
func (h *host) as(name string) *host {
	other := *h
	other.name = name
	return &other
}

// call executes the plugin for a container, nil for verbs that have none. env adds to the variables of the
// specification and replaces them: "CNI_NETNS=" leaves a variable empty, "CNI_NETNS" leaves it out.
func (h *host) call(verb, config string, c *node.Namespace, env ...string) outcome {
	h.t.Helper()
	cmd := h.command(verb, config, c, env...)
	return h.finish(cmd, h.Start(cmd))
}

// command is what call executes.
func (h *host) command(verb, config string, c *node.Namespace, env ...string) *exec.Cmd {
	vars := map[string]string{"PATH": os.Getenv("PATH"), "CNI_PATH": h.path, "CNI_COMMAND": verb}
	if c != nil {
		vars["CNI_CONTAINERID"], vars["CNI_IFNAME"], vars["CNI_NETNS"] = c.Name, "eth0", c.Path
	}
	for _, e := range env {
		if name, value, set := strings.Cut(e, "="); set {
			vars[name] = value
		} else {
			delete(vars, name)
		}
	}
	cmd := exec.Command(filepath.Join(binaries, h.name))
	cmd.Env = []string{}
	for name, value := range vars {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	slices.Sort(cmd.Env)
	cmd.Stdin = strings.NewReader(config)
	cmd.Stdout, cmd.Stderr = new(bytes.Buffer), new(bytes.Buffer)
	return cmd
}

// finish waits for a process that was started with the outcome of Start.
func (h *host) finish(cmd *exec.Cmd, err error) outcome {
	h.t.Helper()
	if err == nil {
		err = cmd.Wait()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("%s: %v", cmd, err)
	}
	return outcome{
		t: h.t, what: strings.Join(append(cmd.Args, cmd.Env...), " "), status: cmd.ProcessState.ExitCode(),
		stdout: cmd.Stdout.(*bytes.Buffer).String(), stderr: cmd.Stderr.(*bytes.Buffer).String(),
	}
}

// add attaches a container and ends the test if that fails.
func (h *host) add(config string, c *node.Namespace, env ...string) outcome {
	h.t.Helper()
	return h.call("ADD", config, c, env...).succeeds()
}

// check expects CHECK to find an attachment as ADD has reported it.
func (h *host) check(config string, c *node.Namespace, added outcome, env ...string) {
	h.t.Helper()
	h.call("CHECK", added.before(config), c, env...).succeeds()
}

// del detaches a container and ends the test if that fails.
func (h *host) del(config string, c *node.Namespace, env ...string) {
	h.t.Helper()
	h.call("DEL", config, c, env...).succeeds()
}

// leaves expects fn to leave the host and containers as they were.
func (h *host) leaves(fn func(), containers ...*node.Namespace) {
	h.t.Helper()
	if diff := h.changes(fn, containers...); diff != "" {
		h.t.Errorf("the kernel is not as it was before:\n%s", diff)
	}
}

// changes lists what fn changes on the host and in containers.
func (h *host) changes(fn func(), containers ...*node.Namespace) string {
	h.t.Helper()
	all := append([]*node.Namespace{h.Namespace}, containers...)
	before := make([]string, len(all))
	for i, ns := range all {
		before[i] = ns.Snapshot()
	}
	fn()
	var diff strings.Builder
	for i, ns := range all {
		if d := node.Diff(before[i], ns.Snapshot()); d != "" {
			fmt.Fprintf(&diff, "%s:\n%s", ns.Name, d)
		}
	}
	return diff.String()
}

// cnitool runs the reference implementation's client of plugins with the configuration lists in dir.
func (h *host) cnitool(dir, verb, network string, c *node.Namespace, env ...string) outcome {
	h.t.Helper()
	cmd := exec.Command(filepath.Join(binaries, "cnitool"), verb, network, c.Path)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "CNI_PATH=" + h.path, "NETCONFPATH=" + dir}, env...)
	cmd.Stdout, cmd.Stderr = new(bytes.Buffer), new(bytes.Buffer)
	return h.finish(cmd, h.Start(cmd))
}

// outcome is how a process ended.
type outcome struct {
	t              testing.TB
	what           string
	status         int
	stdout, stderr string
}

func (o outcome) String() string {
	return fmt.Sprintf("%s\nexit status %d\nstdout: %s\nstderr: %s", o.what, o.status, o.stdout, o.stderr)
}

func (o outcome) succeeds() outcome {
	o.t.Helper()
	if o.status != 0 {
		o.t.Fatalf("want success of %s", o)
	}
	return o
}

// refused expects the error of the specification: JSON on standard output with the version asked for, a code, and a
// message that holds all of the words.
func (o outcome) refused(code uint, words ...string) {
	o.t.Helper()
	if o.status != 1 {
		o.t.Fatalf("want exit status 1 of %s", o)
	}
	var e struct {
		CNIVersion string `json:"cniVersion"`
		Code       uint   `json:"code"`
		Msg        string `json:"msg"`
		Details    string `json:"details"`
	}
	decoder := json.NewDecoder(strings.NewReader(o.stdout))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&e); err != nil || decoder.More() {
		o.t.Fatalf("want one JSON error on stdout of %s: %v", o, err)
	}
	if e.CNIVersion == "" || e.Code != code || e.Msg == "" {
		o.t.Errorf("got cniVersion %q, code %d and message %q, want a version, code %d and a message", e.CNIVersion, e.Code, e.Msg, code)
	}
	for _, w := range words {
		if !strings.Contains(e.Msg+" "+e.Details, w) {
			o.t.Errorf("code %d says %q %q, want it to say %q", e.Code, e.Msg, e.Details, w)
		}
	}
}

// result is the result of a successful ADD, converted to the newest version.
func (o outcome) result() *current.Result {
	o.t.Helper()
	o.succeeds()
	r, err := create.CreateFromBytes([]byte(o.stdout))
	if err != nil {
		o.t.Fatalf("%v: no result: %s", err, o)
	}
	converted, err := current.NewResultFromResult(r)
	if err != nil {
		o.t.Fatalf("%v: no result: %s", err, o)
	}
	return converted
}

// addresses are those that a result reports.
func (o outcome) addresses() []netip.Addr {
	o.t.Helper()
	var list []netip.Addr
	for _, ip := range o.result().IPs {
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			o.t.Fatalf("no address in %v of %s", ip, o)
		}
		list = append(list, a.Unmap())
	}
	return list
}

// hostEnd is the name of the attachment's interface on the host.
func (o outcome) hostEnd() string {
	o.t.Helper()
	for _, i := range o.result().Interfaces {
		if i.Sandbox == "" && strings.HasPrefix(i.Name, "veth") {
			return i.Name
		}
	}
	o.t.Fatalf("no host end among the interfaces of %s", o)
	return ""
}

// before is a configuration with this outcome's result as prevResult, as a runtime calls the verbs after ADD.
func (o outcome) before(config string) string { return with(config, `{"prevResult": `+o.stdout+`}`) }
