package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/test/golden"
)

func subnet(prefix, network string) plan.Masquerade {
	return plan.Masquerade{Subnet: netip.MustParsePrefix(prefix), Network: network}
}

var (
	pods4 = subnet("10.88.0.0/16", "podnet")
	pods6 = subnet("2001:db8:88::/64", "podnet")
	lab4  = subnet("198.18.0.0/24", "lab")
	lab6  = subnet("2001:db8:99::/64", "lab")
)

// fresh returns the table of a network namespace that has none.
func fresh(t *testing.T) *Firewall {
	t.Helper()
	enterNew(t)
	f := Open()
	t.Cleanup(f.Close)
	return f
}

func apply(t *testing.T, f *Firewall, list ...plan.Masquerade) {
	t.Helper()
	for _, m := range list {
		if created, err := f.Apply(m); err != nil || !created {
			t.Fatalf("apply %v: created %v, error %v", m, created, err)
		}
		seen(t, f, m)
	}
}

func undo(t *testing.T, f *Firewall, list ...plan.Masquerade) {
	t.Helper()
	for _, m := range list {
		if err := f.Undo(m); err != nil {
			t.Fatalf("undo %v: %v", m, err)
		}
	}
}

func seen(t *testing.T, f *Firewall, m plan.Masquerade) {
	t.Helper()
	missing(t, f, m, "")
}

func missing(t *testing.T, f *Firewall, m plan.Masquerade, want string) {
	t.Helper()
	got, err := f.Missing(m)
	if err != nil || got != want {
		t.Errorf("missing for %s: %q, %v; want %q", m.Subnet, got, err, want)
	}
	if found, err := f.Observe(m); err != nil || found != (want == "") {
		t.Errorf("observe %s: %v, %v", m.Subnet, found, err)
	}
}

// listed compares the ruleset, as nft lists it, with a golden file.
func listed(t *testing.T, name string) {
	t.Helper()
	golden.Compare(t, filepath.Join("testdata", name+".nft"), nft(t, "list", "ruleset"))
}

func TestListings(t *testing.T) {
	for _, c := range []struct {
		golden      string
		apply, undo []plan.Masquerade
	}{
		{golden: "ipv4", apply: []plan.Masquerade{pods4}},
		{golden: "ipv6", apply: []plan.Masquerade{pods6}},
		{golden: "dual", apply: []plan.Masquerade{pods4, pods6}},
		{golden: "two-networks", apply: []plan.Masquerade{pods4, pods6, lab4, lab6}},
		{golden: "dual", apply: []plan.Masquerade{pods4, lab4, pods6, lab6}, undo: []plan.Masquerade{lab4, lab6}},
		{golden: "ipv6", apply: []plan.Masquerade{pods4, pods6}, undo: []plan.Masquerade{pods4}},
		{golden: "empty", apply: []plan.Masquerade{pods4, lab6}, undo: []plan.Masquerade{lab6, pods4}},
		{
			golden: "edges",
			apply: []plan.Masquerade{
				subnet("0.0.0.0/8", "low"), subnet("1.0.0.0/8", "next"), subnet("240.0.0.0/4", "high"),
			},
		},
		{
			golden: "widened",
			apply:  []plan.Masquerade{subnet("10.88.1.0/24", "podnet"), subnet("10.88.3.0/24", "podnet"), lab4, pods4},
		},
	} {
		t.Run(c.golden, func(t *testing.T) {
			f := fresh(t)
			apply(t, f, c.apply...)
			undo(t, f, c.undo...)
			listed(t, c.golden)
			for _, m := range c.undo {
				if found, err := f.Observe(m); err != nil || found {
					t.Errorf("observe %v: %v, %v", m, found, err)
				}
			}
		})
	}
}

func TestApplyAgainOnlyLooks(t *testing.T) {
	f := fresh(t)
	apply(t, f, pods4, pods6)
	before := generation(t, f)
	for _, m := range []plan.Masquerade{pods4, pods6, subnet("10.88.7.0/24", "other"), subnet("10.88.0.0/16", "other")} {
		if created, err := f.Apply(m); err != nil || created {
			t.Errorf("apply %v: created %v, error %v", m, created, err)
		}
		seen(t, f, m)
	}
	must(t, f.Probe())
	if after := generation(t, f); after != before {
		t.Errorf("the ruleset went from generation %d to %d", before, after)
	}
}

