package kernel_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }

// machine is a node with a container, and a kernel.Node that has entered it.
type machine struct {
	*testing.T
	node      *node.Node
	container *node.Namespace
	kernel    *kernel.Node
}

// on runs fn on a thread that is in the namespace of a node of its own: what fn does with package netlink it does there,
// as an administrator would by hand.
func on(t *testing.T, fn func(m *machine)) {
	t.Helper()
	n := node.New(t)
	c := n.Container()
	do(t, n.Namespace, func() error {
		attached(t, c, func(k *kernel.Node) { fn(&machine{T: t, node: n, container: c, kernel: k}) })
		return nil
	})
}

// attached runs fn with a kernel.Node of the thread's namespace that has entered a container.
func attached(t *testing.T, c *node.Namespace, fn func(k *kernel.Node)) {
	t.Helper()
	k, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := k.Enter(c.Path); err != nil {
		t.Fatal(err)
	}
	fn(k)
}

func do(t *testing.T, ns *node.Namespace, fn func() error) {
	t.Helper()
	if err := ns.Do(fn); err != nil {
		t.Fatal(err)
	}
}

// must ends the test when something done by hand fails.
func (m *machine) must(errs ...error) {
	m.Helper()
	for _, err := range errs {
		if err != nil {
			m.Fatal(err)
		}
	}
}

// in runs fn on a thread in the namespace of a place.
func (m *machine) in(p plan.Place, fn func() error) error {
	if p == plan.Host {
		return fn()
	}
	return m.container.Do(fn)
}

// apply makes the kernel hold objects.
func (m *machine) apply(objects ...plan.Object) {
	m.Helper()
	for _, o := range objects {
		if _, err := m.kernel.Apply(o); err != nil {
			m.Fatalf("apply: %v", err)
		}
	}
}

func (m *machine) undo(objects ...plan.Object) {
	m.Helper()
	for i := len(objects) - 1; i >= 0; i-- {
		if err := m.kernel.Undo(objects[i]); err != nil {
			m.Fatalf("undo: %v", err)
		}
	}
}

// observe returns what is there of the objects.
func (m *machine) observe(objects ...plan.Object) []plan.Object {
	m.Helper()
	var seen []plan.Object
	for _, o := range objects {
		got, err := m.kernel.Observe(o)
		if err != nil {
			m.Fatalf("observe: %v", err)
		}
		if got != nil {
			seen = append(seen, got)
		}
	}
	return seen
}

// findings is what CHECK would say of the objects.
func (m *machine) findings(objects ...plan.Object) plan.Findings {
	m.Helper()
	return plan.Diff(objects, m.observe(objects...))
}

// asPlanned fails the test unless the kernel shows the objects as they were planned.
func (m *machine) asPlanned(objects ...plan.Object) {
	m.Helper()
	if found := m.findings(objects...); len(found) > 0 {
		m.Fatalf("what is applied is not what is planned: %s", found)
	}
}

// refused fails the test unless err carries a code.
func (m *machine) refused(err error, code uint) {
	m.Helper()
	if err == nil {
		m.Fatalf("no error, want one with code %d", code)
	}
	if got := cnierr.Of(err, 0).Code; got != code {
		m.Fatalf("code %d, want %d: %v", got, code, err)
	}
}

// snapshot shows both namespaces.
func (m *machine) snapshot() string {
	return "host\n" + m.node.Snapshot() + "container\n" + m.container.Snapshot()
}

// unchanged fails the test unless both namespaces are as they were.
func (m *machine) unchanged(before, since string) {
	m.Helper()
	if diff := node.Diff(before, m.snapshot()); diff != "" {
		m.Fatalf("%s this differs:\n%s", since, diff)
	}
}

// by has an interface of a place changed by hand.
func by(p plan.Place, link string, fn func(netlink.Link) error) func(m *machine) error {
	return func(m *machine) error {
		return m.in(p, func() error {
			l, err := netlink.LinkByName(link)
			if err != nil {
				return err
			}
			return fn(l)
		})
	}
}

// foreign makes a veth pair that is none of the plugin's, up, with both ends on the node.
func foreign(name string) error {
	return netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, Flags: net.FlagUp, MTU: 1400}, PeerName: name[:min(len(name), 10)] + "-peer",
	})
}

// newBridge makes a bridge that is none of the plugin's.
func newBridge(name string) error {
	return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}})
}

// The attachment of most tests: host end vh, container end eth0.
var (
	owner = lease.Owner{
		Network: "podnet", ContainerID: "c1", IfName: "eth0", PodNamespace: "shop", PodName: "cart-0",
	}
	pair = plan.Pair{
		Host: "vh", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, MTU: 1400, Alias: owner.Alias(), Peer: "eth0", Up: true,
	}
	inside = plan.Interface{Name: "eth0", MAC: net.HardwareAddr{0x0a, 0x58, 0, 0, 0, 1}, MTU: 1400, Up: true}
	// second is another attachment of the same container.
	second       = plan.Pair{Host: "vh2", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, Peer: "eth1", Up: true}
	secondInside = plan.Interface{Name: "eth1", Up: true}
	bridge       = plan.Bridge{
		Name: "br0", Kind: "bridge", MTU: 1450, MAC: plan.BridgeMAC("br0"), Up: true,
		Alias: lease.NetworkAlias(owner.Network),
	}
	port = func() plan.Pair {
		p := pair
		p.Master = bridge.Name
		return p
	}()
	stranger = net.HardwareAddr{2, 0, 0, 0, 0, 9}
)

// link names the interface of the attachment in a place.
func link(p plan.Place) string {
	if p == plan.Host {
		return pair.Host
	}
	return pair.Peer
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
