package firewall

import (
	"maps"

	"golang.org/x/sys/unix"
)

// query says what to look at.
type query struct {
	part
	spans []string // the interval sets of the part whose elements are wanted too
	// brief takes a chain with as many rules as it should have for whole, and so the sets, which the kernel keeps as long
	// as rules name them. A rule that somebody has put into the place of another is left for CHECK to find.
	brief bool
	whole bool    // a brief look sees all objects of the part, the sets too, and no rules
	keys  []entry // elements that are wanted too, of a set or, in an interval set, of the interval around them
	// change is for those who may commit something afterwards, and need the generation for it.
	change bool
}

// look reads a part of the table: one round trip for all objects of the part by their names, and for the keys, so that
// it costs the same however many tables others have. Unless it is brief, one more for the rules of the table; and one for
// the elements of each set that is named.
//
// The generation, if it is wanted, is read first. What is read after it may be newer, but then nothing gets committed for it.
func (c *conn) look(q query) (*state, error) {
	var sets []set
	if !q.brief || q.whole {
		sets = q.allSets()
	}
	requests := make([]message, 0, 2+len(sets)+len(q.chains)+len(q.keys))
	if q.change {
		requests = append(requests, getGeneration())
	}
	requests = append(requests, getTable())
	for _, s := range sets {
		requests = append(requests, getSet(s.name))
	}
	for _, ch := range q.chains {
		requests = append(requests, getChain(ch.name))
	}
	of, first := len(requests), q.keys[:min(portion, len(q.keys))]
	for _, k := range first {
		requests = append(requests, getEntry(k))
	}
	answers, err := c.ask(q.addressed(requests))
	if err != nil {
		return nil, err
	}
	s, err := decodeState(answers[:of])
	if err == nil {
		s.found, err = decodeFound(answers[of:])
	}
	if err != nil {
		return nil, explain(requests[0], err)
	}
	if rest := q.keys[len(first):]; len(rest) > 0 {
		more, err := c.lookUp(rest)
		if err != nil {
			return nil, err
		}
		maps.Copy(s.found, more)
	}
	s.part, s.brief, s.wanted = q.part, q.brief, sets
	if !q.whole {
		err = c.rules(s)
	}
	if err != nil {
		return nil, err
	}
	for _, name := range q.spans {
		if have := s.sets[name]; have != nil {
			if have.spans, have.strays, err = c.spans(name); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// examine is look for whoever says what is wrong. It looks twice before it does: while somebody commits, a list may have some
// of what was and some of what is new, and the kernel does not say so.
func (c *conn) examine(q query) (*state, error) {
	s, err := c.look(q)
	if err != nil || q.brief || len(s.defects()) == 0 {
		return s, err
	}
	return c.look(q)
}

// rules lists the rules of the part's chains: of all in one list or, in brief, of those that cannot be counted.
func (c *conn) rules(s *state) error {
	if !s.brief && len(s.chains) > 0 {
		return c.rulesOf("", s)
	}
	for _, want := range s.part.chains {
		if s.chains[want.name] != nil && want.uses == anyNumber {
			if err := c.rulesOf(want.name, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// rulesOf lists the rules of a chain, or with "" those of the whole table, and gives each to its chain.
func (c *conn) rulesOf(chain string, s *state) error {
	request := get("list the rules", unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(w *encoder) {
		w.text(unix.NFTA_RULE_TABLE, tableName)
		if chain != "" {
			w.text(unix.NFTA_RULE_CHAIN, chain)
		}
	})
	list, err := c.dump(s.part.addressed([]message{request})[0])
	if err != nil {
		return err
	}
	for _, m := range list {
		r, err := decodeRule(m)
		if err != nil {
			return explain(request, err)
		}
		if have := s.chains[r.chain]; have != nil {
			have.rules = append(have.rules, r.exprs)
		}
	}
	return nil
}

// spans lists an interval set, and what of it belongs to no interval.
func (c *conn) spans(set string) ([]span, []element, error) {
	list, err := c.entries(set)
	if err != nil {
		return nil, nil, err
	}
	ends := make([]element, len(list))
	for i, e := range list {
		ends[i] = e.element()
	}
	spans := join(ends)
	return spans, strays(ends, spans), nil
}

// get makes a message that only reads.
func get(what string, kind, flags uint16, fill func(*encoder)) message {
	m := build(kind, flags, fill)
	m.what, m.needs = what, needsTables
	return m
}

func getGeneration() message {
	return get("read the ruleset's generation", unix.NFT_MSG_GETGEN, 0, func(*encoder) {})
}

func getTable() message {
	return get("read the table", unix.NFT_MSG_GETTABLE, 0, func(w *encoder) {
		w.text(unix.NFTA_TABLE_NAME, tableName)
	})
}

func getSet(name string) message {
	return get("read set "+name, unix.NFT_MSG_GETSET, 0, func(w *encoder) {
		w.text(unix.NFTA_SET_TABLE, tableName)
		w.text(unix.NFTA_SET_NAME, name)
	})
}

func getChain(name string) message {
	return get("read chain "+name, unix.NFT_MSG_GETCHAIN, 0, func(w *encoder) {
		w.text(unix.NFTA_CHAIN_TABLE, tableName)
		w.text(unix.NFTA_CHAIN_NAME, name)
	})
}