func generation(t *testing.T, f *Firewall) uint32 {
	t.Helper()
	s, err := f.observe(query{change: true})
	must(t, err)
	return s.generation
}

func TestApplyRefusesOverlap(t *testing.T) {
	f := fresh(t)
	apply(t, f, subnet("10.88.5.0/24", "small"))
	before := nft(t, "list", "ruleset")
	created, err := f.Apply(pods4)
	if created || cnierr.Of(err, 0).Code != cnierr.Conflict {
		t.Errorf("created %v, error %v; want a conflict", created, err)
	}
	if after := nft(t, "list", "ruleset"); after != before {
		t.Errorf("the ruleset changed:\n%s", after)
	}
}

func TestUndoLeavesOthers(t *testing.T) {
	for name, gone := range map[string]plan.Masquerade{
		"another network's":  subnet("10.88.0.0/16", "lab"),
		"within a wider one": subnet("10.88.5.0/24", "podnet"),
		"absent":             lab4,
	} {
		t.Run(name, func(t *testing.T) {
			f := fresh(t)
			apply(t, f, pods4, pods6)
			undo(t, f, gone)
			listed(t, "dual")
		})
	}
	t.Run("no table", func(t *testing.T) {
		f := fresh(t)
		undo(t, f, pods4)
		listed(t, "empty")
	})
	t.Run("unknown objects in the table", func(t *testing.T) {
		f := fresh(t)
		apply(t, f, pods4)
		nft(t, "add", "map", "inet", "veth", "later", "{ type ipv4_addr : ipv4_addr; }")
		undo(t, f, pods4)
		listed(t, "unknown")
	})
}

// Single addresses are of a host end. The next that gets one takes it over, a subnet of the network takes them all, and
// with a name however long they are told from what is the network's.
func TestSingleAddresses(t *testing.T) {
	for _, network := range []string{"podnet", strings.Repeat("n", 300)} {
		f := fresh(t)
		single := func(address, hostEnd string) plan.Masquerade {
			m := subnet(address, network)
			m.Holder = hostEnd
			return m
		}
		const one, other = "veth00000000001", "veth00000000002"
		apply(t, f, single("10.88.0.5/32", one), single("10.88.0.6/32", one), single("2001:db8::5/128", one))
		apply(t, f, single("10.88.0.7/32", other), single("10.88.0.6/32", other))
		undo(t, f, subnet("10.88.0.5/32", network), single("10.88.0.6/32", one), single("10.88.0.7/32", one))
		must(t, f.Unmask("lab", other))
		want := []plan.Masquerade{
			single("10.88.0.5/32", one), single("10.88.0.6/32", other), single("10.88.0.7/32", other), single("2001:db8::5/128", one),
		}
		if got := owned(t, f, network); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if _, err := f.Apply(plan.Masquerade{
			Subnet: netip.MustParsePrefix("10.88.0.5/32"), Network: "lab", Holder: other,
		}); err != nil {
			t.Errorf("what is masqueraded already: %v", err)
		}
		_, err := f.Apply(subnet("10.88.0.0/29", "lab"))
		if err == nil || !strings.Contains(err.Error(), "subnet 10.88.0.0/29 of network \"lab\" overlaps 10.88.0.5/32 of network \"") {
			t.Errorf("another network's subnet: %v", err)
		}
		must(t, f.Unmask(network, one))
		missing(t, f, subnet("2001:db8::5/128", network), "nftables set masquerade6 lacks 2001:db8::5/128")
		apply(t, f, subnet("10.88.0.0/29", network))
		if got := owned(t, f, network); len(got) != 1 {
			t.Errorf("below a subnet there is still %v", got)
		}
		must(t, f.Unmask(network, other))
		undo(t, f, subnet("10.88.0.0/29", network))
		listed(t, "empty")
	}
}

