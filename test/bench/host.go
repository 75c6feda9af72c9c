package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/node"
)

// The node's addresses on its uplink, and its neighbours' behind that.
var (
	host4, host6   = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	world4, world6 = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")
)

// The containers' subnets, the same on every node.
var (
	pods4, pods6       = netip.MustParsePrefix("10.88.0.0/16"), netip.MustParsePrefix("2001:db8:88::/64")
	gateway4, gateway6 = netip.MustParseAddr("10.88.0.1"), netip.MustParseAddr("2001:db8:88::1")
)

var hosts int

// host is a node, and the world it has an uplink to.
type host struct {
	*node.Namespace
	world *node.Namespace
}

// close lets go of both.
func (h *host) close() { closeAll([]*node.Namespace{h.Namespace, h.world}) }

// newHost makes a node as a machine is before its first container: with an uplink, an address of global scope in each
// family, default routes, and forwarding on.
func newHost() (*host, error) {
	hosts++
	own, err := node.Create(fmt.Sprintf("bench%d", hosts))
	if err != nil {
		return nil, err
	}
	world, err := node.Create(own.Name + "-world")
	if err != nil {
		return nil, err
	}
	err = own.Do(func() error {
		if err := uplink(world); err != nil {
			return fmt.Errorf("making the uplink: %w", err)
		}
		for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/"+key, []byte("1"), 0); err != nil {
				return err
			}
		}
		return configure("uplink", []netip.Addr{host4, host6}, []netip.Addr{world4, world6})
	})
	if err != nil {
		return nil, err
	}
	err = world.Do(func() error {
		return configure("uplink", []netip.Addr{world4, world6}, []netip.Addr{host4, host6})
	})
	return &host{own, world}, err
}

// uplink makes a veth pair between the thread's namespace and the world.
func uplink(world *node.Namespace) error {
	fd, err := unix.Open(world.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "uplink"}, PeerName: "uplink", PeerNamespace: netlink.NsFd(fd),
	})
}

// configure brings an interface up with addresses and default routes.
func configure(name string, addrs, gateways []netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		bits := 24
		if a.Is6() {
			bits = 64
		}
		if err := address(link, netip.PrefixFrom(a, bits), unix.RT_SCOPE_UNIVERSE); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	for _, g := range gateways {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: g.AsSlice()}); err != nil {
			return fmt.Errorf("adding a route by %s: %w", g, err)
		}
	}
	return nil
}

// address adds an address to an interface, without duplicate address detection.
func address(link netlink.Link, p netip.Prefix, scope int) error {
	addr := &netlink.Addr{
		IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, Scope: scope,
	}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("adding %s to %s: %w", p, link.Attrs().Name, err)
	}
	return nil
}

// shareRouted gives a node what routed attachments of the floor program share: an address for containers to ask for.
func shareRouted() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return address(lo, netip.PrefixFrom(floorGateway4, 32), unix.RT_SCOPE_LINK)
}

// shareBridge gives a node the bridge that the floor program attaches to.
func shareBridge() error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	// Given at creation, as a bridge without an address of its own takes a port's.
	bridge.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("adding a bridge: %w", err)
	}
	for _, p := range []netip.Prefix{
		netip.PrefixFrom(gateway4, pods4.Bits()), netip.PrefixFrom(gateway6, pods6.Bits()),
	} {
		if err := address(bridge, p, unix.RT_SCOPE_UNIVERSE); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(bridge)
}
