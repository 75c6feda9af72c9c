package attach

import (
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
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
