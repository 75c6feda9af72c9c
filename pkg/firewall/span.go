package firewall

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/veth-cni/veth/pkg/lease"
)

// span is an interval of addresses with the owner that its comment names.
type span struct {
	first, last netip.Addr // both included, of one family
	owner       string
}

// element is one end of a span, as the kernel keeps it: an interval set holds the first address of each span, with its
// comment, and the first address after it, flagged (NFT_SET_ELEM_INTERVAL_END). A span that reaches the last address
// there is has no second element.
type element struct {
	key   netip.Addr
	end   bool
	owner string
}

func spanOf(p netip.Prefix, owner string) span {
	last := p.Masked().Addr().AsSlice()
	for i, m := range mask(p) {
		last[i] |= ^m
	}
	end, _ := netip.AddrFromSlice(last)
	return span{first: p.Masked().Addr(), last: end, owner: owner}
}

// mask is the netmask of a prefix.
func mask(p netip.Prefix) []byte {
	full := bytes.Repeat([]byte{0xff}, p.Addr().BitLen()/8)
	ones, _ := netip.AddrFromSlice(full)
	return netip.PrefixFrom(ones, p.Bits()).Masked().Addr().AsSlice()
}

// prefix is the span as a prefix, if it is one.
func (s span) prefix() (netip.Prefix, bool) {
	for bits := range s.first.BitLen() + 1 {
		if p := netip.PrefixFrom(s.first, bits); spanOf(p, s.owner) == s {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func (s span) String() string {
	if p, ok := s.prefix(); ok {
		return p.String()
	}
	return fmt.Sprintf("%s-%s", s.first, s.last)
}

// holder names the owner in a message.
func (s span) holder() string {
	if s.owner == "" {
		return "an unnamed owner"
	}
	return fmt.Sprintf("network %q", s.network())
}

// same reports whether two are the same addresses, whoever owns them.
func (s span) same(o span) bool { return s.first == o.first && s.last == o.last }

func (s span) covers(o span) bool {
	return s.first.Compare(o.first) <= 0 && s.last.Compare(o.last) >= 0
}

func (s span) overlaps(o span) bool {
	return s.first.Compare(o.last) <= 0 && s.last.Compare(o.first) >= 0
}

// hostEnd is the interface that a single address belongs to, "" if the span is a network's.
func (s span) hostEnd() string {
	if name, _, found := strings.Cut(s.owner, " "); found && lease.IsHostName(name) {
		return name
	}
	return ""
}

// network is that of the owner, as the comment has it.
func (s span) network() string { return strings.TrimPrefix(s.owner, s.hostEnd()+" ") }

// handedOn reports whether two spans are one address of different host ends of a network.
func (s span) handedOn(o span) bool {
	return s.hostEnd() != "" && o.hostEnd() != "" && s.network() == o.network() &&
		s.first == o.first && s.last == o.last && s.owner != o.owner
}

// covered reports whether one span covers the wanted one, whoever owns it.
func covered(have []span, want span) bool {
	return slices.ContainsFunc(have, func(h span) bool { return h.covers(want) })
}

// elements are the two elements of a span, or the one.
func (s span) elements() []element {
	start := element{key: s.first, owner: s.owner}
	if after := s.last.Next(); after.IsValid() {
		return []element{start, {key: after, end: true}}
	}
	return []element{start}
}

// join pairs the elements of a set, in whatever order the kernel lists them, to spans in ascending order.
func join(elements []element) []span {
	slices.SortFunc(elements, func(a, b element) int {
		if c := a.key.Compare(b.key); c != 0 {
			return c
		}
		return cmp.Compare(rank(a), rank(b)) // the end of one span can be the start of the next
	})
	var spans []span
	open := false
	for _, e := range elements {
		if open { // until here; without a flag the next start ends the span too
			spans[len(spans)-1].last = e.key.Prev()
		}
		if open = !e.end; open {
			spans = append(spans, span{first: e.key, owner: e.owner})
		}
	}
	if open {
		s := &spans[len(spans)-1]
		s.last = spanOf(netip.PrefixFrom(s.first, 0), "").last
	}
	return spans
}

// strays are the ends among the elements of a set that are none of its spans'. nft begins a set that it fills while it is
// empty with one, at the lowest address.
func strays(elements []element, spans []span) []element {
	return slices.DeleteFunc(slices.Clone(elements), func(e element) bool {
		return !e.end || slices.ContainsFunc(spans, func(s span) bool { return s.last.Next() == e.key })
	})
}

func rank(e element) int {
	if e.end {
		return 0
	}
	return 1
}