// owned lists the subnets of a network, and the single addresses of its host ends, IPv4 first, each family in ascending
// order.
func owned(t *testing.T, f *Firewall, network string) []plan.Masquerade {
	t.Helper()
	s, err := f.observe(query{part: masquerading(), spans: subnetSets})
	must(t, err)
	var list []plan.Masquerade
	for _, name := range subnetSets {
		for _, have := range s.spans(name) {
			m := plan.Masquerade{Network: network, Holder: have.hostEnd()}
			if p, ok := have.prefix(); ok && have.owner == ownerOf(m) {
				m.Subnet = p
				list = append(list, m)
			}
		}
	}
	return list
}

// A network without containers takes all that is its own, whatever its name, and one with some what those have who are gone.
func TestMasqueradeOfANetwork(t *testing.T) {
	long := strings.Repeat("n", 300)
	living := func(hostEnd string) (string, error) {
		return map[string]string{"veth00000000001": "somebody"}[hostEnd], nil
	}
	for _, network := range []string{"podnet", long} {
		f := fresh(t)
		here, gone := subnet("198.18.1.1/32", network), subnet("2001:db8:7::2/128", network)
		here.Holder, gone.Holder = "veth00000000001", "veth00000000002"
		others := subnet("198.18.1.3/32", "lab")
		others.Holder = gone.Holder
		subnets := []plan.Masquerade{subnet("10.88.0.0/16", network), subnet("2001:db8:88::/64", network)}
		apply(t, f, append(subnets, here, gone, others)...)
		must(t, f.CollectMasquerade(network, living))
		if got, want := owned(t, f, network), []plan.Masquerade{subnets[0], here, subnets[1]}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		unknown := errors.New("nobody knows")
		err := f.CollectMasquerade(network, func(string) (string, error) { return "", unknown })
		if !errors.Is(err, unknown) || len(owned(t, f, network)) != 3 {
			t.Errorf("where nobody knows who lives: %v, left %v", err, owned(t, f, network))
		}
		must(t, f.RetireMasquerade(network))
		if got, want := append(owned(t, f, network), owned(t, f, "lab")...), []plan.Masquerade{others}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		must(t, f.CollectMasquerade("lab", living))
		listed(t, "empty")
	}
}

