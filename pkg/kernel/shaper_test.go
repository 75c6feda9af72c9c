package kernel_test

import (
	"errors"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// reshape changes the token bucket on an interface by hand.
func reshape(p plan.Place, change func(*netlink.Tbf)) func(m *machine) error {
	return by(p, link(p), func(l netlink.Link) error {
		list, err := netlink.QdiscList(l)
		if err != nil {
			return err
		}
		for _, q := range list {
			if tbf, ok := q.(*netlink.Tbf); ok {
				change(tbf)
				return netlink.QdiscReplace(tbf)
			}
		}
		return errors.New("no tbf")
	})
}

// unshape removes the root queueing discipline of an interface by hand.
func unshape(p plan.Place) func(m *machine) error {
	return by(p, link(p), func(l netlink.Link) error {
		return netlink.QdiscDel(&netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0),
		}})
	})
}

func TestShaper(t *testing.T) {
	t.Parallel()
	given := []plan.Object{pair, inside}
	slower := func(t *netlink.Tbf) { t.Rate = 625_000 }
	longer := func(t *netlink.Tbf) { t.Limit = 50_000 }
	weaker := func(t *netlink.Tbf) { t.Buffer /= 2 }
	runScenarios(t, []scenario{
		{
			name: "towards the container", given: given, again: rewrote, sticks: true,
			object: plan.Shaper{Link: "vh", Rate: 1_250_000, Burst: 31_250, Queue: 31_250},
			breaks: []change{
				{"interface", by(plan.Host, "vh", netlink.LinkDel), missing},
				{"gone", unshape(plan.Host), missing},
				{"slower", reshape(plan.Host, slower), plan.Findings{
					{Field: "rate", Want: "10000000bit/s", Got: "5000000bit/s"},
					{Field: "burst", Want: "31250B", Got: "15625B"}, // the same time at half the rate
				}},
				{"longer queue", reshape(plan.Host, longer), wants("queue", "31250B", "50000B")},
				{"smaller burst", reshape(plan.Host, weaker), wants("burst", "31250B", "15624B")},
				{"another kind", by(plan.Host, "vh", func(l netlink.Link) error {
					return netlink.QdiscReplace(&netlink.GenericQdisc{QdiscType: "pfifo", QdiscAttrs: netlink.QdiscAttrs{
						LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(2, 0),
					}})
				}), missing},
			},
		},
		{
			name: "from the container", given: given, again: rewrote, sticks: true,
			object: plan.Shaper{Place: plan.Container, Link: "eth0", Rate: 1_250_000, Burst: 31_250, Queue: 31_250, GSO: 7812},
			breaks: []change{
				{"gone", unshape(plan.Container), missing},
				{"slower", reshape(plan.Container, slower), plan.Findings{
					{Field: "rate", Want: "10000000bit/s", Got: "5000000bit/s"},
					{Field: "burst", Want: "31250B", Got: "15625B"},
				}},
				{"longer queue", reshape(plan.Container, longer), wants("queue", "31250B", "50000B")},
				{"longer packets", by(plan.Container, "eth0", func(l netlink.Link) error {
					return netlink.LinkSetGSOMaxSize(l, 65_536)
				}), wants("gso_max_size", "7812", "65536")},
			},
		},
	})
}

// The kernel rounds what it is told; what was applied must still be what is observed, from the slowest to the fastest.
func TestShaperAtEveryRate(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(pair, inside)
		for rate := uint64(125); rate <= 125e12; rate = rate*3 + 1 {
			burst := uint32(min(max(rate/40, 1518), 1<<32-1))
			shaper := plan.Shaper{Link: "vh", Rate: rate, Burst: burst, Queue: max(burst, 15_180)}
			m.apply(shaper)
			m.asPlanned(shaper)
		}
	})
}

// repolice replaces the policer by one with another rate, as if an older configuration had made it.
func repolice(p plan.Policer) func(m *machine) error {
	return func(m *machine) error {
		if err := unpolice(m); err != nil {
			return err
		}
		_, err := m.kernel.Apply(p)
		return err
	}
}

// unpolice deletes the policer's filter by hand.
func unpolice(m *machine) error {
	return by(plan.Host, "vh", func(l netlink.Link) error {
		list, err := netlink.FilterList(l, netlink.HANDLE_MIN_INGRESS)
		if err != nil || len(list) != 1 {
			return errors.Join(err, errors.New("want one filter"))
		}
		return netlink.FilterDel(list[0])
	})(m)
}

func clsact(l netlink.Link) netlink.Qdisc {
	return &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0),
	}}
}

