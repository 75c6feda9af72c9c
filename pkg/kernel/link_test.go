package kernel_test

import (
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/plan"
)

// TestLinksAreReadAsTheLibraryReadsThem compares what Observe shows of interfaces with what the library finds.
func TestLinksAreReadAsTheLibraryReadsThem(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(bridge)
		p := pairOf(owner)
		p.Master = bridge.Name
		m.apply(p)
		for _, name := range []string{bridge.Name, p.Host} {
			want, err := netlink.LinkByName(name)
			m.must(err)
			got, err := m.kernel.Observe(plan.Bridge{Name: name})
			m.must(err)
			a, b := want.Attrs(), got.(plan.Bridge)
			if b.Kind != want.Type() || b.MTU != a.MTU || b.Alias != a.Alias || b.MAC.String() != a.HardwareAddr.String() ||
				b.Up != (a.RawFlags&1 != 0) {
				m.Errorf("%s is %+v, want %s %+v", name, b, want.Type(), a)
			}
		}
	})
}
