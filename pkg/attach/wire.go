package attach

import (
	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/netconf"
)

// wirePossible fails where the kernel lacks what a network wants of its wires, and warns of an uplink that takes its long
// packets apart one by one: containers reach the world all the same, an order of magnitude slower.
func wirePossible(cfg *netconf.Config, m *machine) error {
	if err := m.node.ProbeWire(cfg.Wire); err != nil {
		return err
	}
	if !cfg.Wire.Long() {
		return nil
	}
	for _, u := range m.node.Uplinks() {
		if err := narrow(cfg, u); err != nil {
			warn(err)
		}
	}
	return nil
}

// narrow says what is wrong with an uplink whose packets may not be as long as a network's.
func narrow(cfg *netconf.Config, u kernel.Uplink) error {
	want := cfg.Wire.Sizes
	for _, k := range []struct {
		key, set   string
		want, have uint32
	}{
		{"gsoMaxSize", "gso_max_size", want.GSO, u.Sizes.GSO},
		{"gsoIPv4MaxSize", "gso_ipv4_max_size", want.GSO4, u.Sizes.GSO4},
	} {
		switch {
		case k.want <= netconf.LongestPlain || k.have == 0 || k.want <= k.have:
		case k.want <= u.TSO:
			return cnierr.New(cnierr.NotAvailable, "%s: %d of network %s is more than the %d of %s, the way to the world, where such "+
				"packets are taken apart without the device's help: want `ip link set dev %s %s %d`, or the key left out",
				k.key, k.want, cfg.Network, k.have, u.Name, u.Name, k.set, k.want)
		default:
			return cnierr.New(cnierr.NotAvailable, "%s: %d of network %s is more than the %d of %s, the way to the world, whose device "+
				"takes no more than %d: what leaves there is taken apart in software and slow: want at most that, or the key left out",
				k.key, k.want, cfg.Network, k.have, u.Name, u.TSO)
		}
	}
	return nil
}
