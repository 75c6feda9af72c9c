package firewall

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/plan"
)

// A packet has to pass every chain at the forward hook, whichever table it is in, so no chain of the plugin's can undo
// what a chain of somebody else drops. Only a rule in that chain can. It goes to the chain's end, before what drops: the
// rules of its owner come first, and what they refuse stays refused.

// foreignChain is a base chain of somebody else at the forward hook.
type foreignChain struct {
	family      byte // NFPROTO_*
	table, name string
	policy      uint32
	rules       []listedRule
	legacy      string // the program whose chain it is, where that is not of nftables
	owned       bool   // its table belongs to a running program, and nobody else may change it
}

func (c foreignChain) String() string {
	if c.legacy != "" {
		return c.legacy + " chain " + c.table + " " + c.name
	}
	return "nftables chain " + c.where()
}

// where is the chain's family, table and name, as nft has them.
func (c foreignChain) where() string {
	families := map[byte]string{
		unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_BRIDGE: "bridge",
	}
	return families[c.family] + " " + c.table + " " + c.name
}

// sees reports whether packets of the network pass the chain.
func (c foreignChain) sees(a plan.ForwardAccept) bool {
	switch c.family {
	case unix.NFPROTO_INET:
		return a.IPv4 || a.IPv6
	case unix.NFPROTO_IPV4:
		return a.IPv4
	case unix.NFPROTO_IPV6:
		return a.IPv6
	case unix.NFPROTO_BRIDGE:
		return a.Link.Name != ""
	}
	return false
}

// drops reports whether the chain drops what no other rule of it decides, and the rule that does so, or nil if it is the
// policy.
func (c foreignChain) drops() (bool, *listedRule) {
	for i := range c.rules {
		switch verdict := c.rules[i].always(); verdict {
		case undecided:
		case refuses:
			return true, &c.rules[i]
		default:
			return false, nil
		}
	}
	return c.policy != acceptVerdict, nil
}

// verdict is what a rule does to every packet.
type verdict int

const (
	undecided verdict = iota
	passes
	refuses
)

func (r listedRule) always() verdict {
	e := essence(r.exprs)
	if len(e) != 1 {
		return undecided
	}
	switch e[0].name {
	case "reject":
		return refuses
	case "immediate":
		code := e[0].at(unix.NFTA_IMMEDIATE_DATA, unix.NFTA_DATA_VERDICT, unix.NFTA_VERDICT_CODE)
		switch { // all others lead elsewhere, or nowhere
		case len(code.value) == 0: // into another register than that of verdicts
		case code.int32() == acceptVerdict:
			return passes
		case code.int32() == dropVerdict:
			return refuses
		}
	case "target":
		if name := e[0].at(unix.NFTA_TARGET_NAME).text(); name == "REJECT" || name == "DROP" {
			return refuses
		}
	}
	return undecided
}

// essence leaves out of a rule what neither chooses packets nor decides about them.
func essence(exprs expressions) expressions {
	return slices.DeleteFunc(slices.Clone(exprs), func(e expression) bool {
		return e.name == "counter" || e.name == "log" || remark(e) != ""
	})
}

// remark is the comment that iptables makes an expression of.
func remark(e expression) string {
	if e.name != "match" || e.at(unix.NFTA_MATCH_NAME).text() != "comment" {
		return ""
	}
	return e.at(unix.NFTA_MATCH_INFO).text() // struct xt_comment_info, filled up with NUL
}

// isXtables reports whether the chain is one of iptables. It reads its chains back, and fails at every rule that it could
// not have written itself.
func (c foreignChain) isXtables() bool {
	return (c.family == unix.NFPROTO_IPV4 || c.family == unix.NFPROTO_IPV6) && c.name == "FORWARD"
}

