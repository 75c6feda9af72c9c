package node

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// Mirror listens in the namespace, on "tcp" or "udp", and answers whoever comes with the address and port it comes
// from, until the test ends. Port 0 takes a free one; the address listened on is returned.
func (ns *Namespace) Mirror(t testing.TB, network string, at netip.AddrPort) netip.AddrPort {
	t.Helper()
	var bound net.Addr
	err := ns.Do(func() error {
		if network == "udp" {
			conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
			if err != nil {
				return err
			}
			bound = conn.LocalAddr()
			t.Cleanup(func() { conn.Close() })
			go mirrorUDP(conn)
			return nil
		}
		listener, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(at))
		if err != nil {
			return err
		}
		bound = listener.Addr()
		t.Cleanup(func() { listener.Close() })
		go mirrorTCP(listener)
		return nil
	})
	if err != nil {
		t.Fatalf("listening on %s %s in %s: %v", network, at, ns.Name, err)
	}
	return netip.MustParseAddrPort(bound.String())
}

func mirrorUDP(conn *net.UDPConn) {
	buf := make([]byte, 1)
	for {
		_, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return // closed
		}
		_, _ = conn.WriteToUDPAddrPort([]byte(from.String()), from) // a lost answer is the asker's timeout
	}
}

func mirrorTCP(listener *net.TCPListener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		_, _ = conn.Write([]byte(conn.RemoteAddr().String()))
		conn.Close()
	}
}

// SeenAs connects from the namespace to a Mirror and returns the address and port that the mirror sees, which is not
// the namespace's own where a packet is masqueraded on its way. It waits at most two seconds.
func (ns *Namespace) SeenAs(network string, mirror netip.AddrPort) (netip.AddrPort, error) {
	fail := func(err error) (netip.AddrPort, error) {
		return netip.AddrPort{}, fmt.Errorf("%s %s from %s: %w", network, mirror, ns.Name, err)
	}
	const patience = 2 * time.Second
	var conn net.Conn
	err := ns.Do(func() (err error) {
		conn, err = net.DialTimeout(network, mirror.String(), patience)
		return err
	})
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return fail(err)
	}
	if network == "udp" {
		if _, err := conn.Write([]byte{0}); err != nil {
			return fail(err)
		}
	}
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	if err != nil {
		return fail(err)
	}
	seen, err := netip.ParseAddrPort(string(buf[:n]))
	if err != nil {
		return fail(err)
	}
	return netip.AddrPortFrom(seen.Addr().Unmap(), seen.Port()), nil
}
