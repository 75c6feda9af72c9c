// Package hostports tests the ports of the host with real packets, in namespaces of its own.
package hostports

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/test/cni"
	"github.com/veth-cni/veth/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }

// The addresses of the machine and of the world beyond its uplink.
var (
	host4, host6   = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	second4        = netip.MustParseAddr("192.0.2.3")
	world4, world6 = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")
	local4         = netip.MustParseAddr("127.0.0.1")
)

// machine is a node with an uplink to the world, which has no route to containers.
type machine struct {
	*node.Node
	t     testing.TB
	world *node.Namespace
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	m := &machine{Node: node.New(t), t: t}
	m.world = m.World([]netip.Addr{host4, second4, host6}, []netip.Addr{world4, world6})
	return m
}

// settled waits until IPv6 passes: for its first second a new bridge has no address that it may ask for neighbours from.
func (m *machine) settled(host netip.Addr, port uint16) {
	m.t.Helper()
	var err error
	for range 3 { // each try waits two seconds
		if _, err = m.world.SeenAs("tcp", netip.AddrPortFrom(host, port)); err == nil {
			return
		}
	}
	m.t.Fatal(err)
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

type object = cni.Object

// network is a configuration with an IPv4 and an IPv6 range, changed as wanted.
func network(changes ...object) object {
	conf := object{
		"cniVersion": "1.1.0", "name": "podnet", "type": "veth",
		"ipam": object{"type": "veth", "ranges": [][]object{{{"subnet": "10.88.0.0/24"}}, {{"subnet": "2001:db8:88::/64"}}}},
	}
	for _, c := range changes {
		maps.Copy(conf, c)
	}
	return conf
}

var (
	routed = object{}
	bridge = object{"bridge": "br0", "isGateway": true, "isDefaultGateway": true}
)

// ports are mappings for runtimeConfig: "tcp 8080 80", with a hostIP behind if there is to be one.
func ports(list ...string) object {
	var mappings []object
	for _, text := range list {
		var protocol, hostIP string
		var hostPort, containerPort int
		_, _ = fmt.Sscan(text, &protocol, &hostPort, &containerPort, &hostIP)
		mappings = append(mappings, object{
			"hostPort": hostPort, "containerPort": containerPort, "protocol": protocol, "hostIP": hostIP,
		})
	}
	return object{"runtimeConfig": object{"portMappings": mappings}}
}

// pod is a container of the machine and what it was attached with.
type pod struct {
	*node.Namespace
	machine *machine
	name    string
	conf    object
	result  *current.Result
}

func (m *machine) pod(name string, conf ...object) *pod {
	m.t.Helper()
	p := &pod{Namespace: m.Container(name), machine: m, name: name, conf: network(conf...)}
	m.must(p.add())
	return p
}

func (p *pod) call() cni.Call {
	return cni.Call{
		Node: p.machine.Node, Container: p.Namespace, ID: p.name, Config: p.conf,
		Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=" + p.name,
	}
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

// del calls DEL, with what the runtime may have forgotten taken out of the configuration.
func (p *pod) del(without ...string) error {
	c := p.call()
	c.Config = maps.Clone(c.Config)
	for _, key := range without {
		delete(c.Config, key)
	}
	return c.Del()
}

// gc keeps the containers named.
func (m *machine) gc(conf object, keep ...string) error {
	var calls []cni.Call
	for _, name := range keep {
		calls = append(calls, cni.Call{ID: name})
	}
	return cni.GC(m.Node, conf, calls...)
}

// address is the pod's of a family.
func (p *pod) address(is4 bool) netip.Addr {
	for _, a := range cni.Addresses(p.result) {
		if a.Is4() == is4 {
			return a
		}
	}
	p.machine.t.Fatal("no address")
	return netip.Addr{}
}

// serve answers in the pod, on all addresses, whoever comes with the address he comes from.
func (p *pod) serve(network string, port uint16) {
	p.machine.t.Helper()
	p.Mirror(p.machine.t, network, netip.AddrPortFrom(netip.IPv6Unspecified(), port))
}

// unplug deletes a pod's host end, as when its namespace dies and nobody calls DEL.
func (m *machine) unplug(p *pod) {
	m.t.Helper()
	m.must(m.Do(func() error {
		link, err := netlink.LinkByName(p.hostEnd())
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	}))
}

func (p *pod) hostEnd() string { return lease.HostName("podnet", p.name, "eth0") }

// dialFrom keeps a connection from a given port open until the test ends.
func dialFrom(t testing.TB, network string, from, to netip.AddrPort) error {
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(from)}
	conn, err := d.Dial(network, to.String())
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return err
}

// loopbackElsewhere gives up the thread's 127.0.0.1, so that packets to it leave by eth0.
func loopbackElsewhere() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr("127.0.0.1/8")
	if err != nil {
		return err
	}
	if err := netlink.AddrDel(lo, addr); err != nil {
		return err
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	routes, err := netlink.RouteList(eth0, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	own, err := netlink.AddrList(eth0, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Gw != nil {
			r.Src = own[0].IP
			r.Dst = &net.IPNet{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}
			return netlink.RouteReplace(&r)
		}
	}
	return errors.New("no gateway")
}

// deleteTable deletes the plugin's table.
func deleteTable() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.DelTable(&nftables.Table{Name: "veth", Family: nftables.TableFamilyINet})
	return conn.Flush()
}
