package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// Listener says which socket of the host a port that leads to a container would take packets from, "" if none. Where
// none is bound to the port, which is nearly always, that is the answer to binding to it for a moment. Where one is, it
// may be a client's: then those that listen are listed.
func (n *Node) Listener(p plan.HostPort) (string, error) {
	err := bindable(p)
	switch {
	case err == nil || errors.Is(err, syscall.EPROTONOSUPPORT) || errors.Is(err, syscall.EAFNOSUPPORT):
		return "", nil // without the protocol there is no socket of it
	case p.Protocol == netconf.SCTP && errors.Is(err, syscall.EADDRINUSE):
		return p.Host.String(), nil
	case p.Protocol == netconf.SCTP:
		return "", cnierr.Wrap(cnierr.KernelRefused, err, "find out who listens on %s", p)
	}
	at, err := listening(p)
	return at, cnierr.Wrap(cnierr.KernelRefused, err, "find out who listens on %s", p)
}

// bindable binds to a port and lets go of it. To TCP, the option lets sockets that do not listen be.
func bindable(p plan.HostPort) error {
	kind := unix.SOCK_STREAM
	if p.Protocol == netconf.UDP {
		kind = unix.SOCK_DGRAM
	}
	host := p.Host.Addr()
	fd, err := unix.Socket(family(host), kind|unix.SOCK_CLOEXEC, int(p.Protocol))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if p.Protocol == netconf.TCP {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	// The address may come to the host later.
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
	if host.Is4() {
		return unix.Bind(fd, &unix.SockaddrInet4{Port: int(p.Host.Port()), Addr: host.As4()})
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
	return unix.Bind(fd, &unix.SockaddrInet6{Port: int(p.Host.Port()), Addr: host.As16()})
}

// listening finds a socket that listens on a port, or is bound to it and to no peer (sock_diag(7)).
func listening(p plan.HostPort) (string, error) {
	families := []int{unix.AF_INET6}
	if p.Host.Addr().Is4() {
		families = []int{unix.AF_INET, unix.AF_INET6} // a socket of IPv6 may serve both
	}
	for _, fam := range families {
		addrs, err := boundTo(fam, p)
		if err != nil {
			return "", err
		}
		if i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return clash(a, p.Host.Addr()) }); i >= 0 {
			return netip.AddrPortFrom(addrs[i], p.Host.Port()).String(), nil
		}
	}
	return "", nil
}

// clash reports whether a packet could be for both a socket's address and a port's.
func clash(socket, host netip.Addr) bool {
	socket = socket.Unmap()
	if socket == netip.IPv6Unspecified() {
		return true
	}
	return socket.Is4() == host.Is4() && (socket.IsUnspecified() || host.IsUnspecified() || socket == host)
}

// boundTo lists the addresses that sockets of a family have beside the port. The kernel leaves out all others.
func boundTo(fam int, p plan.HostPort) ([]netip.Addr, error) {
	const (
		byFamily        = 20 // SOCK_DIAG_BY_FAMILY, include/uapi/linux/sock_diag.h
		listen, noPeer  = 1 << 10, 1 << 7
		requestSize     = 56 // struct inet_diag_req_v2, include/uapi/linux/inet_diag.h
		portAt          = 8
		addressAt, size = 8, 16 // in struct inet_diag_msg
	)
	body := make([]byte, requestSize)
	body[0], body[1] = byte(fam), byte(p.Protocol)
	states := uint32(listen)
	if p.Protocol == netconf.UDP {
		states = noPeer
	}
	binary.NativeEndian.PutUint32(body[4:], states)
	binary.BigEndian.PutUint16(body[portAt:], p.Host.Port())
	req := nl.NewNetlinkRequest(byFamily, unix.NLM_F_DUMP)
	req.AddRawData(body)
	answers, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	var addrs []netip.Addr
	for _, m := range answers {
		if len(m) < addressAt+size {
			continue
		}
		b := m[addressAt : addressAt+size]
		if m[0] == unix.AF_INET {
			b = b[:4]
		}
		a, _ := netip.AddrFromSlice(b)
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// Tenant says in words whose a host end is, and "" when there is no interface of that name.
func (n *Node) Tenant(hostEnd string) (string, error) {
	if hostEnd == "" {
		return "", nil
	}
	l, err := n.host.linkByName(hostEnd)
	if missing(err) {
		return "", nil
	}
	if err != nil {
		return "", cnierr.Wrap(cnierr.KernelRefused, err, "look who has a port")
	}
	return tenant(l.Attrs()), nil
}
