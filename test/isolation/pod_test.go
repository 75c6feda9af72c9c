package isolation

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/test/frames"
	"github.com/veth-cni/veth/test/node"
)

// asks is what a network has to say for a pod with a policy of its own, and what the runtime hands over.
func asks(policy string) object {
	return object{
		"allowPodAnnotations": []string{"ingressPolicy"},
		"runtimeConfig": object{
			"io.kubernetes.cri.pod-annotations": object{"veth-cni.github.io/ingressPolicy": policy},
		},
	}
}

// Who may open connections to a pod with a policy of its own: it holds beside that of the network, the stricter counts,
// and the other pods of the network notice nothing.
func TestPolicyOfPod(t *testing.T) {
	strictness := map[string]int{"open": 0, "same-network": 1, "isolated": 2}
	for _, mode := range []struct {
		name   string
		keys   object
		called bool // the kernel shows bridged packets to the chains for what the host forwards
	}{
		{"routed", nil, false},
		{"bridge", bridge("br0"), false},
		{"bridge netfilter", bridge("br0"), true},
		{"bridge of somebody else", bridge("foreign0"), false},
	} {
		for _, theirs := range []string{"open", "same-network", "isolated"} {
			for _, asked := range []string{"open", "same-network", "isolated"} {
				if mode.name != "routed" && mode.name != "bridge" && theirs != "open" {
					continue
				}
				t.Run(fmt.Sprintf("%s, network %s, pod %s", mode.name, theirs, asked), func(t *testing.T) {
					t.Parallel()
					m := newMachine(t)
					m.BridgeCallsNetfilter(mode.called)
					m.must(m.Do(func() error { // a bridge that somebody else has made
						return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "foreign0"}})
					}))
					conf := network("podnet", 0, mode.keys, object{"ingressPolicy": theirs})
					plain, same := m.pod(conf), m.pod(conf)
					own := m.pod(network("podnet", 0, mode.keys, object{"ingressPolicy": theirs}, asks(asked)))
					routed, bridged := m.pod(network("routed", 1)), m.pod(network("bridged", 2, bridge("br2")))
					outside, host := &pod{Namespace: m.world, machine: m}, &pod{Namespace: m.Namespace, machine: m}
					host.awaits(own) // whose gateway may still be looking for duplicates of its IPv6 address
					host.awaits(plain)
					effective := max(strictness[theirs], strictness[asked])

					expect(t, "the same network", same, own, effective < 2)
					for name, other := range map[string]*pod{"a routed network": routed, "a bridge": bridged} {
						expect(t, name, other, own, effective == 0)
						expect(t, name+" to another pod", other, plain, theirs == "open")
						expect(t, "from it to "+name, own, other, true)
					}
					expect(t, "to another pod of the network", same, plain, theirs != "isolated")
					expect(t, "the world", outside, own, true)
					expect(t, "the host", host, own, true)
					if got := own.reaches([]netip.Addr{world4, world6}); slices.Contains(got, false) {
						t.Errorf("to the world: %v", got)
					}
					for _, p := range []*pod{plain, same, own} {
						m.must(p.check())
					}
				})
			}
		}
	}
}

// Two pods of an open network on a bridge, one of them isolated, both want to reach each other: neither the gateway nor
// forged frames lead around.
func TestIsolatedPodByWayOfTheGateway(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	open := network("podnet", 0, bridge("br0"))
	one, other := m.pod(network("podnet", 0, bridge("br0"), asks("isolated"))), m.pod(open)
	expect(t, "directly", other, one, false)
	expect(t, "directly", one, other, false)
	m.must(one.goAround(other))
	m.must(other.goAround(one))
	expect(t, "by way of the gateway", other, one, false)

	// The bits of the mark mean something from the forward hook on only.
	m.nft("add", "table", "inet", "mine")
	m.nft("add", "chain", "inet", "mine", "marks", "{ type filter hook prerouting priority -150; policy accept; }")
	m.nft("add", "rule", "inet", "mine", "marks", "meta", "mark", "set", "0x1040")
	m.nft("add", "chain", "inet", "mine", "own", "{ type route hook output priority -150; policy accept; }")
	m.nft("add", "rule", "inet", "mine", "own", "meta", "mark", "set", "0xca6c") // WireGuard's
	expect(t, "the world, with a mark of somebody else", &pod{Namespace: m.world, machine: m}, one, true)
	expect(t, "the host, with a mark of somebody else", &pod{Namespace: m.Namespace, machine: m}, one, true)
	m.nft("delete", "table", "inet", "mine")

	m.must(m.Do(deleteTable))
	expect(t, "by way of the gateway, without the table", other, one, true)
}

