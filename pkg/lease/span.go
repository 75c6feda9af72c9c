package lease

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
)

// span is an inclusive run of addresses of one family. All comparisons rely on the order of netip.Addr.Compare, in
// which every IPv4 address comes before every IPv6 address.
type span struct{ first, last netip.Addr }

func (s span) has(a netip.Addr) bool { return s.first.Compare(a) <= 0 && a.Compare(s.last) <= 0 }

// size is the number of addresses, or math.MaxUint64 if there are more.
func (s span) size() uint64 {
	firstHi, firstLo := split(s.first)
	lastHi, lastLo := split(s.last)
	lo, borrow := bits.Sub64(lastLo, firstLo, 0)
	hi, _ := bits.Sub64(lastHi, firstHi, borrow)
	if hi != 0 || lo == math.MaxUint64 {
		return math.MaxUint64
	}
	return lo + 1
}

// at returns the address i places after the first, which must be in the span.
func (s span) at(i uint64) netip.Addr {
	hi, lo := split(s.first)
	lo, carry := bits.Add64(lo, i, 0)
	return join(hi+carry, lo, s.first.Is4())
}

// without appends to out what is left of s outside the holes, which are sorted by their first address.
func (s span) without(holes []hole, out []span) []span {
	next := s.first
	for _, h := range holes {
		if h.last.Compare(next) < 0 {
			continue
		}
		if h.first.Compare(s.last) > 0 {
			break
		}
		if next.Compare(h.first) < 0 {
			out = append(out, span{next, h.first.Prev()})
		}
		if h.last.Compare(s.last) >= 0 {
			return out
		}
		next = h.last.Next()
	}
	return append(out, span{next, s.last})
}

// size is the number of addresses of all spans, or math.MaxUint64 if there are more.
func size(spans []span) uint64 {
	var sum uint64
	for _, s := range spans {
		n, carry := bits.Add64(sum, s.size(), 0)
		if carry != 0 {
			return math.MaxUint64
		}
		sum = n
	}
	return sum
}

// locate returns the span and the place in it of the address at place i of all spans; i must be below their size.
func locate(spans []span, i uint64) (k int, place uint64) {
	for i >= spans[k].size() {
		i -= spans[k].size()
		k++
	}
	return k, i
}

// lastOf returns the last address of a masked prefix.
func lastOf(p netip.Prefix) netip.Addr {
	hi, lo := split(p.Addr())
	if host := p.Addr().BitLen() - p.Bits(); host < 64 {
		lo |= 1<<host - 1
	} else {
		hi, lo = hi|(1<<(host-64)-1), math.MaxUint64
	}
	return join(hi, lo, p.Addr().Is4())
}

// split returns the halves of an address; of an IPv4 address, those of its IPv4-mapped IPv6 form (RFC 4291, 2.5.5.2).
func split(a netip.Addr) (hi, lo uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

func join(hi, lo uint64, is4 bool) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	a := netip.AddrFrom16(b)
	if is4 {
		return a.Unmap()
	}
	return a
}
