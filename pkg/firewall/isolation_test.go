package firewall

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

func policy(network string, l plan.Link, p netconf.IngressPolicy) plan.Ingress {
	return plan.Ingress{Network: network, Link: l, Policy: p, State: "ok"}
}

var (
	br0    = plan.Link{Name: "br0"}
	group1 = plan.Link{Group: 0x7000_0011}
)

// reloads expects nft to read back what it lists.
func reloads(t *testing.T, name string) {
	t.Helper()
	nft(t, "flush", "ruleset")
	nft(t, "-f", "testdata/"+name+".nft")
	listed(t, name)
}

func TestSourceCheckListing(t *testing.T) {
	f := fresh(t)
	must(t, f.ProbeSourceCheck())
	listed(t, "empty")
	for _, want := range []bool{true, false} {
		if created, err := f.ApplySourceCheck(); created != want || err != nil {
			t.Fatalf("created %v, %v", created, err)
		}
	}
	listed(t, "antispoof")
	nft(t, "flush", "chain", "inet", "veth", "antispoof_sources")
	if got, err := f.ObserveSourceCheck(); err != nil || got.State != "nftables chain antispoof_sources has lost its rule for IPv4" {
		t.Errorf("%q, %v", got.State, err)
	}
	if created, err := f.ApplySourceCheck(); created || err != nil {
		t.Fatalf("created %v, %v", created, err)
	}
	listed(t, "antispoof")
	reloads(t, "antispoof")
	if got, err := f.ObserveSourceCheck(); err != nil || got.State != "ok" {
		t.Errorf("%q, %v", got.State, err)
	}
	apply(t, f, pods4)
	must(t, f.UndoSourceCheck())
	listed(t, "ipv4") // the other parts stay
	undo(t, f, pods4)
	must(t, f.UndoSourceCheck())
	listed(t, "empty")
}

// The policies of pods: what a network has because of them, beside its own policy or without one.
func TestPodIngressListing(t *testing.T) {
	f := fresh(t)
	withPods := func(network string, l plan.Link, p netconf.IngressPolicy) plan.Ingress {
		return plan.Ingress{Network: network, Link: l, Policy: p, Pods: true, State: "ok"}
	}
	must(t, f.ProbePortIngress())
	listed(t, "empty")
	shop := plan.Link{Group: 0x7000_0021}
	all := []plan.Ingress{
		withPods("podnet", br0, netconf.IngressOpen), withPods("lab", group1, netconf.IngressIsolated),
		withPods("shop", shop, netconf.IngressSameNetwork), withPods("more", br0, netconf.IngressOpen),
	}
	for i, p := range all {
		created, err := f.ApplyIngress(p)
		if err != nil || created != (i < 3) {
			t.Fatalf("%s: created %v, %v", p.Network, created, err)
		}
	}
	for _, want := range []bool{true, false} {
		if created, err := f.ApplyPortIngress(); created != want || err != nil {
			t.Fatalf("created %v, %v", created, err)
		}
	}
	expectIngress(t, f, all...)
	listed(t, "ingress-pods")
	reloads(t, "ingress-pods")
	expectIngress(t, f, all...)

	// A policy that changes, or comes to a bridge that had none, takes its pods along.
	if _, err := f.ApplyIngress(withPods("other", group1, netconf.IngressOpen)); cnierr.Of(err, 0).Code != cnierr.Conflict {
		t.Errorf("got %v, want a conflict", err)
	}
	must(t, f.OpenIngress("lab"))
	must(t, f.OpenIngress("shop"))
	second := policy("more", br0, netconf.IngressSameNetwork)
	if _, err := f.ApplyIngress(second); err != nil {
		t.Error(err)
	}
	must(t, f.RetireIngress("podnet"))
	expectIngress(t, f, withPods("lab", group1, netconf.IngressOpen), withPods("shop", shop, netconf.IngressOpen), second)
	for _, network := range []string{"lab", "shop", "more"} {
		must(t, f.RetireIngress(network))
	}
	nft(t, "flush", "chain", "bridge", "veth", "output")
	if got, err := f.ObservePortIngress(); err != nil ||
		got.State != "nftables chain output has lost its rule for others to closed pods" {
		t.Errorf("%q, %v", got.State, err)
	}
	must(t, f.UndoPortIngress())
	listed(t, "empty")
	if got, err := f.ObservePortIngress(); err != nil || got.State != "nftables table bridge veth is missing" {
		t.Errorf("%q, %v", got.State, err)
	}
}

