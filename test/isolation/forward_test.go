package isolation

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/test/node"
)

// firewalls of others, as nft lists what iptables, or an administrator, has made.
var firewalls = []struct {
	name, ruleset string
	names         []string // of the chains, in what STATUS says
}{
	{"iptables", `
		table ip filter {
			chain DOCKER-USER { counter return; }
			chain FORWARD { type filter hook forward priority filter; policy drop; counter jump DOCKER-USER; oifname "docker0" drop; }
		}
		table ip6 filter {
			chain FORWARD { type filter hook forward priority filter; policy drop; }
		}`, []string{"ip filter FORWARD", "ip6 filter FORWARD"}},
	{"policy", `
		table inet mine {
			chain forward { type filter hook forward priority filter; policy drop; iifname "lo" accept; }
		}`, []string{"inet mine forward"}},
	{"last rule", `
		table inet mine {
			chain anything { type filter hook forward priority filter + 10; policy accept; ct state invalid drop; counter log reject; }
		}`, []string{"inet mine anything"}},
}

// A firewall of somebody else drops what the host forwards: STATUS says so. With forwardAccept it is opened for the
// network and for nobody else, and what others have written stays in force and as it is.
func TestForwardAccept(t *testing.T) {
	for mode, keys := range map[string]object{"routed": nil, "bridge": bridge("br0")} {
		for _, fw := range firewalls {
			t.Run(mode+" "+fw.name, func(t *testing.T) {
				t.Parallel()
				m := newMachine(t)
				m.must(m.pod(network("podnet", 0, keys)).del()) // switches forwarding on, for good
				m.must(m.gc(network("podnet", 0, keys)))
				m.nft(fw.ruleset)
				closed := m.Snapshot()
				world := []netip.Addr{world4, world6}

				reported := network("podnet", 0, keys)
				refused(t, m.status(reported), append(fw.names, "forwardAccept", "podnet")...)
				ignored := network("podnet", 0, keys, object{"forwardAccept": false})
				m.must(m.status(ignored))
				shut := m.pod(ignored)
				if got := shut.reaches(world); got[0] || got[1] {
					t.Errorf("the world answers through a closed firewall: %v", got)
				}
				m.must(shut.del())
				m.must(m.gc(ignored))
				if d := node.Diff(closed, m.Snapshot()); d != "" {
					t.Errorf("without forwardAccept the firewall has changed:\n%s", d)
				}

				opened := network("podnet", 0, keys, object{"forwardAccept": true})
				m.must(m.status(opened))
				p := m.pod(opened)
				once := rulesetOf(m)
				second := m.pod(opened)
				if twice := rulesetOf(m); once != twice {
					t.Errorf("another container changes the ruleset:\n%s", node.Diff(once, twice))
				}
				other := m.pod(network("other", 1, object{"forwardAccept": false}))
				expect(t, "the world to it", &pod{Namespace: m.world, machine: m}, p, true)
				expect(t, "another of its network", second, p, true)
				if got := p.reaches(world); !got[0] || !got[1] {
					t.Errorf("the world answers: %v", got)
				}
				if got := other.reaches(world); got[0] || got[1] {
					t.Errorf("the world answers a network that nobody has opened the firewall for: %v", got)
				}
				m.must(p.check())
				m.must(m.status(opened))
				m.must(m.status(reported)) // it is open now

				// The firewall is loaded anew.
				m.nft(reload(fw.ruleset))
				err := p.check()
				if err == nil || !strings.Contains(err.Error(), fw.names[0]) || !strings.Contains(err.Error(), "drops what the host forwards") {
					t.Errorf("CHECK says %v", err)
				}
				m.must(second.del())
				m.must(second.add())
				m.must(p.check())
				if got := p.reaches(world); !got[0] || !got[1] {
					t.Errorf("the world answers after an ADD has opened the firewall again: %v", got)
				}

				for _, gone := range []*pod{p, second, other} {
					m.must(gone.del())
				}
				m.must(m.gc(other.conf))
				m.must(m.gc(opened))
				if d := node.Diff(closed, m.Snapshot()); d != "" {
					t.Errorf("after GC the firewall is not as it was:\n%s", d)
				}
			})
		}
	}
}

func refused(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil || cnierr.Of(err, 0).Code != cnierr.NotAvailable {
		t.Errorf("STATUS says %v, want code %d", err, cnierr.NotAvailable)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("STATUS says %q, want it to say %q", err, w)
		}
	}
}

// reload deletes the tables of a ruleset and makes them again, as a service does.
func reload(ruleset string) string {
	var all strings.Builder
	for line := range strings.Lines(ruleset) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == "table" {
			fmt.Fprintf(&all, "delete table %s %s\n", fields[1], fields[2])
		}
	}
	return all.String() + ruleset
}

// Firewalls that let through what the host forwards for the network are no reason to complain.
func TestHarmlessFirewalls(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.nft(`
		table inet accepts { chain forward { type filter hook forward priority 0; policy drop; counter accept; } }
		table inet chooses { chain forward { type filter hook forward priority 0; policy accept; ip daddr 203.0.113.0/24 drop; } }
		table inet sleeps { flags dormant; chain forward { type filter hook forward priority 0; policy drop; } }
		table inet incoming { chain input { type filter hook input priority 0; policy drop; } }
		table inet unused { chain forward { drop; } }
		table arp filter { chain input { type filter hook input priority 0; policy drop; } }`)
	m.must(m.status(network("podnet", 0)))
	m.must(m.status(network("podnet", 0, bridge("br0"))))
}

