package firewall

import "testing"

// withoutChains are nft's commands for a table that keeps its sets and their elements.
func (x feature) withoutChains() []string {
	commands := []string{"flush table " + x.family() + " veth"}
	if x.part.chains[0].uses == anyNumber {
		commands = append(commands, "flush map inet veth hostports4_for") // it leads there
	}
	for _, c := range x.part.chains {
		commands = append(commands, "delete chain "+x.family()+" veth "+c.name)
	}
	return commands
}

// otherChains are those that put others in their place.
func (x feature) otherChains() []string {
	commands := x.withoutChains()
	for _, c := range x.part.chains {
		if c.isBase() {
			commands = append(commands, "add chain "+x.family()+" veth "+c.name+" { type filter hook input priority 7; }")
		}
	}
	return commands
}

// The kernel wakes a dormant table, and it makes base chains in a table, but not both at once. CHECK says that a table is
// dormant, ADD repairs it whatever else is wrong with it, and DEL removes it as it is.
func TestDormant(t *testing.T) {
	for _, x := range features(web, 1) {
		dormant := "add table " + x.family() + " veth { flags dormant; }"
		for name, damage := range map[string][]string{
			"whole":                {dormant},
			"empty":                {"flush ruleset", dormant},
			"chains deleted":       append([]string{dormant}, x.withoutChains()...),
			"other chains instead": append([]string{dormant}, x.otherChains()...),
		} {
			t.Run(x.name+", "+name, func(t *testing.T) {
				t.Parallel()
				f := fresh(t)
				must(t, x.apply(f))
				want := nft(t, "list", "ruleset")
				put := func() {
					for _, command := range damage {
						nft(t, command)
					}
				}
				put()
				if got, err := x.observe(f); err != nil || got != "nftables table "+x.family()+" veth is dormant" {
					t.Errorf("CHECK says %q, %v", got, err)
				}
				must(t, x.probe(f))
				if err := x.apply(f); err != nil {
					t.Errorf("ADD: %v", err)
				}
				if got := nft(t, "list", "ruleset"); got != want {
					t.Errorf("after ADD there is\n%s\nwant\n%s", got, want)
				}
				put()
				must(t, x.undo(f))
				listed(t, "empty")
			})
		}
	}
}
