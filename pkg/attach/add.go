package attach

import (
	"context"
	"errors"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/ipam"
	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/pkg/result"
)

// Add attaches a container to a network and has the result delivered. When that or anything before it fails, it has
// undone everything it did: a runtime that never got the result does not know of the attachment.
func Add(ctx context.Context, cfg *netconf.Config, deliver func(*current.Result) error) error {
	if err := allowed(cfg, netconf.SysctlAllowList); err != nil {
		return err
	}
	dns, err := ipam.ResolvConf(cfg.IPAM.ResolvConf)
	if err != nil {
		return err
	}
	m, err := open()
	if err != nil {
		return err
	}
	defer m.close()
	m.inherits(cfg)
	if err := m.node.Enter(cfg.Attachment.Netns); err != nil {
		return err
	}
	if err := m.contained(cfg); err != nil {
		return err
	}
	a := adding{machine: m, cfg: m.sized(cfg)}
	r, err := a.run(ctx, dns)
	if err == nil {
		err = cnierr.Wrap(cnierr.IOFailure, deliver(r), "deliver the result")
	}
	if err != nil {
		return errors.Join(err, a.rollback(ctx))
	}
	return nil
}

// adding is an ADD under way.
type adding struct {
	*machine
	cfg       *netconf.Config
	delegated bool // the IPAM plugin's ADD has succeeded
}

func (a *adding) run(ctx context.Context, dns types.DNS) (*current.Result, error) {
	if err := a.wire(); err != nil {
		return nil, err
	}
	addrs, err := a.addresses(ctx)
	if err != nil {
		return nil, err
	}
	if a.cfg.IPAM.Builtin() {
		addrs.DNS = dns
	}
	if err := plan.Answerable(a.cfg, addrs); err != nil {
		return nil, err
	}
	p := plan.Build(a.cfg, addrs)
	for _, part := range [][]plan.Object{p.Common, p.Guards, p.Inside, p.Outside} {
		if err := a.apply(part...); err != nil {
			return nil, err
		}
	}
	if err := a.node.Settle(p.Inside); err != nil {
		return nil, err
	}
	if err := a.apply(p.Shared...); err != nil {
		return nil, err
	}
	if !a.cfg.DisableContainerInterface {
		if err := a.node.Ready(p); errors.Is(err, kernel.ErrLate) {
			warn(err)
		} else if err != nil {
			return nil, err
		}
	}
	return result.Build(a.cfg, p, addrs, a.facts(p)), nil
}

// wire makes the pair and what it hangs on. A bridge can vanish until the pair has joined it, when the call that had made
// it fails and takes it back, or a GC finds it unused: then it is looked for, or made, anew. What was made of it has gone
// with it.
func (a *adding) wire() error {
	const tries = 10
	p := plan.Wire(a.cfg)
	var err error
	for range tries {
		if err = a.apply(append(slices.Clone(p.Base), p.Pair)...); !errors.Is(err, kernel.ErrBridgeGone) {
			return err
		}
		a.made = nil
	}
	return cnierr.New(cnierr.TryAgain, "bridge: %s was removed by others %d times before the container had joined it: "+
		"want a GC less often, or another try: %v", a.cfg.Bridge.Name, tries, err)
}

func (a *adding) addresses(ctx context.Context) (plan.Addresses, error) {
	switch {
	case a.cfg.IPAM.Builtin():
		claimant, err := a.node.Claimant(a.cfg.Network, plan.Owner(a.cfg).HostName())
		if err != nil {
			return plan.Addresses{}, err
		}
		return ipam.Lease(a.cfg, claimant)
	case a.cfg.IPAM.Delegated():
		addrs, err := ipam.NewDelegate(a.cfg).Add(ctx)
		a.delegated = err == nil
		return gateways(a.cfg, addrs), err
	}
	return plan.Addresses{}, nil // layer 2 only
}

// gateways completes what an address manager may leave out when the host is to be the gateway.
func gateways(cfg *netconf.Config, addrs plan.Addresses) plan.Addresses {
	if cfg.Mode == netconf.Bridged && cfg.Bridge.Gateway {
		return addrs.WithGateways()
	}
	return addrs
}

func (a *adding) facts(p plan.Plan) result.Facts {
	var f result.Facts
	_, f.MTU = a.node.Seen(p.Pair.Host)
	if a.cfg.Mode == netconf.Bridged {
		f.BridgeMAC, f.BridgeMTU = a.node.Seen(a.cfg.Bridge.Name)
	}
	return f
}

// rollback gives the address back only once the interface that had it is gone.
func (a *adding) rollback(ctx context.Context) error {
	err := a.undo(a.cfg.Network)
	if a.delegated {
		err = errors.Join(err, ipam.NewDelegate(a.cfg).Del(ctx))
	}
	return cnierr.Wrap(cnierr.CleanupFailed, err, "undo the failed ADD")
}
