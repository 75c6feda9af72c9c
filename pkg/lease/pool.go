package lease

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// Range is an inclusive span of assignable addresses of one subnet.
type Range struct {
	Subnet      netip.Prefix // masked
	First, Last netip.Addr
	Gateway     netip.Addr // never leased; always valid
}

// Set is an ordered list of ranges of one address family; an attachment gets one address of each set.
type Set []Range

// Pool is everything the built-in IPAM may lease on one network. Leased is what lies in a range, except what Exclude
// covers and every range's gateway, network address and, in IPv4, broadcast address.
type Pool struct {
	Sets    []Set
	Exclude []netip.Prefix // masked; never leased
}

// NewRange returns the range that host-local's keys subnet, rangeStart, rangeEnd and gateway describe; an invalid
// address is a key that was not given. By default gateway and first are the address after the network address, and last
// is the subnet's last address, in IPv4 the one before the broadcast address. Unlike host-local it refuses a subnet with
// addresses that no interface can have, and a gateway that is outside its subnet, its network address or its broadcast
// address.
func NewRange(subnet netip.Prefix, first, last, gateway netip.Addr) (Range, error) {
	if err := checkSubnet(subnet); err != nil {
		return Range{}, err
	}
	r := Range{Subnet: subnet, First: first.Unmap(), Last: last.Unmap(), Gateway: gateway.Unmap()}
	r.fill()
	for _, key := range []struct {
		name string
		addr netip.Addr
	}{{"gateway", r.Gateway}, {"rangeStart", r.First}, {"rangeEnd", r.Last}} {
		if !subnet.Contains(key.addr) {
			return Range{}, fmt.Errorf("%s %s is outside subnet %s", key.name, key.addr, subnet)
		}
	}
	switch last := lastOf(subnet); {
	case r.Gateway == subnet.Addr():
		return Range{}, fmt.Errorf("gateway %s is the network address of subnet %s", r.Gateway, subnet)
	case r.Gateway == last && last.Is4():
		return Range{}, fmt.Errorf("gateway %s is the broadcast address of subnet %s", r.Gateway, subnet)
	case r.Last.Less(r.First):
		return Range{}, fmt.Errorf("rangeStart %s is after rangeEnd %s", r.First, r.Last)
	}
	return r, nil
}

func checkSubnet(subnet netip.Prefix) error {
	if err := checkMasked("subnet", subnet); err != nil {
		return err
	}
	if most := subnet.Addr().BitLen() - 2; subnet.Bits() > most {
		return fmt.Errorf("subnet %s is too small to lease from: want /%d or larger", subnet, most)
	}
	return checkLeasable(subnet)
}

// checkLeasable refuses addresses that have a meaning of their own on every host. Class E, 240.0.0.0/4, is none of them
// but for its last address: the kernel takes it for unicast, and clouds give it to containers.
func checkLeasable(subnet netip.Prefix) error {
	for _, u := range []struct{ prefix, is string }{
		{"0.0.0.0/8", "this network (RFC 1122)"},
		{"127.0.0.0/8", "loopback"},
		{"224.0.0.0/4", "multicast"},
		{"255.255.255.255/32", "broadcast"},
		{"::/127", "unspecified and loopback"},
		{"::ffff:0:0/96", "IPv4 in IPv6 form"},
		{"fe80::/10", "link-local"},
		{"ff00::/8", "multicast"},
	} {
		if prefix := netip.MustParsePrefix(u.prefix); subnet.Overlaps(prefix) {
			return fmt.Errorf("subnet %s has addresses that no container can have: %s is %s", subnet, prefix, u.is)
		}
	}
	return nil
}

// checkMasked refuses a prefix that spans would take for other addresses than the reader of the configuration does.
func checkMasked(key string, p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return fmt.Errorf("%s is missing or not a network", key)
	case p.Addr().Is4In6():
		return fmt.Errorf("%s %s is IPv4 in IPv6 form: write it as IPv4", key, p)
	case p != p.Masked():
		return fmt.Errorf("%s %s has host bits set: the network address is %s", key, p, p.Masked().Addr())
	}
	return nil
}

// fill gives the keys that were not given their defaults.
func (r *Range) fill() {
	if !r.Gateway.IsValid() {
		r.Gateway = r.Subnet.Addr().Next()
	}
	if !r.First.IsValid() {
		r.First = r.Subnet.Addr().Next()
	}
	if r.Last.IsValid() {
		return
	}
	r.Last = lastOf(r.Subnet)
	if r.Last.Is4() {
		r.Last = r.Last.Prev()
	}
}

// Contains reports whether addr lies between First and Last.
func (r Range) Contains(addr netip.Addr) bool {
	return r.Subnet.Contains(addr) && r.span().has(addr)
}

// String returns "first-last".
func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }

func (r Range) span() span { return span{r.First, r.Last} }

func (r Range) overlaps(o Range) bool { return r.span().has(o.First) || o.span().has(r.First) }

