package kernel_test

import (
	"slices"
	"testing"

	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/plan"
)

// scenario is one object of a plan: what it needs, how it behaves, and how each of its fields is broken.
type scenario struct {
	name   string
	given  []plan.Object // applied first, undone last
	object plan.Object
	again  again    // how a second Apply answers
	sticks bool     // Undo leaves it: it dies with the pair
	fixed  []string // fields the kernel itself determines: nobody can break them
	breaks []change
}

type again uint8

const (
	kept    again = iota // it was there already
	rewrote              // it was written once more
	refuses              // it may exist only once: EEXIST
)

// change is something done by hand, and what CHECK says of it.
type change struct {
	name string
	by   func(m *machine) error
	want plan.Findings
}

// wants is one finding about a field of the scenario's object. Its object is filled in when it runs.
func wants(field, want, got string) plan.Findings {
	return plan.Findings{{Field: field, Want: want, Got: got}}
}

// missing is the finding that the scenario's object is not there.
var missing = plan.Findings{{}}

func runScenarios(t *testing.T, scenarios []scenario) {
	t.Helper()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.everyFieldIsBroken(t)
			t.Run("apply, observe, undo", func(t *testing.T) {
				t.Parallel()
				on(t, s.lives)
			})
			for _, c := range s.breaks {
				t.Run("broken "+c.name, func(t *testing.T) {
					t.Parallel()
					on(t, func(m *machine) { s.isSeenBroken(m, c) })
				})
			}
		})
	}
}

// lives takes the object from its making to its end.
func (s scenario) lives(m *machine) {
	empty := m.snapshot()
	m.apply(s.given...)
	if found := m.findings(s.object); len(found) == 0 {
		m.Error("CHECK finds nothing wrong before the object is applied")
	}
	before := m.snapshot()
	created, err := m.kernel.Apply(s.object)
	if err != nil || !created {
		m.Fatalf("Apply: created %v, %v, want it created", created, err)
	}
	m.asPlanned(s.object)
	after := m.snapshot()
	if after == before {
		m.Error("Apply says it created the object and the snapshot is as before")
	}
	s.appliesAgain(m)
	m.unchanged(after, "after the second Apply")

	m.undo(s.object)
	if s.sticks {
		m.unchanged(after, "after Undo of what dies with the pair")
	} else {
		m.unchanged(before, "after Undo")
		m.undo(s.object) // what is gone already is no error
	}
	m.undo(s.given...)
	m.unchanged(empty, "after Undo of everything")
}

func (s scenario) appliesAgain(m *machine) {
	m.Helper()
	created, err := m.kernel.Apply(s.object)
	switch s.again {
	case kept:
		if created || err != nil {
			m.Errorf("the second Apply: created %v, %v, want it to find the object", created, err)
		}
	case rewrote:
		if !created || err != nil {
			m.Errorf("the second Apply: created %v, %v, want it to write the object once more", created, err)
		}
	case refuses:
		// An Apply that failed and says that it created something would have the rollback remove what others own.
		if created || err == nil {
			m.Errorf("the second Apply: created %v, %v, want it refused", created, err)
		}
	}
}

func (s scenario) isSeenBroken(m *machine, c change) {
	m.apply(s.given...)
	m.apply(s.object)
	m.asPlanned(s.object)
	m.must(c.by(m))
	want := slices.Clone(c.want)
	for i := range want {
		want[i].Object = s.object.ID()
	}
	attached(m.T, m.container, func(k *kernel.Node) { // CHECK is another process
		m.kernel = k
		if got := m.findings(s.object); !slices.Equal(got, want) {
			m.Errorf("CHECK finds\n%s\nwant\n%s", got, want)
		}
	})
}

// everyFieldIsBroken holds that no field CHECK claims to compare goes untested.
func (s scenario) everyFieldIsBroken(t *testing.T) {
	t.Helper()
	broken := map[string]bool{}
	for _, c := range s.breaks {
		for _, f := range c.want {
			broken[f.Field] = true
		}
	}
	for _, f := range s.object.Fields() {
		if f.Value != "" && !broken[f.Name] && !slices.Contains(s.fixed, f.Name) {
			t.Errorf("no change breaks the field %s (%s)", f.Name, f.Value)
		}
	}
	if !broken[""] {
		t.Error("no change makes the object missing")
	}
}

func TestUnknownObject(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		before := m.snapshot()
		if _, err := m.kernel.Apply(plan.Masquerade{}); err == nil {
			m.Error("Apply of an object that is not the kernel package's must fail")
		}
		if got, err := m.kernel.Observe(plan.Masquerade{}); err == nil || got != nil {
			m.Errorf("Observe of an object that is not the kernel package's must fail: it shows %v", got)
		}
		m.unchanged(before, "after operations that do not exist")
	})
}

// TestEverythingGone observes each kind of object where neither it nor its interface is.
func TestEverythingGone(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		want := []plan.Object{
			bridge, pair, inside,
			plan.Lease{Link: "vh", Name: "198.18.0.5@podnet"},
			plan.Address{Link: "vh", Prefix: prefix("198.18.0.1/24"), State: "ok"},
			plan.Address{Place: plan.Container, Link: "eth0", Prefix: prefix("2001:db8::5/64"), State: "ok"},
			plan.Route{Link: "vh", Dst: prefix("198.18.0.5/32")},
			plan.Route{Place: plan.Container, Link: "eth0", Dst: prefix("::/0")},
			plan.Neighbour{Link: "vh", Addr: addr("198.18.0.5"), MAC: stranger},
			plan.Neighbour{Place: plan.Container, Link: "eth0", Addr: addr("fe80::1"), MAC: stranger},
			plan.Sysctl{Key: "net/ipv4/conf/vh/proxy_arp", Value: "1"},
			plan.Port{Link: "vh", Hairpin: true},
			plan.Forwarding{Link: "vh", MAC: stranger},
			plan.PortVLANs{Link: "vh", PVID: 7},
			plan.VLANInterface{Name: "br0.7", Bridge: "br0", VLAN: 7, Up: true},
		}
		found := m.findings(want...)
		for i, o := range want {
			if i >= len(found) || found[i] != (plan.Finding{Object: o.ID()}) {
				m.Fatalf("CHECK finds\n%s\nwant each of %d objects missing, the first that is not is %s", found, len(want), o.ID())
			}
		}
		before := m.snapshot()
		m.undo(want...)
		for _, o := range want[2:] { // a bridge and a pair need nothing
			if created, err := m.kernel.Apply(o); err == nil || created {
				m.Errorf("Apply of %s without its interface: created %v, %v, want a failure", o.ID(), created, err)
			}
		}
		m.unchanged(before, "after Undo of nothing and failed Applies")
	})
}
