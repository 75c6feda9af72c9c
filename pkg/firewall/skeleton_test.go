package firewall

import (
	"net/netip"
	"testing"

	"github.com/google/nftables/expr"

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
					if v, ok := e.(*expr.Verdict); ok && v.Chain != "" {
						jumps[v.Chain]++
					}
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
		{"10.88.7.0/24", "podnet", true},
		{"10.88.255.255/32", "podnet", true},
		{"10.88.0.0/15", "podnet", false},
		{"10.90.0.0/23", "podnet", false}, // two intervals that touch
		{"10.89.0.0/16", "podnet", false},
		{"10.87.255.255/32", "podnet", false},
		{"10.0.0.0/8", "podnet", false},
		{"255.255.255.255/32", "podnet", false},
		{"2001:db8:88::/64", "podnet", true},
		{"2001:db8:88::1/128", "podnet", true},
		{"2001:db8:88::/48", "podnet", false},
	} {
		p := netip.MustParsePrefix(c.prefix)
		if got := f.masqueraded(familyOf(p), spanOf(p, c.owner)); got != c.want {
			t.Errorf("%s of %s: %v, want %v", c.prefix, c.owner, got, c.want)
		}
	}
}
