package firewall

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/plan"
)

// family is what differs between IPv4 and IPv6.
type family struct {
	name     string
	proto    byte     // NFPROTO_*
	set      string   // of the subnets whose packets are masqueraded
	src, dst uint32   // offset of the source and the destination address in the IP header (RFC 791, RFC 8200)
	size     uint32   // of an address, in bytes
	local    []string // prefixes of what no router forwards
}

// The sets of masqueraded subnets.
const masquerade4, masquerade6 = "masquerade4", "masquerade6"

var (
	ipv4 = &family{
		name: "IPv4", proto: unix.NFPROTO_IPV4, set: masquerade4, src: 12, dst: 16, size: 4,
		local: []string{"224.0.0.0/4", "255.255.255.255/32"},
	}
	ipv6 = &family{
		name: "IPv6", proto: unix.NFPROTO_IPV6, set: masquerade6, src: 8, dst: 24, size: 16,
		local: []string{"ff00::/8", "fe80::/10"},
	}
)

func familyOf(p netip.Prefix) *family {
	if p.Addr().Is4() {
		return ipv4
	}
	return ipv6
}

// masquerading is the part of the table that gives packets the host's address.
func masquerading() part {
	return part{
		sets: func() []set {
			return []set{
				{name: ipv4.set, key: typeIPAddr, flags: unix.NFT_SET_INTERVAL, family: ipv4, keeps: true},
				{name: ipv6.set, key: typeIP6Addr, flags: unix.NFT_SET_INTERVAL, family: ipv6, keeps: true},
			}
		},
		chains: []chain{{
			name:     "postrouting",
			kind:     "nat",
			hook:     unix.NF_INET_POST_ROUTING,
			priority: 100, // NF_IP_PRI_NAT_SRC, "srcnat"
			uses:     2,
			rules: func() []rule {
				return []rule{
					{what: "IPv4", family: ipv4, exprs: masquerade(ipv4), needs: needsMasquerade},
					{what: "IPv6", family: ipv6, exprs: masquerade(ipv6), needs: needsMasquerade},
				}
			},
		}},
	}
}

// masquerade is the rule of one family: what comes from a subnet of the set, goes to none of them and is not for the
// local network gets the address of the interface it leaves through. The source is looked up first: on a packet that
// is not a pod's the rule ends there.
func masquerade(f *family) expressions {
	e := isFamily(f).then(address(f.src, f.size), in(f.set), address(f.dst, f.size), notIn(f.set))
	for _, p := range f.local {
		e = e.then(outside(f.dst, netip.MustParsePrefix(p)))
	}
	return e.then(masquerades())
}

// address loads an address of the IP header, or as much of it as size says.
func address(offset, size uint32) expressions { return addressAt(0, offset, size) }

func addressAt(word, offset, size uint32) expressions {
	return loadHeader(word, unix.NFT_PAYLOAD_NETWORK_HEADER, offset, size)
}

// inside matches packets whose address at an offset of the IP header is in a prefix, and outside the others.
func inside(offset uint32, p netip.Prefix) expressions { return prefix(unix.NFT_CMP_EQ, offset, p) }

func outside(offset uint32, p netip.Prefix) expressions { return prefix(unix.NFT_CMP_NEQ, offset, p) }

// prefix compares an address with a prefix, by its first bytes where those are all of it, as nft does: what nft has saved
// and loaded is then still the same.
func prefix(op, offset uint32, p netip.Prefix) expressions {
	const bits = 8
	size, addr := uint32(p.Addr().BitLen()/bits), p.Masked().Addr().AsSlice()
	switch {
	case p.Bits() == 0:
		return nil
	case p.Bits()%bits == 0:
		size = uint32(p.Bits() / bits)
		return address(offset, size).then(compare(op, addr[:size]))
	}
	return address(offset, size).then(keep(0, mask(p)), compare(op, addr))
}

