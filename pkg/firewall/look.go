package firewall

import (
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// look reads the table: one round trip for the generation and for each object of the skeleton by its name, so that it
// costs the same however many tables others have; one for the rules of each chain; one for the elements of each set
// that is named.
//
// The generation is read first. What is read after it may be newer, but then nothing gets committed for it.
func (c *conn) look(sets []string) (*state, error) {
	requests := []message{getGeneration(), getTable()}
	for _, s := range skeleton.sets {
		requests = append(requests, getSet(s))
	}
	for _, ch := range skeleton.chains {
		requests = append(requests, getChain(ch))
	}
	answers, err := c.ask(requests)
	if err != nil {
		return nil, err
	}
	s, err := decodeState(answers)
	if err != nil {
		return nil, explain(requests[0], err)
	}
	for name, have := range s.chains {
		if have.rules, err = c.rules(name); err != nil {
			return nil, err
		}
	}
	for _, name := range sets {
		if have := s.sets[name]; have != nil {
			if have.spans, err = c.spans(name); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (c *conn) rules(chain string) ([][]expression, error) {
	request := get("list chain "+chain, unix.NFT_MSG_GETRULE, netlink.Dump, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_RULE_TABLE, tableName)
		ae.String(unix.NFTA_RULE_CHAIN, chain)
	})
	list, err := c.dump(request)
	if err != nil {
		return nil, err
	}
	rules := make([][]expression, len(list))
	for i, m := range list {
		if rules[i], err = decodeRule(m); err != nil {
			return nil, explain(request, err)
		}
	}
	return rules, nil
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

func getSet(s set) message {
	return get("read set "+s.name, unix.NFT_MSG_GETSET, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_TABLE, tableName)
		ae.String(unix.NFTA_SET_NAME, s.name)
	})
}

func getChain(c chain) message {
	return get("read chain "+c.name, unix.NFT_MSG_GETCHAIN, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_CHAIN_TABLE, tableName)
		ae.String(unix.NFTA_CHAIN_NAME, c.name)
	})
}
