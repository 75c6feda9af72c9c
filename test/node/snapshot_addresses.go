package node

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func (o observation) addressLines() ([]string, error) {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, a := range addrs {
		if automatic(a.IP) {
			continue
		}
		l := words{"address", a.IPNet.String()}
		l.add("dev", o.names[a.LinkIndex])
		if a.Peer != nil && !a.Peer.IP.Equal(a.IP) {
			l.add("peer", a.Peer)
		}
		l.add("scope", netlink.Scope(a.Scope))
		l.flag("noprefixroute", a.Flags&unix.IFA_F_NOPREFIXROUTE != 0)
		l.flag("nodad", a.Flags&unix.IFA_F_NODAD != 0)
		l.flag("dadfailed", a.Flags&unix.IFA_F_DADFAILED != 0)
		l.flag("temporary", a.Flags&unix.IFA_F_PERMANENT == 0)
		lines = append(lines, l.String())
	}
	return lines, nil
}

func (o observation) neighbourLines() ([]string, error) {
	var lines []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		entries, err := netlink.NeighList(0, family)
		if err != nil {
			return nil, err
		}
		for _, n := range entries {
			if n.State&netlink.NUD_PERMANENT != 0 {
				lines = append(lines, fmt.Sprintf("neighbour %s dev %s %s", n.IP, o.names[n.LinkIndex], n.HardwareAddr))
			}
		}
		proxies, err := netlink.NeighProxyList(0, family)
		if err != nil {
			return nil, err
		}
		for _, n := range proxies {
			lines = append(lines, fmt.Sprintf("neighbour proxy %s dev %s", n.IP, o.names[n.LinkIndex]))
		}
	}
	return lines, nil
}

// settle waits until every IPv6 address is as usable as it will be. The kernel adds an address's local route from a work
// queue, once duplicate address detection is over or at once where there is none; and from another (linkwatch) it tells
// IPv6 that a link has its carrier, which adds the multicast route without which neighbour discovery goes unheard.
func settle() error {
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		pending, err := pending()
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
		if err == nil && !pending || time.Now().After(deadline) {
			return nil
		}
	}
}

// pending reports whether an IPv6 address is on its way. Without a carrier, detection waits for one.
func pending() (bool, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return false, fmt.Errorf("links: %w", err)
	}
	flags := map[int]uint32{}
	for _, link := range links {
		flags[link.Attrs().Index] = link.Attrs().RawFlags
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V6)
	if err != nil {
		return false, fmt.Errorf("addresses: %w", err)
	}
	local := &netlink.Route{Table: unix.RT_TABLE_LOCAL}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, local, netlink.RT_FILTER_TABLE)
	if err != nil {
		return false, fmt.Errorf("local routes: %w", err)
	}
	return slices.ContainsFunc(addrs, func(a netlink.Addr) bool {
		f := flags[a.LinkIndex]
		carrier := f&unix.IFF_LOWER_UP != 0
		if f&unix.IFF_UP == 0 || a.Flags&unix.IFA_F_DADFAILED != 0 || automatic(a.IP) {
			return false
		}
		local := slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Dst != nil && r.Dst.IP.Equal(a.IP) })
		multicast := slices.ContainsFunc(routes, func(r netlink.Route) bool {
			return r.Dst != nil && r.Dst.IP.IsMulticast() && r.LinkIndex == a.LinkIndex
		})
		awaitLocal := !local && (carrier || a.Flags&unix.IFA_F_NODAD != 0)
		return awaitLocal || !multicast && carrier && f&unix.IFF_MULTICAST != 0
	}), nil
}

// automatic reports whether the address is one that the kernel derives from a hardware address (RFC 4291, appendix A).
func automatic(ip net.IP) bool {
	return ip.To4() == nil && ip.IsLinkLocalUnicast() && ip[11] == 0xff && ip[12] == 0xfe
}
