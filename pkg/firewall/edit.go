package firewall

import (
	"slices"
	"strconv"
)

// edit collects what is to become of entries in one transaction. It keeps the numbers right of how many addresses have a
// port to themselves.
type edit struct {
	conn      *conn
	state     *state
	drop, put []entry
	dropped   map[string]bool // ids of drop
}

// amend makes a part whole and edits its entries, in one transaction.
func (f *Firewall) amend(p part, decide func(*edit) error) error {
	return f.settle(query{part: p}, func(s *state) ([]message, error) {
		var msgs []message
		if len(s.defects()) > 0 {
			msgs = s.repair()
		}
		e := edit{conn: &f.conn, state: s}
		if err := decide(&e); err != nil {
			return nil, err
		}
		changes, err := e.messages()
		return append(msgs, changes...), err
	})
}

// lookUp is conn.lookUp, but finds nothing in a set that is not there, or of another kind and about to be replaced.
func (e *edit) lookUp(keys []entry) (map[string]entry, error) {
	return e.conn.lookUp(slices.DeleteFunc(slices.Clone(keys), func(k entry) bool { return !e.state.has(k.set) }))
}

// found is what there is of the keys that a brief look was for. Who has looked at everything asks now.
func (e *edit) found(keys []entry) (map[string]entry, error) {
	if e.state.brief {
		return e.state.found, nil
	}
	return e.lookUp(keys)
}

func (e *edit) remove(x entry) {
	if e.dropped[x.id()] {
		return
	}
	if e.dropped == nil {
		e.dropped = map[string]bool{}
	}
	e.dropped[x.id()] = true
	e.drop = append(e.drop, x)
}

func (e *edit) add(x entry) { e.put = append(e.put, x) }

// messages makes the edit: what is to go first.
func (e *edit) messages() ([]message, error) {
	if err := e.count(); err != nil {
		return nil, err
	}
	return append(dropEntries(e.drop), putEntries(e.put)...), nil
}

// count adds the changes of the numbers.
func (e *edit) count() error {
	change := map[string]int{}
	var keys []entry
	tally := func(list []entry, by int) {
		for _, x := range list {
			for _, f := range []*family{ipv4, ipv6} {
				if x.set != f.ports().on {
					continue
				}
				key := entry{set: f.ports().shared, key: sharedKey(x)}
				if _, known := change[key.id()]; !known {
					keys = append(keys, key)
				}
				change[key.id()] += by
			}
		}
	}
	tally(e.drop, -1)
	tally(e.put, 1)
	found, err := e.lookUp(keys)
	if err != nil {
		return err
	}
	for _, key := range keys {
		have, there := found[key.id()]
		n := max(0, number(have.note)) + change[key.id()]
		if change[key.id()] == 0 && there {
			continue
		}
		if there {
			e.remove(have)
		}
		if n > 0 {
			key.note = strconv.Itoa(n) + " of the host's addresses"
			e.put = append(e.put, key)
		}
	}
	return nil
}

// portSetNames are the sets with elements that belong to attachments.
func portSetNames() []string {
	names := []string{attachmentsMap, hairpinSet, masqueradeSet}
	for _, f := range []*family{ipv4, ipv6} {
		p := f.ports()
		names = append(names, p.every, p.on, p.everyFor, p.onFor, p.self)
	}
	return names
}

// everything lists all elements that belong to attachments or networks.
func (e *edit) everything() ([]entry, error) {
	var list []entry
	for _, set := range portSetNames() {
		if !e.state.has(set) {
			continue
		}
		some, err := e.conn.entries(set)
		if err != nil {
			return nil, err
		}
		list = append(list, some...)
	}
	return list, nil
}

// ownedBy lists what the attachment of a host end has.
func (e *edit) ownedBy(hostEnd string) ([]entry, error) {
	list, err := e.everything()
	return slices.DeleteFunc(list, func(x entry) bool { return x.holder() != hostEnd }), err
}
