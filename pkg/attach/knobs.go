package attach

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/pkg/result"
)

// sized fills in the MTU that a configuration leaves to the node.
func (m *machine) sized(cfg *netconf.Config) *netconf.Config {
	if cfg.MTU != 0 {
		return cfg
	}
	bridge := 0
	if cfg.Mode == netconf.Bridged {
		bridge = m.node.HostMTU(cfg.Bridge.Name)
	}
	return cfg.Sized(m.node.WorldMTU(), bridge)
}

// resized takes the MTU that an ADD chose from its result. The route to the world may be another by now.
func resized(p plan.Plan, cfg *netconf.Config) plan.Plan {
	for _, x := range cfg.Prev.Interfaces {
		if cfg.MTU == 0 && x.Name == p.Pair.Host && x.Sandbox == "" {
			p.Pair.MTU = x.Mtu
		}
	}
	return p
}

// allowed holds the configuration's sysctls to the node's allow list at path, where there is one.
func allowed(cfg *netconf.Config, path string) error {
	if len(cfg.Tuning.Sysctls) == 0 {
		return nil
	}
	list, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return cnierr.Wrap(cnierr.IOFailure, err, "sysctl: the node's allow list cannot be read")
	}
	return cfg.AllowSysctls(string(list))
}

// contained refuses sysctls for a container that shares the host's network namespace: they would be the host's.
func (m *machine) contained(cfg *netconf.Config) error {
	if len(cfg.Tuning.Sysctls) == 0 {
		return nil
	}
	own, err := m.node.OwnNamespace()
	if err == nil && own {
		err = cnierr.New(cnierr.InvalidNetNS, "CNI_NETNS: %q is the host's own network namespace, where sysctl is not allowed",
			cfg.Attachment.Netns)
	}
	return err
}

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
