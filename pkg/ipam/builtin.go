// Package ipam gives an attachment its addresses: leases in the kernel, or those of another IPAM plugin.
package ipam

import (
	"net/netip"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// Claimant takes addresses for one attachment. The kernel's is kernel.Claimant.
type Claimant interface {
	// Cursor is a number that grows with every attachment; the search for a free address begins there.
	Cursor() uint64
	// Claim takes an address, atomically across processes. It is false when somebody holds it.
	Claim(netip.Addr) (bool, error)
	// Taken lists all addresses of the network that somebody holds.
	Taken() (map[netip.Addr]struct{}, error)
	// Holder says in words who holds an address.
	Holder(netip.Addr) string
}

// probes is how many names are tried before all leases are listed to find a gap. A refused claim costs about 23 µs, a
// list of 1,000 interfaces some milliseconds.
const probes = 48

// Lease takes one address of each range set: the one asked for, or the next free one.
func Lease(cfg *netconf.Config, c Claimant) (plan.Addresses, error) {
	out := plan.Addresses{Routes: cfg.IPAM.Routes, Leased: true}
	for set := range cfg.IPAM.Pool.Sets {
		a, err := leaseOne(cfg, set, c)
		if err != nil {
			return plan.Addresses{}, err
		}
		out.List = append(out.List, assigned(cfg, a))
	}
	return out, nil
}

func assigned(cfg *netconf.Config, a netip.Addr) plan.Assigned {
	r, _ := cfg.IPAM.Pool.RangeOf(a)
	return plan.Assigned{Prefix: netip.PrefixFrom(a, r.Subnet.Bits()), Gateway: r.Gateway}
}

func leaseOne(cfg *netconf.Config, set int, c Claimant) (netip.Addr, error) {
	for _, a := range cfg.IPAM.Requested {
		if cfg.IPAM.Pool.SetOf(a) == set {
			return leaseRequested(a, c)
		}
	}
	tried := 0
	for a := range cfg.IPAM.Pool.Walk(set, c.Cursor()) {
		if ok, err := c.Claim(a); ok || err != nil {
			return a, err
		}
		if tried++; tried == probes {
			return leaseGap(cfg, set, c)
		}
	}
	return netip.Addr{}, exhausted(cfg, set)
}

func leaseRequested(a netip.Addr, c Claimant) (netip.Addr, error) {
	ok, err := c.Claim(a)
	if err != nil || ok {
		return a, err
	}
	return a, cnierr.New(cnierr.AddressTaken, "the requested address %s is held by %s: want one that is free", a, c.Holder(a))
}

// leaseGap lists the leases once. A gap that another call takes first counts as taken, so the search ends.
func leaseGap(cfg *netconf.Config, set int, c Claimant) (netip.Addr, error) {
	taken, err := c.Taken()
	if err != nil {
		return netip.Addr{}, err
	}
	for {
		a, ok := cfg.IPAM.Pool.Gap(set, taken)
		if !ok {
			return netip.Addr{}, exhausted(cfg, set)
		}
		if ok, err := c.Claim(a); ok || err != nil {
			return a, err
		}
		taken[a] = struct{}{}
	}
}

func exhausted(cfg *netconf.Config, set int) error {
	return cnierr.New(cnierr.PoolExhausted, "network %s: all %d addresses of range set %d (%s) are leased or the host's own: want a larger range",
		cfg.Network, cfg.IPAM.Pool.Size(set), set+1, cfg.IPAM.Pool.Sets[set][0].Subnet)
}

// Ledger is what a look at the leases needs, without taking any.
type Ledger interface {
	Free(network string, a netip.Addr) (bool, error)
	Taken(network string) (map[netip.Addr]struct{}, error)
}

// Offer says what Lease could give, and takes nothing. It fails with NotAvailable when a range set has no free address.
// Nearly always the first look-up finds one.
func Offer(cfg *netconf.Config, l Ledger) (plan.Addresses, error) {
	out := plan.Addresses{Routes: cfg.IPAM.Routes, Leased: true}
	for set := range cfg.IPAM.Pool.Sets {
		a, err := anyFree(cfg, set, l)
		if err != nil {
			return plan.Addresses{}, err
		}
		if !a.IsValid() {
			return plan.Addresses{}, cnierr.New(cnierr.NotAvailable, "%s", exhausted(cfg, set))
		}
		out.List = append(out.List, assigned(cfg, a))
	}
	return out, nil
}

// anyFree returns an invalid address when there is none.
func anyFree(cfg *netconf.Config, set int, l Ledger) (netip.Addr, error) {
	tried := 0
	for a := range cfg.IPAM.Pool.Walk(set, 0) {
		if free, err := l.Free(cfg.Network, a); free || err != nil {
			return a, err
		}
		if tried++; tried == probes {
			return anyGap(cfg, set, l)
		}
	}
	return netip.Addr{}, nil
}

func anyGap(cfg *netconf.Config, set int, l Ledger) (netip.Addr, error) {
	taken, err := l.Taken(cfg.Network)
	if err != nil {
		return netip.Addr{}, err
	}
	for {
		a, ok := cfg.IPAM.Pool.Gap(set, taken)
		if !ok {
			return netip.Addr{}, nil
		}
		if free, err := l.Free(cfg.Network, a); free || err != nil { // what the host keeps is no lease
			return a, err
		}
		taken[a] = struct{}{}
	}
}

// Relet says again what Lease gave, from the addresses an ADD reported: subnets, gateways and routes are the
// configuration's. An address that is in no range any more keeps what was reported.
func Relet(cfg *netconf.Config, reported plan.Addresses) plan.Addresses {
	out := plan.Addresses{Routes: cfg.IPAM.Routes, DNS: reported.DNS, Leased: true}
	for _, x := range reported.List {
		if cfg.IPAM.Pool.SetOf(x.Prefix.Addr()) >= 0 {
			x = assigned(cfg, x.Prefix.Addr())
		}
		out.List = append(out.List, x)
	}
	return out
}