// What STATUS says of firewalls depends on what a network needs of them.
func TestFirewallsThatMatter(t *testing.T) {
	const only6 = `table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop; } }`
	const bridges = `table bridge mine { chain forward { type filter hook forward priority 0; policy drop; } }`
	ipv4 := object{"ipam": object{"type": "veth", "ranges": [][]object{{{"subnet": "10.88.0.0/24"}}}}}
	behind := object{"bridge": "br0"} // a network whose gateway is not the host
	for _, c := range []struct {
		name, ruleset string
		called        bool // net.bridge.bridge-nf-call-*
		conf          object
		word          string // in what STATUS says; "": it is content
	}{
		{"the other family", only6, false, ipv4, ""},
		{"one of two families", only6, false, nil, "ip6 filter FORWARD"},
		{"a bridge without gateway", only6, false, behind, ""},
		{"a bridge without gateway, with br_netfilter", only6, true, behind, "ip6 filter FORWARD"},
		{"layer 2, with br_netfilter", only6, true, object{"bridge": "br0", "ipam": object{}}, "ip6 filter FORWARD"},
		{"frames, and a routed network", bridges, false, nil, ""},
		{"frames", bridges, false, behind, "bridge mine forward"},
		{"frames, and nothing to open", bridges, false, object{"bridge": "br0", "forwardAccept": true}, "cannot be opened, forwardAccept writes rules for IP alone: want nft insert rule bridge mine forward iifname veth* accept, the same with oifname, and forwardAccept false"},
		{
			"frames and IP, one of which forwardAccept could open", bridges + "\n" + only6, true, behind,
			"ip6 filter FORWARD: drops what the host forwards, so containers of network podnet reach the host and nothing beyond: " +
				"want ip6tables -I FORWARD -i br0 -j ACCEPT, the same with -o, and forwardAccept false",
		},
		{
			"firewalld, not asked to open it", `table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; reject; } }`,
			false, nil, "--zone=trusted --add-source=SUBNET for each subnet, firewall-cmd --reload, and forwardAccept false (not forwardAccept true: firewalld",
		},
		{
			"firewalld", `table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; reject; } }`, false,
			object{"forwardAccept": true},
			"--zone=trusted --add-source=SUBNET",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.BridgeCallsNetfilter(c.called)
			m.nft(c.ruleset)
			err := m.status(network("podnet", 0, c.conf))
			if c.word == "" {
				m.must(err)
				return
			}
			refused(t, err, c.word)
		})
	}
}

// What STATUS says of a firewall that forwardAccept cannot open lets the network pass.
func TestOpenedByHand(t *testing.T) {
	for name, c := range map[string]struct {
		closed []string // programs to run
		conf   object
	}{
		"iptables-legacy, routed": {[]string{"iptables-legacy -P FORWARD DROP", "ip6tables-legacy -A FORWARD -j DROP"}, nil},
		"iptables-legacy, bridge": {[]string{"iptables-legacy -A FORWARD -j REJECT", "ip6tables-legacy -P FORWARD DROP"}, bridge("br0")},
		"family bridge": {[]string{
			"nft add table bridge mine", "nft add chain bridge mine forward { type filter hook forward priority -200 ; policy drop ; }",
		}, object{"bridge": "br0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			for _, command := range c.closed {
				m.program(command)
			}
			conf := network("podnet", 0, c.conf)
			first, second := m.pod(conf), m.pod(conf)
			world := second.addresses()
			if c.conf == nil || c.conf["isGateway"] == true {
				world = []netip.Addr{world4, world6}
			}
			if got := first.reaches(world); got[0] || got[1] {
				t.Fatalf("what is beyond answers through a closed firewall: %v", got)
			}
			err := m.status(conf)
			refused(t, err, "and forwardAccept false")
			for said := range strings.SplitSeq(fmt.Sprint(err), ";") {
				_, command, _ := strings.Cut(said, ": want ")
				command, same, _ := strings.Cut(command, ", the same with ")
				m.program(command)
				other, _, _ := strings.Cut(same, ",")
				m.program(strings.Replace(command, map[string]string{"-o": "-i", "oifname": "iifname"}[other]+" ", other+" ", 1))
			}
			ignored := network("podnet", 0, c.conf, object{"forwardAccept": false})
			m.must(m.status(ignored))
			// A neighbour that was asked for in vain is asked for again after a second, and a third time.
			got := first.reaches(world)
			for try := 1; try < 4 && (!got[0] || !got[1]); try++ {
				got = first.reaches(world)
			}
			if !got[0] || !got[1] {
				t.Errorf("what is beyond answers: %v", got)
			}
		})
	}
}

// program runs one on the machine; it skips the test where the kernel has nothing of iptables-legacy.
func (m *machine) program(command string) {
	m.t.Helper()
	words := strings.Fields(command)
	var out strings.Builder
	cmd := exec.Command(node.Program(m.t, words[0]), words[1:]...)
	cmd.Env = append(cmd.Environ(), "XTABLES_LOCKFILE="+m.t.TempDir()+"/lock")
	cmd.Stdout, cmd.Stderr = &out, &out
	err := m.Run(cmd)
	if err != nil && strings.Contains(out.String(), "can't initialize") {
		m.t.Skipf("this kernel has no iptables-legacy: %s", &out)
	}
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", command, err, &out)
	}
}
