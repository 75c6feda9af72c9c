package kernel

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/plan"
)

// Claimant takes addresses for one host end. The kernel keeps names and alternative names of interfaces unique within a
// namespace, under the RTNL lock: a claim is atomic across processes, and dies with the interface.
type Claimant struct {
	node    *Node
	network string
	index   int
	claimed []netip.Addr
	refused bool // a name, so that others may be as well
}

// Claimant returns the one who claims for the host end of a pair that was applied.
func (n *Node) Claimant(network, hostEnd string) (*Claimant, error) {
	index, err := n.host.indexOf(hostEnd)
	if err != nil {
		return nil, cnierr.Wrap(cnierr.KernelRefused, err, "claim addresses on %s", hostEnd)
	}
	return &Claimant{node: n, network: network, index: index}, nil
}

// Cursor is where the search for a free address begins. The kernel never gives an index out twice while it is up, so
// successive attachments begin at successive addresses, and one that was given back rests for a whole round.
func (c *Claimant) Cursor() uint64 { return uint64(c.index) }

// Claim takes an address and reports false when somebody holds it, or the host keeps it for itself, which is asked along
// with it. The bare IPv4 address becomes a second name where it is free, so that "tcpdump -i 10.88.0.5" works; it is a
// convenience and no lease. Both go in one message as long as nobody has refused one.
func (c *Claimant) Claim(a netip.Addr) (bool, error) {
	names := []string{lease.Name(c.network, a)}
	plain, hasPlain := lease.Plain(a)
	together := hasPlain && !c.refused
	if together {
		names = append(names, plain)
	}
	host := c.node.host
	answers, err := host.socket.exchange(host.altNamesRequest(unix.RTM_NEWLINKPROP, c.index, names...), host.routeTo(a))
	if err == nil {
		err = answers[0].err
	}
	switch {
	case errors.Is(err, syscall.EEXIST):
		c.refused = true
		if !together || !c.holdsSince(a) {
			return false, nil
		}
		names = names[:1]
	case errors.Is(err, syscall.EOPNOTSUPP):
		return false, cnierr.Wrap(cnierr.FeatureMissing, err, "alternative interface names: want Linux 5.5 or later")
	case err != nil:
		return false, cnierr.Wrap(cnierr.KernelRefused, err, "lease %s", a)
	}
	if host.confirmed(hostsOwn(answers[1])).as != "" {
		err := host.send(host.altNamesRequest(unix.RTM_DELLINKPROP, c.index, names...))
		return false, cnierr.Wrap(cnierr.KernelRefused, err, "give %s back to the host", a)
	}
	if hasPlain && !together {
		if err := host.addAltNames(c.index, plain); err != nil && !errors.Is(err, syscall.EEXIST) {
			return false, cnierr.Wrap(cnierr.KernelRefused, err, "name the interface %s", plain)
		}
	}
	c.claimed = append(c.claimed, a)
	return true, nil
}

// holdsSince reports which of two names was somebody's, which the kernel does not say: not the lease, if this claimant has
// it and did not have it before.
func (c *Claimant) holdsSince(a netip.Addr) bool {
	holder, err := c.node.host.linkByName(lease.Name(c.network, a))
	return err == nil && holder.Attrs().Index == c.index && !slices.Contains(c.claimed, a)
}

// Taken lists the leases of the network by walking all interfaces. It is what a search does once trying names has
// failed some tens of times.
func (c *Claimant) Taken() (map[netip.Addr]struct{}, error) { return c.node.Taken(c.network) }

// Holder says who holds an address.
func (c *Claimant) Holder(a netip.Addr) string { return c.node.Holder(c.network, a) }

// Holder says in words who holds an address of a network, the host too, or "" when nobody does.
func (n *Node) Holder(network string, a netip.Addr) string {
	l, err := n.host.linkByName(lease.Name(network, a))
	if err == nil {
		return tenant(l.Attrs())
	}
	if own, err := n.host.kept(a); err == nil && own.as != "" {
		return n.host.describe(own)
	}
	return ""
}

// tenant says in words whose an interface is.
func tenant(a *netlink.LinkAttrs) string {
	if owner, ok := lease.ParseOwner(a.Alias); ok {
		return owner.String()
	}
	return "interface " + a.Name
}

// Free reports whether nobody holds an address, and the host does not keep it for itself.
func (n *Node) Free(network string, a netip.Addr) (bool, error) {
	_, err := n.host.linkByName(lease.Name(network, a))
	if missing(err) {
		own, err := n.host.kept(a)
		return own.as == "", err
	}
	return false, cnierr.Wrap(cnierr.KernelRefused, err, "look up the lease of %s", a)
}

// Taken lists the leases of a network. It walks all interfaces.
func (n *Node) Taken(network string) (map[netip.Addr]struct{}, error) {
	links, err := n.dumpLinks()
	if err != nil {
		return nil, err
	}
	taken := map[netip.Addr]struct{}{}
	for _, l := range links {
		for _, name := range l.Attrs().AltNames {
			if a, ok := lease.Parse(name, network); ok {
				taken[a] = struct{}{}
			}
		}
	}
	return taken, nil
}

// addAltNames is `ip link property add altname` (RTM_NEWLINKPROP, Linux 5.5). The kernel adds one after the other and
// stops at one that is taken (rtnl_linkprop).
func (s *side) addAltNames(index int, names ...string) error {
	return s.send(s.altNamesRequest(unix.RTM_NEWLINKPROP, index, names...))
}

func (s *side) altNamesRequest(kind, index int, names ...string) *nl.NetlinkRequest {
	flags := 0
	if kind == unix.RTM_NEWLINKPROP {
		flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	req, _ := s.linkRequest(kind, flags, index)
	list := nl.NewRtAttr(unix.IFLA_PROP_LIST|unix.NLA_F_NESTED, nil)
	for _, name := range names {
		list.AddRtAttr(unix.IFLA_ALT_IFNAME, nl.ZeroTerminated(name))
	}
	req.AddData(list)
	return req
}

// applyLease takes a lease back that a host end has lost.
func (n *Node) applyLease(l plan.Lease) (bool, error) {
	index, err := n.host.indexOf(l.Link)
	if err != nil {
		return false, err
	}
	err = n.host.addAltNames(index, l.Name)
	if !errors.Is(err, syscall.EEXIST) {
		return err == nil, err
	}
	holder, err := n.host.linkByName(l.Name)
	if err != nil {
		return false, err
	}
	if holder.Attrs().Index != index {
		return false, cnierr.New(cnierr.AddressTaken, "%s is held by interface %s", l.Name, holder.Attrs().Name)
	}
	return false, nil
}

func (n *Node) observeLease(l plan.Lease) (plan.Object, error) {
	holder, err := n.host.linkByName(l.Name)
	if err != nil {
		return nil, err
	}
	return plan.Lease{Link: holder.Attrs().Name, Name: l.Name}, nil
}

func (n *Node) dumpLinks() ([]netlink.Link, error) {
	h, err := n.host.handle()
	if err != nil {
		return nil, cnierr.Wrap(cnierr.KernelRefused, err, "list the interfaces")
	}
	links, err := whole(h.LinkList)
	return links, cnierr.Wrap(cnierr.KernelRefused, err, "list the interfaces")
}
