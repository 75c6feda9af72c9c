package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// addressErrand adds an address without IPv6 duplicate address detection, unless the plan asks for it: what IPAM gives is
// unique, and waiting would cost a container its first seconds. With detection, Settle waits for the verdict. One that
// has to be the sole one takes more.
func (n *Node) addressErrand(a plan.Address) (errand, error) {
	if a.Sole || n.commonlyThere(a) {
		return errand{}, nil
	}
	s := n.side(a.Place)
	index, err := s.indexOf(a.Link)
	if err != nil {
		return errand{}, err
	}
	return errand{side: s, req: s.addressRequest(a, index), judge: unlessThere}, nil
}

// commonlyThere reports whether an address is the one that all routed networks share and the host has it: what the host
// sends there it sends from there (RFC 1122, section 3.3.4.3; ip_route_output_key_hash_rcu). Connecting a datagram socket
// sends nothing and takes no lock, where asking rtnetlink takes that of all links.
func (n *Node) commonlyThere(a plan.Address) bool {
	if a.Place != plan.Host || a.Label != plan.GatewayLabel || n.entered {
		return false
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	const discard = 9 // a port, RFC 863
	ip := a.Prefix.Addr().As4()
	if unix.BindToDevice(fd, a.Link) != nil { // or another interface's address would do
		return false
	}
	if unix.Connect(fd, &unix.SockaddrInet4{Port: discard, Addr: ip}) != nil {
		return false
	}
	from, err := unix.Getsockname(fd)
	own, ok := from.(*unix.SockaddrInet4)
	return err == nil && ok && own.Addr == ip
}

// applyAddress adds an address that is to be the sole one of an interface. Another is there.
func (n *Node) applyAddress(a plan.Address) (bool, error) {
	if !a.Sole {
		return false, nil
	}
	s := n.side(a.Place)
	index, err := s.indexOf(a.Link)
	if err != nil {
		return false, err
	}
	err = s.addAddress(a, index)
	added, there := err == nil, errors.Is(err, syscall.EEXIST) // which is nearly always, for what a network shares
	switch {
	case !added && !there:
		return false, err
	case there && s.holds(a.Prefix, index):
		return false, nil
	}
	added, err = n.beSole(a, index, added)
	if added && err == nil {
		err = n.keepMAC(a.Link, index)
	}
	return added, err
}

// keepMAC sets an interface's hardware address to what it is. A bridge that others made without one takes the lowest of
// its ports', and everyone who knows the gateway's would lose it when a port comes or goes; one that was set it keeps.
func (n *Node) keepMAC(link string, index int) error {
	l, err := n.host.linkByName(link)
	if err != nil {
		return err
	}
	n.host.known[link] = l.Attrs()
	req, _ := n.host.linkRequest(unix.RTM_NEWLINK, 0, index)
	req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, l.Attrs().HardwareAddr))
	return n.host.send(req)
}

// holds reports whether an address that exists has the prefix length wanted. IPv4 takes one address with several; an
// IPv6 address has just one, which the kernel tells for the asking (inet6_rtm_getaddr).
func (s *side) holds(p netip.Prefix, index int) bool {
	if p.Addr().Is4() {
		return true
	}
	req := s.request(unix.RTM_GETADDR, 0)
	msg := nl.NewIfAddrmsg(unix.AF_INET6)
	msg.Index = uint32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, p.Addr().AsSlice()))
	answers, err := s.ask(req)
	return err == nil && len(answers) == 1 && int(nl.DeserializeIfAddrmsg(answers[0]).Prefixlen) == p.Bits()
}

func (s *side) addAddress(a plan.Address, index int) error {
	return s.send(s.addressRequest(a, index))
}

func (s *side) addressRequest(a plan.Address, index int) *nl.NetlinkRequest {
	req := s.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	ip := a.Prefix.Addr()
	msg := nl.NewIfAddrmsg(family(ip))
	msg.Index, msg.Prefixlen, msg.Scope = uint32(index), uint8(a.Prefix.Bits()), a.Scope
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, ip.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, ip.AsSlice()))
	if ip.Is4() && a.Prefix.Bits() < 31 { // RFC 3021: a /31 has no broadcast address
		req.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, broadcast(a.Prefix)))
	}
	if a.Label != "" && ip.Is4() {
		req.AddData(nl.NewRtAttr(unix.IFA_LABEL, nl.ZeroTerminated(a.Label)))
	}
	flags := uint32(0)
	if a.Quiet {
		flags |= unix.IFA_F_NOPREFIXROUTE
	}
	if ip.Is6() && !a.DAD && !a.Announced {
		flags |= unix.IFA_F_NODAD
	}
	if flags != 0 {
		req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(flags)))
	}
	return req
}

func broadcast(p netip.Prefix) []byte {
	b := p.Addr().As4()
	mask := net.CIDRMask(p.Bits(), 32)
	for i := range b {
		b[i] |= ^mask[i]
	}
	return b[:]
}

