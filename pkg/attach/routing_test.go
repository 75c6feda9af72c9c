package attach_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/test/node"
)

// strict makes the kernel drop what arrives by another interface than an answer would leave by.
func strict(t *testing.T, ns *node.Namespace) {
	t.Helper()
	set(t, ns, "net/ipv4/conf/all/rp_filter", "1")
	set(t, ns, "net/ipv4/conf/default/rp_filter", "1")
}

var (
	routed = network{}
	bridge = network{"isGateway": true}
)

func on(base network, name string, more network) network {
	if base["isGateway"] == true {
		more = more.with(network{"bridge": "br-" + name})
	}
	return base.with(more)
}

// modes are the ways to give a container two interfaces: eth0 with the main table, net1 with one of its own.
var modes = []struct {
	name        string
	first, then network
}{
	{"routed and routed", on(routed, "a", network{}), on(routed, "b", network{"table": 100})},
	{"routed and bridge", on(routed, "a", network{}), on(bridge, "b", network{"table": "auto"})},
	{"bridge and routed", on(bridge, "a", network{"isDefaultGateway": true}), on(routed, "b", network{"table": "auto"})},
	{"bridge and bridge", on(bridge, "a", network{"isDefaultGateway": true}), on(bridge, "b", network{"table": 100})},
}

// Whoever asks at an address gets an answer from it by its interface, with reverse path filters as strict as they get.
func TestTwoInterfacesAnswerEachForItself(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			n := node.New(t)
			both, onlyA, onlyB := n.Container(), n.Container(), n.Container()
			for _, ns := range []*node.Namespace{n.Namespace, both, onlyA, onlyB} {
				strict(t, ns)
			}
			a, b := dual("a", "1", mode.first), dual("b", "2", mode.then)
			eth0 := attachTo(t, n, both, "eth0", a)
			net1 := attachTo(t, n, both, "net1", b)
			attachTo(t, n, onlyA, "eth0", a)
			delete(b, "table") // its one interface is its way everywhere
			attachTo(t, n, onlyB, "eth0", b.with(network{"isDefaultGateway": true}))
			settle(n.Namespace, both, onlyA, onlyB)
			for _, asker := range []*node.Namespace{onlyA, onlyB, n.Namespace} {
				answers(t, asker, eth0, "net1")
				answers(t, asker, net1, "eth0")
			}
			if err := eth0.check(); err != nil {
				t.Errorf("CHECK of eth0 beside net1: %v", err)
			}
		})
	}
}

// answers pings all addresses of an attachment. More packets must leave by its interface than by the other, which may
// send some of its own (router solicitations, multicast reports).
func answers(t *testing.T, asker *node.Namespace, asked *call, other string) {
	t.Helper()
	const pings = 10
	for _, a := range asked.addresses() {
		own, foreign := sent(t, asked.inside, asked.ifName), sent(t, asked.inside, other)
		for range pings {
			if err := asker.Ping(a); err != nil {
				t.Errorf("%s of %s: %v", asked.ifName, asked.inside.Name, err)
				return
			}
		}
		own, foreign = sent(t, asked.inside, asked.ifName)-own, sent(t, asked.inside, other)-foreign
		if own < pings || foreign >= pings {
			t.Errorf("answers to %s from %s: %d packets left by %s and %d by %s", asker.Name, a, own, asked.ifName, foreign, other)
		}
	}
}

func sent(t *testing.T, ns *node.Namespace, name string) uint64 {
	t.Helper()
	return link(t, ns, name).Statistics.TxPackets
}

// The test above would pass without rules if the main table were as good: it is not.
func TestWithoutATableAnswersLeaveByTheWrongInterface(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	both, onlyA := n.Container(), n.Container()
	a, b := dual("a", "1", nil), dual("b", "2", network{"isDefaultGateway": false})
	attachTo(t, n, both, "eth0", a)
	net1 := attachTo(t, n, both, "net1", b)
	attachTo(t, n, onlyA, "eth0", a)
	to := net1.addresses()[0]
	if onlyA.PingWith(to, node.PingOptions{Timeout: 300 * time.Millisecond}) == nil {
		t.Errorf("%s answered a container of the other network without a table", to)
	}
}

