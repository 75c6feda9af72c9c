package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/plan"
)

// A brief look counts what uses a chain, by numbers that are written beside the rules.
func TestUsesOfChains(t *testing.T) {
	for name, p := range map[string]part{
		"masquerading": masquerading(), "sourceChecking": sourceChecking(), "ingress": ingress(),
		"portIngress": portIngress(), "hostPorts": hostPorts(),
	} {
		jumps := map[string]int{}
		for _, c := range p.chains {
			for _, r := range c.allRules() {
				for _, e := range r.exprs {
					jumps[e.at(unix.NFTA_IMMEDIATE_DATA, unix.NFTA_DATA_VERDICT, unix.NFTA_VERDICT_CHAIN).text()]++
				}
			}
		}
		for _, c := range p.chains {
			if got := len(c.allRules()) + jumps[c.name]; got != c.uses {
				t.Errorf("%s: chain %s: %d rules and jumps, want uses %d", name, c.name, got, c.uses)
			}
		}
	}
}

func TestConcatenation(t *testing.T) {
	// As nft numbers ipv6_addr . inet_proto . inet_service: six bits each, and every field filled up to four bytes.
	want := datatype{"ipv6_addr . inet_proto . inet_service", 8<<12 | 12<<6 | 13, 16 + 4 + 4}
	if got := concatenation(typeIP6Addr, typeInetProto, typeInetService); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// What is asked of an interval set by key is the interval around it: an ADD need not list the set.
func TestMasqueradedByKey(t *testing.T) {
	f := fresh(t)
	apply(t, f, pods4, pods6)
	for _, half := range []string{"10.90.0.0/24", "10.90.1.0/24"} {
		apply(t, f, plan.Masquerade{Subnet: netip.MustParsePrefix(half), Network: "podnet"})
	}
	for _, c := range []struct {
		prefix, owner string
		want          bool
	}{
		{"10.88.0.0/16", "podnet", true},
		{"10.88.0.0/16", "another", true}, // who owns it does not matter to a packet
		{"10.88.7.0/24", "podnet", false}, // covered, which takes more than two ends to be sure of
		{"10.88.255.255/32", "podnet", false},
		{"10.88.0.0/15", "podnet", false},
		{"10.90.0.0/23", "podnet", false}, // two intervals that touch
		{"10.89.0.0/16", "podnet", false},
		{"10.87.255.255/32", "podnet", false},
		{"10.0.0.0/8", "podnet", false},
		{"255.255.255.255/32", "podnet", false},
		{"2001:db8:88::/64", "podnet", true},
		{"2001:db8:88::1/128", "podnet", false},
		{"2001:db8:88::/48", "podnet", false},
	} {
		p := netip.MustParsePrefix(c.prefix)
		if got := f.masqueraded(familyOf(p), spanOf(p, c.owner)); got != c.want {
			t.Errorf("%s of %s: %v, want %v", c.prefix, c.owner, got, c.want)
		}
	}
}

// nft begins a set that it fills with an end of nothing. A ruleset that was saved and loaded goes like any other.
func TestUndoAfterRestore(t *testing.T) {
	f := fresh(t)
	apply(t, f, pods4, pods6)
	saved := nft(t, "list", "ruleset")
	nft(t, "flush", "ruleset")
	nft(t, saved)
	must(t, f.Undo(pods4))
	seen(t, f, pods6)
	must(t, f.Undo(pods6))
	listed(t, "empty")
}

// An element that has lost its attachment keeps neither the chain that it leads to nor what serves host ports.
func TestPermitChainGoesWithTheLast(t *testing.T) {
	f := fresh(t)
	a := restricted(routed(web, "tcp 0.0.0.0:80 10.88.0.5:80"), "192.0.2.0/24")
	b := restricted(routed(dns, "tcp 0.0.0.0:81 10.88.0.6:80"), "192.0.2.0/24")
	publish(t, f, a, b)
	nft(t, "delete element inet veth hostports_attachments { "+web.HostName()+" }")
	if _, err := f.ReleaseHostPorts(dns, b.Ports); err != nil {
		t.Error(err)
	}
	listed(t, "empty")
}

// kernelCounts reports whether the kernel is new enough to count the elements of every set.
func kernelCounts(t *testing.T) bool {
	t.Helper()
	var name unix.Utsname
	must(t, unix.Uname(&name))
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 6 || major == 6 && minor >= 18 // the oldest where it was seen
}

// What came after the last look stays: a part goes only as long as nothing keeps it, and the table only if it is empty.
func TestSweepSpares(t *testing.T) {
	t.Run("a subnet", func(t *testing.T) {
		f := fresh(t)
		apply(t, f, pods4)
		must(t, f.sweep(masquerading()))
		listed(t, "ipv4")
		s, err := f.observe(query{part: masquerading(), brief: true, whole: true, change: true})
		must(t, err)
		err = f.conn.commit(s.generation, s.remove()) // it came after the look for one
		if err == nil && !kernelCounts(t) {
			t.Skip("this kernel counts only the elements of sets with a size, so nothing but the look protects a set")
		}
		if !errors.Is(err, unix.EBUSY) {
			t.Errorf("the set with a subnet in it is removed: %v, want EBUSY", err)
		}
		listed(t, "ipv4")
	})
	t.Run("another part", func(t *testing.T) {
		f := fresh(t)
		apply(t, f, pods4)
		before := nft(t, "list", "ruleset")
		if _, err := f.applyPart(sourceChecking()); err != nil {
			t.Fatal(err)
		}
		s, err := f.observe(query{part: sourceChecking(), change: true})
		if err != nil {
			t.Fatal(err)
		}
		s.table.objects = uint32(len(s.sets) + len(s.chains)) // as it was seen before the subnet came
		if err := f.conn.commit(s.generation, s.remove()); !errors.Is(err, unix.EBUSY) {
			t.Errorf("the table with another part in it is removed: %v, want EBUSY", err)
		}
		must(t, f.sweep(sourceChecking()))
		if got := nft(t, "list", "ruleset"); got != before {
			t.Errorf("got\n%s\nwant\n%s", got, before)
		}
	})
}

// STATUS rehearses what is missing. An ADD that looks briefly meanwhile must not take that for what is there.
func TestBriefLooksSeeNoRehearsal(t *testing.T) {
	f, rehearsing := fresh(t), Open()
	t.Cleanup(rehearsing.Close)
	must(t, rehearsing.conn.open()) // in this namespace: a goroutine may be in another
	for _, p := range []part{masquerading(), sourceChecking(), ingress(), hostPorts(), portIngress()} {
		_, err := f.applyPart(p)
		must(t, err)
		family := "inet"
		if p.bridges {
			family = "bridge"
		}
		nft(t, "flush", "table", family, tableName) // its rules: the chains stay
		unseen(t, f, rehearsing, p)
		_, err = f.applyPart(p)
		must(t, err)
		nft(t, "add table "+family+" "+tableName+" { flags dormant; }")
		unseen(t, f, rehearsing, p)
		_, err = f.applyPart(p) // wakes it
		must(t, err)
	}
}

// unseen looks at a part that is not whole while it is rehearsed.
func unseen(t *testing.T, f, rehearsing *Firewall, p part) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 10 && err == nil; i++ {
			err = rehearsing.probe(p)
		}
		done <- err
	}()
	taken := 0
	for len(done) == 0 {
		s, err := f.observe(query{part: p, brief: true})
		must(t, err)
		if len(s.defects()) == 0 {
			taken++
		}
	}
	must(t, <-done)
	if taken > 0 {
		t.Errorf("chain %s and others: %d brief looks found whole what is not", p.chains[0].name, taken)
	}
}
