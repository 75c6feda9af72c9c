package firewall

import (
	"cmp"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/plan"
)

// sourceChecking is the part of the table that drops forged sources. It comes before connection tracking, which would
// remember them, and does not grow: whom it concerns, the group of the interface says, and what is forged, the routes.
//
// For IPv6 the kernel takes a microsecond to look up the route, a fifth of all that a packet between two containers
// costs. So what has passed is known for a while, by its source and interface: a new packet from there is not looked up. The set is
// filled by packets alone, empties itself, and when it is full the others are looked up as before.
func sourceChecking() part {
	return part{sets: func() []set { return []set{known()} }, chains: []chain{
		{name: "antispoof_sources", uses: 4 + 1, rules: checkSources},
		{
			name: "antispoof", kind: "filter", hook: unix.NF_INET_PRE_ROUTING, priority: -300,
			uses: 1, rules: hostEnds,
		},
	}}
}

func checkSources() []rule {
	return []rule{
		{what: "IPv4", family: ipv4, exprs: forged(ipv4), needs: needsFib},
		{what: "known IPv6", family: ipv6, exprs: source6(isFamily(ipv6)).then(in(knownName), accept())},
		{what: "IPv6", family: ipv6, exprs: forged(ipv6), needs: needsFib},
		{what: "IPv6 that is known from now on", family: ipv6, exprs: source6(routable6()).then(remember(knownName))},
	}
}

func hostEnds() []rule {
	checked := hasTrait(unix.NFT_META_IIFGROUP, plan.GroupChecked)
	return []rule{{what: "host ends", exprs: checked.then(jump("antispoof_sources"))}}
}

// known holds sources of IPv6 and the index of the interface they came by, to which a route led less than a second ago.
// An index never becomes another interface's.
func known() set {
	return set{
		name: knownName, key: concatenation(typeIP6Addr, typeIFIndex),
		flags: unix.NFT_SET_EVAL | unix.NFT_SET_TIMEOUT, family: ipv6, timeout: time.Second, size: 1 << 16,
	}
}

const knownName = "antispoof_known"

// source6 loads what known holds, of packets that match. Sources that forged lets pass unseen are never added, or one
// container could fill the set.
func source6(match expressions) expressions {
	return match.then(address(ipv6.src, ipv6.size), loadAt(ipv6.size/4, unix.NFT_META_IIF))
}

// routable6 matches IPv6 sources but for those that IPv6 needs on the link itself, none of which the host forwards:
// link-local ones, and none at all, as duplicate address detection has it.
func routable6() expressions {
	return isFamily(ipv6).then(
		outside(ipv6.src, netip.MustParsePrefix("fe80::/10")), outside(ipv6.src, netip.MustParsePrefix("::/128")))
}

// forged drops what comes from an address to which no route leads through the interface it came by. What IPv6 needs on
// the link itself passes.
func forged(f *family) expressions {
	e := isFamily(f)
	if f == ipv6 {
		e = routable6()
	}
	const flags = unix.NFTA_FIB_F_SADDR | unix.NFTA_FIB_F_IIF | unix.NFTA_FIB_F_PRESENT
	return e.then(loadRoute(unix.NFT_FIB_RESULT_OIF, flags), equal(native(0)), drop())
}

// groupIs matches interfaces by bits of their group.
func groupIs(key, bits, value uint32) expressions {
	return groupBits(key, 0, bits).then(equal(native(value)))
}

// groupBits loads bits of an interface's group.
func groupBits(key, word, bits uint32) expressions {
	return loadAt(word, key).then(keep(word, native(bits)))
}

// ProbeSourceCheck is Probe for source checks.
func (f *Firewall) ProbeSourceCheck() error { return f.probe(sourceChecking()) }

// ApplySourceCheck makes the kernel drop forged sources. created tells that nothing was there.
func (f *Firewall) ApplySourceCheck() (created bool, err error) { return f.applyPart(sourceChecking()) }

// applyPart makes the kernel hold a part that has no elements. Where all is there it only looks, one round trip. created
// tells that nothing was there.
func (f *Firewall) applyPart(p part) (created bool, err error) {
	if s, err := f.observe(query{part: p, brief: true}); err == nil && len(s.defects()) == 0 {
		return false, nil
	}
	err = f.settle(query{part: p}, func(s *state) ([]message, error) {
		created = len(s.chains) == 0
		if len(s.defects()) == 0 {
			return nil, nil
		}
		return s.repair(), nil
	})
	return created && err == nil, err
}

// ObserveSourceCheck shows whether the kernel drops forged sources.
func (f *Firewall) ObserveSourceCheck() (plan.SourceCheck, error) {
	s, err := f.observe(query{part: sourceChecking()})
	if err != nil {
		return plan.SourceCheck{}, err
	}
	return plan.SourceCheck{State: cmp.Or(firstDefect(s), "ok")}, nil
}

// UndoSourceCheck removes the part. All networks count on it, so it is for when nothing is attached any more.
func (f *Firewall) UndoSourceCheck() error { return f.sweep(sourceChecking()) }

func firstDefect(s *state) string {
	if d := s.defects(); len(d) > 0 {
		return d[0].what
	}
	return ""
}
