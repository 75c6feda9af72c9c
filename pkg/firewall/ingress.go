package firewall

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// The sets of ingress policies: of networks that do not let every container in, by what their containers are behind; of
// pairs of networks, from and to, that may nevertheless; and of networks with pods that have a policy of their own. A
// network has at most one element in one of each two.
const (
	closedLinks, closedGroups = "ingress_links", "ingress_groups"
	openLinks, openGroups     = "ingress_same_links", "ingress_same_groups"
	podLinks, podGroups       = "ingress_pod_links", "ingress_pod_groups"
)

// Bits of the packet mark that tell the ports of a bridge, from the forward hook to the bridge's output, where the first
// packet of a connection comes from: another container, of another network or of the same. What the host sends itself has
// neither, whatever its mark was. Nothing leaves the host with them, because the mark does not pass into another network
// namespace (skb_scrub_packet in net/core/skbuff.c).
const (
	fromOthers = 1 << 12
	fromSame   = 1 << 6
)

// ingress is the part of the table that keeps containers out of networks. To what is for none of these networks it is
// three look-ups and two comparisons.
//
// A pod's own policy is in the group of its host end, so nothing of it is here, and nothing is left when it goes. Behind
// a bridge the host end is known to the bridge alone: there packets are marked for portIngress to decide.
func ingress() part {
	return part{sets: ingressSets, chains: []chain{
		{name: "ingress_policy", uses: 6 + 3, rules: policed},
		{name: "ingress_isolated", uses: 4 + 1, rules: isolated},
		{name: "ingress_mark", uses: 9 + 1, rules: ingressMark},
		{name: "ingress", kind: "filter", hook: unix.NF_INET_FORWARD, priority: 0, uses: 5, rules: toContainers},
		{name: "ingress_output", kind: "filter", hook: unix.NF_INET_LOCAL_OUT, priority: 0, uses: 1, rules: ofHost},
	}}
}

func ingressSets() []set {
	return []set{
		{name: closedLinks, key: typeIFName, keeps: true},
		{name: closedGroups, key: typeDevGroup, keeps: true},
		{name: openLinks, key: concatenation(typeIFName, typeIFName), keeps: true},
		{name: openGroups, key: concatenation(typeDevGroup, typeDevGroup), keeps: true},
		{name: podLinks, key: typeIFName, keeps: true},
		{name: podGroups, key: typeDevGroup, keeps: true},
	}
}

func policed() []rule { return append(welcome(accept()), unwelcome(drop())...) }

func isolated() []rule { return append(invited(accept()), unwelcome(drop())...) }

func toContainers() []rule {
	podLink := interfaceIn(unix.NFT_META_OIFNAME, podLinks)
	toPolicy, toIsolated := proceed("ingress_policy"), proceed("ingress_isolated")
	return []rule{
		{what: "links with pods that have a policy", exprs: podLink.then(jump("ingress_mark"))},
		{what: "isolated pods", exprs: hasTrait(unix.NFT_META_OIFGROUP, plan.GroupIsolated).then(toIsolated)},
		{what: "closed pods", exprs: hasTrait(unix.NFT_META_OIFGROUP, plan.GroupClosed).then(toPolicy)},
		{what: "links", exprs: interfaceIn(unix.NFT_META_OIFNAME, closedLinks).then(toPolicy)},
		{what: "groups", exprs: groupBits(unix.NFT_META_OIFGROUP, 0, network).then(in(closedGroups), toPolicy)},
	}
}

func ofHost() []rule {
	return []rule{
		{what: "the host's own", exprs: interfaceIn(unix.NFT_META_OIFNAME, podLinks).then(changeMark(fromOthers|fromSame, 0))},
	}
}

// network is the bits of a group that its network has.
const network = ^plan.GroupTraits

// hasTrait matches host ends of the plugin that have one of GroupTraits.
func hasTrait(key, trait uint32) expressions {
	return groupIs(key, plan.GroupsMask|trait, plan.Groups|trait)
}

