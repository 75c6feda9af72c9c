package kernel_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// sized is BIG TCP's sizes, each another, so that none is taken for another.
var sized = netconf.Sizes{GSO: 196_608, GRO: 196_000, GSO4: 131_072, GRO4: 131_000}

// ethtool calls ioctl(2) with a request of words, as ethtool(8) does.
func ethtool(link string, request ...uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	arg := struct {
		name [16]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&request[0])}
	copy(arg.name[:], link)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return errno
	}
	return nil
}

// useQueues has an interface use fewer queues than it has (ethtool -L).
func useQueues(p plan.Place, link string, rx, tx uint32) func(m *machine) error {
	return func(m *machine) error {
		return m.in(p, func() error {
			return ethtool(link, unix.ETHTOOL_SCHANNELS, 0, 0, 0, 0, rx, tx, 0, 0)
		})
	}
}

// TestPairWithEnds: queues and sizes are there from the pair's first moment, on both ends, and CHECK sees each go.
func TestPairWithEnds(t *testing.T) {
	t.Parallel()
	p := pair
	end := plan.End{Queues: netconf.Queues{Tx: 2, Rx: 3}, Sizes: sized}
	p.Ends = plan.Ends{Host: end, Peer: end}
	breaks := []change{{"gone", by(plan.Host, "vh", netlink.LinkDel), missing}}
	for _, e := range []struct {
		place plan.Place
		link  string
		field string
	}{{plan.Host, "vh", ""}, {plan.Container, "eth0", "peer "}} {
		breaks = append(breaks,
			change{e.field + "tx queues", useQueues(e.place, e.link, 3, 1), wants(e.field+"txqueues", "2", "1")},
			change{e.field + "rx queues", useQueues(e.place, e.link, 1, 2), wants(e.field+"rxqueues", "3", "1")},
			change{e.field + "gso", by(e.place, e.link, func(l netlink.Link) error {
				return netlink.LinkSetGSOMaxSize(l, 100_000)
			}), wants(e.field+"gso_max_size", "196608", "100000")},
			change{e.field + "gro", by(e.place, e.link, func(l netlink.Link) error {
				return netlink.LinkSetGROMaxSize(l, 100_000)
			}), wants(e.field+"gro_max_size", "196000", "100000")},
			change{e.field + "gso for IPv4", by(e.place, e.link, func(l netlink.Link) error {
				return netlink.LinkSetGSOIPv4MaxSize(l, 65_536)
			}), wants(e.field+"gso_ipv4_max_size", "131072", "65536")},
			change{e.field + "gro for IPv4", by(e.place, e.link, func(l netlink.Link) error {
				return netlink.LinkSetGROIPv4MaxSize(l, 65_536)
			}), wants(e.field+"gro_ipv4_max_size", "131000", "65536")},
		)
	}
	runScenarios(t, []scenario{{
		name: "queues and sizes", object: p, again: refuses, breaks: breaks,
		fixed: []string{"up", "mac", "mtu", "master", "alias", "peer"}, // TestPair
	}})
}

// TestPairHasOneQueue: whatever the number of processors, an end is as cheap as it can be.
func TestPairHasOneQueue(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(pair)
		for _, p := range []plan.Place{plan.Host, plan.Container} {
			m.must(by(p, link(p), func(l netlink.Link) error {
				if a := l.Attrs(); a.NumTxQueues != 1 || a.NumRxQueues != 1 {
					m.Errorf("%s has %d and %d queues, want one of each", a.Name, a.NumTxQueues, a.NumRxQueues)
				}
				return nil
			})(m))
		}
	})
}

func TestLongPackets(t *testing.T) {
	t.Parallel()
	long := plan.LongPackets{Link: "br0", Sizes: sized}
	set := func(fn func(netlink.Link, int) error, size int) func(m *machine) error {
		return by(plan.Host, "br0", func(l netlink.Link) error { return fn(l, size) })
	}
	runScenarios(t, []scenario{{
		name: "on a bridge", given: []plan.Object{bridge, port}, object: long, again: kept,
		breaks: []change{
			{"gone", by(plan.Host, "br0", netlink.LinkDel), missing},
			{"gso", set(netlink.LinkSetGSOMaxSize, 100_000), wants("gso_max_size", "196608", "100000")},
			{"gro", set(netlink.LinkSetGROMaxSize, 100_000), wants("gro_max_size", "196000", "100000")},
			{"gso for IPv4", set(netlink.LinkSetGSOIPv4MaxSize, 65_536), wants("gso_ipv4_max_size", "131072", "65536")},
			{"gro for IPv4", set(netlink.LinkSetGROIPv4MaxSize, 65_536), wants("gro_ipv4_max_size", "131000", "65536")},
			{"larger by choice of others", set(netlink.LinkSetGSOMaxSize, 300_000), nil},
		},
	}})
	t.Run("with a port that cannot", func(t *testing.T) {
		t.Parallel()
		on(t, func(m *machine) {
			m.apply(bridge, port)
			if err := newTap("tap0"); errors.Is(err, os.ErrPermission) {
				t.Skipf("needs a tap: %v", err)
			} else if err != nil {
				t.Fatal(err)
			}
			m.must(by(plan.Host, "tap0", toBridge("br0"))(m))
			before := m.snapshot()
			created, err := m.kernel.Apply(long)
			if created {
				m.Error("Apply says that it changed what it could not")
			}
			m.refused(err, cnierr.Conflict)
			if !strings.Contains(err.Error(), "65536 bytes that a port of bridge") {
				m.Errorf("%v: want it to say what the port can take", err)
			}
			m.unchanged(before, "after a refused Apply")
		})
	})
}

