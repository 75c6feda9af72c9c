package attach_test

import (
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/test/cni"
	"github.com/veth-cni/veth/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }

// network is a configuration; with gives it more keys, JSON values by name.
type network map[string]any

func (n network) with(more network) network {
	all := maps.Clone(n)
	maps.Copy(all, more)
	return all
}

// dual is a network of both families with the built-in IPAM: 10.88.ID.0/24 and 2001:db8:88:ID::/64.
func dual(name, id string, keys network) network {
	type r = map[string]string
	return network{
		"cniVersion": "1.1.0", "name": name, "type": "veth",
		"ipam": map[string]any{"type": "veth", "ranges": [][]r{
			{{"subnet": "10.88." + id + ".0/24"}}, {{"subnet": "2001:db8:88:" + id + "::/64"}},
		}},
	}.with(keys)
}

// call is what a runtime passes for one attachment, and the result of its ADD once there is one.
type call struct {
	node   *node.Node
	inside *node.Namespace
	ifName string
	conf   network
	result *current.Result
	lost   error // what keeps the result from the runtime

	beforeLoss func() // what happens before that
}

func (c *call) cni() cni.Call {
	return cni.Call{
		Node: c.node, Container: c.inside, IfName: c.ifName, Config: c.conf, Prev: c.result,
		Deliver: func(r *current.Result) error {
			c.result = r
			if c.beforeLoss != nil {
				c.beforeLoss()
			}
			return c.lost
		},
	}
}

func (c *call) add() error {
	_, err := c.cni().Add()
	return err
}

func (c *call) check() error { return c.cni().Check() }
func (c *call) del() error   { return c.cni().Del() }

func (c *call) gc(valid ...*call) error {
	var calls []cni.Call
	for _, v := range valid {
		calls = append(calls, v.cni())
	}
	return cni.GC(c.node, c.conf, calls...)
}

// addresses lists what the ADD gave.
func (c *call) addresses() []netip.Addr { return cni.Addresses(c.result) }

// attachTo makes an ADD that must succeed, and whose CHECK must.
func attachTo(t *testing.T, n *node.Node, inside *node.Namespace, ifName string, conf network) *call {
	t.Helper()
	c := &call{node: n, inside: inside, ifName: ifName, conf: conf}
	if err := c.add(); err != nil {
		t.Fatalf("ADD of %s to %s: %v", ifName, conf["name"], err)
	}
	if err := c.check(); err != nil {
		t.Fatalf("CHECK of %s on %s: %v", ifName, conf["name"], err)
	}
	return c
}

// settle waits until the kernel has told IPv6 of new carriers, from a work queue that a busy machine delays. A container
// takes longer to start than that, a test does not.
func settle(all ...*node.Namespace) {
	for _, ns := range all {
		_ = ns.Snapshot()
	}
}

// ip runs ip(8) inside a namespace.
func ip(t *testing.T, ns *node.Namespace, args ...string) {
	t.Helper()
	cmd := exec.Command(node.Program(t, "ip"), args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := ns.Run(cmd); err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, out.String())
	}
}

// set writes a sysctl as a namespace shows it.
func set(t *testing.T, ns *node.Namespace, key, value string) {
	t.Helper()
	if err := ns.Do(func() error { return os.WriteFile("/proc/sys/"+key, []byte(value), 0) }); err != nil {
		t.Fatal(err)
	}
}

// get reads a sysctl as a namespace shows it.
func get(t *testing.T, ns *node.Namespace, key string) string {
	t.Helper()
	var value []byte
	err := ns.Do(func() (err error) {
		value, err = os.ReadFile("/proc/sys/" + key)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(value))
}

// link looks an interface up inside a namespace.
func link(t *testing.T, ns *node.Namespace, name string) *netlink.LinkAttrs {
	t.Helper()
	var l netlink.Link
	err := ns.Do(func() (err error) {
		l, err = netlink.LinkByName(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs()
}

var addr = netip.MustParseAddr
