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
	for _, check := range []func() error{
		func() error { return addressesAvailable(ctx, cfg, m) },
		func() error { return bridgeFits(cfg, m) },
		func() error { return featuresPresent(cfg, m) },
		func() error { return settable(cfg, m) },
		func() error { return allowed(cfg, netconf.SysctlAllowList) },
		func() error { return reversePathStrict(cfg, m) },
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

func addressesAvailable(ctx context.Context, cfg *netconf.Config, m *machine) error {
	switch {
	case cfg.IPAM.Builtin():
		if _, err := ipam.ResolvConf(cfg.IPAM.ResolvConf); err != nil {
			return err
		}
		return ipam.Available(cfg, m.node)
	case cfg.IPAM.Delegated():
		return ipam.NewDelegate(cfg).Status(ctx)
	}
	return nil
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
	return nil
}

func bridgeFits(cfg *netconf.Config, m *machine) error {
	for _, o := range plan.Wire(m.sized(cfg)).Base {
		if b, ok := o.(plan.Bridge); ok {
			return m.node.ProbeBridge(b)
		}
	}
	return nil
}

// settable looks at what an ADD sets on the host: nothing can be set where /proc/sys is mounted read-only, and IPv6, where
// the kernel has none, not even looked at.
func settable(cfg *netconf.Config, m *machine) error {
	for _, family := range []struct {
		is4     bool
		forward plan.Sysctl
	}{{true, plan.Forward4}, {false, plan.Forward6}} {
		if !gives(cfg, family.is4) {
			continue
		}
		_, err := m.node.Setting(family.forward.Key)
		if plan.Forwards(cfg) {
			err = m.node.ProbeSysctl(family.forward)
		}
		if err != nil {
			return err
		}
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

// reversePathStrict looks at the one global setting that quietly takes a promise of routed mode away: the kernel uses the
// larger of it and the interface's own (Documentation/networking/ip-sysctl.rst), so 2, loose, lets containers forge
// their source addresses. The default of systemd-based distributions does not set it; an administrator may have.
func reversePathStrict(cfg *netconf.Config, m *machine) error {
	if cfg.Mode != netconf.Routed || !gives(cfg, true) {
		return nil
	}
	value, err := m.node.Setting("net/ipv4/conf/all/rp_filter")
	if err != nil {
		return cnierr.Wrap(cnierr.IOFailure, err, "read net.ipv4.conf.all.rp_filter")
	}
	if value == "2" {
		return cnierr.New(cnierr.NotAvailable, "net.ipv4.conf.all.rp_filter: 2 (loose) lets containers of routed network %s "+
			"forge their source addresses: want 0 or 1", cfg.Network)
	}
	return nil
}
