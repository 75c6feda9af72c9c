package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/pkg/result"
)

// Delegate runs another IPAM plugin, found through CNI_PATH, with the configuration this plugin was given (CNI spec
// 1.1.0, section 4 "Plugin Delegation"). It runs in the host's namespace and inherits the CNI_* variables.
type Delegate struct {
	name    string
	version string // of the configuration
	config  []byte
}

// NewDelegate returns the delegate that a configuration names.
func NewDelegate(cfg *netconf.Config) Delegate {
	return Delegate{name: cfg.IPAM.Type, version: cfg.CNIVersion, config: cfg.Raw}
}

// Add runs the plugin's ADD. When that fails, or gives nothing that can be used, it runs DEL before it returns, as the
// specification demands. A plugin that is not there has nothing to undo.
func (d Delegate) Add(ctx context.Context) (plan.Addresses, error) {
	if _, err := find(d.name); err != nil {
		return plan.Addresses{}, cnierr.Wrap(cnierr.DelegateFailed, err, "ipam.type")
	}
	addrs, err := d.add(ctx)
	if err == nil {
		err = usable(addrs)
	}
	if err != nil {
		return plan.Addresses{}, errors.Join(d.failed("ADD", err), d.Del(ctx))
	}
	return addrs, nil
}

func (d Delegate) add(ctx context.Context) (plan.Addresses, error) {
	out, err := run(ctx, d.name, "ADD", d.config)
	if err != nil {
		return plan.Addresses{}, err
	}
	raw, err := decode(out, d.version)
	if err != nil {
		return plan.Addresses{}, err
	}
	r, err := current.NewResultFromResult(raw)
	if err != nil {
		return plan.Addresses{}, err
	}
	return result.Addresses(r, -1)
}

// usable refuses answers that no interface can be given.
func usable(addrs plan.Addresses) error {
	if len(addrs.List) == 0 {
		return errors.New("it gave no address")
	}
	for _, a := range addrs.List {
		if !unicast(a.Prefix.Addr()) {
			return fmt.Errorf("its address %s is one that no interface can have", a.Prefix)
		}
		if a.Gateway.IsValid() && !unicast(a.Gateway) {
			return fmt.Errorf("its gateway %s of %s is one that no router can have", a.Gateway, a.Prefix)
		}
		if ip := a.Prefix.Addr(); a.Gateway.IsValid() && a.Gateway.Is4() != ip.Is4() {
			return fmt.Errorf("its gateway %s is not of the family of its address %s", a.Gateway, ip)
		}
	}
	for i, r := range addrs.Routes {
		if err := r.CheckNumbers(cnierr.DelegateFailed, fmt.Sprintf("routes[%d]", i)); err != nil {
			return fmt.Errorf("its route to %s: %w", r.Dst, err)
		}
		if r.Via.IsValid() && !unicast(r.Via) {
			return fmt.Errorf("its route to %s is by %s, an address that no router can have", r.Dst, r.Via)
		}
		if r.Via.IsValid() && r.Via.Is4() != r.Dst.Addr().Is4() {
			return fmt.Errorf("its route to %s is by a gateway of the other family, %s", r.Dst, r.Via)
		}
	}
	return nil
}

func unicast(a netip.Addr) bool { return !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() }

// Check runs the plugin's CHECK.
func (d Delegate) Check(ctx context.Context) error {
	return d.run(ctx, "CHECK")
}

// Del runs the plugin's DEL.
func (d Delegate) Del(ctx context.Context) error {
	return d.run(ctx, "DEL")
}

// GC runs the plugin's GC.
func (d Delegate) GC(ctx context.Context) error {
	return d.run(ctx, "GC")
}

// Status fails with NotAvailable when the plugin is missing, and with the plugin's own words when it is not ready.
func (d Delegate) Status(ctx context.Context) error {
	if _, err := find(d.name); err != nil {
		return cnierr.Wrap(cnierr.NotAvailable, err, "ipam.type")
	}
	return d.run(ctx, "STATUS")
}

func (d Delegate) run(ctx context.Context, verb string) error {
	_, err := run(ctx, d.name, verb, d.config)
	return d.failed(verb, err)
}

func (d Delegate) failed(verb string, err error) error {
	return cnierr.Wrap(cnierr.DelegateFailed, err, "%s of IPAM plugin %q", verb, d.name)
}
