package firewall

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// state is what the kernel has of the table.
type state struct {
	// generation of the ruleset when the look began, if it was wanted; it grows with every commit in the network namespace.
	generation uint32
	table      *tableState
	sets       map[string]*setState
	chains     map[string]*chainState
	part       part             // that was looked at: sets and chains hold its objects
	brief      bool             // but only in brief
	wanted     []set            // the part's, if the look was for sets, too
	found      map[string]entry // what there is of the keys that were asked for, by their id
}

type tableState struct {
	dormant bool   // NFT_TABLE_F_DORMANT: its chains are not hooked
	owned   bool   // it belongs to a running program, which alone may change it
	objects uint32 // chains, sets, maps and whatever else it holds
}

type setState struct {
	flags    uint32
	keyType  uint32
	keyLen   uint32
	dataType uint32 // of a map
	dataLen  uint32
	spans    []span // if they were asked for, and what belongs to none
	strays   []element
}

type chainState struct {
	kind     string
	hook     uint32
	priority int32
	policy   uint32 // NF_DROP or NF_ACCEPT
	uses     uint32 // its rules, and what jumps to it
	rules    []expressions
}

// defect is a way in which the table differs from its part.
type defect struct {
	what   string
	family *family // the one family that suffers; nil: both
}

// defects compares the table with the part.
func (s *state) defects() []defect {
	if s.table == nil {
		return []defect{{what: tableTitle(s.part.family()) + " is missing"}}
	}
	var d []defect
	if s.table.dormant {
		d = append(d, defect{what: tableTitle(s.part.family()) + " is dormant"})
	}
	for _, want := range s.wanted {
		switch have := s.sets[want.name]; {
		case have == nil:
			d = append(d, defect{"nftables " + want.kind() + " " + want.name + " is missing", want.family})
		case !have.is(want):
			d = append(d, defect{"nftables " + want.kind() + " " + want.name + " is not " + want.String(), want.family})
		}
	}
	for _, want := range s.part.chains {
		switch have := s.chains[want.name]; {
		case have == nil:
			d = append(d, defect{what: "nftables chain " + want.name + " is missing"})
		case !have.is(want):
			d = append(d, defect{what: "nftables chain " + want.name + " is not " + want.String()})
		case s.brief && want.uses != anyNumber:
			if int(have.uses) != want.uses {
				d = append(d, defect{what: "nftables chain " + want.name + " has lost rules, or holds others"})
			}
		default:
			d = append(d, have.rulesOff(want)...)
		}
	}
	return d
}

// rulesOff compares the rules of a chain.
func (c *chainState) rulesOff(want chain) []defect {
	var d []defect
	last, ordered, rules := -1, true, want.allRules()
	for _, r := range rules {
		at := slices.IndexFunc(c.rules, func(have expressions) bool { return sameExpressions(r.exprs, have) })
		if at < 0 {
			d = append(d, defect{"nftables chain " + want.name + " has lost its rule for " + r.what, r.family})
			continue
		}
		ordered, last = ordered && at > last, at
	}
	switch {
	case len(c.rules) > len(rules)-len(d):
		d = append(d, defect{what: "nftables chain " + want.name + " holds a rule that is not the plugin's"})
	case !ordered:
		d = append(d, defect{what: "nftables chain " + want.name + " has its rules in another order"})
	}
	return d
}

func (c *chainState) is(want chain) bool {
	if !want.isBase() {
		return c.kind == ""
	}
	return c.kind == want.kind && c.hook == want.hook && c.priority == want.priority && c.policy == acceptVerdict
}

func (c chain) String() string {
	if !c.isBase() {
		return "one to jump to"
	}
	return fmt.Sprintf("of type %s, priority %d, policy accept at its hook", c.kind, c.priority)
}

func (s *setState) is(want set) bool {
	if want.isMap() && (s.dataType != want.dataType() || (s.dataLen != want.data.size && want.data.size != 0)) {
		return false
	}
	return s.flags == want.allFlags() && s.keyType == want.key.number && s.keyLen == want.key.size
}

// has reports whether a set of the part is there. One of that name but of another kind is not.
func (s *state) has(name string) bool {
	if s.brief && s.wanted == nil {
		return s.table != nil
	}
	have := s.sets[name]
	return have != nil && slices.ContainsFunc(s.wanted, func(want set) bool { return want.name == name && have.is(want) })
}

// spans are the elements of one of the part's sets.
func (s *state) spans(name string) []span {
	if !s.has(name) {
		return nil
	}
	return s.sets[name].spans
}

// remove returns the messages that take the part away, and the table with it unless that holds anything else: another
// part, or what a newer version put there. The kernel refuses them with EBUSY if there is by now an element that keeps the
// part, or something else in the table (NLM_F_NONREC, Linux 4.14).
func (s *state) remove() []message {
	var msgs []message
	for _, c := range s.part.chains {
		if s.chains[c.name] != nil {
			msgs = append(msgs, flushChain(c)) // its rules hold on to the sets, and to other chains
		}
	}
	for _, x := range s.wanted {
		if s.sets[x.name] != nil {
			m := deleteSet(x)
			if x.keeps {
				m.flags |= unix.NLM_F_NONREC
			}
			msgs = append(msgs, m)
		}
	}
	for _, c := range s.part.chains {
		if s.chains[c.name] != nil {
			msgs = append(msgs, deleteChain(c))
		}
	}
	if !s.others() {
		m := deleteTable()
		m.flags |= unix.NLM_F_NONREC
		msgs = append(msgs, m)
	}
	return msgs
}

// others reports whether there is something in the table that is not of the part.
func (s *state) others() bool { return int(s.table.objects) != len(s.sets)+len(s.chains) }

// repair returns the messages that make the table agree with the part. Elements stay, unless their set is of the
// wrong kind. It may be sent whatever the table's state, if it is not dormant: what exists stays as it is, and the chains
// are emptied before their rules are written.
func (s *state) repair() []message {
	return s.rebuild(func(c chain) bool { have := s.chains[c.name]; return have != nil && have.is(c) })
}

// rehearsal is repair for messages that the kernel will throw away, also of a dormant table: it makes all chains anew. While
// the kernel reads the messages it already shows everybody what uses a chain, and a brief look at that moment would find
// whole what the kernel then leaves as it was. A new chain nobody sees before it is there to stay.
func (s *state) rehearsal() []message { return s.rebuild(func(chain) bool { return false }) }

// rebuild returns the messages that make the part, but for the chains to keep, of which only the rules are made.
func (s *state) rebuild(keep func(chain) bool) []message {
	var msgs []message
	if s.table == nil {
		msgs = append(msgs, addTable(s.part))
	}
	for _, want := range s.part.chains {
		if s.chains[want.name] != nil {
			msgs = append(msgs, flushChain(want)) // its rules hold on to the sets, and to other chains
		}
	}
	for _, want := range s.part.chains {
		if s.chains[want.name] != nil && !keep(want) {
			msgs = append(msgs, deleteChain(want))
		}
	}
	for i, want := range s.wanted {
		have := s.sets[want.name]
		if have != nil && !have.is(want) {
			msgs, have = append(msgs, deleteSet(want)), nil
		}
		if have == nil {
			msgs = append(msgs, addSet(want, uint32(i+1)))
		}
	}
	for _, want := range s.part.chains {
		if !keep(want) {
			msgs = append(msgs, addChain(want))
		}
	}
	for _, want := range s.part.chains {
		for _, r := range want.allRules() {
			msgs = append(msgs, addRule(want, r))
		}
	}
	return msgs
}
