package kernel

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/lease"
)

// Neighbours are the host ends of all networks but one, as one look showed them.
type Neighbours struct {
	link string // that the one's containers are behind, "" if each is behind its own
	list []neighbour
}

// neighbour is a host end of another network.
type neighbour struct {
	network string
	links   []string     // that it is behind: the bridge it is a port of, and the interfaces of the bridge's VLANs
	leases  []netip.Addr // none where another program than this plugin gives the addresses
}

// Neighbours lists the host ends of all other networks than the one named, whose containers are behind a link. It walks all
// interfaces: for GC, and for an ADD that failed.
func (n *Node) Neighbours(network, link string) (Neighbours, error) {
	links, err := n.dumpLinks()
	return Neighbours{link: link, list: neighbours(network, links)}, err
}

func neighbours(network string, links []netlink.Link) []neighbour {
	var list []neighbour
	for _, l := range links {
		a := l.Attrs()
		owner, ok := lease.ParseOwner(a.Alias)
		if l.Type() != "veth" || !ok || !hostEnd(a) || lease.Owns(a.Alias, network) {
			continue
		}
		one := neighbour{network: owner.Network}
		for _, name := range a.AltNames {
			if addr, ok := lease.Parse(name, owner.Network); ok {
				one.leases = append(one.leases, addr)
			}
		}
		if a.MasterIndex != 0 {
			one.links = onBridge(a.MasterIndex, links)
		}
		list = append(list, one)
	}
	return list
}

// onBridge names a bridge and the interfaces on top of it.
func onBridge(bridge int, links []netlink.Link) []string {
	var names []string
	for _, l := range links {
		if a := l.Attrs(); a.Index == bridge || l.Type() == "vlan" && a.ParentIndex == bridge {
			names = append(names, a.Name)
		}
	}
	return names
}

// Behind names the networks that have containers behind a link, in alphabetical order.
func (n Neighbours) Behind(link string) []string {
	return n.which(func(x neighbour) bool { return slices.Contains(x.links, link) })
}

// Within names the networks that have leased an address from first to last, or have a container behind the one's link with an
// address that only another program knows.
func (n Neighbours) Within(first, last netip.Addr) []string {
	return n.which(func(x neighbour) bool {
		if len(x.leases) == 0 {
			return slices.Contains(x.links, n.link)
		}
		return slices.ContainsFunc(x.leases, func(a netip.Addr) bool { return first.Compare(a) <= 0 && a.Compare(last) <= 0 })
	})
}

// Alive reports whether a network has any container.
func (n Neighbours) Alive(network string) bool {
	return slices.ContainsFunc(n.list, func(x neighbour) bool { return x.network == lease.Network(network) })
}

func (n Neighbours) which(fits func(neighbour) bool) []string {
	var names []string
	for _, x := range n.list {
		if fits(x) {
			names = append(names, x.network)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
