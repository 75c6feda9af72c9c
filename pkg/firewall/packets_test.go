package firewall

import (
	"bytes"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The node of the test: two pods on two networks, and the world, each a network namespace behind a veth.
//
//	10.88.0.2, 2001:db8:88::2 (pod)   -- pod   --+
//	                                             |-- host, forwards -- world -- 192.0.2.2, 2001:db8::2, fe80::2 (world)
//	198.18.0.2, 2001:db8:99::2 (other) -- other -+
type hosts struct{ host, pod, other, world int }

func newNode(t *testing.T) hosts {
	t.Helper()
	enterNew(t)
	n := hosts{current(t), another(t), another(t), another(t)}
	wire(t, cable{
		name: "pod", to: n.pod,
		here: []string{"10.88.0.1/24", "2001:db8:88::1/64"}, there: []string{"10.88.0.2/24", "2001:db8:88::2/64"},
	})
	wire(t, cable{
		name: "other", to: n.other,
		here: []string{"198.18.0.1/24", "2001:db8:99::1/64"}, there: []string{"198.18.0.2/24", "2001:db8:99::2/64"},
	})
	wire(t, cable{
		name: "world", to: n.world,
		here:  []string{"192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"},
		there: []string{"192.0.2.2/24", "2001:db8::2/64", "fe80::2/64"},
	})
	sysctl(t, "ipv4/ip_forward", "1")
	sysctl(t, "ipv6/conf/all/forwarding", "1")
	within(t, n.pod, func() { route(t, "10.88.0.1", "2001:db8:88::1") })
	within(t, n.other, func() { route(t, "198.18.0.1", "2001:db8:99::1") })
	within(t, n.world, func() {
		sysctl(t, "ipv4/conf/all/rp_filter", "0") // sources that are not translated come from nowhere it knows
		sysctl(t, "ipv4/conf/world/rp_filter", "0")
	})
	return n
}

func TestPackets(t *testing.T) {
	n := newNode(t)
	f := Open()
	defer f.Close()
	apply(t, f, pods4, pods6, lab4, lab6)
	for _, c := range []struct {
		name     string
		from     int
		source   string
		to       int
		dst      string
		received string // the source that the receiver sees
	}{
		{"pod to world", n.pod, "10.88.0.2", n.world, "192.0.2.2", "192.0.2.1"},
		{"pod to world, IPv6", n.pod, "2001:db8:88::2", n.world, "2001:db8::2", "2001:db8::1"},
		{"other network to world", n.other, "198.18.0.2", n.world, "192.0.2.2", "192.0.2.1"},
		{"pod to pod", n.pod, "10.88.0.2", n.other, "198.18.0.2", "10.88.0.2"},
		{"pod to pod, IPv6", n.pod, "2001:db8:88::2", n.other, "2001:db8:99::2", "2001:db8:88::2"},
		{"pod to its host", n.pod, "10.88.0.2", n.host, "192.0.2.1", "10.88.0.2"},
		{"host to world", n.host, "192.0.2.1", n.world, "192.0.2.2", "192.0.2.1"},
		{"gateway address to world", n.host, "10.88.0.1", n.world, "192.0.2.2", "192.0.2.1"},
		{"multicast", n.host, "10.88.0.1", n.world, "224.0.0.1", "10.88.0.1"},
		{"multicast, IPv6", n.host, "2001:db8:88::1", n.world, "ff02::1", "2001:db8:88::1"},
		{"limited broadcast", n.host, "10.88.0.1", n.world, "255.255.255.255", "10.88.0.1"},
		{"link-local, IPv6", n.host, "2001:db8:88::1", n.world, "fe80::2", "2001:db8:88::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := probe(t, journey{n.host, c.from, c.to, netip.MustParseAddr(c.source), netip.MustParseAddr(c.dst)})
			if got.String() != c.received {
				t.Errorf("the receiver sees %v, want %s", got, c.received)
			}
		})
	}
}

type journey struct {
	home, from, to int
	source, dst    netip.Addr
}

// probe sends datagrams and returns the source address with which one arrives.
func probe(t *testing.T, j journey) netip.Addr {
	t.Helper()
	// A subtest has a goroutine of its own, hence a thread of its own, which must not be used again.
	adopt(t, j.home)
	const port = 4789
	var receiver, sender *net.UDPConn
	within(t, j.to, func() { receiver = listen(t, netip.AddrPortFrom(unspecified(j.dst), port), "") })
	within(t, j.from, func() { sender = listen(t, netip.AddrPortFrom(j.source, 0), outgoing(j.dst)) })
	dst := net.UDPAddrFromAddrPort(netip.AddrPortFrom(j.dst, port))
	said, heard := []byte(j.source.String()+" to "+j.dst.String()), make([]byte, 128)
	var err error
	for range 50 { // a datagram can be lost while the links come up
		if _, err = sender.WriteTo(said, dst); err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		must(t, receiver.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		var n int
		var from netip.AddrPort
		if n, from, err = receiver.ReadFromUDPAddrPort(heard); err == nil && bytes.Equal(heard[:n], said) {
			return from.Addr().Unmap()
		}
	}
	t.Fatalf("nothing arrives: %v", err)
	return netip.Addr{}
}

// outgoing is the device to bind to for a destination that the routes do not decide, "" for all others.
func outgoing(dst netip.Addr) string {
	if dst.IsMulticast() || dst.IsLinkLocalUnicast() || dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return "world"
	}
	return ""
}

func unspecified(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// listen opens a UDP socket in the thread's namespace, bound to a device unless that is "".
func listen(t *testing.T, address netip.AddrPort, device string) *net.UDPConn {
	t.Helper()
	network := "udp4"
	if address.Addr().Is6() {
		network = "udp6"
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
			if err == nil && device != "" {
				err = unix.BindToDevice(int(fd), device)
			}
		})
		if controlErr != nil {
			return controlErr
		}
		return err
	}}
	conn, err := config.ListenPacket(t.Context(), network, address.String())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		t.Fatalf("%s gives a %T", network, conn)
	}
	return udp
}