// welcome matches what belongs to a connection that was let in before, what comes by a host port, which has its own
// rules, and what comes from the same network where that may.
func welcome(then expressions) []rule { return append(invited(then), neighbours(then)...) }

func invited(then expressions) []rule {
	return []rule{
		{what: "answers", exprs: answers().then(then), needs: needsConntrack},
		{what: "host ports", exprs: marked().then(then)},
	}
}

func neighbours(then expressions) []rule {
	groups := groupBits(unix.NFT_META_IIFGROUP, 0, network).then(groupBits(unix.NFT_META_OIFGROUP, 1, network))
	return []rule{
		{what: "the same link", exprs: loadLinks().then(in(openLinks), then)},
		{what: "the same group", exprs: groups.then(in(openGroups), then)},
	}
}

// unwelcome matches what else comes from a container.
func unwelcome(then expressions) []rule {
	return []rule{
		{what: "containers by group", exprs: groupIs(unix.NFT_META_IIFGROUP, plan.GroupsMask, plan.Groups).then(then)},
		{what: "containers by link", exprs: interfaceIn(unix.NFT_META_IIFNAME, closedLinks).then(then)},
	}
}

// ingressMark marks, for the ports of a bridge, what a policy may have to keep out. Bits that are set already are
// somebody else's.
func ingressMark() []rule {
	rules := append([]rule{{what: "clearing", exprs: changeMark(fromOthers|fromSame, 0)}}, invited(back())...)
	rules = append(rules, rule{what: "marking", exprs: changeMark(fromSame, fromSame)})
	rules = append(rules, neighbours(back())...)
	rules = append(rules, rule{what: "unmarking", exprs: changeMark(fromSame, 0)})
	return append(rules, unwelcome(changeMark(fromOthers, fromOthers))...)
}

const needsConntrack = "nft_ct (CONFIG_NFT_CT)"

// answers matches packets of connections that were let in, and errors about them.
func answers() expressions {
	const established, related = 1 << 1, 1 << 2 // NF_CT_STATE_BIT, include/uapi/linux/netfilter/nf_conntrack_common.h
	return loadConnection(unix.NFT_CT_STATE).then(keep(0, native(established|related)), unequal(native(0)))
}

func interfaceIn(key uint32, set string) expressions { return load(key).then(in(set)) }

// networkIngress is the elements that a network may have: that it is closed, that it is open to itself, and that it has
// pods with a policy.
type networkIngress struct{ closed, open, pods entry }

func ingressOf(i plan.Ingress) networkIngress {
	key, sets := native(i.Link.Group), [3]string{closedGroups, openGroups, podGroups}
	if i.Link.Name != "" {
		key, sets = interfaceName(i.Link.Name), [3]string{closedLinks, openLinks, podLinks}
	}
	who := lease.NetworkAlias(i.Network)
	return networkIngress{
		closed: entry{set: sets[0], key: key, note: who},
		open:   entry{set: sets[1], key: append(slices.Clone(key), key...), note: who},
		pods:   entry{set: sets[2], key: key, note: who},
	}
}

func (n networkIngress) keys() []entry { return []entry{n.closed, n.open, n.pods} }

// among shows what is there, whoever has it.
func (n networkIngress) among(found map[string]entry) networkIngress {
	return networkIngress{found[n.closed.id()], found[n.open.id()], found[n.pods.id()]}
}

// lookUp is among, of what it asks for.
func (n networkIngress) lookUp(e *edit) (networkIngress, error) {
	found, err := e.lookUp(n.keys())
	return n.among(found), err
}

func (e entry) exists() bool { return e.set != "" }

