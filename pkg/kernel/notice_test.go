package kernel_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/plan"
)

// notice is what somebody who was killed has left on a bridge.
func notice(l netlink.Link) error { return netlink.LinkAddAltName(l, "vethrm-0123abcd") }

// TestJoinTakesNoticesDown: whoever has joined a bridge can rely on it, and nobody else's alternative name is touched.
func TestJoinTakesNoticesDown(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(bridge)
		m.must(by(plan.Host, "br0", func(l netlink.Link) error { return netlink.LinkAddAltName(l, "uplink") })(m))
		first, err := m.kernel.Announce("br0")
		m.must(err, first.Look(), by(plan.Host, "br0", notice)(m))
		m.apply(port)
		m.must(first.FollowUp())
		m.asPlanned(bridge, port)
		if s := m.node.Snapshot(); strings.Contains(s, "vethrm-") || !strings.Contains(s, "altname uplink") {
			m.Errorf("the node is\n%swant no notice, and the administrator's name", s)
		}
	})
}

// TestRemovalBesideJoin puts the steps of one who joins a bridge, of one who removes it and of one more who does so at
// one go in every order. Whoever has joined has the bridge in the end, and whoever has not leaves nothing.
func TestRemovalBesideJoin(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		empty := m.snapshot()
		joined := 0
		for order := range orders(2, 3, 1) {
			m.apply(bridge)
			ok, err := runInOrder(m, order)
			switch {
			case err != nil:
				m.Fatalf("%v: %v", order, err)
			case ok:
				joined++
				if found := m.findings(bridge, port); len(found) > 0 {
					m.Fatalf("%v: joined, and then: %s", order, found)
				}
				if strings.Contains(m.node.Snapshot(), "vethrm-") {
					m.Fatalf("%v: a notice is left on a bridge that somebody has joined", order)
				}
				m.undo(port)
			}
			m.undo(bridge)
			m.unchanged(empty, fmt.Sprint("in the end of ", order))
		}
		if joined == 0 {
			m.Error("nobody has ever joined: the test tests nothing")
		}
	})
}

// runInOrder has those who join (0) and remove (1, 2) a bridge each do their next step, and reports whether who joins has
// done so.
func runInOrder(m *machine, order []int) (joined bool, err error) {
	var removing *kernel.Removing
	actors := [][]func() error{
		{
			func() error { return m.kernel.Join(port) },
			func() (err error) { joined, err = m.kernel.Label(port); return err },
		},
		{
			func() (err error) { removing, err = m.kernel.Announce("br0"); return err },
			func() error { return removing.Look() },
			func() error { return removing.FollowUp() },
		},
		{func() error { return m.kernel.RemoveUnused("br0") }},
	}
	for _, who := range order {
		steps := actors[who]
		if len(steps) == 0 {
			continue // it has given up
		}
		actors[who] = steps[1:]
		switch err := steps[0](); {
		case errors.Is(err, kernel.ErrBridgeGone), errors.Is(err, syscall.ENODEV):
			actors[who] = nil
		case err != nil:
			return false, err
		}
	}
	return joined, nil
}

// orders yields every order of so many steps of each.
func orders(steps ...int) func(yield func([]int) bool) {
	return func(yield func([]int) bool) { extend(nil, steps, yield) }
}

func extend(order, left []int, yield func([]int) bool) bool {
	done := true
	for who := range left {
		if left[who] == 0 {
			continue
		}
		done = false
		left[who]--
		more := extend(append(order[:len(order):len(order)], who), left, yield)
		left[who]++
		if !more {
			return false
		}
	}
	return !done || yield(order)
}