// acceptRules are the rules for a network, to and from, as the owner of the chain can read them.
func (c foreignChain) acceptRules(l plan.Link) [2]expressions {
	var rules [2]expressions
	for i, key := range []struct{ name, group uint32 }{
		{unix.NFT_META_IIFNAME, unix.NFT_META_IIFGROUP}, {unix.NFT_META_OIFNAME, unix.NFT_META_OIFGROUP},
	} {
		switch {
		case l.Name != "" && c.isXtables():
			rules[i] = load(key.name).then(equal(append([]byte(l.Name), 0)))
		case l.Name != "":
			rules[i] = load(key.name).then(equal(interfaceName(l.Name)))
		case c.isXtables():
			rules[i] = devGroup(i, l.Group)
		default:
			rules[i] = groupIs(key.group, network, l.Group)
		}
		rules[i] = rules[i].then(accept())
	}
	return rules
}

// devGroup is the match of that name of iptables (struct xt_devgroup_info, linux/netfilter/xt_devgroup.h), for the
// interface a packet comes from, 0, or goes to, 1. It is not filled up (XT_ALIGN): how far, only the kernel knows, whose
// machine's words may be longer than this process's.
func devGroup(direction int, group uint32) expressions {
	var info []byte
	source, destination := [2]uint32{group, network}, [2]uint32{}
	flags := uint32(1) // XT_DEVGROUP_MATCH_SRC
	if direction == 1 {
		source, destination, flags = destination, source, 1<<2 // XT_DEVGROUP_MATCH_DST
	}
	for _, n := range []uint32{flags, source[0], source[1], destination[0], destination[1]} {
		info = append(info, native(n)...)
	}
	return express("match", func(w *encoder) {
		w.text(unix.NFTA_MATCH_NAME, "devgroup")
		w.uint32(unix.NFTA_MATCH_REV, 0)
		w.value(unix.NFTA_MATCH_INFO, info)
	})
}

// opened reports whether the chain has the network's rules.
func (c foreignChain) opened(a plan.ForwardAccept) [2]bool {
	var has [2]bool
	for i, want := range c.acceptRules(a.Link) {
		has[i] = slices.ContainsFunc(c.rules, func(r listedRule) bool { return sameExpressions(want, essence(r.exprs)) })
	}
	return has
}

// open returns the messages that add the rules which are missing.
func (c foreignChain) open(a plan.ForwardAccept) []message {
	_, last := c.drops()
	var msgs []message
	for i, want := range c.acceptRules(a.Link) {
		if !c.opened(a)[i] {
			msgs = append(msgs, c.addRule(want, lease.NetworkAlias(a.Network), last))
		}
	}
	return msgs
}

// addRule makes a message for a rule before another, or at the end.
func (c foreignChain) addRule(exprs expressions, note string, before *listedRule) message {
	var flags uint16 = unix.NLM_F_CREATE | unix.NLM_F_APPEND
	if before != nil {
		flags = unix.NLM_F_CREATE
	}
	m := change("add a rule to "+c.String(), unix.NFT_MSG_NEWRULE, flags, func(w *encoder) {
		w.text(unix.NFTA_RULE_TABLE, c.table)
		w.text(unix.NFTA_RULE_CHAIN, c.name)
		if before != nil {
			w.uint64(unix.NFTA_RULE_POSITION, before.handle)
		}
		w.expressions(exprs)
		w.comment(unix.NFTA_RULE_USERDATA, note)
	})
	if c.isXtables() {
		m.needs = "xt_devgroup (CONFIG_NETFILTER_XT_MATCH_DEVGROUP)"
	}
	return ofFamily(c.family, m)
}

func (c foreignChain) deleteRule(r listedRule) message {
	m := change("delete a rule of "+c.String(), unix.NFT_MSG_DELRULE, 0, func(w *encoder) {
		w.text(unix.NFTA_RULE_TABLE, c.table)
		w.text(unix.NFTA_RULE_CHAIN, c.name)
		w.uint64(unix.NFTA_RULE_HANDLE, r.handle)
	})
	return ofFamily(c.family, m)
}