func TestPolicer(t *testing.T) {
	t.Parallel()
	requirePolicer(t)
	runScenarios(t, []scenario{{
		name: "policer", given: []plan.Object{pair, inside}, again: refuses, sticks: true,
		object: plan.Policer{Link: "vh", Rate: 1_250_000, Burst: 125_000},
		breaks: []change{
			{"interface", by(plan.Host, "vh", netlink.LinkDel), missing},
			{"gone", unpolice, missing},
			{"nowhere to be", by(plan.Host, "vh", func(l netlink.Link) error { return netlink.QdiscDel(clsact(l)) }), missing},
			{"slower", repolice(plan.Policer{Link: "vh", Rate: 625_000, Burst: 62_500}), plan.Findings{
				{Field: "rate", Want: "10000000bit/s", Got: "5000000bit/s"},
				{Field: "burst", Want: "125000B", Got: "62500B"},
			}},
			{"another filter", func(m *machine) error {
				if err := unpolice(m); err != nil {
					return err
				}
				return by(plan.Host, "vh", func(l netlink.Link) error {
					return netlink.FilterAdd(&netlink.U32{FilterAttrs: netlink.FilterAttrs{
						LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: 1, Protocol: 3,
					}})
				})(m)
			}, missing},
			{"another program", func(m *machine) error {
				program, err := pass()
				if err != nil {
					return err
				}
				defer unix.Close(program)
				return errors.Join(unpolice(m), by(plan.Host, "vh", func(l netlink.Link) error {
					return netlink.FilterAdd(&netlink.BpfFilter{Fd: program, Name: "other", FilterAttrs: netlink.FilterAttrs{
						LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL,
					}})
				})(m))
			}, missing},
		},
	}})
	t.Run("at every rate", func(t *testing.T) {
		t.Parallel()
		on(t, func(m *machine) {
			m.apply(pair, inside)
			for rate := uint64(125); rate <= 125e12; rate = rate*9 + 1 {
				policer := plan.Policer{Link: "vh", Rate: rate, Burst: max(rate/10, 1600)}
				m.apply(policer)
				m.asPlanned(policer)
				m.must(unpolice(m))
			}
		})
	})
	t.Run("dies with the pair", func(t *testing.T) {
		t.Parallel()
		on(t, func(m *machine) {
			m.apply(pair, inside, plan.Policer{Link: "vh", Rate: 1_250_000, Burst: 125_000})
			var id int
			m.must(by(plan.Host, "vh", func(l netlink.Link) error {
				list, err := netlink.FilterList(l, netlink.HANDLE_MIN_INGRESS)
				if err != nil || len(list) != 1 {
					return errors.Join(err, errors.New("want one filter"))
				}
				id = list[0].(*netlink.BpfFilter).Id
				return nil
			})(m))
			if !programExists(id) {
				m.Fatalf("no program %d", id)
			}
			m.undo(pair)
			for end := time.Now().Add(5 * time.Second); programExists(id); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					m.Fatalf("the program %d is still there", id)
				}
			}
		})
	})
	t.Run("beside somebody's clsact", func(t *testing.T) {
		t.Parallel()
		on(t, func(m *machine) {
			m.apply(pair, inside)
			m.must(by(plan.Host, "vh", func(l netlink.Link) error { return netlink.QdiscAdd(clsact(l)) })(m))
			policer := plan.Policer{Link: "vh", Rate: 1_250_000, Burst: 125_000}
			m.apply(policer)
			m.asPlanned(policer)
		})
	})
}

// pass loads a program without maps: "r0 = 0; exit".
func pass() (int, error) {
	code := [...][8]byte{{unix.BPF_ALU64 | unix.BPF_MOV}, {unix.BPF_JMP | unix.BPF_EXIT}}
	licence := [...]byte{0}
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&code)
	pins.Pin(&licence)
	attribute := struct {
		kind, instructions uint32
		code, licence      uint64
		rest               [24]byte
	}{unix.BPF_PROG_TYPE_SCHED_CLS, 2, uint64(uintptr(unsafe.Pointer(&code))), uint64(uintptr(unsafe.Pointer(&licence))), [24]byte{}}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attribute)), unsafe.Sizeof(attribute))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// programExists opens a BPF program by its number (BPF_PROG_GET_FD_BY_ID).
func programExists(id int) bool {
	attribute := [3]uint32{uint32(id)}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_GET_FD_BY_ID, uintptr(unsafe.Pointer(&attribute)), 12)
	if errno != 0 {
		return false
	}
	unix.Close(int(fd))
	return true
}

func TestShapingWithoutInterface(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		for _, o := range []plan.Object{
			plan.Shaper{Link: "vh", Rate: 1_250_000, Burst: 31_250, Queue: 31_250},
			plan.Shaper{Place: plan.Container, Link: "eth0", Rate: 1_250_000, Burst: 31_250, Queue: 31_250},
			plan.Policer{Link: "vh", Rate: 1_250_000, Burst: 125_000},
		} {
			if found := m.findings(o); len(found) != 1 || found[0].Field != "" {
				m.Errorf("CHECK finds %s, want %s missing", found, o.ID())
			}
			if created, err := m.kernel.Apply(o); created || err == nil {
				m.Errorf("Apply of %s: created %v, %v, want a failure", o.ID(), created, err)
			}
			m.undo(o)
		}
	})
}

// requirePolicer ends a test that needs a policer where the kernel lets nobody but the machine's root have one: in a user
// namespace. There it must be refused in words.
func requirePolicer(t *testing.T) {
	t.Helper()
	on(t, func(m *machine) {
		m.apply(pair)
		_, err := m.kernel.Apply(plan.Policer{Link: "vh", Rate: 1_250_000, Burst: 125_000})
		if errors.Is(err, syscall.EPERM) {
			m.refused(err, cnierr.FeatureMissing)
			m.Skipf("not the machine's root: %v", err)
		}
		m.must(err)
	})
}

func TestProbeBandwidth(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		before := m.snapshot()
		m.must(m.kernel.ProbeBandwidth(false))
		if err := m.kernel.ProbeBandwidth(true); err != nil {
			m.refused(err, cnierr.FeatureMissing)
		}
		m.unchanged(before, "after looking whether the kernel can")
	})
}
