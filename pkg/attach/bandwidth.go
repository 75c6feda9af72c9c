package attach

import (
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// framed tells the limits which MTU an ADD chose where the configuration leaves it to the node: bursts and queues are
// counted in frames, and routes of long packets name it. The host end has kept it; the result has it in the newest version only.
func (m *machine) framed(cfg *netconf.Config) *netconf.Config {
	if cfg.MTU != 0 || cfg.Bandwidth == (netconf.Bandwidth{}) && !cfg.Wire.Long() {
		return cfg
	}
	framed := *cfg
	framed.Wire.MTU = m.node.HostMTU(plan.Owner(cfg).HostName())
	framed.Bandwidth.MTU = framed.Wire.MTU
	return &framed
}
