package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/node"
)

// pod is a container that is attached by hand.
type pod struct {
	ns        *node.Namespace
	link      string // on the node
	host, own net.HardwareAddr
	addresses []netip.Addr
}

// byHand routes between the containers with nothing but what the kernel cannot do without: addresses, routes and
// neighbours. No packet is checked. Whatever a plugin does for a routed network comes on top of this.
func (n *network) byHand() ([]netip.Addr, error) {
	pods := make([]pod, 2)
	for i, ns := range []*node.Namespace{n.client, n.server} {
		number := byte(i + 2)
		pods[i] = pod{
			ns: ns, link: fmt.Sprintf("pod%d", i),
			host: net.HardwareAddr{2, 0, 0, 0, 1, number}, own: net.HardwareAddr{2, 0, 0, 0, 0, number},
			addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 88, 0, number}), netip.MustParseAddr(fmt.Sprintf("2001:db8:88::%d", number))},
		}
	}
	if err := n.node.Do(forward); err != nil {
		return nil, err
	}
	for i, p := range pods {
		if err := n.node.Do(p.outside); err != nil {
			return nil, err
		}
		if err := p.ns.Do(func() error { return p.inside(pods[1-i]) }); err != nil {
			return nil, err
		}
	}
	return pods[1].addresses, nil
}

// forward lets a node route, and check no sources.
func forward() error {
	for key, value := range map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
	} {
		if err := os.WriteFile("/proc/sys/net/"+key, []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}

// outside makes the pair and what the node has of it.
func (p pod) outside() error {
	fd, err := unix.Open(p.ns.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: p.link, HardwareAddr: p.host, NumTxQueues: 1, NumRxQueues: 1},
		PeerName:  "eth0", PeerHardwareAddr: p.own, PeerNamespace: netlink.NsFd(fd), PeerNumTxQueues: 1, PeerNumRxQueues: 1,
	}); err != nil {
		return err
	}
	return bind(p.link, nil, p.addresses, p.own)
}

// inside gives the container its addresses, and a way to the other by the node.
func (p pod) inside(other pod) error { return bind("eth0", p.addresses, other.addresses, p.host) }

// bind brings an interface up with addresses of its own, and others behind it that have one hardware address.
func bind(name string, own, others []netip.Addr, hardware net.HardwareAddr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	failed := []error{netlink.LinkSetUp(link)}
	for _, a := range own {
		failed = append(failed, netlink.AddrAdd(link, &netlink.Addr{IPNet: whole(a), Flags: unix.IFA_F_NODAD}))
	}
	for _, a := range others {
		failed = append(failed,
			netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: whole(a), Scope: netlink.SCOPE_LINK}),
			netlink.NeighSet(&netlink.Neigh{
				LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: hardware,
			}))
	}
	return errors.Join(failed...)
}

func whole(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}
