package kernel_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/plan"
)

// TestApplyAll: what goes to the kernel together is applied in order, and each object is known to have been made or not.
func TestApplyAll(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		address := func(p plan.Place, prefix string) plan.Address {
			return plan.Address{Place: p, Link: link(p), Prefix: netip.MustParsePrefix(prefix), State: "ok"}
		}
		first, second := address(plan.Container, "10.88.0.5/24"), address(plan.Container, "10.88.1.5/24")
		outside := address(plan.Host, "192.0.2.1/32")
		all := []plan.Object{pair, first, inside, second, outside}
		created, err := m.kernel.ApplyAll(all)
		m.must(err)
		if !slices.EqualFunc(created, all, func(a, b plan.Object) bool { return a.ID() == b.ID() }) {
			m.Errorf("created %v, want all of %v", created, all)
		}
		m.asPlanned(all...)
		created, err = m.kernel.ApplyAll([]plan.Object{first, second, outside})
		if len(created) > 0 || err != nil {
			m.Errorf("created %v once more, %v", created, err)
		}
	})
}

// TestApplyAllFails: the error is of the first object that failed, what was made beside it is told, and what would have
// come after is not tried.
func TestApplyAllFails(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		taken := plan.Route{Link: "vh", Dst: netip.MustParsePrefix("198.18.0.0/15")} // by somebody else's
		m.apply(pair, inside, taken)
		beside := plan.Neighbour{Link: "vh", Addr: netip.MustParseAddr("192.0.2.8"), MAC: inside.MAC}
		after := plan.Address{
			Place: plan.Container, Link: "eth0", Prefix: netip.MustParsePrefix("192.0.2.1/32"), State: "ok",
		}
		created, err := m.kernel.ApplyAll([]plan.Object{taken, beside, after})
		m.refused(err, cnierr.KernelRefused)
		if !strings.Contains(err.Error(), taken.ID()) {
			m.Errorf("%v: want it to name %s", err, taken.ID())
		}
		if len(created) != 1 || created[0].ID() != beside.ID() {
			m.Errorf("created %v, want %s", created, beside.ID())
		}
		if len(m.findings(after)) == 0 {
			m.Errorf("%s was applied after a failure", after.ID())
		}
	})
}

// TestApplyAllOfMany: the socket has room for the answers to some hundred requests, and not for more.
func TestApplyAllOfMany(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(pair, inside)
		var all []plan.Object
		for i := range 3000 {
			to := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
			all = append(all, plan.Route{Place: plan.Container, Link: "eth0", Dst: netip.PrefixFrom(to, 32)})
		}
		created, err := m.kernel.ApplyAll(all)
		m.must(err)
		if len(created) != len(all) {
			m.Errorf("created %d routes, want %d", len(created), len(all))
		}
		m.asPlanned(all[0], all[len(all)-1])
	})
}

// TestReadyIsLate: what the kernel has not come round to is told apart from what it refuses.
func TestReadyIsLate(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(pair, inside)
		never := plan.Address{Place: plan.Container, Link: "eth0", Prefix: netip.MustParsePrefix("2001:db8::5/64"), State: "ok"}
		err := m.kernel.Ready(plan.Plan{Pair: pair, Inside: []plan.Object{inside, never}})
		if !errors.Is(err, kernel.ErrLate) || !strings.Contains(err.Error(), "2001:db8::5") {
			m.Errorf("got %v, want that the address is late", err)
		}
	})
}