// Validate reports what keeps the pool from giving an attachment one address of each set. Its ranges are NewRange's.
func (p Pool) Validate() error {
	if len(p.Sets) == 0 {
		return errors.New("there is no range set to lease from")
	}
	for _, e := range p.Exclude {
		if err := checkMasked("exclude", e); err != nil {
			return err
		}
	}
	var seen []Range
	for i, set := range p.Sets {
		if len(set) == 0 {
			return fmt.Errorf("range set %d has no range", i+1)
		}
		for _, r := range set {
			if r.Subnet.Addr().Is4() != set[0].Subnet.Addr().Is4() {
				return fmt.Errorf("range set %d mixes IPv4 and IPv6, %s and %s: want one set for each family",
					i+1, set[0].Subnet, r.Subnet)
			}
			if k := slices.IndexFunc(seen, r.overlaps); k >= 0 {
				return fmt.Errorf("ranges %s and %s overlap", seen[k], r)
			}
			seen = append(seen, r)
		}
		if p.Size(i) == 0 {
			return fmt.Errorf("range set %d (%s) has nothing to lease: every address is excluded, a gateway, "+
				"a network address or a broadcast address", i+1, list(set))
		}
	}
	return nil
}

// SetOf returns the index of the set with a range that contains addr, or -1.
func (p Pool) SetOf(addr netip.Addr) int {
	return slices.IndexFunc(p.Sets, func(s Set) bool {
		return slices.ContainsFunc(s, func(r Range) bool { return r.Contains(addr) })
	})
}

// RangeOf returns the range that contains addr.
func (p Pool) RangeOf(addr netip.Addr) (Range, bool) {
	for _, r := range slices.Concat(p.Sets...) {
		if r.Contains(addr) {
			return r, true
		}
	}
	return Range{}, false
}

// Usable returns nil if addr may be leased, or the reason why it may not.
func (p Pool) Usable(addr netip.Addr) error {
	for _, h := range p.holes() {
		if h.has(addr) {
			return fmt.Errorf("%s is %s %s", addr, h.is, h.of)
		}
	}
	if p.SetOf(addr) < 0 {
		return fmt.Errorf("%s is outside every range: %s", addr, list(slices.Concat(p.Sets...)))
	}
	return nil
}

// Size returns how many addresses of a set may be leased, or math.MaxUint64 if there are more.
func (p Pool) Size(set int) uint64 { return size(p.spans(set)) }

// At returns the address at place i, from 0 to Size-1, of those of a set that may be leased: the ranges in their order,
// the addresses of a range ascending.
func (p Pool) At(set int, i uint64) netip.Addr {
	spans := p.spans(set)
	k, place := locate(spans, i)
	return spans[k].at(place)
}

// Walk yields Size addresses of a set, each once: first the one at place cursor (modulo Size), then those after it,
// then from place 0 on.
func (p Pool) Walk(set int, cursor uint64) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		spans := p.spans(set)
		n := size(spans)
		if n == 0 {
			return
		}
		k, place := locate(spans, cursor%n)
		addr := spans[k].at(place)
		for range n {
			if !yield(addr) {
				return
			}
			if addr != spans[k].last {
				addr = addr.Next()
				continue
			}
			k = (k + 1) % len(spans)
			addr = spans[k].first
		}
	}
}

// Gap returns the first address of a set that may be leased and is not taken. It takes at most one step for each taken
// address, whatever the size of the set.
func (p Pool) Gap(set int, taken map[netip.Addr]struct{}) (netip.Addr, bool) {
	for addr := range p.Walk(set, 0) {
		if _, held := taken[addr]; !held {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// Subnets returns the subnets of all ranges in their order, each once.
func (p Pool) Subnets() []netip.Prefix {
	var subnets []netip.Prefix
	for _, r := range slices.Concat(p.Sets...) {
		if !slices.Contains(subnets, r.Subnet) {
			subnets = append(subnets, r.Subnet)
		}
	}
	return subnets
}

// spans returns what may be leased of a set: disjoint, in the order of its ranges, ascending within each.
func (p Pool) spans(set int) []span {
	holes := p.holes()
	slices.SortFunc(holes, func(a, b hole) int { return a.first.Compare(b.first) })
	var spans []span
	for _, r := range p.Sets[set] {
		spans = r.span().without(holes, spans)
	}
	return spans
}

// hole is a span that is never leased, and why: its addresses are (for example) "the gateway of subnet" of.
type hole struct {
	span
	is string
	of netip.Prefix
}

// holes lists what is never leased. What one range reserves is reserved in all of them: subnets may nest, and a gateway
// or broadcast address of any is one for the whole host.
func (p Pool) holes() []hole {
	var holes []hole
	for _, r := range slices.Concat(p.Sets...) {
		network, last := r.Subnet.Addr(), lastOf(r.Subnet)
		holes = append(holes,
			hole{span{r.Gateway, r.Gateway}, "the gateway of subnet", r.Subnet},
			// In IPv6 it is the Subnet-Router anycast address (RFC 4291, 2.6.1).
			hole{span{network, network}, "the network address of subnet", r.Subnet})
		if last.Is4() {
			holes = append(holes, hole{span{last, last}, "the broadcast address of subnet", r.Subnet})
		}
	}
	for _, e := range p.Exclude {
		holes = append(holes, hole{span{e.Addr(), lastOf(e)}, "excluded by", e})
	}
	return holes
}

func list(ranges []Range) string {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = r.String()
	}
	return strings.Join(texts, ", ")
}
