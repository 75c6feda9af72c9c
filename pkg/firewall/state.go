package firewall

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// state is what the kernel has of the table.
type state struct {
	generation uint32 // of the ruleset when the look began; it grows with every commit in the network namespace
	table      *tableState
	sets       map[string]*setState
	chains     map[string]*chainState
}

type tableState struct {
	dormant bool   // NFT_TABLE_F_DORMANT: its chains are not hooked
	objects uint32 // chains, sets, maps and whatever else it holds
}

type setState struct {
	flags   uint32
	keyType uint32
	keyLen  uint32
	spans   []span // if they were asked for
}

type chainState struct {
	kind     string
	hook     uint32
	priority int32
	policy   uint32 // NF_DROP or NF_ACCEPT
	rules    [][]expression
}

// defect is a way in which the table differs from its skeleton.
type defect struct {
	what   string
	family *family // the one family that suffers; nil: both
}

// defects compares the table with the skeleton.
func (s *state) defects() []defect {
	if s.table == nil {
		return []defect{{what: "nftables table inet " + tableName + " is missing"}}
	}
	var d []defect
	if s.table.dormant {
		d = append(d, defect{what: "nftables table inet " + tableName + " is dormant"})
	}
	for _, want := range skeleton.sets {
		switch have := s.sets[want.name]; {
		case have == nil:
			d = append(d, defect{"nftables set " + want.name + " is missing", want.family})
		case !have.is(want):
			d = append(d, defect{"nftables set " + want.name + " is not an interval set of " + want.key.Name, want.family})
		}
	}
	for _, want := range skeleton.chains {
		switch have := s.chains[want.name]; {
		case have == nil:
			d = append(d, defect{what: "nftables chain " + want.name + " is missing"})
		case !have.is(want):
			d = append(d, defect{what: fmt.Sprintf("nftables chain %s is not of type %s, priority %d, policy accept at its hook",
				want.name, want.kind, want.priority)})
		default:
			d = append(d, have.rulesOff(want)...)
		}
	}
	return d
}

// rulesOff compares the rules of a chain. Its rules exclude each other, so their order does not matter.
func (c *chainState) rulesOff(want chain) []defect {
	var d []defect
	foreign := len(c.rules)
	for _, r := range want.rules {
		if c.holds(r) {
			foreign--
		} else {
			d = append(d, defect{"nftables chain " + want.name + " has lost its rule for " + r.family.name, r.family})
		}
	}
	if foreign > 0 {
		d = append(d, defect{what: "nftables chain " + want.name + " holds a rule that is not the plugin's"})
	}
	return d
}

func (c *chainState) holds(want rule) bool {
	for _, have := range c.rules {
		if sameExpressions(want.exprs, have) {
			return true
		}
	}
	return false
}

func (c *chainState) is(want chain) bool {
	return c.kind == want.kind && c.hook == want.hook && c.priority == want.priority && c.policy == acceptPolicy
}

func (s *setState) is(want set) bool {
	return s.flags == unix.NFT_SET_INTERVAL && s.keyType == want.key.GetNFTMagic() && s.keyLen == want.key.Bytes
}

// spans are the elements of one of the skeleton's sets. A set of that name but of another kind has none that count.
func (s *state) spans(name string) []span {
	for _, want := range skeleton.sets {
		if have := s.sets[name]; want.name == name && have != nil && have.is(want) {
			return have.spans
		}
	}
	return nil
}

// ours reports whether the table holds nothing but the skeleton's objects. A newer version may have more.
func (s *state) ours() bool {
	return int(s.table.objects) == len(s.sets)+len(s.chains)
}

// repair returns the messages that make the table agree with the skeleton. Elements stay, unless their set is of the
// wrong kind. It may be sent whatever the table's state: what exists stays as it is, and the chains are emptied before
// their rules are written.
func (s *state) repair() []message {
	msgs := []message{addTable()} // wakes a dormant one
	for _, want := range skeleton.chains {
		if have := s.chains[want.name]; have != nil {
			msgs = append(msgs, flushChain(want)) // its rules hold on to the sets
			if !have.is(want) {
				msgs = append(msgs, deleteChain(want))
			}
		}
	}
	for i, want := range skeleton.sets {
		have := s.sets[want.name]
		if have != nil && !have.is(want) {
			msgs, have = append(msgs, deleteSet(want)), nil
		}
		if have == nil {
			msgs = append(msgs, addSet(want, uint32(i+1)))
		}
	}
	for _, want := range skeleton.chains {
		if have := s.chains[want.name]; have == nil || !have.is(want) {
			msgs = append(msgs, addChain(want))
		}
		for _, r := range want.rules {
			msgs = append(msgs, addRule(want, r))
		}
	}
	return msgs
}
