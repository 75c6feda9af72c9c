package isolation

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/test/node"
)

// Who may open connections to a container, by the policy of its network. All others pass, and answers always do.
func TestIngressPolicy(t *testing.T) {
	modes := map[string]object{"routed": nil, "bridge": bridge("br0")}
	for mode, keys := range modes {
		for _, policy := range []string{"open", "same-network", "same-bridge", "isolated"} {
			for _, called := range []bool{false, true} {
				if called && keys == nil {
					continue
				}
				t.Run(fmt.Sprintf("%s %s netfilter on bridges %v", mode, policy, called), func(t *testing.T) {
					t.Parallel()
					m := newMachine(t)
					m.BridgeCallsNetfilter(called)
					m.must(m.Do(func() error { // a bridge that somebody else has made
						return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "foreign0"}})
					}))
					conf := network("podnet", 0, keys, object{"ingressPolicy": policy})
					server, same := m.pod(conf), m.pod(conf)
					others := map[string]*pod{
						"an open routed network":    m.pod(network("routed", 1)),
						"an open bridge":            m.pod(network("bridged", 2, bridge("br2"))),
						"a closed routed network":   m.pod(network("closed", 3, object{"ingressPolicy": "isolated"})),
						"a closed bridge":           m.pod(network("closed-bridge", 4, bridge("br4"), object{"ingressPolicy": "same-bridge"})),
						"a closed, foreign, bridge": m.pod(network("foreign", 5, bridge("foreign0"), object{"ingressPolicy": "same-bridge"})),
					}
					expect(t, "the same network", same, server, policy != "isolated")
					for name, other := range others {
						expect(t, name, other, server, policy == "open")
					}
					outside := &pod{Namespace: m.world, machine: m}
					expect(t, "the world", outside, server, true)
					expect(t, "the host", &pod{Namespace: m.Namespace, machine: m}, server, true)
					expect(t, "to an open network from it", server, others["an open routed network"], true)
					expect(t, "to an open bridge from it", server, others["an open bridge"], true)
					if got := server.reaches([]netip.Addr{world4, world6}); slices.Contains(got, false) {
						t.Errorf("to the world: %v", got)
					}
					m.must(server.check())
				})
			}
		}
	}
}

func expect(t *testing.T, what string, from, to *pod, want bool) {
	t.Helper()
	patience := 150 * time.Millisecond // enough where nothing is to come: what passes does so at once, nearly always
	if want {
		patience = 2 * time.Second
	}
	if got := from.reachesWithin(patience, to.addresses()); got[0] != want || got[1] != want {
		t.Errorf("%s: IPv4 %v, IPv6 %v, want %v", what, got[0], got[1], want)
	}
}

// Two containers that both want to reach each other try it past the gateway, which the isolation of ports does not see.
func TestIsolatedByWayOfTheGateway(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	conf := network("podnet", 0, bridge("br0"), object{"ingressPolicy": "isolated"})
	one, other := m.pod(conf), m.pod(conf)
	m.must(one.goAround(other))
	m.must(other.goAround(one))
	expect(t, "by way of the gateway", one, other, false)
	m.must(m.Do(deleteTable))
	expect(t, "without the table", one, other, true)
}

// goAround gives a pod routes to another by way of their gateway, the first address of the subnet.
func (p *pod) goAround(other *pod) error {
	return p.Do(func() error {
		for _, a := range other.addresses() {
			gateway := a.AsSlice()
			gateway[len(gateway)-1] = 1
			if err := netlink.RouteAdd(&netlink.Route{Dst: netlink.NewIPNet(a.AsSlice()), Gw: gateway}); err != nil {
				return err
			}
		}
		return nil
	})
}

func deleteTable() error { return deleteNFTable("veth") }

// A host port has rules of its own: whom hostPortSources admits gets through, whatever the policy.
func TestHostPortOfIsolated(t *testing.T) {
	for name, mode := range map[string]object{"routed": nil, "bridge": bridge("br0")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.BridgeCallsNetfilter(false)
			conf := network("podnet", 0, mode, object{"ingressPolicy": "isolated", "runtimeConfig": object{
				"portMappings": []object{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}},
			}})
			server := m.pod(conf)
			delete(conf, "runtimeConfig")
			same, other := m.pod(conf), m.pod(network("other", 1))
			published(t, server, same.Namespace, other.Namespace, server.Namespace, m.world)
			expect(t, "directly", other, server, false)
		})
	}
}

// published expects that clients reach port 80 of a server by port 8080 of the host.
func published(t *testing.T, server *pod, clients ...*node.Namespace) {
	t.Helper()
	server.Mirror(t, "tcp", netip.MustParseAddrPort("[::]:80"))
	for _, client := range clients {
		for _, a := range []netip.Addr{host4, host6} {
			if _, err := client.SeenAs("tcp", netip.AddrPortFrom(a, 8080)); err != nil {
				t.Error(err)
			}
		}
	}
}

