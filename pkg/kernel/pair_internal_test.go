package kernel

import (
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/plan"
)

// Before Linux 6.2 the kernel does not echo what it made. Then both ends are known all the same.
func TestPairWithoutEcho(t *testing.T) {
	t.Parallel()
	entered(t, func(k *Node) error {
		p := plan.Pair{Host: "vh", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, MTU: 1400, Peer: "eth0"}
		if _, err := k.Apply(p); err != nil {
			return err
		}
		known := func() []netlink.LinkAttrs {
			return []netlink.LinkAttrs{*k.host.known["vh"], *k.container.known["eth0"]}
		}
		echoed := known()
		delete(k.host.known, "vh")
		delete(k.container.known, "eth0")
		if err := k.meetPair(p, nil); err != nil {
			return err
		}
		for i, a := range known() {
			e := echoed[i]
			if a.Index != e.Index || a.MTU != e.MTU || !cmp.Equal(a.HardwareAddr, e.HardwareAddr) {
				t.Errorf("got %+v, echoed was %+v", a, e)
			}
		}
		return nil
	})
}
