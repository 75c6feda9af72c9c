package kernel_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/test/node"
)

func TestLease(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 200)
	var scenarios []scenario
	for _, name := range []string{
		lease.Name("podnet", addr("198.18.0.5")),
		lease.Name("podnet", addr("2001:db8::5")),
		lease.Name("n", addr("10.88.0.5")), // short enough for an interface's first name
		lease.Name(long, addr("fd11:1111:2222:3333:4444:5555:6666:7777")),
	} {
		scenarios = append(scenarios, scenario{
			name: name, given: []plan.Object{pair, second}, object: plan.Lease{Link: "vh", Name: name}, sticks: true,
			breaks: []change{
				{"given up", by(plan.Host, "vh", dropName(name)), missing},
				{"gone with the interface", by(plan.Host, "vh", netlink.LinkDel), missing},
				{"another's", func(m *machine) error {
					m.must(by(plan.Host, "vh", dropName(name))(m))
					return by(plan.Host, "vh2", takeName(name))(m)
				}, wants("dev", "vh", "vh2")},
			},
		})
	}
	runScenarios(t, scenarios)
}

func takeName(name string) func(netlink.Link) error {
	return func(l netlink.Link) error { return netlink.LinkAddAltName(l, name) }
}

func dropName(name string) func(netlink.Link) error {
	return func(l netlink.Link) error { return netlink.LinkDelAltName(l, name) }
}

func TestLeaseTakenByAnother(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		name := lease.Name("podnet", addr("198.18.0.5"))
		m.apply(pair, second, plan.Lease{Link: "vh2", Name: name})
		before := m.snapshot()
		created, err := m.kernel.Apply(plan.Lease{Link: "vh", Name: name})
		m.refused(err, cnierr.AddressTaken)
		if created || !strings.Contains(err.Error(), "vh2") {
			m.Errorf("created %v, %v, want it to name the holder vh2", created, err)
		}
		m.unchanged(before, "after a refused Apply")
	})
}

func (m *machine) claimant(network, hostEnd string) *kernel.Claimant {
	m.Helper()
	c, err := m.kernel.Claimant(network, hostEnd)
	m.must(err)
	return c
}

// claims fails the test unless the answer is the one wanted.
func (m *machine) claims(c *kernel.Claimant, a netip.Addr, want bool) {
	m.Helper()
	if got, err := c.Claim(a); err != nil || got != want {
		m.Errorf("Claim(%s): %v, %v, want %v", a, got, err, want)
	}
}

// free fails the test unless Free and Taken agree with want.
func (m *machine) free(network string, a netip.Addr, want bool) {
	m.Helper()
	if got, err := m.kernel.Free(network, a); err != nil || got != want {
		m.Errorf("Free(%s): %v, %v, want %v", a, got, err, want)
	}
	taken, err := m.kernel.Taken(network)
	m.must(err)
	if _, held := taken[a]; held == want {
		m.Errorf("Taken lists %s: %v, want %v", a, held, !want)
	}
}

func TestClaim(t *testing.T) {
	t.Parallel()
	a4, a6 := addr("198.18.0.5"), addr("2001:db8::5")
	on(t, func(m *machine) {
		anonymous := second
		anonymous.Alias = ""
		m.apply(pair, anonymous)
		one, two := m.claimant("podnet", "vh"), m.claimant("podnet", "vh2")
		elsewhere := m.claimant("othernet", "vh2")
		if got := m.kernel.Holder("podnet", a4); got != "" {
			m.Errorf("nobody holds %s, Holder says %q", a4, got)
		}
		for _, a := range []netip.Addr{a4, a6} {
			m.free("podnet", a, true)
			m.claims(one, a, true)
			m.free("podnet", a, false)
			m.claims(two, a, false)
			m.claims(one, a, false) // its own, too: an address is given once
			m.free("othernet", a, true)
			m.claims(elsewhere, a, true)
			if got := two.Holder(a); got != owner.String() {
				m.Errorf("Holder(%s) says %q, want %q", a, got, owner)
			}
			if got := m.kernel.Holder("othernet", a); got != "interface vh2" {
				m.Errorf("Holder(%s) of an interface without an alias says %q, want its name", a, got)
			}
		}
		if taken, err := one.Taken(); err != nil || len(taken) != 2 {
			m.Errorf("Taken says %v, %v, want the two addresses", taken, err)
		}
		if got := m.observe(plan.Lease{Name: "198.18.0.5"}); len(got) != 1 || got[0].(plan.Lease).Link != "vh" {
			m.Errorf("the bare address names %v, want vh, whose it was first", got)
		}
	})
}

