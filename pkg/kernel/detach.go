package kernel

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/plan"
)

// Detach removes the host end of an attachment, found by the name that only this attachment can have. An interface of
// that name that says it belongs to something else stays. One that says nothing is of an ADD that was killed before it
// could write the alias.
func (n *Node) Detach(owner lease.Owner, how Removal) error {
	name := owner.HostName()
	l, err := n.host.linkByName(name)
	if missing(err) {
		return nil
	}
	if err != nil {
		return cnierr.Wrap(cnierr.KernelRefused, err, "look for the host end")
	}
	if l.Type() != "veth" || !ours(l.Attrs(), owner) {
		return nil
	}
	delete(n.host.known, name)
	if how.Wait {
		err = n.host.deleteIndex(l.Attrs().Index)
	} else {
		err = n.host.unlink(l.Attrs().Index, how.Hold)
	}
	if err != nil && !missing(err) {
		return cnierr.Wrap(cnierr.KernelRefused, err, "remove interface %s", name)
	}
	return nil
}

// ours reports whether the interface of an attachment's name is the attachment's: by its alias, which an administrator
// may have changed and a killed ADD has not written, or by its hardware address, which follows from its name.
func ours(a *netlink.LinkAttrs, owner lease.Owner) bool {
	return a.Alias == "" || lease.Owns(a.Alias, owner.Network) || bytes.Equal(a.HardwareAddr, plan.HostMAC(a.Name))
}

// Attached is a host end that the plugin made.
type Attached struct {
	Name  string // the interface's
	Alias string // whose it is; empty when its ADD was killed before it could say
	index int
}

// String names the host end and whose it is.
func (a Attached) String() string { return fmt.Sprintf("%s (%s)", a.Name, a.Alias) }

// Attachments lists the host ends of a network. It walks all interfaces: for GC only.
func (n *Node) Attachments(network string) ([]Attached, error) {
	links, err := n.dumpLinks()
	if err != nil {
		return nil, err
	}
	var found []Attached
	for _, l := range links {
		if a := l.Attrs(); l.Type() == "veth" && belongs(a, network) {
			found = append(found, Attached{Name: a.Name, Alias: a.Alias, index: a.Index})
		}
	}
	return found, nil
}

// Attached reports whether anything is attached to a network, or to any if it is "". It walks all interfaces.
func (n *Node) Attached(network string) (bool, error) {
	links, err := n.dumpLinks()
	if err != nil {
		return false, err
	}
	for _, l := range links {
		a := l.Attrs()
		if l.Type() == "veth" && (belongs(a, network) || (network == "" && (hostEnd(a) || unlabelled(a)))) {
			return true, nil
		}
	}
	return false, nil
}

// hostEnd reports whether an interface carries an alias of this plugin, and the name that goes with it.
func hostEnd(a *netlink.LinkAttrs) bool {
	owner, ok := lease.ParseOwner(a.Alias)
	return ok && owner.HostName() == a.Name
}

// belongs reports whether an interface is a host end of a network: by its alias or, until its ADD has written that, by
// its group, which the request that made it gave it. One that a GC has doomed is any network's to remove.
func belongs(a *netlink.LinkAttrs, network string) bool {
	if unlabelled(a) {
		return a.Group&^plan.GroupTraits == plan.Group(network) || a.Group == plan.GroupDoomed
	}
	return lease.Owns(a.Alias, network) && hostEnd(a)
}

// unlabelled reports whether an interface has a name of the plugin's making and no alias, as after an ADD that was killed.
func unlabelled(a *netlink.LinkAttrs) bool { return a.Alias == "" && lease.IsHostName(a.Name) }

// Remove deletes a host end. One that has got its name since it was listed is another.
func (n *Node) Remove(a Attached) error {
	if err := n.host.deleteIndex(a.index); err != nil && !missing(err) {
		return err
	}
	return nil
}

// Retire removes what a network without attachments has left on the host: the bridge it made, and the one it was on if a
// network made that, if nothing is a port of it, and routed mode's gateway, if no host end of any network needs it. A
// bridge that others have containers on becomes one of theirs: who goes last removes it.
func (n *Node) Retire(network, bridge string) error {
	links, err := n.dumpLinks()
	if err != nil {
		return err
	}
	others := Neighbours{list: neighbours(network, links)}
	var failed []error
	for _, l := range links {
		a := l.Attrs()
		if !leftBy(network, l) && (a.Name != bridge || !madeHere(l)) {
			continue
		}
		if heirs := others.Behind(a.Name); len(heirs) > 0 && a.Alias == lease.NetworkAlias(network) {
			failed = append(failed, n.handOver(a, heirs[0]))
		} else {
			failed = append(failed, n.retireBridge(l, links))
		}
	}
	if needed, err := n.Attached(""); !needed {
		failed = append(failed, err, n.retireGateway())
	}
	return errors.Join(failed...)
}

// leftBy reports whether an interface is a bridge that a network has made: by its alias or, until its ADD has written
// that, by its group, as belongs does.
func leftBy(network string, l netlink.Link) bool {
	a := l.Attrs()
	return l.Type() == "bridge" && a.Alias == lease.NetworkAlias(network) ||
		a.Alias == "" && madeHere(l) && a.Group == plan.Group(network)
}

// retireBridge takes the interfaces on top of the bridge, those of its VLANs, along. One that had ports when links were
// listed gets no notice.
func (n *Node) retireBridge(bridge netlink.Link, links []netlink.Link) error {
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge.Attrs().Index {
			return nil
		}
	}
	return cnierr.Wrap(cnierr.KernelRefused, n.removeUnused(bridge.Attrs().Index), "remove bridge %s", bridge.Attrs().Name)
}

func (n *Node) handOver(bridge *netlink.LinkAttrs, heir string) error {
	err := n.host.send(n.host.labelRequest(bridge.Index, lease.NetworkAlias(heir)))
	return cnierr.Wrap(cnierr.KernelRefused, present(err), "hand bridge %s over to network %s", bridge.Name, heir)
}

func (n *Node) retireGateway() error {
	list, err := n.addresses(plan.Host, "lo", family(plan.RoutedGateway4))
	if err != nil {
		return fmt.Errorf("list the addresses of lo: %w", err)
	}
	for _, a := range list {
		if a.Label == plan.GatewayLabel {
			return n.Undo(a)
		}
	}
	return nil
}
