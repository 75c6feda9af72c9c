package kernel

import (
	"slices"

	"github.com/veth-cni/veth/pkg/netconf"
)

// Uplink is an interface through which the host's packets leave for the world.
type Uplink struct {
	Name  string
	Sizes netconf.Sizes // 0: the kernel does not tell
	TSO   uint32        // bytes, the most that GSO sizes can be raised to; 0: the kernel does not tell
}

// Uplinks lists the interfaces of the host's routes to the world, IPv4 first. A failed look-up is taken for no route.
func (n *Node) Uplinks() []Uplink {
	var list []Uplink
	for _, w := range n.ways() {
		for _, l := range w.uplinks {
			u := Uplink{Name: l.Name, Sizes: sizesOf(l.LinkAttrs), TSO: l.TSOMaxSize}
			if !slices.Contains(list, u) {
				list = append(list, u)
			}
		}
	}
	return list
}
