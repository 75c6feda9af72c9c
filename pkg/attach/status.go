package attach

import (
	"context"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/ipam"
	"github.com/veth-cni/veth/pkg/netconf"
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
		func() error { return featuresPresent(cfg, m) },
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
	if cfg.Mode == netconf.Bridged {
		return m.node.ProbeBridge(cfg.Bridge.Name, cfg.Bridge.VLANAware())
	}
	return nil
}

// reversePathStrict looks at the one global setting that quietly takes a promise of routed mode away: the kernel uses the
// larger of it and the interface's own (Documentation/networking/ip-sysctl.rst), so 2, loose, lets containers forge
// their source addresses. The default of systemd-based distributions does not set it; an administrator may have.
func reversePathStrict(cfg *netconf.Config, m *machine) error {
	if cfg.Mode != netconf.Routed || cfg.IPAM.Type == "" {
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
