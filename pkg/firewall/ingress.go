package firewall

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// The sets of ingress policies: of networks that do not let every container in, by what their containers are behind, and
// of pairs of such, from and to, that may. A network has one element in one of the first two, and one in one of the
// others if its policy is same-network.
const (
	closedLinks, closedGroups = "ingress_links", "ingress_groups"
	openLinks, openGroups     = "ingress_same_links", "ingress_same_groups"
)

// ingress is the part of the table that keeps containers out of networks. To what is for none of these networks it is
// two look-ups.
func ingress() part {
	return part{
		sets: []set{
			{name: closedLinks, key: nftables.TypeIFName},
			{name: closedGroups, key: nftables.TypeDevGroup},
			{name: openLinks, key: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)},
			{name: openGroups, key: nftables.MustConcatSetType(nftables.TypeDevGroup, nftables.TypeDevGroup)},
		},
		chains: []chain{
			{name: "ingress_policy", jumps: 2, rules: ingressPolicy()},
			{name: "ingress", kind: "filter", hook: unix.NF_INET_FORWARD, priority: 0, rules: []rule{
				{what: "links", exprs: append(interfaceIn(expr.MetaKeyOIFNAME, closedLinks), toPolicy)},
				{what: "groups", exprs: append(append(groupBits(expr.MetaKeyOIFGROUP, 0, network),
					&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: closedGroups}), toPolicy)},
			}},
		},
	}
}

// network is the bits of a group that its network has.
const network = ^plan.GroupChecked

var toPolicy = &expr.Verdict{Kind: expr.VerdictGoto, Chain: "ingress_policy"}

// ingressPolicy lets pass what belongs to a connection that was let in before, what comes by a host port, which has its
// own rules, what comes from the same network where that may, and what does not come from a container.
func ingressPolicy() []rule {
	accept, drop := &expr.Verdict{Kind: expr.VerdictAccept}, &expr.Verdict{Kind: expr.VerdictDrop}
	links := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register(0)},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register(4)},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: openLinks}, accept,
	}
	groups := append(append(groupBits(expr.MetaKeyIIFGROUP, 0, network), groupBits(expr.MetaKeyOIFGROUP, 1, network)...),
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: openGroups}, accept)
	return []rule{
		{what: "answers", exprs: append(answers(), accept), needs: needsConntrack},
		{what: "host ports", exprs: append(marked(), accept)},
		{what: "the same link", exprs: links},
		{what: "the same group", exprs: groups},
		{what: "containers by group", exprs: append(groupIs(expr.MetaKeyIIFGROUP, plan.GroupsMask, plan.Groups), drop)},
		{what: "containers by link", exprs: append(interfaceIn(expr.MetaKeyIIFNAME, closedLinks), drop)},
	}
}

const needsConntrack = "nft_ct (CONFIG_NFT_CT)"

// answers matches packets of connections that were let in, and errors about them.
func answers() []expr.Any {
	const established, related = 1 << 1, 1 << 2 // NF_CT_STATE_BIT, include/uapi/linux/netfilter/nf_conntrack_common.h
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: unix.NFT_REG_1},
		&expr.Bitwise{
			SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4,
			Mask: native(established | related), Xor: native(0),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: native(0)},
	}
}

func interfaceIn(key expr.MetaKey, set string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: unix.NFT_REG_1},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: set},
	}
}

// ingressEntries are the elements that a network may have: that it is closed, and that it is open to itself.
func ingressEntries(i plan.Ingress) (closed, open entry) {
	who := lease.NetworkAlias(i.Network)
	if i.Link.Name != "" {
		name := interfaceName(i.Link.Name)
		return entry{set: closedLinks, key: name, note: who},
			entry{set: openLinks, key: append(slices.Clone(name), name...), note: who}
	}
	group := native(i.Link.Group)
	return entry{set: closedGroups, key: group, note: who},
		entry{set: openGroups, key: append(slices.Clone(group), group...), note: who}
}

// ProbeIngress is Probe for ingress policies.
func (f *Firewall) ProbeIngress() error { return f.probe(ingress()) }

