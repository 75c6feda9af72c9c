package wire

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// plain is the longest packet there is without BIG TCP, with room for its headers.
const plain = 65536 + 100

// TestLongPackets has one container send to another and looks at what comes out on the receiver's host end.
func TestLongPackets(t *testing.T) {
	t.Parallel()
	big := object{"gsoMaxSize": 196608, "groMaxSize": 196608, "gsoIPv4MaxSize": 196608, "groIPv4MaxSize": 196608}
	for mode, keys := range modes {
		for name, sizes := range map[string]object{"BIG TCP": big, "by default": {}} {
			t.Run(mode+" "+name, func(t *testing.T) {
				t.Parallel()
				m := newMachine(t, keys, sizes)
				a, b := m.pod(), m.pod()
				for _, to := range b.addresses() {
					longest := m.longest(a, b, to)
					if long := longest > plain; long != (len(sizes) > 0) {
						t.Errorf("to %s the longest packet has %d bytes", to, longest)
					}
				}
			})
		}
		// A container whose rate is limited needs no long packets, and takes long ones of others.
		t.Run(mode+" to one with a rate", func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, keys, big)
			a := m.pod()
			m.conf["ingressRate"] = 1_000_000_000
			b := m.pod()
			m.must(b.check())
			for _, to := range b.addresses() {
				if longest := m.longest(a, b, to); longest == 0 || longest > plain {
					t.Errorf("to %s the longest packet has %d bytes", to, longest)
				}
			}
		})
	}
}

// longest sends a stream from one pod to another, and returns how long the longest packet is that leaves for the
// receiver: the first that is longer than plain, or the longest of the whole stream.
func (m *machine) longest(from, to *pod, address netip.Addr) int {
	m.t.Helper()
	const amount = 64 << 20
	var tap int
	m.must(m.Do(func() (err error) {
		tap, err = listen(to.hostEnd())
		return err
	}))
	defer unix.Close(tap)
	var server net.Listener
	m.must(to.Do(func() (err error) {
		server, err = net.Listen("tcp", netip.AddrPortFrom(address, 5001).String())
		return err
	}))
	defer server.Close()
	received := make(chan error, 1)
	go func() {
		conn, err := server.Accept()
		if err == nil {
			defer conn.Close()
			_, err = io.Copy(io.Discard, conn)
		}
		received <- err
	}()
	var client net.Conn
	m.must(from.Do(func() (err error) {
		client, err = net.DialTimeout("tcp", server.Addr().String(), 5*time.Second)
		return err
	}))
	longest := make(chan int, 1)
	stop := make(chan struct{})
	go func() { longest <- watch(tap, stop) }()
	buffer := make([]byte, 1<<20)
	for range amount / len(buffer) {
		if _, err := client.Write(buffer); err != nil {
			m.t.Fatal(err)
		}
	}
	m.must(client.Close())
	m.must(<-received)
	close(stop)
	return <-longest
}

// listen opens a packet socket on an interface that tells of IP packets how long they are.
func listen(link string) (int, error) {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return -1, err
	}
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return -1, err
	}
	timeout := unix.NsecToTimeval(int64(50 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index})
}

// watch reads until it is told to stop and nothing more is there.
func watch(tap int, stop <-chan struct{}) (longest int) {
	var head [64]byte
	for {
		n, _, err := unix.Recvfrom(tap, head[:], unix.MSG_TRUNC)
		if err == nil {
			longest = max(longest, n)
			continue
		}
		select {
		case <-stop:
			return longest
		default:
		}
	}
}
