package attach

import (
	"cmp"
	"slices"
	"strings"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// rehearse goes through the plan of an ADD that would be given addresses: what it shares with others is compared with what
// is there, and the container's side is tried elsewhere, for a configuration that asks for what not every kernel gives.
func (m *machine) rehearse(cfg *netconf.Config, addrs plan.Addresses) error {
	trial := *m.sized(cfg)
	trial.Attachment.IfName = cmp.Or(trial.Attachment.IfName, netconf.AnyIfName)
	trial.Tuning.Sysctls = slices.DeleteFunc(slices.Clone(trial.Tuning.Sysctls), func(s netconf.Sysctl) bool {
		return ofAnother(s, trial.Attachment.IfName)
	})
	p := plan.Build(&trial, addrs)
	for _, part := range [][]plan.Object{p.Guards, p.Shared} {
		for _, o := range part {
			if err := m.acceptable(o); err != nil {
				return err
			}
		}
	}
	if w := trial.Wire; len(trial.Tuning.Sysctls)+len(w.Offloads)+len(w.RPS)+len(w.XPS)+len(addrs.Routes) > 0 {
		return kernel.ProbeInside(p)
	}
	return nil
}

// acceptable asks of what is shared whether something on the host keeps an ADD from it.
func (m *machine) acceptable(o plan.Object) error {
	switch o := o.(type) {
	case plan.Masquerade:
		return cnierr.Wrap(cnierr.KernelRefused, m.firewall.ProbeMasquerade(o), "%s", o.ID())
	case plan.Ingress:
		return cnierr.Wrap(cnierr.KernelRefused, m.firewall.ProbePolicy(o), "%s", o.ID())
	}
	return m.node.Probe(o)
}

// ofAnother reports whether a setting is one of an interface of the container that is not the attachment's, which is not
// known before.
func ofAnother(s netconf.Sysctl, own string) bool {
	parts := strings.Split(s.Key, "/")
	const what, name = 2, 3 // in net/ipv4/conf/eth0/forwarding
	return len(parts) > name && (parts[what] == "conf" || parts[what] == "neigh") &&
		!slices.Contains([]string{"all", "default", "lo", own}, parts[name])
}
