package attach

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/ipam"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/pkg/result"
)

// Check fails with StateDiffers when the kernel does not hold what ADD put there, and names every difference.
func Check(ctx context.Context, cfg *netconf.Config) error {
	if cfg.Prev == nil {
		return cnierr.New(cnierr.InvalidConfig, "prevResult: absent: CHECK wants the result of the ADD")
	}
	m, err := open()
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.node.Enter(cfg.Attachment.Netns); err != nil {
		return err
	}
	p, err := rebuild(m.framed(cfg))
	if err != nil {
		return err
	}
	seen, err := m.observe(slices.DeleteFunc(p.Objects(), yields))
	if err != nil {
		return err
	}
	if found := p.Diff(seen, yields); len(found) > 0 {
		return cnierr.New(cnierr.StateDiffers, "%s", found)
	}
	if cfg.IPAM.Delegated() {
		return ipam.NewDelegate(cfg).Check(ctx)
	}
	return nil
}

func yields(o plan.Object) bool {
	s, ok := o.(plan.Sysctl)
	return ok && s.Yields
}

// rebuild makes the plan of the ADD from the configuration and its result. What plugins later in the chain changed and
// reported there, a hardware address or an MTU, is what is wanted now. The reference's tuning plugin changes the MTU
// without a word: an MTU that neither the configuration nor the pod gives is not wanted of the container's end.
func rebuild(cfg *netconf.Config) (plan.Plan, error) {
	own, index := result.Interface(cfg.Prev, cfg.Attachment)
	if own == nil {
		return plan.Plan{}, cnierr.New(cnierr.StateDiffers, "prevResult: interfaces: want %s with sandbox %s, found none",
			cfg.Attachment.IfName, cfg.Attachment.Netns)
	}
	addrs, err := result.Addresses(cfg.Prev, index)
	if err != nil {
		return plan.Plan{}, cnierr.Wrap(cnierr.DecodingFailure, err, "prevResult")
	}
	for i, r := range addrs.Routes {
		if err := r.CheckNumbers(cnierr.DecodingFailure, fmt.Sprintf("prevResult.routes[%d]", i)); err != nil {
			return plan.Plan{}, err
		}
	}
	if cfg.IPAM.Type != "" && len(addrs.List) == 0 {
		return plan.Plan{}, cnierr.New(cnierr.StateDiffers, "prevResult: ips: want an address of %s, found none", own.Name)
	}
	if cfg.IPAM.Builtin() {
		addrs = ipam.Relet(cfg, addrs)
	}
	if mac, err := net.ParseMAC(own.Mac); err == nil {
		cfg.MAC = mac
	}
	p := resized(plan.Build(cfg, gateways(cfg, addrs)), cfg)
	for i, o := range p.Inside {
		if x, ok := o.(plan.Interface); ok && (cfg.MTU != 0 || cfg.PodMTU != 0) && own.Mtu != 0 {
			x.MTU = own.Mtu
			p.Inside[i] = x
		}
	}
	return p, nil
}
