// Package isolation tests what keeps containers from others, with containers that cheat: real packets in namespaces of
// its own, in both modes and both address families.
package isolation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/attach"
	"github.com/veth-cni/veth/pkg/netconf"
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
	m.world = m.Container("world")
	m.must(m.Do(func() error { return cable(m.world.Path) }))
	m.must(m.Do(func() error { return addresses("uplink", host4, host6) }))
	m.must(m.world.Do(func() error { return addresses("uplink", world4, world6) }))
	m.must(m.world.Do(func() error {
		return errors.Join(netlink.RouteAdd(&netlink.Route{Gw: host4.AsSlice()}), netlink.RouteAdd(&netlink.Route{Gw: host6.AsSlice()}))
	}))
	for deadline := time.Now().Add(5 * time.Second); m.world.PingWith(host6, node.PingOptions{Timeout: 100 * time.Millisecond}) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("the world does not reach the machine")
		}
	}
	return m
}

func cable(world string) error {
	fd, err := unix.Open(world, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "uplink"}, PeerName: "uplink", PeerNamespace: netlink.NsFd(fd),
	})
}

// addresses gives an interface addresses and brings it up.
func addresses(name string, list ...netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range list {
		bits := 24
		if a.Is6() {
			bits = 64
		}
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}, Flags: unix.IFA_F_NODAD}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
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

// bridgeCallsNetfilter says whether the kernel shows IP packets that a bridge forwards to the chains for those that the
// host forwards. It then also cuts off what is behind them in the frame.
func (m *machine) bridgeCallsNetfilter(on bool) {
	m.t.Helper()
	value := map[bool]string{true: "1", false: "0"}[on]
	for _, key := range []string{"iptables", "ip6tables"} {
		path := "net/bridge/bridge-nf-call-" + key
		if _, err := os.Stat("/proc/sys/" + path); err == nil || on {
			m.set(path, value)
		}
	}
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

// object is JSON.
type object = map[string]any

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

func (p *pod) request(extra object) netconf.Request {
	conf := maps.Clone(p.conf)
	maps.Copy(conf, extra)
	raw, err := json.Marshal(conf)
	p.machine.must(err)
	return netconf.Request{ContainerID: p.Name, Netns: p.Path, IfName: "eth0", Config: raw}
}

func (p *pod) add() error {
	cfg, err := netconf.Parse(p.request(nil))
	if err != nil {
		return err
	}
	return p.machine.Do(func() error {
		return attach.Add(context.Background(), cfg, func(r *current.Result) error {
			p.result = r
			return nil
		})
	})
}

func (p *pod) check() error {
	cfg, err := netconf.Parse(p.request(object{"prevResult": p.result}))
	if err != nil {
		return err
	}
	return p.machine.Do(func() error { return attach.Check(context.Background(), cfg) })
}

func (p *pod) del() error {
	return p.machine.Do(func() error { return attach.Del(context.Background(), netconf.ParseLenient(p.request(nil))) })
}

func (m *machine) status(conf object) error {
	raw, err := json.Marshal(conf)
	m.must(err)
	cfg, err := netconf.Parse(netconf.Request{Config: raw})
	m.must(err)
	return m.Do(func() error { return attach.Status(context.Background(), cfg) })
}

// gc keeps the containers given.
func (m *machine) gc(conf object, keep ...*pod) error {
	valid := []object{}
	for _, p := range keep {
		valid = append(valid, object{"containerID": p.Name, "ifname": "eth0"})
	}
	conf = maps.Clone(conf)
	conf["cni.dev/valid-attachments"] = valid
	raw, err := json.Marshal(conf)
	m.must(err)
	cfg := netconf.ParseLenient(netconf.Request{Config: raw})
	return m.Do(func() error { return attach.GC(context.Background(), cfg, io.Discard) })
}

// addresses are the pod's, IPv4 first.
func (p *pod) addresses() []netip.Addr {
	var list []netip.Addr
	for _, x := range p.result.IPs {
		a, _ := netip.AddrFromSlice(x.Address.IP)
		list = append(list, a.Unmap())
	}
	return list
}

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
