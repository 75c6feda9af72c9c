package attach

import (
	"context"
	"slices"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/ipam"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// Status fails with NotAvailable (50) when an ADD on this network would fail, or would give less than the network
// promises, and says why. It changes nothing, and a runtime may ask it every few seconds.
func Status(ctx context.Context, cfg *netconf.Config) error {
	m, err := open()
	if err != nil {
		return err
	}
	defer m.close()
	var offered plan.Addresses
	for _, check := range []func() error{
		func() error { offered, err = m.offered(ctx, cfg); return err },
		func() error { return settable(cfg, m) },
		func() error { return bridgeFits(cfg, m) },
		func() error { return featuresPresent(cfg, m) },
		func() error { return allowed(cfg, netconf.SysctlAllowList) },
		func() error { return reversePathHarmless(cfg, m) },
		func() error { return m.rehearse(cfg, offered) },
		func() error { return forwarded(cfg, m) },
	} {
		if err := check(); err != nil {
			return unavailable(err)
		}
	}
	return nil
}

// unavailable keeps a delegate's own 50 or 51, and makes anything else a 50.
func unavailable(err error) error {
	e := cnierr.Of(err, cnierr.NotAvailable)
	if e.Code != cnierr.LimitedConnectivity {
		e.Code = cnierr.NotAvailable
	}
	return e
}

// offered is what an ADD would get from the built-in IPAM. Of another nobody knows before it gives.
func (m *machine) offered(ctx context.Context, cfg *netconf.Config) (plan.Addresses, error) {
	switch {
	case cfg.IPAM.Builtin():
		if _, err := ipam.ResolvConf(cfg.IPAM.ResolvConf); err != nil {
			return plan.Addresses{}, err
		}
		return ipam.Offer(cfg, m.node)
	case cfg.IPAM.Delegated():
		return plan.Addresses{}, ipam.NewDelegate(cfg).Status(ctx)
	}
	return plan.Addresses{}, nil
}

func featuresPresent(cfg *netconf.Config, m *machine) error {
	if cfg.IPMasq {
		if err := m.firewall.Probe(); err != nil {
			return err
		}
	}
	if cfg.HostPorts.Capable {
		if err := m.firewall.ProbeHostPorts(); err != nil {
			return err
		}
	}
	if cfg.Bandwidth != (netconf.Bandwidth{}) {
		if err := m.node.ProbeBandwidth(cfg.Bandwidth.Egress.Rate != 0); err != nil {
			return err
		}
	}
	if err := wirePossible(cfg, m); err != nil {
		return err
	}
	return isolationPossible(cfg, m)
}

func bridgeFits(cfg *netconf.Config, m *machine) error {
	for _, o := range plan.Wire(m.sized(cfg)).Base {
		if b, ok := o.(plan.Bridge); ok {
			return m.node.ProbeBridge(b)
		}
	}
	return nil
}

// settable looks at settings of the families the network has. An ADD with addresses always writes some, which it cannot
// where /proc/sys is mounted read-only, and a kernel without IPv6 has none of IPv6.
func settable(cfg *netconf.Config, m *machine) error {
	if gives(cfg, true) {
		if err := m.node.ProbeSysctl("net/ipv4/ip_forward"); err != nil {
			return err
		}
	}
	if gives(cfg, false) {
		return m.node.ProbeSysctl("net/ipv6/conf/all/forwarding")
	}
	return nil
}

// gives reports whether containers of a network get addresses of a family. Of what another IPAM plugin gives nothing is
// known beforehand: IPv4 is likely, IPv6 is left to the ADD.
func gives(cfg *netconf.Config, is4 bool) bool {
	if cfg.IPAM.Delegated() {
		return is4
	}
	return cfg.IPAM.Builtin() && slices.ContainsFunc(cfg.IPAM.Pool.Sets, func(s lease.Set) bool {
		return slices.ContainsFunc(s, func(r lease.Range) bool { return r.Subnet.Addr().Is4() == is4 })
	})
}