// What a network has for its policy is its own, shared by its containers, and goes with GC.
func TestIngressPolicyComesAndGoes(t *testing.T) {
	for name, mode := range map[string]object{"routed": nil, "bridge": bridge("br0")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			conf := network("podnet", 0, mode, object{"ingressPolicy": "same-network"})
			other := network("other", 1, object{"ingressPolicy": "isolated"})
			m.must(m.pod(other).del()) // switches forwarding on, for good
			m.must(m.gc(other))
			untouched := m.Snapshot()
			stays := m.pod(other)
			before := m.Snapshot()
			first := m.pod(conf)
			one := rulesetOf(m)
			second := m.pod(conf)
			if two := rulesetOf(m); one != two {
				t.Errorf("another container changes the ruleset:\n%s", node.Diff(one, two))
			}

			// A policy that changes.
			second.conf = network("podnet", 0, mode, object{"ingressPolicy": "isolated"})
			m.must(second.del())
			m.must(second.add())
			m.must(second.check())
			if err := first.check(); err == nil || !strings.Contains(err.Error(), "policy: want same-network, found isolated") {
				t.Errorf("CHECK says %v", err)
			}
			open := network("podnet", 0, mode)
			m.must(m.gc(open, first, second))
			if err := second.check(); err == nil || !strings.Contains(err.Error(), "policy: want isolated, found open") {
				t.Errorf("CHECK says %v", err)
			}
			m.must(second.del())
			m.must(second.add())
			m.must(second.check())

			// A ruleset that somebody has flushed.
			m.nft("flush", "ruleset")
			if err := second.check(); err == nil || !strings.Contains(err.Error(), "nftables table inet veth is missing") {
				t.Errorf("CHECK says %v", err)
			}
			third := m.pod(second.conf)
			m.must(second.check())
			m.must(m.pod(other).del()) // brings back the other network's share
			for _, p := range []*pod{first, second, third} {
				m.must(p.del())
			}
			m.must(m.gc(conf))
			if d := node.Diff(before, m.Snapshot()); d != "" {
				t.Errorf("after GC of the network:\n%s", d)
			}
			m.must(stays.del())
			m.must(m.gc(other))
			if d := node.Diff(untouched, m.Snapshot()); d != "" {
				t.Errorf("after GC of all:\n%s", d)
			}
			if left := rulesetOf(m); left != "" {
				t.Errorf("after GC of all there is still\n%s", left)
			}
		})
	}
}

// A bridge has one policy, whatever networks it has.
func TestPoliciesOfOneBridge(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	first := m.pod(network("first", 0, object{"bridge": "br0", "ingressPolicy": "same-bridge"}))
	m.pod(network("second", 1, object{"bridge": "br0", "ingressPolicy": "same-network"}))
	before := m.Snapshot()
	third := &pod{Namespace: m.Container(), machine: m, conf: network("third", 2, object{"bridge": "br0", "ingressPolicy": "isolated"})}
	err := third.add()
	if err == nil || cnierr.Of(err, 0).Code != cnierr.Conflict || !strings.Contains(err.Error(), "ingressPolicy: br0 of network first has another policy") {
		t.Errorf("got %v, want a conflict", err)
	}
	if d := node.Diff(before, m.Snapshot()); d != "" {
		t.Errorf("the ADD left:\n%s", d)
	}
	m.must(first.check())
}

// An ADD that fails takes back what it did for its network, and nothing that others have.
func TestFailedADDLeavesNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.nft("add", "table", "ip", "filter")
	m.nft("add", "chain", "ip", "filter", "FORWARD", "{ type filter hook forward priority 0; policy drop; }")
	for _, mode := range []object{nil, bridge("br0")} {
		conf := network("podnet", 0, mode, object{"ingressPolicy": "same-network", "antiSpoof": true, "forwardAccept": true})
		p := &pod{Namespace: m.Container(), machine: m, conf: conf}
		m.must(p.obstruct())
		before := m.Snapshot()
		if err := p.add(); err == nil {
			t.Fatal("the ADD succeeds")
		}
		if d := node.Diff(before, m.Snapshot()); d != "" {
			t.Errorf("the ADD left:\n%s", d)
		}
	}
}

// obstruct makes an ADD of the pod fail inside, as late as it can: at a route that is there already. What comes after
// never fails here.
func (p *pod) obstruct() error {
	p.conf["ipam"] = object{
		"type": "veth", "ranges": [][]object{{{"subnet": "10.88.0.0/24"}}},
		"routes": []object{{"dst": world4.String() + "/32"}},
	}
	return p.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: netlink.NewIPNet(world4.AsSlice())})
	})
}

func rulesetOf(m *machine) string {
	var lines []string
	for line := range strings.Lines(m.Snapshot()) {
		if strings.HasPrefix(line, "nft") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// The policies cost an ADD that finds all in place a look, and no more than that with many networks.
func BenchmarkADD(b *testing.B) {
	for name, keys := range map[string]object{
		"plain":                       {"antiSpoof": false},
		"antiSpoof":                   {"antiSpoof": true},
		"antiSpoof and ingressPolicy": {"antiSpoof": true, "ingressPolicy": "same-network"},
		"all":                         {"antiSpoof": true, "ingressPolicy": "same-network", "forwardAccept": true},
		"bridge":                      bridge("br0"),
		"bridge with antiSpoof":       {"bridge": "br0", "isDefaultGateway": true, "antiSpoof": true},
	} {
		b.Run(name, func(b *testing.B) {
			m := newMachine(b)
			conf := network("podnet", 0, keys)
			m.pod(conf)
			p := &pod{Namespace: m.Container(), machine: m, conf: conf}
			var took []time.Duration
			for b.Loop() {
				started := time.Now()
				m.must(p.add())
				took = append(took, time.Since(started))
				m.must(p.del())
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/ADD-p50")
			b.ReportMetric(float64(took[0].Microseconds()), "µs/ADD-min")
		})
	}
}