// Somebody breaks the table: Missing names what is gone, for whom it is, and Apply makes it whole.
func TestRepair(t *testing.T) {
	const (
		rule4   = "nftables chain postrouting has lost its rule for IPv4"
		rule6   = "nftables chain postrouting has lost its rule for IPv6"
		foreign = "nftables chain postrouting holds a rule that is not the plugin's"
		chain   = "nftables chain postrouting is not of type nat, priority 100, policy accept at its hook"
		table   = "nftables table inet veth is missing"
	)
	replace4 := "replace rule inet veth postrouting handle " + handle(ipv4)
	for _, c := range []struct {
		name    string
		nft     []string
		missing [2]string // for IPv4 and for IPv6
		created bool
		counted bool   // there are as many rules as there should be, and an ADD only counts them
		golden  string // of the repaired table, "dual" if not given
	}{
		{
			name: "ruleset flushed", nft: []string{"flush ruleset"}, created: true,
			missing: [2]string{table, table},
		},
		{
			name: "chain flushed", nft: []string{"flush chain inet veth postrouting"},
			missing: [2]string{rule4, rule6},
		},
		{
			name: "chain deleted", nft: []string{"flush chain inet veth postrouting", "delete chain inet veth postrouting"},
			missing: [2]string{"nftables chain postrouting is missing", "nftables chain postrouting is missing"},
		},
		{
			name: "one rule deleted", nft: []string{"delete rule inet veth postrouting handle " + handle(ipv6)},
			missing: [2]string{"", rule6},
		},
		{
			name: "rule replaced", counted: true, nft: []string{replace4 + " ip saddr @masquerade4 accept"},
			missing: [2]string{rule4, foreign},
		},
		{
			name: "rule with another set", counted: true, missing: [2]string{rule4, foreign},
			nft: []string{
				"add set inet veth other { type ipv4_addr; flags interval; }",
				replace4 + " ip saddr @other ip daddr != @masquerade4 " +
					"ip daddr != 224.0.0.0/4 ip daddr != 255.255.255.255 masquerade",
			},
		},
		{
			name: "masquerade with a flag", counted: true, missing: [2]string{rule4, foreign},
			nft: []string{replace4 + " ip saddr @masquerade4 ip daddr != @masquerade4 " +
				"ip daddr != 224.0.0.0/4 ip daddr != 255.255.255.255 masquerade random"},
		},
		{
			name: "rule inserted before", nft: []string{"insert rule inet veth postrouting accept"},
			missing: [2]string{foreign, foreign},
		},
		{
			name: "element deleted", nft: []string{"delete element inet veth masquerade4 { 10.88.0.0/16 }"}, created: true,
			missing: [2]string{"nftables set masquerade4 lacks 10.88.0.0/16", ""},
		},
		{
			name: "set flushed", nft: []string{"flush set inet veth masquerade4"}, created: true,
			missing: [2]string{"nftables set masquerade4 lacks 10.88.0.0/16", ""},
		},
		{
			name: "set deleted", created: true, golden: "dual-new-set",
			nft:     []string{"flush chain inet veth postrouting", "delete set inet veth masquerade4"},
			missing: [2]string{"nftables set masquerade4 is missing", rule6},
		},
		{
			name: "set of another kind", created: true, golden: "dual-new-set",
			nft: []string{
				"flush chain inet veth postrouting", "delete set inet veth masquerade4",
				"add set inet veth masquerade4 { type ipv4_addr; }", "add element inet veth masquerade4 { 10.88.0.0 }",
			},
			missing: [2]string{"nftables set masquerade4 is not an interval set of ipv4_addr", rule6},
		},
		{
			name: "chain hooked elsewhere", missing: [2]string{chain, chain},
			nft: []string{
				"flush chain inet veth postrouting", "delete chain inet veth postrouting",
				"add chain inet veth postrouting { type nat hook input priority 100; }",
			},
		},
		{
			name: "chain at another priority", missing: [2]string{chain, chain},
			nft: []string{
				"flush chain inet veth postrouting", "delete chain inet veth postrouting",
				"add chain inet veth postrouting { type nat hook postrouting priority 101; }",
			},
		},
		{
			name: "chain of another type", missing: [2]string{chain, chain},
			nft: []string{
				"flush chain inet veth postrouting", "delete chain inet veth postrouting",
				"add chain inet veth postrouting { type filter hook postrouting priority 100; }",
			},
		},
		{
			name: "chain without a hook", missing: [2]string{chain, chain},
			nft: []string{
				"flush chain inet veth postrouting", "delete chain inet veth postrouting", "add chain inet veth postrouting",
			},
		},
		{
			name: "policy drop", nft: []string{"add chain inet veth postrouting { policy drop; }"},
			missing: [2]string{chain, chain},
		},
		{
			name: "table dormant", nft: []string{"add table inet veth { flags dormant; }"},
			missing: [2]string{"nftables table inet veth is dormant", "nftables table inet veth is dormant"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fresh(t)
			apply(t, f, pods4, pods6)
			for _, command := range c.nft {
				nft(t, command)
			}
			missing(t, f, pods4, c.missing[0])
			missing(t, f, pods6, c.missing[1])
			must(t, f.Probe())
			if created, err := f.Apply(pods4); err != nil || created != c.created {
				t.Errorf("apply: created %v, error %v; want created %v", created, err, c.created)
			}
			if c.counted {
				missing(t, f, pods4, c.missing[0])
				nft(t, "flush chain inet veth postrouting") // what operations.md says to do
				_, err := f.Apply(pods4)
				must(t, err)
			}
			seen(t, f, pods4)
			_, err := f.Apply(pods6)
			must(t, err)
			if strings.Contains(nft(t, "list", "sets"), "other") {
				nft(t, "delete set inet veth other")
			}
			listed(t, cmp.Or(c.golden, "dual"))
		})
	}
}

