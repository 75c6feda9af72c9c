package kernel

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// Probe reports whether what is on the host keeps Apply from an object that a network shares, and changes nothing. It fails
// with Conflict. What is not there is no obstacle: Apply would make it.
func (n *Node) Probe(o plan.Object) error {
	var err error
	switch o := o.(type) {
	case plan.Address:
		err = n.probeAddress(o)
	case plan.VLANInterface:
		if _, err = n.host.linkByName(o.Name); err == nil {
			err = n.fitsVLAN(o)
		}
	}
	if missing(err) {
		return nil
	}
	return cnierr.Wrap(cnierr.KernelRefused, err, "%s", o.ID())
}

// probeAddress follows applyAddress: only who adds the address looks at the others of the interface.
func (n *Node) probeAddress(a plan.Address) error {
	if !a.Sole {
		return nil
	}
	if _, err := n.observeAddress(a); err != nil {
		rivals, err := n.rivals(a)
		if err == nil && len(rivals) > 0 && !a.Force {
			err = occupiedBy(a, rivals[0])
		}
		if err != nil && !missing(err) {
			return err
		}
	}
	return n.probeSubnet(a)
}

// probeSubnet looks for another interface with the subnet of a gateway's address. A larger or a smaller one does no harm: of
// two routes the one to the smaller subnet counts, and what the host has a use for is not leased. Nor does an interface that
// is down, or that belongs to a VRF and so has routes of its own. It lists all addresses of the host.
func (n *Node) probeSubnet(a plan.Address) error {
	h, err := n.host.handle()
	if err != nil {
		return err
	}
	list, err := whole(func() ([]netlink.Addr, error) { return h.AddrList(nil, family(a.Prefix.Addr())) })
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return err
	}
	own := &netlink.LinkAttrs{} // as long as it is not there
	if l, err := n.host.linkByName(a.Link); err == nil {
		own = l.Attrs()
	}
	for _, x := range list {
		ip, _ := netip.AddrFromSlice(x.IP)
		bits, _ := x.Mask.Size()
		other := netip.PrefixFrom(ip.Unmap(), bits)
		if x.LinkIndex == own.Index || other.Masked() != a.Prefix.Masked() {
			continue
		}
		message, err := n.host.getLink(x.LinkIndex)
		if missing(err) {
			continue
		}
		if err != nil {
			return err
		}
		if l := readLink(message).Attrs(); l.Flags&net.FlagUp != 0 && l.MasterIndex == own.MasterIndex {
			return cnierr.New(cnierr.Conflict, "interface %s of the host has the address %s, so the host cannot tell the two "+
				"networks apart: want a range in another subnet", l.Name, other)
		}
	}
	return nil
}

// ProbeInside reports whether the container's side of a plan can be had, by applying it in a namespace that is thrown away
// at once: some settings are in a container's namespace otherwise than in the host's, or not at all.
func ProbeInside(p plan.Plan) error {
	return elsewhere("the container's side", func(scratch *Node) error {
		if err := scratch.enterOwn(); err != nil {
			return err
		}
		p.Pair.Master = ""
		if _, err := scratch.Apply(p.Pair); err != nil {
			return err
		}
		_, err := scratch.ApplyAll(p.Inside)
		return err
	})
}

// enterOwn makes the host's namespace the container's too.
func (n *Node) enterOwn() error {
	fds := [2]int{-1, -1}
	for i := range fds {
		var err error
		if fds[i], err = unix.Open(ownNamespace, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			_ = unix.Close(fds[0])
			return cnierr.Wrap(cnierr.IOFailure, err, "look at the plugin's own network namespace")
		}
	}
	var err error
	n.home, n.netns = fds[0], &space{path: ownNamespace, fd: fds[1]}
	n.container, err = dial(n.host.space)
	return cnierr.Wrap(cnierr.KernelRefused, err, "reach a network namespace to try in")
}