// Whatever an isolated pod and the others of its bridge send each other, frames of any kind, none arrives; an answer is not
// what decides.
func TestFramesOfIsolatedPod(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	isolated := m.pod(network("podnet", 0, bridge("br0"), asks("isolated")))
	plain, closed := m.pod(network("podnet", 0, bridge("br0"))), m.pod(network("podnet", 0, bridge("br0"), asks("same-network")))
	for _, way := range []struct {
		from, to *pod
		arrives  bool
	}{{plain, isolated, false}, {closed, isolated, false}, {isolated, plain, false}, {isolated, closed, false}, {plain, closed, true}, {closed, plain, true}} {
		in, out := tap(t, way.to.Namespace), tap(t, way.from.Namespace)
		from, to := way.from.face().MAC, way.to.face().MAC
		everybody := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		out.send(frames.Ethernet(everybody, from, 0x88b5, []byte("to everybody")))
		out.send(frames.Ethernet(to, from, 0x88b5, []byte("to one")))
		heard := bytes.Join(in.heard([]byte("to one")), nil)
		for _, text := range []string{"to everybody", "to one"} {
			if bytes.Contains(heard, []byte(text)) != way.arrives {
				t.Errorf("%s to %s: %q arrives %v", way.from.Name, way.to.Name, text, !way.arrives)
			}
		}
	}
}

// A host port has rules of its own, also where it leads to a pod with a policy of its own.
func TestHostPortOfIsolatedPod(t *testing.T) {
	for name, mode := range map[string]object{"routed": nil, "bridge": bridge("br0")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.BridgeCallsNetfilter(false)
			conf := network("podnet", 0, mode, asks("isolated"))
			conf["runtimeConfig"].(object)["portMappings"] = []object{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}}
			server := m.pod(conf)
			same, other := m.pod(network("podnet", 0, mode)), m.pod(network("other", 1))
			published(t, server, same.Namespace, other.Namespace, server.Namespace, m.world)
			expect(t, "directly", other, server, false)
			expect(t, "directly", same, server, false)
		})
	}
}

// What a pod asked for is on its host end alone: the tenth pod changes nothing of the ruleset, a pod that dies without
// DEL leaves nothing, and whoever gets its address next is as open as the network.
func TestPolicyOfPodComesAndGoes(t *testing.T) {
	for name, mode := range map[string]object{"routed": nil, "bridge": bridge("br0")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			open, closed := network("podnet", 0, mode), network("podnet", 0, mode, asks("isolated"))
			m.must(m.pod(open).del()) // switches forwarding on, for good
			m.must(m.gc(open))
			untouched := m.Snapshot()
			other, first := m.pod(network("other", 1)), m.pod(closed)
			one := rulesetOf(m)
			pods := []*pod{first}
			for range 3 {
				pods = append(pods, m.pod(closed), m.pod(network("podnet", 0, mode, asks("same-network"))))
			}
			if several := rulesetOf(m); one != several {
				t.Errorf("further pods change the ruleset:\n%s", node.Diff(one, several))
			}
			second := pods[1]

			// What changes is seen, and what is lost comes back with the next ADD.
			second.conf = network("podnet", 0, mode, asks("same-network"))
			if err := second.check(); err == nil || !strings.Contains(err.Error(), "group: want 0x") {
				t.Errorf("CHECK of another policy says %v", err)
			}
			second.conf = closed
			m.must(second.check())
			m.nft("flush", "ruleset")
			if err := second.check(); err == nil || !strings.Contains(err.Error(), "nftables table inet veth is missing") ||
				strings.Contains(err.Error(), "nftables table bridge veth is missing") != (mode != nil) {
				t.Errorf("CHECK says %v", err)
			}
			m.must(first.del())
			m.must(first.add())
			m.must(second.check())
			m.must(m.gc(open, pods...)) // a network that is open
			m.must(second.check())
			expect(t, "after all that", other, second, false)

			// One that dies leaves its address to another.
			address := second.addresses()
			m.must(second.Close())
			conf := network("podnet", 0, mode)
			conf["runtimeConfig"] = object{"ips": []string{address[0].String(), address[1].String()}}
			heir := &pod{Namespace: m.Container(), machine: m, conf: conf}
			err := heir.add()
			for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); { // the kernel takes its time
				err = heir.add()
			}
			m.must(err)
			expect(t, "the next of that address", other, heir, true)
			for _, p := range append(pods, heir) {
				if p != second {
					m.must(p.del())
				}
			}
			m.must(m.gc(open))
			m.must(other.del())
			m.must(m.gc(network("other", 1)))
			if d := node.Diff(untouched, m.Snapshot()); d != "" {
				t.Errorf("after GC of all:\n%s", d)
			}
		})
	}
}

// An ADD that fails leaves nothing of the pod's policy.
func TestFailedADDOfPodWithPolicy(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, mode := range []object{nil, bridge("br0")} {
		p := &pod{Namespace: m.Container(), machine: m, conf: network("podnet", 0, mode, asks("isolated"))}
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

// A network tells STATUS whether its pods' policies can be had.
func TestStatusOfPodPolicies(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	before := m.Snapshot()
	for _, mode := range []object{nil, bridge("br0")} {
		m.must(m.status(network("podnet", 0, mode, object{"allowPodAnnotations": []string{"ingressPolicy"}})))
	}
	if d := node.Diff(before, m.Snapshot()); d != "" {
		t.Errorf("STATUS left:\n%s", d)
	}
}