// handle is the number the kernel gives a rule in a fresh table: it counts the table's objects, sets and chains first.
func handle(f *family) string {
	if f == ipv4 {
		return "4"
	}
	return "5"
}

func TestProbeLeavesNothing(t *testing.T) {
	f := fresh(t)
	before := generation(t, f)
	must(t, f.Probe())
	listed(t, "empty")
	if after := generation(t, f); after != before {
		t.Errorf("the ruleset went from generation %d to %d", before, after)
	}
}

func TestWithoutCapability(t *testing.T) {
	f := fresh(t)
	dropCapabilities(t)
	_, applyErr := f.Apply(pods4)
	_, observeErr := f.Observe(pods4)
	for verb, err := range map[string]error{
		"apply": applyErr, "observe": observeErr, "undo": f.Undo(pods4), "retire": f.RetireMasquerade("podnet"),
		"probe": f.Probe(),
	} {
		if cnierr.Of(err, 0).Code != cnierr.KernelRefused || !errors.Is(err, unix.EPERM) ||
			!strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("%s: %v; want EPERM and the capability's name", verb, err)
		}
	}
}

// dropCapabilities takes all of them from the test's thread, for good.
func dropCapabilities(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	must(t, unix.Capset(&header, &none[0]))
}

func TestExplain(t *testing.T) {
	nat, masq := masquerading().chains[0], masquerading().chains[0].allRules()[0]
	for _, c := range []struct {
		name string
		m    message
		err  error
		code uint
		text string
	}{
		{
			"no nfnetlink",
			message{what: "open a netlink socket", needs: needsNetlink},
			unix.EPROTONOSUPPORT,
			cnierr.FeatureMissing, "CONFIG_NETFILTER_NETLINK",
		},
		{"no nf_tables", getGeneration(), unix.EINVAL, cnierr.FeatureMissing, "CONFIG_NF_TABLES)"},
		{"no inet tables", addTable(part{}), unix.EAFNOSUPPORT, cnierr.FeatureMissing, "CONFIG_NF_TABLES_INET"},
		{"no nat chains", addChain(nat), unix.ENOENT, cnierr.FeatureMissing, "CONFIG_NFT_NAT"},
		{"no masquerade", addRule(nat, masq), unix.ENOENT, cnierr.FeatureMissing, "CONFIG_NFT_MASQ"},
		{"a bad rule", addRule(nat, masq), unix.EINVAL, cnierr.KernelRefused, "add the rule for IPv4 to chain postrouting"},
		{
			"no such set", addElements("masquerade4", spans("10.88.0.0/16")), unix.ENOENT,
			cnierr.KernelRefused, "add [10.88.0.0/16] to set masquerade4",
		},
		{"no memory", addTable(part{}), unix.ENOMEM, cnierr.KernelRefused, "add the table"},
		{
			"with the kernel's own words",
			addTable(part{}),
			refusal{unix.EINVAL, "not like this"},
			cnierr.KernelRefused, "invalid argument (not like this)",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := explain(c.m, c.err)
			if cnierr.Of(err, 0).Code != c.code || !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got code %d: %v", cnierr.Of(err, 0).Code, err)
			}
		})
	}
}

func TestSocketAfterARefusal(t *testing.T) {
	f := fresh(t)
	apply(t, f, pods4)
	nowhere := deleteChain(chain{name: "nowhere"})
	err := f.conn.commit(generation(t, f), []message{nowhere, nowhere, deleteTable()})
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "delete chain nowhere: ") {
		t.Errorf("got %v", err)
	}
	seen(t, f, pods4) // two answers to the batch were never read
}

func TestOutdatedCommitIsRefused(t *testing.T) {
	f := fresh(t)
	old := generation(t, f)
	apply(t, f, pods4)
	if err := f.conn.commit(old, []message{deleteTable()}); !errors.Is(err, unix.ERESTART) {
		t.Errorf("got %v, want ERESTART", err)
	}
	seen(t, f, pods4)
}

// interrupting is a socket on which the kernel says, some times over, that a list changed while it was read.
type interrupting struct {
	*socket
	times int
}

