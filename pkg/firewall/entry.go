package firewall

import (
	"fmt"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// entry is an element that is found by its key, of a set without intervals.
type entry struct {
	set   string
	key   []byte // the fields as registers hold them, each filled up to a multiple of four bytes
	value []byte // of a map
	jump  string // the chain that the element of a verdict map jumps to
	note  string // the comment
}

// id tells entries apart.
func (e entry) id() string { return e.set + "\x00" + string(e.key) }

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
			requests[i] = get("look an element of "+e.set+" up", unix.NFT_MSG_GETSETELEM, 0, entryList(e.set, []entry{{key: e.key}}))
			requests[i].needs = "" // the kernel has shown that it has nf_tables
		}
		answers, err := c.ask(requests)
		if err != nil {
			return nil, err
		}
		for i, m := range answers {
			if m == nil {
				continue
			}
			list, err := decodeEntries(*m)
			if err != nil {
				return nil, explain(requests[i], err)
			}
			for _, e := range list {
				found[e.id()] = e
			}
		}
	}
	return found, nil
}

// has reports whether an entry is there. Without the set or the table it is not.
func (c *conn) has(e entry) (bool, error) {
	request := get("look an element of "+e.set+" up", unix.NFT_MSG_GETSETELEM, 0, entryList(e.set, []entry{{key: e.key}}))
	answers, err := c.ask([]message{request})
	return err == nil && answers[0] != nil, err
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
	request.Header.Sequence = 1
	request.Header.Length = uint32(unix.NLMSG_HDRLEN + len(request.Data))
	if err := s.Send(request.Message); err != nil {
		return nil, explain(request, err)
	}
	msgs, err := s.Receive()
	if err != nil {
		return nil, explain(request, err)
	}
	var list []entry
	for _, m := range msgs {
		if m.Header.Type == netlink.Error || m.Header.Type == netlink.Done { // no such set, or an empty one
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
	return get("list "+set, unix.NFT_MSG_GETSETELEM, netlink.Dump, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		ae.String(unix.NFTA_SET_ELEM_LIST_SET, set)
	})
}

// putEntries adds entries that must not exist, and dropEntries deletes entries that must.
func putEntries(entries []entry) []message {
	return changeEntries("add %d elements to %s", unix.NFT_MSG_NEWSETELEM, netlink.Create|netlink.Excl, entries)
}

func dropEntries(entries []entry) []message {
	keys := make([]entry, len(entries))
	for i, e := range entries {
		keys[i] = entry{set: e.set, key: e.key}
	}
	return changeEntries("delete %d elements from %s", unix.NFT_MSG_DELSETELEM, 0, keys)
}

func changeEntries(what string, kind int, flags netlink.HeaderFlags, entries []entry) []message {
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

func entryList(set string, entries []entry) func(*netlink.AttributeEncoder) {
	return func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		ae.String(unix.NFTA_SET_ELEM_LIST_SET, set)
		ae.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(ae *netlink.AttributeEncoder) error {
			for _, e := range entries {
				ae.Nested(unix.NFTA_LIST_ELEM, e.encode)
			}
			return nil
		})
	}
}

func (e entry) encode(ae *netlink.AttributeEncoder) error {
	datum := func(b []byte) func(*netlink.AttributeEncoder) error {
		return func(ae *netlink.AttributeEncoder) error {
			ae.Bytes(unix.NFTA_DATA_VALUE, b)
			return nil
		}
	}
	ae.Nested(unix.NFTA_SET_ELEM_KEY, datum(e.key))
	if e.value != nil {
		ae.Nested(unix.NFTA_SET_ELEM_DATA, datum(e.value))
	}
	if e.jump != "" {
		ae.Nested(unix.NFTA_SET_ELEM_DATA, func(ae *netlink.AttributeEncoder) error {
			ae.Nested(unix.NFTA_DATA_VERDICT, func(ae *netlink.AttributeEncoder) error {
				ae.Int32(unix.NFTA_VERDICT_CODE, int32(expr.VerdictJump))
				ae.String(unix.NFTA_VERDICT_CHAIN, e.jump)
				return nil
			})
			return nil
		})
	}
	if e.note != "" {
		ae.Bytes(unix.NFTA_SET_ELEM_USERDATA, userdata.AppendString(nil, userdata.NFTNL_UDATA_SET_ELEM_COMMENT, e.note))
	}
	return nil
}

// decodeEntries reads one message of elements.
func decodeEntries(m netlink.Message) (list []entry, err error) {
	set := ""
	err = attributes(m, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_SET_ELEM_LIST_SET:
			set = ad.String()
		case unix.NFTA_SET_ELEM_LIST_ELEMENTS:
			nested(ad, func(ad *netlink.AttributeDecoder) { list = append(list, decodeEntry(ad)) })
		}
	})
	for i := range list {
		list[i].set = set
	}
	return list, err
}

func decodeEntry(ad *netlink.AttributeDecoder) (e entry) {
	nested(ad, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_SET_ELEM_KEY:
			nested(ad, func(ad *netlink.AttributeDecoder) { e.key = ad.Bytes() })
		case unix.NFTA_SET_ELEM_DATA:
			nested(ad, func(ad *netlink.AttributeDecoder) { decodeDatum(ad, &e) })
		case unix.NFTA_SET_ELEM_USERDATA:
			e.note = comment(ad.Bytes())
		}
	})
	return e
}

func decodeDatum(ad *netlink.AttributeDecoder, e *entry) {
	switch ad.Type() {
	case unix.NFTA_DATA_VALUE:
		e.value = ad.Bytes()
	case unix.NFTA_DATA_VERDICT:
		nested(ad, func(ad *netlink.AttributeDecoder) {
			if ad.Type() == unix.NFTA_VERDICT_CHAIN {
				e.jump = ad.String()
			}
		})
	}
}