func expectIngress(t *testing.T, f *Firewall, all ...plan.Ingress) {
	t.Helper()
	for _, want := range all {
		if got, err := f.ObserveIngress(want); err != nil || got != want {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
}

func TestIngressListing(t *testing.T) {
	f := fresh(t)
	must(t, f.ProbeIngress())
	listed(t, "empty")
	all := []plan.Ingress{
		policy("podnet", br0, netconf.IngressSameNetwork), policy("lab", group1, netconf.IngressIsolated),
		policy("shop", plan.Link{Group: 0x7000_0021}, netconf.IngressSameNetwork), policy("more", br0, netconf.IngressSameNetwork),
	}
	for i, p := range all {
		created, err := f.ApplyIngress(p)
		if err != nil || created != (i < 3) {
			t.Fatalf("%s: created %v, %v", p.Network, created, err)
		}
	}
	expectIngress(t, f, all...)
	listed(t, "ingress")
	reloads(t, "ingress")
	expectIngress(t, f, all...)
	for _, p := range []plan.Ingress{
		policy("more", br0, netconf.IngressIsolated), policy("another", group1, netconf.IngressIsolated),
	} {
		if _, err := f.ApplyIngress(p); err == nil || cnierr.Of(err, 0).Code != cnierr.Conflict {
			t.Errorf("%s: %v, want a conflict", p.Network, err)
		}
	}
	for _, network := range []string{"nobody", "shop", "lab", "podnet"} {
		must(t, f.RetireIngress(network))
	}
	listed(t, "empty")
}

// forwardChains are as iptables-nft lists its own, and as an administrator writes his.
const forwardChains = `
table ip filter {
	chain DOCKER-USER {
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		counter jump DOCKER-USER
		oifname "docker0" counter drop
	}
}
table inet mine {
	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state invalid drop
		log counter reject
	}
}
`

func TestForwardListing(t *testing.T) {
	for name, l := range map[string]plan.Link{"forward-bridge": br0, "forward-group": group1} {
		t.Run(name, func(t *testing.T) {
			f := fresh(t)
			nft(t, forwardChains)
			before := nft(t, "-a", "list", "ruleset")
			a := plan.ForwardAccept{Network: "podnet", Link: l, IPv4: true, IPv6: true}
			names, err := chainsOf(f.Dropping(a))
			if want := []string{"nftables chain ip filter FORWARD", "nftables chain inet mine forward"}; err != nil || !slices.Equal(names, want) {
				t.Errorf("%q, %v", names, err)
			}
			must(t, f.ProbeForwardAccept(a))
			if after := nft(t, "-a", "list", "ruleset"); after != before {
				t.Errorf("the rehearsal leaves\n%s", after)
			}
			for _, want := range []bool{true, false} {
				if created, err := f.ApplyForwardAccept(a); created != want || err != nil {
					t.Fatalf("created %v, %v", created, err)
				}
			}
			listed(t, name)
			if got, err := f.ObserveForwardAccept(a); err != nil || got.State != "ok" {
				t.Errorf("%q, %v", got.State, err)
			}
			must(t, f.RetireForwardAccept(plan.ForwardAccept{Network: "another"}))
			listed(t, name)
			must(t, f.RetireForwardAccept(plan.ForwardAccept{Network: "podnet"}))
			if after := nft(t, "-a", "list", "ruleset"); after != before {
				t.Errorf("afterwards\n%s", after)
			}
		})
	}
}

// iptables reads its chains back and fails, in all it does, at a rule that it could not have written. It knows no groups
// of interfaces but by its match "devgroup", and no interface but by its name with the zero behind it.
func TestForwardRulesAreThoseOfIptables(t *testing.T) {
	for _, c := range []struct {
		link plan.Link
		want []string
	}{{br0, []string{"meta", "cmp", "immediate"}}, {group1, []string{"match", "immediate"}}} {
		for i, rule := range (foreignChain{family: unix.NFPROTO_IPV4, name: "FORWARD"}).acceptRules(c.link) {
			var names []string
			for _, e := range rule {
				names = append(names, e.name)
			}
			if !slices.Equal(names, c.want) {
				t.Errorf("%v, rule %d: %v, want %v", c.link, i, names, c.want)
			}
			compared := rule[len(rule)-2].at(unix.NFTA_CMP_DATA, unix.NFTA_DATA_VALUE).value
			if c.link.Name != "" && string(compared) != "br0\x00" {
				t.Errorf("compares with %q", compared)
			}
		}
	}
}

// After iptables-save and iptables-restore a rule has counters, and its comment has become an expression. It is still the
// network's.
func TestForwardRulesSurviveIptables(t *testing.T) {
	for _, l := range []plan.Link{br0, group1} {
		f := fresh(t)
		nft(t, forwardChains)
		a := plan.ForwardAccept{Network: "podnet", Link: l, IPv4: true}
		c := foreignChain{family: unix.NFPROTO_IPV4, table: "filter", name: "FORWARD"}
		for _, rule := range c.acceptRules(l) {
			last := len(rule) - 1
			said := expressions{witness(t, xtComment("network podnet")), witness(t, &expr.Counter{Packets: 7})}
			restored := rule[:last].then(said, rule[last:])
			must(t, f.transact(query{}, f.conn.commit, func(*state) ([]message, error) {
				return []message{c.addRule(restored, "", nil)}, nil
			}))
		}
		if names, err := chainsOf(f.Dropping(a)); err != nil || !slices.Equal(names, []string{"nftables chain inet mine forward"}) {
			t.Errorf("%q, %v", names, err)
		}
		must(t, f.RetireForwardAccept(plan.ForwardAccept{Network: "podnet"}))
		if left := nft(t, "list", "ruleset"); strings.Contains(left, "accept\n") {
			t.Errorf("left:\n%s", left)
		}
	}
}

// A table can belong to a process, and nobody else may change it then (NFT_TABLE_F_OWNER, Linux 5.12).
func TestForwardTableOfAnotherProcess(t *testing.T) {
	f := fresh(t)
	owner := Open()
	defer owner.Close()
	must(t, owner.transact(query{}, owner.conn.commit, func(*state) ([]message, error) {
		table := ofFamily(tableFamily, change("add a table", unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, func(w *encoder) {
			w.text(unix.NFTA_TABLE_NAME, "theirs")
			w.uint32(unix.NFTA_TABLE_FLAGS, tableOwner)
		}))
		forward := ofFamily(tableFamily, change("add a chain", unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, func(w *encoder) {
			w.text(unix.NFTA_CHAIN_TABLE, "theirs")
			w.text(unix.NFTA_CHAIN_NAME, "forward")
			w.nested(unix.NFTA_CHAIN_HOOK, func(w *encoder) {
				w.uint32(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_FORWARD)
				w.int32(unix.NFTA_HOOK_PRIORITY, 0)
			})
			w.uint32(unix.NFTA_CHAIN_POLICY, 0)
			w.text(unix.NFTA_CHAIN_TYPE, "filter")
		}))
		return []message{table, forward}, nil
	}))
	a := plan.ForwardAccept{Network: "podnet", Link: br0, IPv4: true}
	for _, err := range []error{f.ProbeForwardAccept(a), second(f.ApplyForwardAccept(a))} {
		if err == nil || cnierr.Of(err, 0).Code != cnierr.Conflict || !strings.Contains(err.Error(), "inet theirs forward") ||
			!strings.Contains(err.Error(), "want that program to let the network pass, and forwardAccept false") {
			t.Errorf("got %v", err)
		}
	}
}

func second(_ bool, err error) error { return err }

func xtComment(text string) expr.Any {
	c := xt.Comment(text)
	return &expr.Match{Name: "comment", Info: &c}
}
