// Package isolation tests what keeps containers from others, with containers that cheat: real packets in namespaces of
// its own, in both modes and both address families.
package isolation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/attach"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/test/cni"
	"github.com/veth-cni/veth/test/frames"
	"github.com/veth-cni/veth/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }

var (
	host4, host6   = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:1::1")
	world4, world6 = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8:1::2")
)

// machine is a node with an uplink to the world, which has routes to the containers behind it.
type machine struct {
	*node.Node
	t     testing.TB
	world *node.Namespace
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	m := &machine{Node: node.New(t), t: t}
	m.world = m.World([]netip.Addr{host4, host6}, []netip.Addr{world4, world6})
	m.must(m.world.Do(func() error {
		return errors.Join(netlink.RouteAdd(&netlink.Route{Gw: host4.AsSlice()}), netlink.RouteAdd(&netlink.Route{Gw: host6.AsSlice()}))
	}))
	return m
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// set writes a sysctl of the host.
func (m *machine) set(key, value string) {
	m.t.Helper()
	m.must(m.Do(func() error { return os.WriteFile("/proc/sys/"+key, []byte(value), 0) }))
}

// nft runs the nft program on the host. Without it the test is skipped, in CI it fails.
func (m *machine) nft(args ...string) {
	m.t.Helper()
	path := node.Program(m.t, "nft")
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, " }", "\n}") // nft wants what it closes to be ended
	}
	var out bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := m.Run(cmd); err != nil {
		m.t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, &out)
	}
}

type object = cni.Object

// network is a configuration: a name, the third number of its subnets, and whatever is different.
func network(name string, number int, changes ...object) object {
	conf := object{
		"cniVersion": "1.1.0", "name": name, "type": "veth",
		"ipam": object{"type": "veth", "ranges": [][]object{
			{{"subnet": fmt.Sprintf("10.88.%d.0/24", number)}}, {{"subnet": fmt.Sprintf("2001:db8:88:%x::/64", number)}},
		}},
	}
	for _, c := range changes {
		maps.Copy(conf, c)
	}
	return conf
}

func bridge(name string) object {
	return object{"bridge": name, "isGateway": true, "isDefaultGateway": true}
}

// pod is a container of the machine and what it was attached with.
type pod struct {
	*node.Namespace
	machine *machine
	conf    object
	result  *current.Result
}

func (m *machine) pod(conf object) *pod {
	m.t.Helper()
	p := &pod{Namespace: m.Container(), machine: m, conf: conf}
	m.must(p.add())
	return p
}

func (p *pod) call() cni.Call {
	return cni.Call{Node: p.machine.Node, Container: p.Namespace, Config: p.conf}
}

func (p *pod) add() (err error) {
	p.result, err = p.call().Add()
	return err
}

func (p *pod) check() error {
	c := p.call()
	c.Prev = p.result
	return c.Check()
}

func (p *pod) del() error { return p.call().Del() }

func (m *machine) status(conf object) error {
	raw, err := json.Marshal(conf)
	m.must(err)
	cfg, err := netconf.Parse(netconf.Request{Config: raw})
	m.must(err)
	return m.Do(func() error { return attach.Status(context.Background(), cfg) })
}

// gc keeps the containers given.
func (m *machine) gc(conf object, keep ...*pod) error {
	var calls []cni.Call
	for _, p := range keep {
		calls = append(calls, p.call())
	}
	return cni.GC(m.Node, conf, calls...)
}

// addresses are the pod's, IPv4 first.
func (p *pod) addresses() []netip.Addr { return cni.Addresses(p.result) }

// face is the pod as frames know it.
func (p *pod) face() frames.Host {
	p.machine.t.Helper()
	h := frames.Host{IPv4: p.addresses()[0], IPv6: p.addresses()[1]}
	p.machine.must(p.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		h.MAC = l.Attrs().HardwareAddr
		list, err := netlink.AddrList(l, netlink.FAMILY_V6)
		for _, a := range list {
			if ip, _ := netip.AddrFromSlice(a.IP); ip.IsLinkLocalUnicast() {
				h.LinkLocal = ip
			}
		}
		return err
	}))
	return h
}

// hostMAC is that of the pod's host end.
func (p *pod) hostMAC() net.HardwareAddr {
	for _, i := range p.result.Interfaces {
		if i.Sandbox == "" && strings.HasPrefix(i.Name, "veth") {
			mac, _ := net.ParseMAC(i.Mac)
			return mac
		}
	}
	return nil
}

// reaches reports whether pings are answered. All are sent at once.
func (p *pod) reaches(to []netip.Addr) []bool { return p.reachesWithin(time.Second, to) }

func (p *pod) reachesWithin(patience time.Duration, to []netip.Addr) []bool {
	answered := make([]bool, len(to))
	var all sync.WaitGroup
	for i, a := range to {
		all.Go(func() { answered[i] = p.PingWith(a, node.PingOptions{Timeout: patience}) == nil })
	}
	all.Wait()
	return answered
}

// awaits waits until another pod answers in both families.
func (p *pod) awaits(other *pod) {
	p.machine.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); slices.Contains(p.reaches(other.addresses()), false); {
		if time.Now().After(deadline) {
			p.machine.t.Fatalf("%s does not reach %s", p.Name, other.Name)
		}
	}
}

// noSnooping makes a bridge take multicast as it comes: it drops what MLD could not have sent.
func noSnooping(bridge string) error {
	l, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	// Without the settings it was found with, which the library would write back, those the kernel cannot set included.
	bare := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge, Index: l.Attrs().Index}}
	return netlink.BridgeSetMcastSnoop(bare, false)
}

// deleteNFTable deletes an inet table of the thread's namespace.
func deleteNFTable(name string) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name})
	return conn.Flush()
}