// ofFamily sends a message to another family of tables than the plugin's (struct nfgenmsg begins with it).
func ofFamily(family byte, m message) message {
	m.data[0], m.others = family, true
	return m
}

// forwarding lists the chains of others at the forward hook, with their rules.
func (c *conn) forwarding() ([]foreignChain, error) {
	request := ofFamily(unix.NFPROTO_UNSPEC, get("list the chains", unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP,
		func(*encoder) {}))
	list, err := c.dump(request)
	if err != nil {
		return nil, err
	}
	var chains []foreignChain
	for _, m := range list {
		listed, err := decodeChain(m)
		if err != nil {
			return nil, explain(request, err)
		}
		f, ok := listed.foreign()
		if !ok {
			continue
		}
		table, err := c.tableOf(f)
		if err == nil && !table.dormant {
			f.owned = table.owned
			f.rules, err = c.foreignRules(f)
		}
		if err != nil {
			return nil, err
		}
		if !table.dormant {
			chains = append(chains, f)
		}
	}
	return chains, nil
}

func (c *conn) foreignRules(f foreignChain) ([]listedRule, error) {
	request := ofFamily(f.family, get("list the rules of "+f.String(), unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP,
		func(w *encoder) {
			w.text(unix.NFTA_RULE_TABLE, f.table)
			w.text(unix.NFTA_RULE_CHAIN, f.name)
		}))
	list, err := c.dump(request)
	if err != nil {
		return nil, err
	}
	var rules []listedRule
	for _, m := range list {
		r, err := decodeRule(m)
		if err != nil {
			return nil, explain(request, err)
		}
		for _, e := range r.exprs {
			r.note = cmp.Or(remark(e), r.note)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// tableOf reads the chain's table. One that is gone meanwhile is as good as one whose chains are not hooked.
func (c *conn) tableOf(f foreignChain) (tableState, error) {
	request := ofFamily(f.family, get("read table "+f.table, unix.NFT_MSG_GETTABLE, 0, func(w *encoder) {
		w.text(unix.NFTA_TABLE_NAME, f.table)
	}))
	answers, err := c.ask([]message{request})
	if err != nil || !answers[0].exists() {
		return tableState{dormant: true}, err
	}
	t, err := decodeTable(answers[0])
	if err != nil {
		return tableState{}, explain(request, err)
	}
	return *t, nil
}

// foreign is a chain of somebody else's at the forward hook, false if it is another.
func (c listedChain) foreign() (foreignChain, bool) {
	known := slices.Contains([]byte{unix.NFPROTO_INET, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_BRIDGE}, c.family)
	own := c.table == tableName && (c.family == tableFamily || c.family == unix.NFPROTO_BRIDGE)
	f := foreignChain{family: c.family, table: c.table, name: c.name, policy: c.policy}
	return f, c.kind != "" && known && c.hook == unix.NF_INET_FORWARD && !own // NF_BR_FORWARD is the same number
}

// Dropping lists the chains of others that drop what the host forwards for a network and are not open to it.
func (f *Firewall) Dropping(a plan.ForwardAccept) ([]Obstacle, error) {
	closed, err := f.closed(a)
	var list []Obstacle
	for _, c := range closed {
		list = append(list, c.obstacle(a.Link))
	}
	return list, err
}

func (f *Firewall) closed(a plan.ForwardAccept) (closed []foreignChain, err error) {
	err = retry(func() error {
		chains, err := f.conn.forwarding()
		if err != nil {
			return err
		}
		legacy, err := legacyChains()
		chains = append(chains, legacy...)
		closed = slices.DeleteFunc(chains, func(c foreignChain) bool { return !c.closedTo(a) })
		return err
	})
	return closed, err
}

func (c foreignChain) closedTo(a plan.ForwardAccept) bool {
	drops, _ := c.drops()
	return drops && c.sees(a) && c.opened(a) != [2]bool{true, true}
}

// ApplyForwardAccept opens every chain of others that drops what the host forwards for a network, one transaction each.
// It fails with Conflict for those that cannot be opened, when it has opened the others.
func (f *Firewall) ApplyForwardAccept(a plan.ForwardAccept) (created bool, err error) {
	closed, err := f.closed(a)
	if err != nil {
		return false, err
	}
	var failed []error
	for _, c := range closed {
		opened, err := f.openChain(c, a, f.conn.commit)
		created = created || opened
		failed = append(failed, err)
	}
	return created, errors.Join(failed...)
}

// ProbeForwardAccept rehearses ApplyForwardAccept.
func (f *Firewall) ProbeForwardAccept(a plan.ForwardAccept) error {
	closed, err := f.closed(a)
	failed := []error{err}
	for _, c := range closed {
		_, err := f.openChain(c, a, f.conn.rehearse)
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// openChain looks at the chain anew, so that what it decides on is what gets changed.
func (f *Firewall) openChain(c foreignChain, a plan.ForwardAccept, send sender) (opened bool, err error) {
	if o := c.obstacle(a.Link); o.Reason != "" {
		return false, o.refused()
	}
	err = f.transact(query{}, send, func(*state) ([]message, error) {
		opened = false
		rules, err := f.conn.foreignRules(c)
		if err != nil {
			return nil, err
		}
		c.rules = rules
		if !c.closedTo(a) {
			return nil, nil
		}
		opened = true
		return c.open(a), nil
	})
	return opened && err == nil, err
}

// ObserveForwardAccept shows whether the chains of others that can be opened are.
func (f *Firewall) ObserveForwardAccept(a plan.ForwardAccept) (plan.ForwardAccept, error) {
	closed, err := f.closed(a)
	var names []string
	for _, c := range closed {
		if c.unopenable() == "" {
			names = append(names, c.String())
		}
	}
	a.State = "ok"
	if len(names) > 0 {
		a.State = strings.Join(names, ", ") + " drops what the host forwards"
	}
	return a, err
}

// RetireForwardAccept removes the rules of a network from the chains of others. Those for a bridge that another network has
// containers on become that one's.
func (f *Firewall) RetireForwardAccept(a plan.ForwardAccept) error {
	heirs, err := f.heirs()
	if err != nil {
		return err
	}
	heir, gone := first(heirs.Behind(a.Link.Name)), false
	err = f.transact(query{}, f.conn.commit, func(*state) ([]message, error) {
		chains, err := f.conn.forwarding()
		if err != nil {
			return nil, err
		}
		var msgs []message
		gone = false
		for _, c := range chains {
			more := c.leave(a, heir)
			msgs, gone = append(msgs, more...), gone || len(more) > 0
		}
		return msgs, nil
	})
	if err != nil || !gone || heir != "" {
		return err
	}
	// Who saw the rules before they went, and came after the look for heirs, gets them back.
	heirs, err = f.heirs()
	if err != nil || len(heirs.Behind(a.Link.Name)) == 0 {
		return err
	}
	a.Network = first(heirs.Behind(a.Link.Name))
	_, err = f.ApplyForwardAccept(a)
	return err
}

// leave returns the messages that remove a network's rules, or make an heir's of those for the network's link.
func (c foreignChain) leave(a plan.ForwardAccept, heir string) []message {
	var msgs []message
	for i, r := range c.rules {
		if r.note != lease.NetworkAlias(a.Network) {
			continue
		}
		for _, want := range c.acceptRules(a.Link) {
			if heir != "" && sameExpressions(want, essence(r.exprs)) {
				msgs = append(msgs, c.addRule(want, lease.NetworkAlias(heir), &c.rules[i]))
			}
		}
		msgs = append(msgs, c.deleteRule(r))
	}
	return msgs
}
