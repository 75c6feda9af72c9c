package node

import (
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// World makes a namespace beyond an interface of the node, "uplink" on either side, with addresses of /24 and /64. It
// returns when both can reach each other: the kernel may take a second to notice that the link has come up.
func (n *Node) World(here, there []netip.Addr) *Namespace {
	n.t.Helper()
	world := n.Container("world")
	n.must(n.Do(func() error { return cable(world.Path) }))
	n.must(n.Do(func() error { return raise("uplink", here) }))
	n.must(world.Do(func() error { return raise("uplink", there) }))
	for _, a := range here {
		for deadline := time.Now().Add(5 * time.Second); world.PingWith(a, PingOptions{Timeout: 100 * time.Millisecond}) != nil; {
			if time.Now().After(deadline) {
				n.t.Fatal("the world does not reach the machine")
			}
		}
	}
	return world
}

// BridgeCallsNetfilter says whether the kernel shows IP packets that a bridge forwards to the chains for those that the
// host forwards. It then also cuts off what is behind them in the frame.
func (n *Node) BridgeCallsNetfilter(on bool) {
	n.t.Helper()
	value := map[bool]string{true: "1", false: "0"}[on]
	for _, key := range []string{"iptables", "ip6tables"} {
		n.must(n.Do(func() error {
			err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+key, []byte(value), 0)
			if os.IsNotExist(err) && !on {
				return nil
			}
			return err
		}))
	}
}

func (n *Node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
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

// raise gives an interface addresses and brings it up.
func raise(name string, list []netip.Addr) error {
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