// What the host keeps for itself is nobody's to lease: it would deliver the container's packets to itself. Nothing stays
// of the claim.
func TestClaimOfTheHostsOwn(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(pair, second)
		m.must(
			by(plan.Host, "vh2", func(l netlink.Link) error {
				for _, a := range []string{"198.18.0.7/24", "2001:db8::7/64"} {
					parsed, err := netlink.ParseAddr(a)
					if err != nil {
						return err
					}
					parsed.Flags = unix.IFA_F_NODAD
					if err := netlink.AddrAdd(l, parsed); err != nil {
						return err
					}
				}
				return nil
			})(m),
		)
		one := m.claimant("podnet", "vh")
		keeps := func() {
			before := m.snapshot()
			for a, as := range map[string]string{
				"198.18.0.7": "an address", "198.18.0.255": "a broadcast address", "2001:db8::7": "an address",
			} {
				m.claims(one, addr(a), false)
				if free, err := m.kernel.Free("podnet", addr(a)); err != nil || free {
					m.Errorf("Free(%s): %v, %v, want it kept", a, free, err)
				}
				if got, want := one.Holder(addr(a)), "the host, as "+as+" of its interface vh2"; got != want {
					m.Errorf("Holder(%s) says %q, want %q", a, got, want)
				}
			}
			m.unchanged(before, "after the host's own was refused")
		}
		keeps()
		m.apply(plan.Lease{Link: "vh2", Name: "198.18.0.7"}) // a bare name that is taken: from then on one goes after the other
		keeps()
		m.claims(one, addr("198.18.0.8"), true)
		m.free("podnet", addr("198.18.0.8"), false)
	})
}

func TestClaimantOfNoInterface(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		_, err := m.kernel.Claimant("podnet", "vh")
		m.refused(err, cnierr.KernelRefused)
		m.apply(pair)
		c := m.claimant("podnet", "vh")
		m.undo(pair)
		_, err = c.Claim(addr("198.18.0.5"))
		m.refused(err, cnierr.KernelRefused)
	})
}

// TestCursor: successive attachments begin to look for an address at successive places.
func TestCursor(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(pair, second)
		l, err := netlink.LinkByName("vh")
		m.must(err)
		one, two := m.claimant("podnet", "vh").Cursor(), m.claimant("podnet", "vh2").Cursor()
		if one != uint64(l.Attrs().Index) || two <= one {
			m.Errorf("cursors %d and %d, want the interface's index %d and one beyond", one, two, l.Attrs().Index)
		}
	})
}

// TestClaimAtTheLimit: a network's name may be longer than any interface name.
func TestClaimAtTheLimit(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 200)
	a := addr("fd11:1111:2222:3333:4444:5555:6666:7777")
	if n := len(lease.Name(long, a)); n != 127 {
		t.Fatalf("the lease has %d bytes, want the kernel's limit of 127", n)
	}
	on(t, func(m *machine) {
		p := pair
		p.Alias = lease.Owner{Network: long, ContainerID: strings.Repeat("c", 200), IfName: "eth0"}.Alias()
		m.apply(p, second)
		m.asPlanned(p)
		m.free(long, a, true)
		m.claims(m.claimant(long, "vh"), a, true)
		m.free(long, a, false)
		m.claims(m.claimant(long, "vh2"), a, false)
		m.free(long+"x", a, true) // what was cut off counts
		if got := m.kernel.Holder(long, a); !strings.HasPrefix(got, "container ccc") {
			m.Errorf("Holder says %q, want the container", got)
		}
	})
}

// TestLeaseSurvives what happens to an interface that lives on.
func TestLeaseSurvives(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		a := addr("198.18.0.5")
		m.apply(bridge, port, inside, plan.Address{Link: "vh", Prefix: prefix("198.18.9.1/24")})
		m.claims(m.claimant("podnet", "vh"), a, true)
		for _, c := range []change{
			{name: "down", by: by(plan.Host, "vh", netlink.LinkSetDown)},
			{name: "addresses flushed", by: by(plan.Host, "vh", func(l netlink.Link) error {
				return netlink.AddrDel(l, handmade(prefix("198.18.9.1/24")))
			})},
			{name: "off its bridge", by: by(plan.Host, "vh", netlink.LinkSetNoMaster)},
			{name: "container's end down", by: by(plan.Container, "eth0", netlink.LinkSetDown)},
			{name: "container's end renamed", by: by(plan.Container, "eth0", rename("eth7"))},
			{name: "renamed", by: by(plan.Host, "vh", rename("other"))},
		} {
			m.must(c.by(m))
			if free, err := m.kernel.Free("podnet", a); free || err != nil {
				m.Errorf("%s: the address is free: %v, %v", c.name, free, err)
			}
		}
		m.must(by(plan.Host, "other", netlink.LinkDel)(m))
		m.free("podnet", a, true)
	})
}

