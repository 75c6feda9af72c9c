package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// PingOptions says how a ping differs from the plainest one.
type PingOptions struct {
	Source       netip.Addr    // invalid: the kernel's choice
	Size         int           // bytes of payload after the ICMP header; 0: 16
	DontFragment bool          // refuse to send what does not fit the path's MTU
	Timeout      time.Duration // 0: two seconds
}

// Ping sends one ICMP echo request from the namespace and waits two seconds for its reply. There is no second try: what
// loses its first packet fails. A link-local address needs the interface as its zone: fe80::1%eth0.
func (ns *Namespace) Ping(to netip.Addr) error { return ns.PingWith(to, PingOptions{}) }

// PingWith is Ping with options. An ICMP error about the request ends it before the timeout.
func (ns *Namespace) PingWith(to netip.Addr, o PingOptions) error {
	if o.Size == 0 {
		o.Size = 16
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	var conn net.PacketConn
	var dst *net.IPAddr
	err := ns.Do(func() (err error) {
		if dst, err = ipAddr(to); err == nil {
			conn, err = listenICMP(to.Is4(), o)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("ping %s from %s: %w", to, ns.Name, err)
	}
	defer conn.Close()
	if err := echo(conn, dst, o); err != nil {
		return fmt.Errorf("ping %s from %s: %w", to, ns.Name, err)
	}
	return nil
}

// ipAddr gives the address a numeric zone. The net package caches names of interfaces for the whole process, whatever
// the namespace they are in.
func ipAddr(a netip.Addr) (*net.IPAddr, error) {
	ip := &net.IPAddr{IP: a.AsSlice()}
	if a.Zone() == "" {
		return ip, nil
	}
	link, err := netlink.LinkByName(a.Zone())
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", a.Zone(), err)
	}
	ip.Zone = strconv.Itoa(link.Attrs().Index)
	return ip, nil
}

// listenICMP opens a raw ICMP socket in the thread's namespace.
func listenICMP(v4 bool, o PingOptions) (net.PacketConn, error) {
	network, level, option, discover := "ip6:58", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT
	if v4 {
		network, level, option, discover = "ip4:1", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT
	}
	if o.DontFragment {
		discover = unix.IP_PMTUDISC_DO // the same number for both families
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failure error
		if err := c.Control(func(fd uintptr) {
			failure = unix.SetsockoptInt(int(fd), level, option, discover)
			if failure == nil && !v4 && o.DontFragment {
				failure = unix.SetsockoptInt(int(fd), level, unix.IPV6_DONTFRAG, 1)
			}
		}); err != nil {
			return err
		}
		return failure
	}}
	source := ""
	if o.Source.IsValid() {
		ip, err := ipAddr(o.Source)
		if err != nil {
			return nil, err
		}
		source = ip.String()
	}
	return config.ListenPacket(context.Background(), network, source)
}

// The ICMP types of RFC 792 and RFC 4443 that matter here.
const (
	echoRequest4, echoReply4, unreachable4        = 8, 0, 3
	echoRequest6, echoReply6, unreachable6, toBig = 128, 129, 1, 2
)

var echoID atomic.Uint32

func echo(conn net.PacketConn, dst *net.IPAddr, o PingOptions) error {
	request := make([]byte, 8+o.Size)
	v4 := dst.IP.To4() != nil
	request[0] = echoRequest6 // the kernel fills in the ICMPv6 checksum
	if v4 {
		request[0] = echoRequest4
	}
	binary.BigEndian.PutUint16(request[4:], uint16(os.Getpid())^uint16(echoID.Add(1)))
	binary.BigEndian.PutUint16(request[6:], 1)
	for i := range request[8:] {
		request[8+i] = byte(i)
	}
	if v4 {
		binary.BigEndian.PutUint16(request[2:], checksum(request))
	}
	if err := conn.SetDeadline(time.Now().Add(o.Timeout)); err != nil {
		return err
	}
	if _, err := conn.WriteTo(request, dst); err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return fmt.Errorf("no reply: %w", err)
		}
		if done, err := answer(buf[:n], request, v4); done {
			if err != nil {
				return fmt.Errorf("%s says: %w", from, err)
			}
			return nil
		}
	}
}

// answer reports whether an ICMP message answers the request, and how if not with a reply.
func answer(msg, request []byte, v4 bool) (done bool, err error) {
	if len(msg) < 8 {
		return false, nil
	}
	kind, code := msg[0], msg[1]
	if v4 && kind == echoReply4 || !v4 && kind == echoReply6 {
		return bytes.Equal(msg[4:], request[4:]), nil // identifier, sequence number, payload
	}
	quoted := msg[8:] // an error carries the packet it is about, from the IP header on
	switch {
	case v4 && kind == unreachable4 && len(quoted) >= 20:
		quoted = quoted[min(len(quoted), int(quoted[0]&0x0f)*4):]
	case !v4 && (kind == unreachable6 || kind == toBig) && len(quoted) >= 40:
		quoted = quoted[40:]
	default:
		return false, nil
	}
	if len(quoted) < 8 || quoted[0] != request[0] || !bytes.Equal(quoted[4:8], request[4:8]) {
		return false, nil
	}
	return true, fmt.Errorf("ICMP type %d code %d", kind, code)
}

// checksum is the internet checksum of RFC 1071 over a message whose checksum field is zero.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