// decide edits what is there into what a network wants. A bridge of another network keeps that one's policy, which has to
// be the same unless this one has none. Nobody shares a group: that would be a whim of the hash.
func (n networkIngress) decide(i plan.Ingress, have networkIngress, e *edit) error {
	if i.Policy.Restricts() { // nobody has asked for what was left to a network, so whoever has a policy takes it over
		have = networkIngress{e.takeOver(have.closed, n.closed), e.takeOver(have.open, n.open), have.pods}
	}
	foreign := have.closed.exists() && !have.closed.belongsTo(n.closed.note)
	open := i.Policy == netconf.IngressSameNetwork ||
		i.Policy == netconf.IngressOpen && (i.Pods || have.pods.exists())
	for _, x := range []entry{have.closed, have.open, have.pods} {
		if i.Link.Name == "" && x.exists() && !x.belongsTo(n.closed.note) {
			return cnierr.New(cnierr.Conflict, "ingressPolicy: %s is also that of %s: want another name for one of the two",
				i.Link, x.note)
		}
	}
	switch {
	case foreign && i.Policy.Restricts() && open != have.open.exists():
		return cnierr.New(cnierr.Conflict, "ingressPolicy: %s of %s has another policy than %q: "+
			"want the same for all networks of one bridge", i.Link, ownerOfNote(have.closed.note), i.Policy)
	case foreign:
	default:
		e.settle(n.closed, have.closed, i.Policy.Restricts())
		if i.Policy.Restricts() && have.open.exists() && !have.open.belongsTo(n.open.note) {
			e.remove(have.open) // of a network without a policy, which may go before this one
			have.open = entry{}
		}
		e.settle(n.open, have.open, open)
	}
	if i.Pods {
		e.settle(n.pods, have.pods, true)
	}
	return nil
}

// takeOver removes an entry that was left to a network, and returns what then is there: nothing.
func (e *edit) takeOver(have, want entry) entry {
	if !have.exists() || !inherited(have.note) || have.note == want.note {
		return have
	}
	e.remove(have)
	return entry{}
}

// settle adds or removes an entry that is not as it should be.
func (e *edit) settle(want, have entry, wanted bool) {
	switch {
	case wanted && !have.exists():
		e.add(want)
	case !wanted && have.exists():
		e.remove(have)
	}
}

// ProbeIngress is Probe for ingress policies.
func (f *Firewall) ProbeIngress() error { return f.probe(ingress()) }

// ApplyIngress keeps containers out of a network as its policy says, and out of pods as theirs do. A bridge that belongs
// to another network with another policy is refused with Conflict. created tells that this call added the network, or
// that it has such pods.
func (f *Firewall) ApplyIngress(i plan.Ingress) (created bool, err error) {
	n := ingressOf(i)
	if f.ingressSettled(i, n) {
		return false, nil
	}
	err = f.amend(ingress(), func(e *edit) error {
		have, err := n.lookUp(e)
		if err != nil {
			return err
		}
		created = i.Policy.Restricts() && !have.closed.exists() || i.Pods && !have.pods.exists()
		return n.decide(i, have, e)
	})
	return created && err == nil, err
}

// ingressSettled reports, by a brief look, whether all is as a policy wants it: one round trip.
func (f *Firewall) ingressSettled(i plan.Ingress, n networkIngress) bool {
	s, err := f.observe(query{part: ingress(), brief: true, keys: n.keys()})
	if err != nil || len(s.defects()) > 0 {
		return false // whoever then looks at everything says why
	}
	e := edit{conn: &f.conn, state: s}
	return n.decide(i, n.among(s.found), &e) == nil && len(e.put)+len(e.drop) == 0
}

// ObserveIngress shows what the kernel has of a network's policy. Where it wants none, that of another network on its
// bridge is as good.
func (f *Firewall) ObserveIngress(want plan.Ingress) (got plan.Ingress, err error) {
	n := ingressOf(want)
	err = retry(func() error {
		s, err := f.conn.examine(query{part: ingress()})
		if err != nil {
			return err
		}
		have, err := n.lookUp(&edit{conn: &f.conn, state: s})
		got = plan.Ingress{Network: want.Network, Link: want.Link, Pods: have.pods.exists(), State: cmp.Or(firstDefect(s), "ok")}
		switch {
		case !have.closed.exists() || want.Policy == netconf.IngressOpen:
			got.Policy = netconf.IngressOpen
		case have.open.exists():
			got.Policy = netconf.IngressSameNetwork
		default:
			got.Policy = netconf.IngressIsolated
		}
		if got.State == "ok" && !have.closed.exists() && want.Policy == netconf.IngressOpen && !have.open.exists() {
			got.State = "nftables set " + n.open.set + " lacks " + want.Link.String()
		}
		return err
	})
	return got, err
}