// TestLeaseDiesWithTheContainer: nobody sends a DEL, and the address is free.
func TestLeaseDiesWithTheContainer(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		doomed := m.node.Container()
		attached(m.T, doomed, func(k *kernel.Node) {
			_, err := k.Apply(pair)
			m.must(err)
			c, err := k.Claimant("podnet", "vh")
			m.must(err)
			m.claims(c, addr("198.18.0.5"), true)
		})
		m.free("podnet", addr("198.18.0.5"), false)
		m.must(doomed.Close())
		for deadline := time.Now().Add(10 * time.Second); ; {
			free, err := m.kernel.Free("podnet", addr("198.18.0.5"))
			m.must(err)
			if free {
				break
			}
			if time.Now().After(deadline) {
				m.Fatal("the lease outlives its container")
			}
			time.Sleep(5 * time.Millisecond)
		}
		m.free("podnet", addr("198.18.0.5"), true)
		if found := m.findings(pair); len(found) != 1 || found[0].Field != "" {
			m.Errorf("CHECK finds %s, want the pair missing", found)
		}
	})
}

// TestClaimRace has sixteen processes' worth of threads race for fifty addresses.
func TestClaimRace(t *testing.T) {
	t.Parallel()
	const racers, addresses = 16, 50
	n := node.New(t)
	c := n.Container()
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	won := make([][]netip.Addr, racers)
	failed := make([]error, racers)
	for i := range racers {
		ready.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			failed[i] = n.Do(func() error {
				var err error
				won[i], err = race(c, i, addresses, func() { ready.Done(); <-start })
				return err
			})
		}()
	}
	ready.Wait()
	close(start)
	done.Wait()
	winners := map[netip.Addr]int{}
	for i := range racers {
		if failed[i] != nil {
			t.Errorf("racer %d: %v", i, failed[i])
		}
		for _, a := range won[i] {
			if other, twice := winners[a]; twice {
				t.Errorf("%s has two winners, %d and %d", a, other, i)
			}
			winners[a] = i
		}
	}
	if len(winners) != addresses {
		t.Errorf("%d addresses have a winner, want all %d", len(winners), addresses)
	}
	do(t, n.Namespace, func() error {
		k, err := kernel.Open()
		if err != nil {
			return err
		}
		defer k.Close()
		taken, err := k.Taken("podnet")
		if len(taken) != addresses {
			t.Errorf("%d leases, want %d", len(taken), addresses)
		}
		for a, i := range winners {
			if want, got := fmt.Sprintf("interface race%d", i), k.Holder("podnet", a); got != want {
				t.Errorf("%s is held by %q, want %q", a, got, want)
			}
		}
		return err
	})
}

// race makes a host end, waits for the others, and claims in an order of its own. It calls wait in any case.
func race(c *node.Namespace, i, addresses int, wait func()) (won []netip.Addr, err error) {
	wait = sync.OnceFunc(wait)
	defer wait()
	k, err := kernel.Open()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	if err := k.Enter(c.Path); err != nil {
		return nil, err
	}
	p := plan.Pair{Host: fmt.Sprintf("race%d", i), MAC: stranger, Peer: fmt.Sprintf("eth%d", i), Up: true}
	if _, err := k.Apply(p); err != nil {
		return nil, err
	}
	claimant, err := k.Claimant("podnet", p.Host)
	if err != nil {
		return nil, err
	}
	wait()
	for _, j := range rand.Perm(addresses) {
		a := netip.AddrFrom4([4]byte{198, 18, 0, byte(j + 1)})
		mine, err := claimant.Claim(a)
		if err != nil {
			return won, err
		}
		if mine {
			won = append(won, a)
		}
	}
	return won, nil
}

// TestPairRace: two ADDs of one attachment cannot both win.
func TestPairRace(t *testing.T) {
	t.Parallel()
	const racers = 8
	n := node.New(t)
	c := n.Container()
	var done sync.WaitGroup
	errs := make([]error, racers)
	for i := range racers {
		done.Add(1)
		go func() {
			defer done.Done()
			_ = n.Do(func() error {
				k, err := kernel.Open()
				if err != nil {
					errs[i] = err
					return nil
				}
				defer k.Close()
				if errs[i] = k.Enter(c.Path); errs[i] == nil {
					_, errs[i] = k.Apply(pair)
				}
				return nil
			})
		}()
	}
	done.Wait()
	winners := 0
	for i, err := range errs {
		switch {
		case err == nil:
			winners++
		case cnierr.Of(err, 0).Code != cnierr.AttachmentExists:
			t.Errorf("racer %d: %v, want it told that the attachment exists", i, err)
		}
	}
	if winners != 1 {
		t.Errorf("%d ADDs won, want 1", winners)
	}
}