// Apply makes the kernel masquerade the packets of a subnet: whatever is missing, the subnet's element, a rule or the
// whole table, is added in one transaction. Where all is there it only looks, one round trip. created tells that this
// call added the subnet. A subnet that contains or cuts one of another network is refused with Conflict.
func (f *Firewall) Apply(m plan.Masquerade) (created bool, err error) {
	fam, want := familyOf(m.Subnet), spanOf(m.Subnet, ownerOf(m))
	if f.masqueraded(fam, want) {
		return false, nil
	}
	doubted := false
	err = f.settle(query{part: masquerading(), spans: []string{fam.set}}, func(s *state) ([]message, error) {
		created = false
		var msgs []message
		if len(s.defects()) > 0 {
			msgs = s.repair()
		}
		have := s.spans(fam.set)
		replaced, present, err := place(have, want)
		if present && !doubted && !slices.ContainsFunc(have, want.same) {
			// While others come and go the kernel may list the beginning of one interval and the end of another.
			doubted = true
			return nil, unix.EINTR
		}
		if err != nil || present {
			return msgs, err
		}
		created = true
		if len(replaced) > 0 {
			msgs = append(msgs, deleteElements(fam.set, replaced))
		}
		return append(msgs, addElements(fam.set, []span{want})), nil
	})
	return created && err == nil, err
}

// masqueraded reports, by a brief look, whether all is there. It asks for the two ends of the interval that the wanted
// one's first address is in (nft_rbtree_get in net/netfilter/nft_set_rbtree.c, Linux 4.19). That may be a larger one. But
// the ends are looked up one after the other, while other networks come and go: two that are not those of the wanted one
// may be of different intervals. Whoever looks at everything finds the rest, and says what is wrong.
func (f *Firewall) masqueraded(fam *family, want span) bool {
	next := want.first.Next()
	if !next.IsValid() {
		return false
	}
	s, err := f.observe(query{part: masquerading(), brief: true, keys: []entry{
		{set: fam.set, key: want.first.AsSlice()}, {set: fam.set, key: next.AsSlice(), end: true},
	}})
	if err != nil || len(s.defects()) > 0 || len(s.found) != 2 {
		return false
	}
	var ends []element
	for _, x := range s.found {
		ends = append(ends, x.element())
	}
	have := join(ends)
	if len(have) != 1 || !have[0].same(want) {
		return false
	}
	_, present, _ := place(have, want)
	return present
}

// Observe reports whether the kernel masquerades the packets of a subnet.
func (f *Firewall) Observe(m plan.Masquerade) (bool, error) {
	missing, err := f.Missing(m)
	return missing == "" && err == nil, err
}

// Missing says why the kernel does not masquerade the packets of a subnet, as a sentence that names the object. It
// returns "" when it does.
func (f *Firewall) Missing(m plan.Masquerade) (string, error) {
	fam, want := familyOf(m.Subnet), spanOf(m.Subnet, "")
	s, err := f.observe(query{part: masquerading(), spans: []string{fam.set}})
	if err != nil {
		return "", err
	}
	for _, d := range s.defects() {
		if d.family == nil || d.family == fam {
			return d.what, nil
		}
	}
	if !covered(s.spans(fam.set), want) {
		return "nftables set " + fam.set + " lacks " + m.Subnet.String(), nil
	}
	return "", nil
}

// Undo removes a subnet that its network owns. It is no error when it is not there, or is another network's. With the
// last subnet what served them goes, and the table if it holds nothing else.
//
// Every container of a network counts on its subnet, so Undo is for when the network has gone from the node or has
// changed its subnet, not for a DEL.
func (f *Firewall) Undo(m plan.Masquerade) error {
	gone := spanOf(m.Subnet, ownerOf(m))
	return f.retireSpans(func(have span, _ Heirs) bool { return have == gone })
}

// Unmask removes the single addresses of a host end, whichever they are.
func (f *Firewall) Unmask(network, hostEnd string) error {
	holder := ownerOf(plan.Masquerade{Network: network, Holder: hostEnd})
	_, err := f.unmask(nobody{}, func(have span) (bool, error) { return have.owner == holder, nil })
	return err
}

// RetireMasquerade removes all subnets of a network, and the single addresses of its host ends. A subnet in which another
// network has containers becomes that one's. So does, or goes, what is of a network without any container: it may have been
// left that and not be there to retire it.
func (f *Firewall) RetireMasquerade(network string) error {
	return f.retireSpans(func(have span, others Heirs) bool {
		return have.network() == lease.Network(network) || have.hostEnd() == "" && !others.Alive(have.network())
	})
}