// RetireIngress removes what a network has, and with the last network what served it. What another network is behind the
// same bridge for becomes that one's.
func (f *Firewall) RetireIngress(network string) error { return f.retireIngress(network, false) }

// OpenIngress removes the policy of a network, and what was left to it. Pods that have a policy of their own keep it. Another
// network on the same bridge that wants a policy has it again with its next ADD.
func (f *Firewall) OpenIngress(network string) error { return f.retireIngress(network, true) }

func (f *Firewall) retireIngress(network string, open bool) error {
	who := lease.NetworkAlias(network)
	var gone []entry
	err := f.retire(ingress(), query{part: ingress()}, func(s *state) ([]message, error) {
		e := edit{conn: &f.conn, state: s}
		heirs, err := f.heirs()
		if err != nil {
			return nil, err
		}
		own, err := e.ingressBy(func(x entry) bool {
			return x.belongsTo(who) || !open && inherited(x.note) && len(heirs.Behind(linkOf(x))) == 0
		})
		if err != nil || len(own) == 0 {
			return nil, err
		}
		gone = nil
		kept := pairs(own)
		for _, x := range own {
			if open && (x.isPods() || kept[x.id()]) {
				continue
			}
			e.remove(x)
			if heir := first(heirs.Behind(linkOf(x))); heir != "" && !open {
				e.add(x.left(heir))
			} else {
				gone = append(gone, x)
			}
		}
		if open {
			err = e.openPods(own)
		}
		if err != nil {
			return nil, err
		}
		return e.messages()
	})
	if err != nil || open {
		return err
	}
	return f.restore(ingress(), gone)
}

// openPods opens a network without a policy to itself, as far as it has pods with a policy: unless its bridge has that of
// another network, which it keeps.
func (e *edit) openPods(own map[string]entry) error {
	for _, x := range own {
		pair, ok := pairOf(x)
		if !ok {
			continue
		}
		closed := closedOf(x).id()
		found, err := e.lookUp([]entry{closedOf(x), pair})
		if err != nil {
			return err
		}
		if staysClosed := found[closed].exists() && !e.dropped[closed]; !staysClosed && !found[pair.id()].exists() {
			e.add(pair)
		}
	}
	return nil
}

// ingressBy lists the elements that are chosen.
func (e *edit) ingressBy(chosen func(entry) bool) (map[string]entry, error) {
	own := map[string]entry{}
	for _, x := range e.state.wanted {
		if !e.state.has(x.name) {
			continue
		}
		list, err := e.conn.entries(x.name)
		if err != nil {
			return nil, err
		}
		for _, x := range list {
			if chosen(x) {
				own[x.id()] = x
			}
		}
	}
	return own, nil
}

// isPods reports whether an entry says that a network has pods with a policy of their own.
func (e entry) isPods() bool { return e.set == podLinks || e.set == podGroups }

// pairOf is the element that opens a network with pods that have a policy to itself, false if x is none of podLinks or
// podGroups.
func pairOf(x entry) (entry, bool) {
	set := map[string]string{podLinks: openLinks, podGroups: openGroups}[x.set]
	return entry{set: set, key: append(slices.Clone(x.key), x.key...), note: x.note}, x.isPods()
}

// pairs are the ids of what opens a network to itself for the sake of such pods.
func pairs(own map[string]entry) map[string]bool {
	ids := map[string]bool{}
	for _, x := range own {
		if pair, ok := pairOf(x); ok {
			ids[pair.id()] = true
		}
	}
	return ids
}

// closedOf is the key under which the link, or the group, of one of podLinks or podGroups would be closed.
func closedOf(x entry) entry {
	return entry{set: map[string]string{podLinks: closedLinks, podGroups: closedGroups}[x.set], key: x.key}
}