// Two networks that nobody has planned together: both have the same subnet, and each its own neighbours.
func TestTwoInterfacesOfOneSubnet(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	both, onlyA, onlyB := n.Container(), n.Container(), n.Container()
	strict(t, both)
	a := dual("a", "1", network{"bridge": "br-a"})
	b := dual("b", "1", network{"bridge": "br-b", "table": "auto", "isDefaultGateway": false})
	eth0, net1 := attachTo(t, n, both, "eth0", a), attachTo(t, n, both, "net1", b)
	attachTo(t, n, onlyA, "eth0", a)
	delete(b, "table")
	attachTo(t, n, onlyB, "eth0", b)
	settle(both, onlyA, onlyB)
	answers(t, onlyA, eth0, "net1")
	answers(t, onlyB, net1, "eth0")
}

// The conflist that the documentation offers for a second network does what it is for.
func TestSecondNetworkConflist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../conf/92-second-network.conflist")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		CNIVersion string    `json:"cniVersion"`
		Name       string    `json:"name"`
		Plugins    []network `json:"plugins"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	n := node.New(t)
	both, onlyA := n.Container(), n.Container()
	strict(t, both)
	a := dual("a", "1", nil)
	world(t, n, "1450", "route add default dev out")
	attachTo(t, n, both, "eth0", a)
	net1 := attachTo(t, n, both, "net1", list.Plugins[0].with(network{"cniVersion": list.CNIVersion, "name": list.Name}))
	attachTo(t, n, onlyA, "eth0", a)
	settle(n.Namespace, both, onlyA)
	answers(t, onlyA, net1, "eth0")
	if l := link(t, both, "net1"); l.MTU != 1400 || l.TxQLen != 1000 || get(t, both, "net/ipv4/conf/net1/log_martians") != "1" {
		t.Errorf("the second interface: %+v", l)
	}
}

// A second interface for its own network only: no default route, and the network's containers are reached through it.
func TestSecondInterfaceWithoutDefaultRoute(t *testing.T) {
	t.Parallel()
	for _, keys := range []network{
		{"isDefaultGateway": false},
		{"isDefaultGateway": false, "isGateway": true, "bridge": "br-b"},
	} {
		t.Run(fmt.Sprint(keys["bridge"]), func(t *testing.T) {
			t.Parallel()
			n := node.New(t)
			both, onlyB := n.Container(), n.Container()
			attachTo(t, n, both, "eth0", dual("a", "1", nil))
			before := both.Snapshot()
			net1 := attachTo(t, n, both, "net1", dual("b", "2", keys))
			b := attachTo(t, n, onlyB, "eth0", dual("b", "2", keys))
			if d := node.Diff(before, both.Snapshot()); strings.Contains(d, "default") {
				t.Errorf("a default route changed:\n%s", d)
			}
			settle(n.Namespace, both, onlyB)
			for _, a := range b.addresses() {
				if err := both.Ping(a); err != nil {
					t.Error(err)
				}
			}
			for _, a := range net1.addresses() {
				if err := onlyB.Ping(a); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestDelOfOneInterfaceLeavesTheOther(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			n := node.New(t)
			both := n.Container()
			eth0 := attachTo(t, n, both, "eth0", dual("a", "1", mode.first))
			before := both.Snapshot()
			net1 := attachTo(t, n, both, "net1", dual("b", "2", mode.then))
			for range 2 { // a runtime may repeat a DEL
				if err := net1.del(); err != nil {
					t.Fatal(err)
				}
			}
			if d := node.Diff(before, both.Snapshot()); d != "" {
				t.Errorf("DEL of net1 has left:\n%s", d)
			}
			net1 = attachTo(t, n, both, "net1", dual("b", "2", mode.then))
			before = both.Snapshot()
			if err := eth0.del(); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(node.Diff(before, both.Snapshot())) {
				if strings.HasPrefix(line, "+") || strings.HasPrefix(line, "- rule") || strings.Contains(line, "net1") {
					t.Errorf("DEL of eth0 has touched the other: %s", line)
				}
			}
			if err := net1.check(); err != nil {
				t.Errorf("CHECK of net1: %v", err)
			}
		})
	}
}

func TestGCOfOneNetworkLeavesTheOther(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	both, alive := n.Container(), n.Container()
	a, b := dual("a", "1", nil), dual("b", "2", network{"table": "auto"})
	eth0, net1 := attachTo(t, n, both, "eth0", a), attachTo(t, n, both, "net1", b)
	kept := attachTo(t, n, alive, "eth0", a)
	if err := eth0.gc(kept); err != nil {
		t.Fatal(err)
	}
	if err := eth0.check(); err == nil {
		t.Error("GC has left an attachment that the runtime does not list")
	}
	for _, c := range []*call{kept, net1} {
		if err := c.check(); err != nil {
			t.Error(err)
		}
	}
}

// Two attachments that share a table, by configuration: the rules of one are not the other's.
func TestDelKeepsTheRulesOfASharedTable(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	net1 := attachTo(t, n, c, "net1", dual("a", "1", network{"table": 7}))
	before := c.Snapshot()
	net2 := attachTo(t, n, c, "net2", dual("b", "2", network{"table": 7, "isDefaultGateway": false}))
	if err := net2.del(); err != nil {
		t.Fatal(err)
	}
	if d := node.Diff(before, c.Snapshot()); d != "" {
		t.Errorf("DEL of net2 has left:\n%s", d)
	}
	if err := net1.check(); err != nil {
		t.Error(err)
	}
}

// The interface may be gone before DEL comes: a user inside removed it.
func TestDelFindsRulesByTheResult(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	before := c.Snapshot()
	net1 := attachTo(t, n, c, "net1", dual("a", "1", network{"table": "auto"}))
	ip(t, c, "link", "del", "net1")
	if err := net1.del(); err != nil {
		t.Fatal(err)
	}
	if d := node.Diff(before, c.Snapshot()); d != "" {
		t.Errorf("DEL has left:\n%s", d)
	}
}

// The interface may have another name by now, and nobody has kept the result.
func TestDelFindsRulesByTheInterface(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	before := c.Snapshot()
	net1 := attachTo(t, n, c, "net1", dual("a", "1", network{"table": "auto"}))
	ip(t, c, "link", "set", "net1", "down")
	ip(t, c, "link", "set", "net1", "name", "mine")
	net1.result = nil
	if err := net1.del(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(node.Diff(before, c.Snapshot())) {
		if strings.Contains(line, "rule") {
			t.Errorf("DEL has left: %s", line)
		}
	}
}

// The host end may have its peer in another namespace by now, where the index is that of another interface here.
func TestDelTakesNoStrangerForThePeer(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c, elsewhere := n.Container(), n.Container()
	net1 := attachTo(t, n, c, "net1", dual("a", "1", network{"table": 7}))
	ip(t, c, "link", "set", "net1", "netns", elsewhere.Name)
	index := fmt.Sprint(link(t, elsewhere, "net1").Index)
	ip(t, c, "link", "add", "mine", "index", index, "type", "bridge")
	ip(t, c, "address", "add", "10.99.0.1/32", "dev", "mine")
	ip(t, c, "rule", "add", "priority", "30000", "from", "10.99.0.1", "lookup", "7")
	net1.result = nil
	if err := net1.del(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(c.Snapshot(), "from 10.99.0.1/32") {
		t.Error("DEL has removed the rule of another interface")
	}
}

// DEL must not take the rules of an attachment that has the interface's name now.
func TestLateDelLeavesTheNextAttachment(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	old := attachTo(t, n, c, "net1", dual("a", "1", network{"table": 7}))
	if err := old.del(); err != nil {
		t.Fatal(err)
	}
	now := attachTo(t, n, c, "net1", dual("b", "2", network{"table": 7}))
	old.result = nil
	if err := old.del(); err != nil {
		t.Fatal(err)
	}
	if err := now.check(); err != nil {
		t.Error(err)
	}
}

func TestFailedAddTakesRulesBack(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	ip(t, n.Namespace, "link", "add", "br-a", "type", "bridge")
	ip(t, n.Namespace, "link", "set", "br-a", "up")
	ip(t, n.Namespace, "address", "add", "198.18.7.1/24", "dev", "br-a")
	before := c.Snapshot()
	net1 := &call{node: n, inside: c, ifName: "net1", conf: dual("a", "1", on(bridge, "a", network{"table": 9}))}
	err := net1.add()
	if err == nil || !strings.Contains(err.Error(), "198.18.7.1") {
		t.Fatalf("ADD with a gateway that the bridge cannot take: %v", err)
	}
	if d := node.Diff(before, c.Snapshot()); d != "" {
		t.Errorf("the failed ADD has left:\n%s", d)
	}
}

func TestCheckNamesWhatIsWrongWithRules(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	net1 := attachTo(t, n, c, "net1", dual("a", "1", network{"table": 9}))
	four, six := net1.addresses()[0], net1.addresses()[1]
	ip(t, c, "rule", "del", "from", four.String())
	wrong(t, net1, "container rule 30000 from "+four.String()+": missing")
	ip(t, c, "rule", "add", "priority", "30000", "from", four.String(), "lookup", "8")
	wrong(t, net1, "container rule 30000 from "+four.String()+": table: want 9, found 8")
	ip(t, c, "rule", "add", "priority", "30000", "from", four.String(), "lookup", "9")
	if err := net1.check(); err != nil {
		t.Errorf("CHECK with somebody else's rule beside the wanted one: %v", err)
	}
	ip(t, c, "-6", "route", "del", "default", "table", "9")
	wrong(t, net1, "container route IPv6 default table 9: missing")
	ip(t, c, "-6", "rule", "del", "from", six.String())
	wrong(t, net1, "container rule 30000 from "+six.String()+": missing")
}

func wrong(t *testing.T, c *call, want string) {
	t.Helper()
	err := c.check()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("CHECK: %v\nwant %s", err, want)
	}
}

// Both networks want to be the way out: the metric says which is.
func TestDefaultRouteMetric(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	eth0 := attachTo(t, n, c, "eth0", dual("a", "1", nil))
	rival := &call{node: n, inside: c, ifName: "net1", conf: dual("b", "2", nil)}
	err := rival.add()
	if err == nil || !strings.Contains(err.Error(), "container route default: ") ||
		!strings.Contains(err.Error(), "defaultRouteMetric") {
		t.Fatalf("ADD of a second default route: %v", err)
	}
	net1 := attachTo(t, n, c, "net1", dual("b", "2", network{"defaultRouteMetric": 2000}))
	outward := func(want string, to ...string) {
		t.Helper()
		for _, a := range to {
			if got := leavesBy(t, c, netip.MustParseAddr(a)); got != want {
				t.Errorf("packets to %s leave by %s, want %s", a, got, want)
			}
		}
	}
	outward("eth0", "198.18.9.9", "2001:db8:9::9")
	if err := eth0.del(); err != nil {
		t.Fatal(err)
	}
	outward("net1", "198.18.9.9", "2001:db8:9::9")
	if got := net1.result.Routes[0].Priority; got != 2000 {
		t.Errorf("the result gives the route metric %d", got)
	}
}

// leavesBy asks the kernel for the interface that a packet would leave by.
func leavesBy(t *testing.T, ns *node.Namespace, to netip.Addr) string {
	t.Helper()
	var name string
	err := ns.Do(func() error {
		routes, err := netlink.RouteGet(to.AsSlice())
		if err != nil {
			return err
		}
		l, err := netlink.LinkByIndex(routes[0].LinkIndex)
		if err == nil {
			name = l.Attrs().Name
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}