// newTap makes an interface that takes no packets of BIG TCP.
func newTap(name string) error {
	return netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP})
}

// initialUser reports whether the process is in the user namespace in which the machine began.
func initialUser() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(b)), " ") == "0 0 4294967295"
}

func TestWireSettings(t *testing.T) {
	t.Parallel()
	made := pair
	made.Ends.Host.Queues, made.Ends.Peer.Queues = netconf.Queues{Tx: 2, Rx: 2}, netconf.Queues{Tx: 2, Rx: 2}
	offloads := []netconf.Offload{{Feature: "rx-gro", On: true}, {Feature: "tx-tcp-segmentation"}}
	var scenarios []scenario
	for _, p := range []plan.Place{plan.Host, plan.Container} {
		given := []plan.Object{made, inside}
		gone := change{"interface gone", by(p, link(p), netlink.LinkDel), missing}
		scenarios = append(scenarios,
			scenario{
				name: p.String() + " offloads", given: given, again: rewrote, sticks: true,
				object: plan.WireSettings{Place: p, Link: link(p), Offloads: offloads},
				breaks: []change{
					gone,
					{
						"GRO off", func(m *machine) error {
							return m.in(p, func() error { return ethtool(link(p), 0x2c, 0) }) // ETHTOOL_SGRO
						},
						wants("offloads", "rx-gro on, tx-tcp-segmentation off", "rx-gro off, tx-tcp-segmentation off"),
					},
				},
			},
			scenario{
				name: p.String() + " qdisc", given: given, again: rewrote, sticks: true,
				object: plan.WireSettings{Place: p, Link: link(p), Qdisc: "pfifo"},
				breaks: []change{gone, {"back to none", unshape(p), wants("qdisc", "pfifo", "noqueue")}},
			},
		)
	}
	runScenarios(t, scenarios)
}

// TestSteering has processors take in what each end receives and use its queues. A snapshot does not show it.
func TestSteering(t *testing.T) {
	t.Parallel()
	for _, p := range []plan.Place{plan.Host, plan.Container} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				if !initialUser() {
					t.Skip("needs the machine's root")
				}
				made := pair
				made.Ends.Host.Queues, made.Ends.Peer.Queues = netconf.Queues{Tx: 2, Rx: 3}, netconf.Queues{Tx: 2, Rx: 3}
				w := plan.WireSettings{Place: p, Link: link(p), RPS: netconf.CPUs{0}, XPS: []netconf.CPUs{{0}, {0}}}
				m.apply(made, inside)
				if found := m.findings(w); found.String() != w.ID()+": rps: want 0, found nothing; "+w.ID()+": xps: want 0:0 1:0, found 0: 1:" {
					m.Errorf("before: %s", found)
				}
				m.apply(w)
				m.asPlanned(w)
				other := plan.Host + plan.Container - p
				w.Place, w.Link = other, link(other)
				if len(m.findings(w)) != 2 {
					m.Error("the other end has been changed too")
				}
				w.RPS = netconf.CPUs{8191}
				_, err := m.kernel.Apply(w)
				m.refused(err, cnierr.InvalidConfig)
			})
		})
	}
}

// TestWireThatTheKernelHasNot: each refusal says which key it is about.
func TestWireThatTheKernelHasNot(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(pair, inside)
		for _, test := range []struct {
			w    plan.WireSettings
			code uint
			says string
		}{
			{plan.WireSettings{Link: "vh", Qdisc: "nosuch"}, cnierr.FeatureMissing, "kernel module sch_nosuch"},
			{
				plan.WireSettings{Link: "vh", Offloads: []netconf.Offload{{Feature: "nosuch", On: true}}},
				cnierr.FeatureMissing, "offloads: this kernel has no nosuch",
			},
			{
				plan.WireSettings{Link: "vh", Offloads: []netconf.Offload{{Feature: "tx-scatter-gather"}, {Feature: "tx-tcp-segmentation", On: true}}},
				cnierr.KernelRefused, "offloads: tx-tcp-segmentation stays off",
			},
		} {
			_, err := m.kernel.Apply(test.w)
			m.refused(err, test.code)
			if !strings.Contains(err.Error(), test.says) {
				m.Errorf("%v: want it to say %q", err, test.says)
			}
		}
		// What the kernel does not have is off.
		m.apply(plan.WireSettings{Link: "vh", Offloads: []netconf.Offload{{Feature: "nosuch"}}})
		m.must(m.kernel.ProbeWire(netconf.Wire{Sizes: sized, Qdisc: "pfifo"}))
		m.refused(m.kernel.ProbeWire(netconf.Wire{Qdisc: "nosuch"}), cnierr.FeatureMissing)
	})
}

// TestUplinks: those of the routes to the world with what each can take, and no others.
func TestUplinks(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		if got := m.kernel.Uplinks(); len(got) != 0 {
			m.Errorf("a host without routes has uplinks %v", got)
		}
		m.must(foreign("up0"), foreign("other"), addAddress("up0", "198.18.0.1/24"), addAddress("other", "198.18.1.1/24"),
			by(plan.Host, "up0-peer", netlink.LinkSetUp)(m),
			netlink.RouteAdd(&netlink.Route{Gw: addr("198.18.0.2").AsSlice()}),
			by(plan.Host, "up0", func(l netlink.Link) error { return netlink.LinkSetGSOMaxSize(l, 100_000) })(m))
		got := m.kernel.Uplinks()
		if len(got) != 1 || got[0].Name != "up0" || got[0].Sizes.GSO != 100_000 || got[0].TSO != 524_280 {
			m.Errorf("uplinks are %+v, want up0 with 100000 of 524280 bytes", got)
		}
	})
}
