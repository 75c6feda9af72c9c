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

// actToTable is FR_ACT_TO_TBL of include/uapi/linux/fib_rules.h.
const actToTable = 1

// applyRule adds a rule unless the very same one is there, left by an ADD that was killed.
func (n *Node) applyRule(r plan.Rule) (bool, error) {
	err := n.container.send(n.ruleRequest(r, unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL))
	switch {
	case errors.Is(err, syscall.EEXIST):
		return false, nil
	case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.EAFNOSUPPORT):
		return false, cnierr.Wrap(cnierr.FeatureMissing, err,
			"table: this kernel has no routing rules: want CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES")
	}
	return err == nil, err
}

// undoRule removes the one rule that is alike in everything: the kernel compares each attribute of the request.
func (n *Node) undoRule(r plan.Rule) error {
	return n.container.send(n.ruleRequest(r, unix.RTM_DELRULE, 0))
}

// ruleRequest describes a rule. struct fib_rule_hdr has the layout of struct rtmsg, with the action for the type.
func (n *Node) ruleRequest(r plan.Rule, kind, flags int) *nl.NetlinkRequest {
	req := n.container.request(kind, flags)
	msg := &nl.RtMsg{}
	msg.Family = uint8(family(r.From))
	msg.Src_len = uint8(r.From.BitLen())
	msg.Type = actToTable
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(nl.FRA_SRC, r.From.AsSlice()))
	req.AddData(nl.NewRtAttr(nl.FRA_PRIORITY, nl.Uint32Attr(plan.RulePriority)))
	req.AddData(nl.NewRtAttr(nl.FRA_TABLE, nl.Uint32Attr(r.Table)))
	return req
}

// observeRule finds the rules of the address and priority. The one with the wanted table counts, or else any.
func (n *Node) observeRule(r plan.Rule) (plan.Object, error) {
	h, err := n.container.handle()
	if err != nil {
		return nil, err
	}
	list, err := h.RuleList(family(r.From))
	if err != nil {
		return nil, err
	}
	var found plan.Object
	for _, x := range list {
		if x.Priority != plan.RulePriority || x.Src == nil {
			continue
		}
		ip, _ := netip.AddrFromSlice(x.Src.IP)
		if ones, bits := x.Src.Mask.Size(); ip.Unmap() != r.From || ones != bits {
			continue
		}
		if found = (plan.Rule{From: r.From, Table: uint32(x.Table)}); uint32(x.Table) == r.Table {
			return found, nil
		}
	}
	if found == nil {
		return nil, syscall.ENOENT
	}
	return found, nil
}

// Held returns the addresses of an attachment as far as the kernel still knows them: those leased by the host end, and
// those of the container's end, which IPv6 takes away from an interface that is set down.
func (n *Node) Held(owner lease.Owner) ([]netip.Addr, error) {
	outer, err := n.host.linkByName(owner.HostName())
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var held []netip.Addr
	for _, name := range outer.Attrs().AltNames {
		if a, ok := lease.Parse(name, owner.Network); ok {
			held = append(held, a)
		}
	}
	inner, err := n.innerEnd(outer.Attrs())
	if err != nil || inner == "" {
		return held, err
	}
	list, err := n.addresses(plan.Container, inner, unix.AF_UNSPEC)
	for _, a := range list {
		if !slices.Contains(held, a.Prefix.Addr()) {
			held = append(held, a.Prefix.Addr())
		}
	}
	return held, err
}

// innerEnd is the name of a host end's peer, which whoever is inside may have changed; empty when it is elsewhere.
// IFLA_LINK of a veth is its peer's index, and the peer must point back.
func (n *Node) innerEnd(outer *netlink.LinkAttrs) (string, error) {
	h, err := n.container.handle()
	if err != nil {
		return "", err
	}
	inner, err := h.LinkByIndex(outer.ParentIndex)
	if missing(err) || err == nil && inner.Attrs().ParentIndex != outer.Index {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return inner.Attrs().Name, nil
}

// OwnNamespace reports whether the container's namespace is the plugin's own, which Enter allows to a caller who
// insists.
func (n *Node) OwnNamespace() (bool, error) { return same(n.netns.fd, n.home) }
