package attach

import (
	"context"
	"errors"
	"os"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/ipam"
	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// Del detaches a container. It needs nothing but the attachment's identity: no namespace, no earlier result. It
// succeeds when there is nothing left to do, and goes on after a failure. The delegate's address is released last,
// when no interface has it any more.
func Del(ctx context.Context, cfg *netconf.Config) error {
	m, err := open()
	if err != nil {
		return err
	}
	defer m.close()
	owner := plan.Owner(cfg)
	failed := []error{possible(m.withdraw(owner, plan.ClaimedPorts(cfg))), m.unrule(cfg)}
	failed = append(failed,
		m.node.Detach(owner, kernel.Removal{Wait: cfg.SyncDelete || orphansStay(), Hold: m.firewall.Descriptors()}),
		possible(m.unmask(cfg)))
	err = cnierr.Wrap(cnierr.CleanupFailed, errors.Join(failed...), "DEL")
	if cfg.IPAM.Delegated() {
		err = errors.Join(err, ipam.NewDelegate(cfg).Del(ctx)) // which says itself that it is of a DEL
	}
	return err
}

// orphansStay reports whether a child that outlives this process may never be reaped: its new parent is process 1 of the PID
// namespace, which is no init if it executes plugins itself.
func orphansStay() bool { return os.Getppid() == 1 }

// possible drops an error that says that the kernel lacks a feature: it then holds nothing of it that could be removed.
func possible(err error) error {
	if err != nil && cnierr.Of(err, cnierr.KernelRefused).Code == cnierr.FeatureMissing {
		return nil
	}
	return err
}

// unmask takes back the masquerading of single addresses, which an IPAM plugin may give instead of one of a subnet.
// Subnets are the network's: they stay until GC finds the network empty.
func (m *machine) unmask(cfg *netconf.Config) error {
	if !cfg.IPMasq || !cfg.IPAM.Delegated() {
		return nil
	}
	return m.firewall.Unmask(cfg.Network, plan.Owner(cfg).HostName())
}
