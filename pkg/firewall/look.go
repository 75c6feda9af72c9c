package firewall

import (
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// query says what to look at.
type query struct {
	part
	spans []string // the interval sets of the part whose elements are wanted too
	// brief takes the sets for granted, and a chain with as many rules as it should have for whole. It is for those who
	// then send changes, which fail if a set is not there, and look again.
	brief bool
}

// look reads a part of the table: one round trip for the generation and for each object of the part by its name, so that
// it costs the same however many tables others have; one for the rules of the table; one for the elements of each set
// that is named.
//
// The generation is read first. What is read after it may be newer, but then nothing gets committed for it.
func (c *conn) look(q query) (*state, error) {
	requests := []message{getGeneration(), getTable()}
	for _, s := range q.sets {
		if !q.brief {
			requests = append(requests, getSet(s.name))
		}
	}
	for _, ch := range q.chains {
		requests = append(requests, getChain(ch.name))
	}
	answers, err := c.ask(q.addressed(requests))
	if err != nil {
		return nil, err
	}
	s, err := decodeState(answers)
	if err != nil {
		return nil, explain(requests[0], err)
	}
	s.part, s.brief = q.part, q.brief
	if err := c.rules(s); err != nil {
		return nil, err
	}
	for _, name := range q.spans {
		if have := s.sets[name]; have != nil {
			if have.spans, err = c.spans(name); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// rules lists the rules of the part's chains: of all in one list or, in brief, of those that cannot be counted.
func (c *conn) rules(s *state) error {
	if !s.brief && len(s.chains) > 0 {
		return c.rulesOf("", s)
	}
	for _, want := range s.part.chains {
		if s.chains[want.name] != nil && want.jumps == anyNumber {
			if err := c.rulesOf(want.name, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// rulesOf lists the rules of a chain, or with "" those of the whole table, and gives each to its chain.
func (c *conn) rulesOf(chain string, s *state) error {
	request := get("list the rules", unix.NFT_MSG_GETRULE, netlink.Dump, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_RULE_TABLE, tableName)
		if chain != "" {
			ae.String(unix.NFTA_RULE_CHAIN, chain)
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

func (c *conn) spans(set string) ([]span, error) {
	request := get("list set "+set, unix.NFT_MSG_GETSETELEM, netlink.Dump, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		ae.String(unix.NFTA_SET_ELEM_LIST_SET, set)
	})
	list, err := c.dump(request)
	if err != nil {
		return nil, err
	}
	var elements []element
	for _, m := range list {
		more, err := decodeElements(m)
		if err != nil {
			return nil, explain(request, err)
		}
		elements = append(elements, more...)
	}
	return join(elements), nil
}

// get makes a message that only reads.
func get(what string, kind int, flags netlink.HeaderFlags, fill func(*netlink.AttributeEncoder)) message {
	m := build(kind, flags, fill)
	m.what, m.needs = what, needsTables
	return m
}

func getGeneration() message {
	return get("read the ruleset's generation", unix.NFT_MSG_GETGEN, 0, func(*netlink.AttributeEncoder) {})
}

func getTable() message {
	return get("read the table", unix.NFT_MSG_GETTABLE, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_TABLE_NAME, tableName)
	})
}

func getSet(name string) message {
	return get("read set "+name, unix.NFT_MSG_GETSET, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_TABLE, tableName)
		ae.String(unix.NFTA_SET_NAME, name)
	})
}

func getChain(name string) message {
	return get("read chain "+name, unix.NFT_MSG_GETCHAIN, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_CHAIN_TABLE, tableName)
		ae.String(unix.NFTA_CHAIN_NAME, name)
	})
}
