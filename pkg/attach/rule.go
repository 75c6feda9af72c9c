package attach

import (
	"errors"
	"net/netip"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/pkg/result"
)

// unrule removes the rules of an attachment whose container lives on: everything else inside dies with the interface. It
// must run while the pair still tells its addresses; without it the earlier result does. A rule is alike in
// address, table and priority, so nobody else's is touched.
func (m *machine) unrule(cfg *netconf.Config) error {
	table := plan.Table(cfg)
	if table == 0 || cfg.Attachment.Netns == "" {
		return nil
	}
	if m.node.Enter(cfg.Attachment.Netns) != nil {
		return nil // the namespace is gone, and its rules are
	}
	addrs, err := m.node.Held(plan.Owner(cfg))
	failed := []error{cnierr.Wrap(cnierr.KernelRefused, err, "look for the container's addresses")}
	if len(addrs) == 0 {
		addrs = reported(cfg)
	}
	for _, a := range addrs {
		failed = append(failed, m.node.Undo(plan.Rule{From: a, Table: table}))
	}
	return errors.Join(failed...)
}

// reported lists the addresses of the attachment in prevResult.
func reported(cfg *netconf.Config) []netip.Addr {
	if cfg.Prev == nil {
		return nil
	}
	_, own := result.Interface(cfg.Prev, cfg.Attachment)
	assigned, err := result.Addresses(cfg.Prev, own)
	if err != nil {
		return nil
	}
	addrs := make([]netip.Addr, len(assigned.List))
	for i, a := range assigned.List {
		addrs[i] = a.Prefix.Addr()
	}
	return addrs
}