// beSole sees to it that an address, which was just added or is to be, is the only one of an interface that is to have
// just one IPv4 address and no overlapping IPv6 subnets: the bridge's gateway. Only the one who adds it has to look at
// the others. To remove them it must go first: the kernel removes an IPv4 address's secondary ones along with it.
func (n *Node) beSole(a plan.Address, index int, added bool) (bool, error) {
	s := n.side(a.Place)
	rivals, err := n.rivals(a)
	if err != nil || len(rivals) == 0 {
		return added, err
	}
	if added {
		if err := s.deleteAddress(a.Prefix, index); err != nil {
			return true, err
		}
	}
	if !a.Force {
		return false, occupiedBy(a, rivals[0])
	}
	n.evicted[a.ID()] = rivals
	for _, o := range rivals {
		if err := s.deleteAddress(o.Prefix, index); err != nil && !missing(err) {
			return true, fmt.Errorf("remove %s: %w", o.Prefix, err)
		}
	}
	return true, s.addAddress(a, index)
}

func occupiedBy(a, rival plan.Address) error {
	return cnierr.New(cnierr.Conflict,
		"%s has the address %s already: want %s to be its gateway address, or forceAddress to replace it",
		a.Link, rival.Prefix, a.Prefix)
}

// rivals are the other addresses of an interface that a sole one does not go together with.
func (n *Node) rivals(a plan.Address) ([]plan.Address, error) {
	all, err := n.addresses(a.Place, a.Link, family(a.Prefix.Addr()))
	var out []plan.Address
	for _, o := range all {
		ip := o.Prefix.Addr()
		if o.Prefix != a.Prefix && !ip.IsLinkLocalUnicast() && (ip.Is4() || o.Prefix.Overlaps(a.Prefix)) {
			out = append(out, o)
		}
	}
	return out, err
}

func (s *side) deleteAddress(p netip.Prefix, index int) error {
	req := s.request(unix.RTM_DELADDR, 0)
	msg := nl.NewIfAddrmsg(family(p.Addr()))
	msg.Index, msg.Prefixlen = uint32(index), uint8(p.Bits())
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, p.Addr().AsSlice()))
	// Without it the kernel takes the address with any prefix length (inet_rtm_deladdr).
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, p.Addr().AsSlice()))
	return s.send(req)
}

func (n *Node) undoAddress(a plan.Address) error {
	s := n.side(a.Place)
	index, err := s.indexOf(a.Link)
	if err != nil {
		return err
	}
	failed := []error{present(s.deleteAddress(a.Prefix, index))}
	for _, o := range n.evicted[a.ID()] {
		failed = append(failed, s.addAddress(o, index))
	}
	return errors.Join(failed...)
}

// present drops an error that says that what is to go is gone.
func present(err error) error {
	if missing(err) {
		return nil
	}
	return err
}

// addresses lists the addresses of one interface.
func (n *Node) addresses(p plan.Place, link string, fam int) ([]plan.Address, error) {
	s := n.side(p)
	index, err := s.indexOf(link)
	if err != nil {
		return nil, err
	}
	h, err := s.handle()
	if err != nil {
		return nil, err
	}
	list, err := whole(func() ([]netlink.Addr, error) { return h.AddrList(device(index), fam) })
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	var out []plan.Address
	for _, x := range list {
		ip, ok := netip.AddrFromSlice(x.IP)
		if !ok {
			continue
		}
		bits, _ := x.Mask.Size()
		out = append(out, plan.Address{
			Place: p, Link: link, Prefix: netip.PrefixFrom(ip.Unmap(), bits), Label: x.Label,
			Scope: uint8(x.Scope), Quiet: x.Flags&unix.IFA_F_NOPREFIXROUTE != 0, State: detection(x.Flags),
		})
	}
	return out, nil
}

// detection names what duplicate address detection made of an address.
func detection(flags int) string {
	switch {
	case flags&unix.IFA_F_DADFAILED != 0:
		return "dadfailed"
	case flags&unix.IFA_F_TENTATIVE != 0 && flags&unix.IFA_F_OPTIMISTIC == 0:
		return "tentative"
	}
	return "ok"
}

func (n *Node) observeAddress(a plan.Address) (plan.Object, error) {
	list, err := n.addresses(a.Place, a.Link, family(a.Prefix.Addr()))
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		if x.Prefix == a.Prefix {
			return x, nil
		}
	}
	return nil, syscall.EADDRNOTAVAIL
}

// Settle waits until duplicate address detection is done with the container's addresses, for networks that ask for it.
// It needs no carrier to wait for: detection ends by itself, after about two seconds at the kernel's defaults.
func (n *Node) Settle(objects []plan.Object) error {
	const patience, pause = 10 * time.Second, 20 * time.Millisecond
	deadline := time.Now().Add(patience)
	for _, o := range objects {
		a, ok := o.(plan.Address)
		if !ok || !a.DAD || !a.Prefix.Addr().Is6() {
			continue
		}
		for {
			got, err := n.observeAddress(a)
			if err != nil {
				return cnierr.Wrap(cnierr.KernelRefused, err, "wait for %s", a.Prefix)
			}
			state := got.(plan.Address).State
			if state == "ok" {
				break
			}
			if state == "dadfailed" || time.Now().After(deadline) {
				return cnierr.New(cnierr.AddressTaken,
					"duplicate address detection of %s ended as %q: another host on the link may use it", a.Prefix, state)
			}
			time.Sleep(pause)
		}
	}
	return nil
}
