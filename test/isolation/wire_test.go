package isolation

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/node"
)

// wire sends and receives whole frames on an interface of a namespace.
type wire struct {
	t  testing.TB
	fd int
}

func tap(t testing.TB, ns *node.Namespace) *wire {
	t.Helper()
	const link = "eth0"
	w := &wire{t: t}
	err := ns.Do(func() (err error) {
		protocol := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(protocol)); err != nil {
			return err
		}
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		// Room for all that the tests send before anybody reads. The root of a user namespace gets what net.core.rmem_max
		// allows, which is enough for one test at a time.
		const room = 8 << 20
		if unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
			err = unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room)
		}
		return errors.Join(err,
			unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: l.Attrs().Index}))
	})
	if err != nil {
		t.Fatalf("listening to %s in %s: %v", link, ns.Name, err)
	}
	t.Cleanup(func() { _ = unix.Close(w.fd) })
	return w
}

func (w *wire) send(frame []byte) {
	w.t.Helper()
	if _, err := unix.Write(w.fd, frame); err != nil {
		w.t.Fatal(err)
	}
}

// heard returns the frames that come in, until one comes that holds the last words, or none for long.
func (w *wire) heard(last []byte) [][]byte {
	w.t.Helper()
	var all [][]byte
	for patience := 2 * time.Second; ; {
		timeout := unix.NsecToTimeval(int64(patience))
		if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			w.t.Fatal(err)
		}
		buf := make([]byte, 2048)
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return all
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			w.t.Fatal(err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		all = append(all, buf[:n])
		if bytes.Contains(buf[:n], last) {
			patience = 50 * time.Millisecond // another processor may still have some of those sent before
		}
	}
}

// listenUDP opens the port that frames.UDP is for on all addresses of a namespace. The function it returns gives what
// datagrams say, until one says the last words, or none comes for long.
func listenUDP(t testing.TB, ns *node.Namespace) func(last string) map[string]bool {
	t.Helper()
	var conn *net.UDPConn
	if err := ns.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", &net.UDPAddr{Port: 9})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return func(last string) map[string]bool {
		heard, buf := map[string]bool{}, make([]byte, 256)
		for patience := 2 * time.Second; ; {
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			n, err := conn.Read(buf)
			if err != nil {
				return heard
			}
			heard[string(buf[:n])] = true
			if string(buf[:n]) == last {
				patience = 50 * time.Millisecond
			}
		}
	}
}

// byName finds an interface's hardware address.
func byName(name string, mac *net.HardwareAddr) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		*mac = l.Attrs().HardwareAddr
	}
	return err
}
