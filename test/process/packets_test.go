package process

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/node"
)

// The first packet of a container arrives: no address is still being tried out, no neighbour is still being asked for,
// no port of a bridge is still closed. The one datagram is sent as soon as ADD has returned, and not a second time.
func TestFirstPacketArrives(t *testing.T) {
	t.Parallel()
	const rounds = 10
	for _, mode := range append(modes[:2:2], mode{"ptp", ptp}) {
		for family, name := range []string{"IPv4", "IPv6"} {
			t.Run(mode.name+" "+name, func(t *testing.T) {
				t.Parallel()
				lost := 0
				for range rounds {
					h := newHost(t)
					c1, c2 := h.Container(), h.Container()
					server := h.add(mode.config, c1).addresses()[family]
					mirror := c1.Mirror(t, "udp", netip.AddrPortFrom(server, 0))
					client := h.add(mode.config, c2).addresses()[family]
					started := time.Now()
					seen, err := c2.SeenAs("udp", mirror)
					switch {
					case err != nil:
						lost++
						t.Log(err)
					case seen.Addr() != client:
						t.Errorf("the datagram came from %s, want %s", seen.Addr(), client)
					default:
						t.Logf("answered after %v", time.Since(started))
					}
				}
				if lost > 0 {
					t.Errorf("%d of %d first packets were lost", lost, rounds)
				}
			})
		}
	}
}

// An ADD with both families does not wait for duplicate address detection: IPv6 is as ready as IPv4.
func TestDualStackIsReadyAtOnce(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		h := newHost(t)
		c := h.Container()
		started := time.Now()
		a := h.add(mode.config, c).addresses()[1]
		if took := time.Since(started); took > time.Second {
			t.Errorf("%s: ADD took %v, as if it had waited for detection", mode.name, took)
		}
		if flags := addressFlags(t, c, a); flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 {
			t.Errorf("%s: %s has flags %#x, want detection to be over", mode.name, a, flags)
		}
	}
}

// A host that keeps IPv6 off new interfaces has it on the bridge that is a gateway of IPv6.
func TestGatewayOfIPv6WhereItIsOff(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		h := newHost(t)
		c1, c2 := h.Container(), h.Container()
		if err := h.Do(func() error { return sysctl("net/ipv6/conf/default/disable_ipv6", "1")(broken{}) }); err != nil {
			t.Fatal(err)
		}
		h.add(mode.config, c2)
		added := h.add(mode.config, c1)
		h.check(mode.config, c1, added)
		if err := c2.Ping(added.addresses()[1]); err != nil {
			t.Errorf("%s: %v", mode.name, err)
		}
	}
}

// With enabledad ADD comes back with an address that detection has found to be unique, or with an error.
func TestDuplicateAddress(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	config := with(bridged, `{"enabledad": true, "ipam": {"ranges": [[{"subnet": "2001:db8:88::/64"}]]},
		"args": {"cni": {"ips": ["2001:db8:88::9"]}}}`)
	// Another network on the same bridge: its leases are its own, so only the link can tell.
	other := with(config, `{"name": "othernet", "ipMasq": false}`)
	c1, c2 := h.Container(), h.Container()
	added := h.add(config, c1)
	a := netip.MustParseAddr("2001:db8:88::9")
	if flags := addressFlags(t, c1, a); flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_NODAD) != 0 {
		t.Errorf("%s has flags %#x, want detection to be over", a, flags)
	}
	h.check(config, c1, added)
	h.leaves(func() { h.call("ADD", other, c2).refused(103, "2001:db8:88::9", "duplicate") }, c1, c2)
	h.check(config, c1, added)
}

// What goes to the world carries the host's address, what stays among containers their own.
func TestMasquerade(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			added := h.add(mode.config, c)
			world := h.Container("world")
			for _, uplink := range []struct{ host, world string }{
				{"192.0.2.1/24", "192.0.2.2/24"}, {"2001:db8:1::1/64", "2001:db8:1::2/64"},
			} {
				if err := h.connect(world, uplink.host, uplink.world); err != nil {
					t.Fatal(err)
				}
				there := netip.MustParsePrefix(uplink.world).Addr()
				seen, err := c.SeenAs("udp", world.Mirror(t, "udp", netip.AddrPortFrom(there, 0)))
				if err != nil {
					t.Fatal(err)
				}
				if want := netip.MustParsePrefix(uplink.host).Addr(); seen.Addr() != want {
					t.Errorf("%s sees %s, want the host's %s; the container has %v", there, seen.Addr(), want, added.addresses())
				}
			}
		})
	}
}

func addressFlags(t *testing.T, c *node.Namespace, want netip.Addr) (flags int) {
	t.Helper()
	if err := c.Do(func() error {
		list, err := netlink.AddrList(nil, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		for _, a := range list {
			if a.IP.Equal(want.AsSlice()) {
				flags = a.Flags
				return nil
			}
		}
		return unix.EADDRNOTAVAIL
	}); err != nil {
		t.Fatalf("%s: %v", want, err)
	}
	return flags
}

// connect joins the host and a namespace that stands for the world by a cable, with an address on either end.
func (h *host) connect(world *node.Namespace, hostAddress, worldAddress string) error {
	space, err := os.Open(world.Path)
	if err != nil {
		return err
	}
	defer space.Close()
	up := func(name, address string) func() error {
		return func() error {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			a, err := netlink.ParseAddr(address)
			if err != nil {
				return err
			}
			if a.IP.To4() == nil {
				a.Flags = unix.IFA_F_NODAD
			}
			return errors.Join(netlink.AddrAdd(l, a), netlink.LinkSetUp(l))
		}
	}
	return errors.Join(h.Do(func() error {
		err := netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "uplink"}, PeerName: "uplink", PeerNamespace: netlink.NsFd(space.Fd()),
		})
		if errors.Is(err, unix.EEXIST) {
			return nil // for the other family
		}
		return err
	}), h.Do(up("uplink", hostAddress)), world.Do(up("uplink", worldAddress)))
}
