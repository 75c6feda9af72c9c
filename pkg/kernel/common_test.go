package kernel_test

import (
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/plan"
)

// TestCommonAddress: the gateway of routed mode is added where it is missing, whatever the host may send from and
// wherever its routes lead, and found where it is there.
func TestCommonAddress(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.must(m.in(plan.Host, func() error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(lo); err != nil {
				return err
			}
			return os.WriteFile("/proc/sys/net/ipv4/ip_nonlocal_bind", []byte("1"), 0)
		}))
		m.apply(pair, inside, plan.Address{Link: "vh", Prefix: netip.MustParsePrefix("192.0.2.1/24"), State: "ok"},
			plan.Route{Link: "vh", Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.9")})
		gateway := plan.Address{
			Link: "lo", Prefix: netip.MustParsePrefix("169.254.1.1/32"), Scope: 253, Label: plan.GatewayLabel, State: "ok",
		}
		for i, want := range []bool{true, false} {
			created, err := m.kernel.Apply(gateway)
			if err != nil || created != want {
				m.Errorf("Apply %d: created %v, %v, want %v", i+1, created, err, want)
			}
			m.asPlanned(gateway)
		}
		m.undo(gateway)
		if len(m.findings(gateway)) == 0 {
			m.Error("the address is there after Undo")
		}
	})
}
