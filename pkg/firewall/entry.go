package firewall

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// entry is an element that is found by its key, of a set without intervals.
type entry struct {
	set   string
	key   []byte // the fields as registers hold them, each filled up to a multiple of four bytes
	value []byte // of a map
	end   bool   // of an interval set: it is the end of an interval (NFT_SET_ELEM_INTERVAL_END)
	jump  string // the chain that the element of a verdict map jumps to
	note  string // the comment
}

// id tells entries apart.
func (e entry) id() string { return e.set + "\x00" + string(e.key) }

// element is an entry of an interval set.
func (e entry) element() element {
	key, _ := netip.AddrFromSlice(e.key)
	return element{key: key, end: e.end, owner: e.note}
}

// same reports whether the kernel does the same for both, and both are the same's.
func (e entry) same(o entry) bool {
	return e.id() == o.id() && string(e.value) == string(o.value) && e.jump == o.jump && e.note == o.note
}

// portion is how many entries go into one message, or requests into one datagram. The attribute that holds a message's
// entries has at most 64 KiB, and the answers to a datagram have to fit the socket's buffer, because all are there before
// the first is read.
const portion = 64

// lookUp asks for entries by their keys, in time that does not depend on the size of the sets. The result holds those
// that exist, by their id.
func (c *conn) lookUp(keys []entry) (map[string]entry, error) {
	found := map[string]entry{}
	for some := range slices.Chunk(keys, portion) {
		requests := make([]message, len(some))
		for i, e := range some {
			requests[i] = getEntry(e)
		}
		answers, err := c.ask(requests)
		if err != nil {
			return nil, err
		}
		more, err := decodeFound(answers)
		if err != nil {
			return nil, explain(requests[0], err)
		}
		maps.Copy(found, more)
	}
	return found, nil
}

func getEntry(e entry) message {
	m := get("look an element of "+e.set+" up", unix.NFT_MSG_GETSETELEM, 0,
		entryList(e.set, []entry{{key: e.key, end: e.end}}))
	m.needs = "" // the kernel has shown that it has nf_tables
	return m
}

// has reports whether an entry is there. Without the set or the table it is not.
func (c *conn) has(e entry) (bool, error) {
	request := getEntry(e)
	request.needs = needsTables
	answers, err := c.ask([]message{request})
	return err == nil && answers[0].exists(), err
}

// entries lists a set.
func (c *conn) entries(set string) ([]entry, error) {
	request := listEntries(set)
	list, err := c.dump(request)
	if err != nil {
		return nil, err
	}
	var all []entry
	for _, m := range list {
		more, err := decodeEntries(m)
		if err != nil {
			return nil, explain(request, err)
		}
		all = append(all, more...)
	}
	return all, nil
}

// some lists as much of a set as the kernel puts into one datagram, in time that does not depend on the set's size: two
// elements at least, if there are two.
func (c *conn) some(set string) ([]entry, error) {
	request := listEntries(set)
	s, err := newSocket() // of its own: nobody reads the rest
	if err != nil {
		return nil, explain(request, err)
	}
	c.unread = append(c.unread, s)
	if err := s.send([]message{request}); err != nil {
		return nil, explain(request, err)
	}
	msgs, err := s.receive(nil, longestPart)
	if err != nil {
		return nil, explain(request, err)
	}
	var list []entry
	for _, m := range msgs {
		if m.kind == unix.NLMSG_ERROR || m.kind == unix.NLMSG_DONE { // no such set, or an empty one
			return list, nil
		}
		more, err := decodeEntries(m)
		if err != nil {
			return nil, explain(request, err)
		}
		list = append(list, more...)
	}
	return list, nil
}

func listEntries(set string) message {
	return get("list set "+set, unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, func(w *encoder) {
		w.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		w.text(unix.NFTA_SET_ELEM_LIST_SET, set)
	})
}

// putEntries adds entries that must not exist, and dropEntries deletes entries that must.
func putEntries(entries []entry) []message {
	return changeEntries("add %d elements to %s", unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, entries)
}

func dropEntries(entries []entry) []message {
	keys := make([]entry, len(entries))
	for i, e := range entries {
		keys[i] = entry{set: e.set, key: e.key}
	}
	return changeEntries("delete %d elements from %s", unix.NFT_MSG_DELSETELEM, 0, keys)
}

func changeEntries(what string, kind, flags uint16, entries []entry) []message {
	var sets []string
	bySet := map[string][]entry{}
	for _, e := range entries {
		if bySet[e.set] == nil {
			sets = append(sets, e.set)
		}
		bySet[e.set] = append(bySet[e.set], e)
	}
	var msgs []message
	for _, set := range sets {
		for some := range slices.Chunk(bySet[set], portion) {
			msgs = append(msgs, change(fmt.Sprintf(what, len(some), set), kind, flags, entryList(set, some)))
		}
	}
	return msgs
}

func entryList(set string, entries []entry) func(*encoder) {
	return func(w *encoder) {
		w.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		w.text(unix.NFTA_SET_ELEM_LIST_SET, set)
		w.nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(w *encoder) {
			for _, e := range entries {
				w.nested(unix.NFTA_LIST_ELEM, e.encode)
			}
		})
	}
}

func (e entry) encode(w *encoder) {
	w.datum(unix.NFTA_SET_ELEM_KEY, e.key)
	if e.end {
		w.uint32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	if e.value != nil {
		w.datum(unix.NFTA_SET_ELEM_DATA, e.value)
	}
	if e.jump != "" {
		w.verdict(unix.NFTA_SET_ELEM_DATA, unix.NFT_JUMP, e.jump)
	}
	if e.note != "" {
		w.comment(unix.NFTA_SET_ELEM_USERDATA, e.note)
	}
}

// decodeFound reads the answers to getEntry.
func decodeFound(answers []answer) (map[string]entry, error) {
	found := make(map[string]entry, len(answers))
	for _, m := range answers {
		if !m.exists() {
			continue
		}
		list, err := decodeEntries(m)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			found[e.id()] = e
		}
	}
	return found, nil
}

// decodeEntries reads one message of elements.
func decodeEntries(m answer) (list []entry, err error) {
	set := ""
	err = attributes(m, func(a attribute) {
		switch a.kind {
		case unix.NFTA_SET_ELEM_LIST_SET:
			set = a.text()
		case unix.NFTA_SET_ELEM_LIST_ELEMENTS:
			nested(a, func(a attribute) { list = append(list, decodeEntry(a)) })
		}
	})
	for i := range list {
		list[i].set = set
	}
	return list, err
}

func decodeEntry(a attribute) (e entry) {
	nested(a, func(a attribute) {
		switch a.kind {
		case unix.NFTA_SET_ELEM_KEY:
			nested(a, func(a attribute) { e.key = a.value })
		case unix.NFTA_SET_ELEM_DATA:
			nested(a, func(a attribute) { decodeDatum(a, &e) })
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = a.uint32()&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_USERDATA:
			e.note = comment(a.value)
		}
	})
	return e
}

func decodeDatum(a attribute, e *entry) {
	switch a.kind {
	case unix.NFTA_DATA_VALUE:
		e.value = a.value
	case unix.NFTA_DATA_VERDICT:
		nested(a, func(a attribute) {
			if a.kind == unix.NFTA_VERDICT_CHAIN {
				e.jump = a.text()
			}
		})
	}
}
