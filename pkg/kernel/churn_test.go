package kernel_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/plan"
)

// TestObserveWhileOthersChangeThings: a dump that a change interrupts may lack what is there (NLM_F_DUMP_INTR). CHECK
// must neither fail for it nor take the objects for missing. The kernel sends a dump in pieces and looks for changes
// between two, so there must be enough for many.
func TestObserveWhileOthersChangeThings(t *testing.T) {
	t.Parallel()
	const crowd = 1000
	on(t, func(m *machine) {
		m.must(foreign("crowd"))
		m.must(by(plan.Host, "crowd", func(l netlink.Link) error {
			for i := range crowd {
				if err := netlink.AddrAdd(l, handmade(crowded(i))); err != nil {
					return err
				}
			}
			return nil
		})(m))
		for i := range crowd / 10 {
			m.must(foreign(fmt.Sprintf("crowd%d", i)))
		}
		want := []plan.Object{
			bridge, port, inside,
			plan.Address{Link: "br0", Prefix: prefix("198.18.0.1/24"), State: "ok"},
			plan.Address{Link: "br0", Prefix: prefix("2001:db8::1/64"), State: "ok"},
			plan.Route{Link: "br0", Dst: prefix("192.0.2.0/24")},
			plan.Route{Link: "br0", Dst: prefix("2001:db8:9::/48")},
			plan.Neighbour{Link: "br0", Addr: addr("198.18.0.5"), MAC: stranger},
			plan.Neighbour{Link: "br0", Addr: addr("2001:db8::5"), MAC: stranger},
			plan.Forwarding{Link: "vh", MAC: stranger},
		}
		m.apply(want...)
		stop, stopped := make(chan struct{}), make(chan error)
		go func() {
			stopped <- m.node.Do(func() error { return churn(stop) })
		}()
		for range 30 {
			for _, o := range want {
				got, err := m.kernel.Observe(o)
				if err != nil || got == nil {
					m.Errorf("%s is observed as %v, %v", o.ID(), got, err)
				}
			}
			if _, err := m.kernel.Taken("podnet"); err != nil {
				m.Errorf("the leases: %v", err)
			}
		}
		close(stop)
		m.must(<-stopped)
	})
}

// crowded is one of many addresses.
func crowded(i int) netip.Prefix {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 198<<24|19<<16|uint32(i))
	return netip.PrefixFrom(netip.AddrFrom4(a), 32)
}

// churn adds and removes addresses and interfaces of the thread's namespace until stop.
func churn(stop <-chan struct{}) error {
	l, err := netlink.LinkByName("crowd")
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		a4 := handmade(crowded(60000))
		a6 := handmade(netip.MustParsePrefix("2001:db8:77::1/128"))
		name := fmt.Sprintf("churn%d", i)
		for _, err := range []error{
			netlink.AddrAdd(l, a4), netlink.AddrAdd(l, a6), foreign(name), netlink.AddrDel(l, a4), netlink.AddrDel(l, a6),
			netlink.LinkDel(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}}),
		} {
			if err != nil {
				return err
			}
		}
	}
}