// ApplyIngress keeps containers out of a network as its policy says. A bridge that belongs to another network with
// another policy is refused with Conflict. created tells that this call added the network.
func (f *Firewall) ApplyIngress(i plan.Ingress) (created bool, err error) {
	if settled, err := f.ingressSettled(i); settled || err != nil {
		return false, err
	}
	closed, open := ingressEntries(i)
	err = f.transact(query{part: ingress()}, f.conn.commit, func(s *state) ([]message, error) {
		var msgs []message
		if len(s.defects()) > 0 {
			msgs = s.repair()
		}
		e := edit{conn: &f.conn, state: s}
		found, err := e.lookUp([]entry{closed, open})
		if err != nil {
			return nil, err
		}
		is, isOpen := found[closed.id()], found[open.id()].set != ""
		wantOpen := i.Policy == netconf.IngressSameNetwork
		if err := rivals(i, is, isOpen == wantOpen); err != nil {
			return nil, err
		}
		created = is.set == ""
		if created {
			e.add(closed)
		}
		switch {
		case wantOpen && !isOpen:
			e.add(open)
		case isOpen && !wantOpen:
			e.remove(open)
		}
		changes, err := e.messages()
		return append(msgs, changes...), err
	})
	return created && err == nil, err
}

// ingressSettled reports, by a brief look, whether all is as a policy wants it: two round trips.
func (f *Firewall) ingressSettled(i plan.Ingress) (settled bool, err error) {
	closed, open := ingressEntries(i)
	err = retry(func() error {
		s, err := f.conn.look(query{part: ingress(), brief: true})
		if err != nil || len(s.defects()) > 0 {
			return err
		}
		found, err := (&edit{conn: &f.conn, state: s}).lookUp([]entry{closed, open})
		same := i.Policy == netconf.IngressSameNetwork
		settled = found[closed.id()].note == closed.note && (found[open.id()].set != "") == same
		return err
	})
	return settled, err
}

// rivals refuses what another network has: a bridge with another policy, or the same group by a whim of the hash.
func rivals(i plan.Ingress, is entry, agree bool) error {
	switch {
	case is.set == "" || is.note == lease.NetworkAlias(i.Network):
		return nil
	case i.Link.Name == "":
		return cnierr.New(cnierr.Conflict, "ingressPolicy: %s is also that of %s: want another name for one of the two", i.Link, is.note)
	case !agree:
		return cnierr.New(cnierr.Conflict, "ingressPolicy: %s of %s has another policy than %q: "+
			"want the same for all networks of one bridge", i.Link, is.note, i.Policy)
	}
	return nil
}

// ObserveIngress shows what the kernel has of a network's policy.
func (f *Firewall) ObserveIngress(want plan.Ingress) (got plan.Ingress, err error) {
	closed, open := ingressEntries(want)
	err = retry(func() error {
		s, err := f.conn.look(query{part: ingress()})
		if err != nil {
			return err
		}
		got = plan.Ingress{Network: want.Network, Link: want.Link, State: "ok"}
		if d := firstDefect(s); d != "" {
			got.State = d
		}
		e := edit{conn: &f.conn, state: s}
		found, err := e.lookUp([]entry{closed, open})
		switch {
		case found[closed.id()].set == "":
			got.Policy = netconf.IngressOpen
		case found[open.id()].set != "":
			got.Policy = netconf.IngressSameNetwork
		default:
			got.Policy = netconf.IngressIsolated
		}
		return err
	})
	return got, err
}

// RetireIngress removes what a network has, and with the last network what served it.
func (f *Firewall) RetireIngress(network string) error {
	return f.transact(query{part: ingress()}, f.conn.commit, func(s *state) ([]message, error) {
		if len(s.sets)+len(s.chains) == 0 {
			return nil, nil
		}
		e, others := edit{conn: &f.conn, state: s}, 0
		for _, name := range []string{closedLinks, closedGroups, openLinks, openGroups} {
			if !s.has(name) {
				continue
			}
			list, err := f.conn.entries(name)
			if err != nil {
				return nil, err
			}
			for _, x := range list {
				if x.note == lease.NetworkAlias(network) {
					e.remove(x)
				} else {
					others++
				}
			}
		}
		if others == 0 {
			return s.remove(), nil
		}
		return e.messages()
	})
}