func (s *interrupting) receive(answers []answer, most int) ([]answer, error) {
	msgs, err := s.socket.receive(answers, most)
	for i := len(answers); i < len(msgs); i++ {
		if msgs[i].flags&unix.NLM_F_MULTI != 0 && msgs[i].kind != unix.NLMSG_DONE && s.times > 0 {
			s.times--
			msgs[i].flags |= unix.NLM_F_DUMP_INTR
		}
	}
	return msgs, err
}

func TestInterruptedListIsReadAgain(t *testing.T) {
	f := fresh(t)
	apply(t, f, pods4)
	for name, c := range map[string]struct {
		times int
		want  error
	}{
		"a few times": {5, nil},
		"always":      {1 << 30, unix.EINTR},
	} {
		s, err := newSocket()
		must(t, err)
		again := Firewall{conn: conn{socket: &interrupting{s, c.times}}}
		found, err := again.Observe(pods4)
		if !errors.Is(err, c.want) || found != (c.want == nil) {
			t.Errorf("%s: found %v, error %v", name, found, err)
		}
		again.Close()
	}
}

// parallel runs work on n threads in the test's namespace, each with a socket of its own, all at once.
func parallel(t *testing.T, n int, work func(i int, f *Firewall)) {
	t.Helper()
	home := current(t)
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range n {
		done.Go(func() {
			runtime.LockOSThread() // for good: the thread ends with the goroutine
			if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
				t.Error(err)
				return
			}
			f := Open()
			defer f.Close()
			start.Wait()
			work(i, f)
		})
	}
	start.Done()
	done.Wait()
}

func TestRaceToCreate(t *testing.T) {
	for range 10 {
		t.Run("round", func(t *testing.T) {
			fresh(t)
			created := make([]bool, 16)
			parallel(t, len(created), func(i int, f *Firewall) {
				var err error
				if created[i], err = f.Apply(pods4); err != nil {
					t.Error(err)
				}
			})
			winners := 0
			for _, won := range created {
				if won {
					winners++
				}
			}
			if winners != 1 {
				t.Errorf("%d calls created the subnet, want 1", winners)
			}
			listed(t, "ipv4")
		})
	}
}

// Networks come and go while others do: each sees its own subnet right after it applied it, and nothing is left.
func TestRaceToTheLastSubnet(t *testing.T) {
	fresh(t)
	parallel(t, 16, func(i int, f *Firewall) {
		own := plan.Masquerade{
			Subnet:  netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 88, byte(i), 0}), 24),
			Network: "net" + string(rune('a'+i)),
		}
		for range 5 {
			created, err := f.Apply(own)
			reason, missErr := f.Missing(own)
			if err = errors.Join(err, missErr, f.Undo(own)); err != nil || !created || reason != "" {
				t.Errorf("created %v, missing %q: %v", created, reason, err)
				return
			}
		}
	})
	listed(t, "empty")
}

func BenchmarkApply(b *testing.B) {
	enterNew(b)
	f := Open()
	defer f.Close()
	for b.Loop() {
		if _, err := f.Apply(pods4); err != nil {
			b.Fatal(err)
		}
	}
}

// The kernel acknowledges the last message of a batch only. What it refuses before that is still known by its place.
func TestRefusalIsOfItsMessage(t *testing.T) {
	f := fresh(t)
	s, err := f.observe(query{part: masquerading(), change: true})
	if err != nil {
		t.Fatal(err)
	}
	table := addTable(part{})
	for place := range 4 {
		batch := []message{table, table, table, table}
		batch[place] = deleteSet(set{name: fmt.Sprint("none", place)})
		err := f.conn.commit(s.generation, batch)
		if want := fmt.Sprint("delete set none", place); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), want) {
			t.Errorf("message %d is refused, and the error is %v, want %q", place, err, want)
		}
	}
	if err := f.conn.commit(s.generation+7, []message{table, table}); !errors.Is(err, unix.ERESTART) {
		t.Errorf("a batch for another generation: %v, want ERESTART", err)
	}
	listed(t, "empty")
	if err := f.conn.commit(s.generation, []message{table, table}); err != nil {
		t.Errorf("nothing of it was carried out, but now: %v", err)
	}
}