// DropMasquerade removes the subnets of a network that has no use for them, as one that was left them may.
func (f *Firewall) DropMasquerade(network string) error {
	_, err := f.unmask(nobody{}, func(have span) (bool, error) { return have.owner == lease.Network(network), nil })
	return err
}

// CollectMasquerade removes the single addresses of a network's host ends that are gone.
func (f *Firewall) CollectMasquerade(network string, living Living) error {
	_, err := f.unmask(nobody{}, func(have span) (bool, error) {
		if have.hostEnd() == "" || have.network() != lease.Network(network) {
			return false, nil
		}
		who, err := living(have.hostEnd())
		return who == "", err
	})
	return err
}

// retireSpans is unmask for what other networks may count on. One that saw it before it went, and came after the look for
// heirs, gets it back: an ADD makes its host end before it looks what is there.
func (f *Firewall) retireSpans(goes func(have span, others Heirs) bool) error {
	heirs, err := f.heirs()
	if err != nil {
		return err
	}
	gone, err := f.unmask(heirs, func(have span) (bool, error) { return goes(have, heirs), nil })
	if err != nil || len(gone) == 0 {
		return err
	}
	if heirs, err = f.heirs(); err != nil {
		return err
	}
	for _, x := range gone {
		subnet, ok := x.prefix()
		heir := first(heirs.Within(x.first, x.last))
		if !ok || heir == "" || x.hostEnd() != "" {
			continue
		}
		if _, err := f.Apply(plan.Masquerade{Subnet: subnet, Network: heir}); err != nil {
			return err
		}
	}
	return nil
}

// unmask removes what goes, or makes it an heir's. It returns what it has removed.
func (f *Firewall) unmask(heirs Heirs, goes func(span) (bool, error)) (removed []span, err error) {
	p := masquerading()
	err = f.retire(p, query{part: p, brief: true, whole: true, spans: subnetSets}, func(s *state) ([]message, error) {
		var msgs []message
		removed = nil
		for _, name := range subnetSets {
			var gone, left []span
			for _, have := range s.spans(name) {
				goes, err := goes(have)
				if err != nil {
					return nil, err
				}
				if !goes {
					continue
				}
				gone = append(gone, have)
				if heir := first(heirs.Within(have.first, have.last)); heir != "" && have.hostEnd() == "" {
					have.owner = lease.Network(heir)
					left = append(left, have)
				} else {
					removed = append(removed, have)
				}
			}
			if len(gone) > 0 {
				msgs = append(msgs, deleteElements(name, gone))
			}
			if have := s.sets[name]; s.has(name) && len(gone) == len(have.spans) && len(have.strays) > 0 {
				msgs = append(msgs, deleteStrays(name, have.strays))
			}
			if len(left) > 0 {
				msgs = append(msgs, addElements(name, left))
			}
		}
		return msgs, nil
	})
	return removed, err
}

var subnetSets = []string{masquerade4, masquerade6}

// ownerOf is the comment of an element: the network, after the host end if it is that one's. No network is named so: CNI
// allows no space in a name. It is shorter than what nft takes of a comment, 128 bytes (NFTNL_UDATA_COMMENT_MAXLEN).
func ownerOf(m plan.Masquerade) string {
	if m.Holder == "" {
		return lease.Network(m.Network)
	}
	return m.Holder + " " + lease.Network(m.Network)
}

// place decides what becomes of the wanted span in a set: it is covered already, or it is to be added after the spans
// in replaced, smaller ones of the same owner, are deleted. What overlaps otherwise is a Conflict. A single address that
// another host end of the network had is the new one's: IPAM gave it away again.
func place(have []span, want span) (replaced []span, present bool, err error) {
	for _, h := range have {
		switch {
		case h == want || h.covers(want) && !h.handedOn(want):
			return nil, true, nil
		case !h.overlaps(want):
		case h.handedOn(want):
			replaced = append(replaced, h)
		case h.network() == want.network() && want.covers(h):
			replaced = append(replaced, h)
		default:
			return nil, false, cnierr.New(cnierr.Conflict,
				"ipMasq: subnet %s of %s overlaps %s of %s (nftables table inet %s): "+
					"give the networks subnets that do not overlap, or turn ipMasq off for one of them",
				want, want.holder(), h, h.holder(), tableName)
		}
	}
	return replaced, false, nil
}
