package kernel_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

func setting(key string) string { return filepath.Join("/proc/sys", key) }

func write(p plan.Place, key, value string) func(m *machine) error {
	return func(m *machine) error {
		return m.in(p, func() error { return os.WriteFile(setting(key), []byte(value), 0) })
	}
}

func TestSysctl(t *testing.T) {
	t.Parallel()
	another := pair // after which the first is not the one that was just made
	another.Host, another.Peer = "vo", "eth1"
	var scenarios []scenario
	for _, p := range []plan.Place{plan.Host, plan.Container} {
		key := "net/ipv4/conf/" + link(p) + "/proxy_arp"
		scenarios = append(scenarios, scenario{
			name: p.String(), given: []plan.Object{pair, inside, another}, sticks: p == plan.Container,
			object: plan.Sysctl{Place: p, Key: key, Value: "1"},
			breaks: []change{
				{"another value", write(p, key, "0"), wants("value", "1", "0")},
				{"gone with its interface", by(plan.Host, "vh", netlink.LinkDel), missing},
			},
		})
	}
	runScenarios(t, scenarios)
}

// TestSysctlOfANewPair: what is set of an interface that the same call made is set whichever way the kernel offers, and
// is nothing to take back.
func TestSysctlOfANewPair(t *testing.T) {
	t.Parallel()
	settings := map[string]string{"net/ipv4/neigh/%s/proxy_delay": "0", "net/ipv6/conf/%s/accept_ra": "0"}
	for _, name := range []string{
		"accept_local", "accept_redirects", "accept_source_route", "arp_accept", "arp_announce", "arp_filter",
		"arp_ignore", "arp_notify", "bootp_relay", "log_martians", "promote_secondaries", "proxy_arp", "proxy_arp_pvlan",
		"route_localnet", "rp_filter", "secure_redirects", "send_redirects", "shared_media", "src_valid_mark",
	} {
		settings["net/ipv4/conf/%s/"+name] = "2" // which is nobody's default
	}
	for format, value := range settings {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				m.apply(pair, inside)
				for _, p := range []plan.Place{plan.Host, plan.Container} {
					s := plan.Sysctl{Place: p, Key: fmt.Sprintf(format, link(p)), Value: value}
					if len(m.findings(s)) == 0 {
						m.Errorf("%s is set before it is applied", s.ID())
					}
					if created, err := m.kernel.Apply(s); created || err != nil {
						m.Errorf("%s: created %v, %v, want it set and nothing to undo", s.ID(), created, err)
					}
					m.asPlanned(s)
					m.must(write(p, s.Key, "4")(m))
					if got := m.findings(s); len(got) != 1 || got[0].Want != value {
						m.Errorf("CHECK finds %s, want that it is not %s", got, value)
					}
				}
				m.undo(pair)
				s := plan.Sysctl{Key: fmt.Sprintf(format, link(plan.Host)), Value: value}
				if got := m.findings(s); len(got) == 0 {
					m.Errorf("%s is still there after its interface", s.ID())
				}
			})
		})
	}
}

// TestSysctlIfPresent: what only some kernels have is set where it is and not missed where it is not.
func TestSysctlIfPresent(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		for _, p := range []plan.Place{plan.Host, plan.Container} {
			s := plan.Sysctl{Place: p, Key: "net/ipv4/ip_forward", Value: "1", IfPresent: true}
			m.apply(s)
			m.asPlanned(s)
			m.must(write(p, s.Key, "0")(m))
			if got := m.findings(s); len(got) != 1 || got[0].Got != "0" {
				m.Errorf("CHECK finds %s, want the value 0", got)
			}
		}
		before := m.snapshot()
		for _, p := range []plan.Place{plan.Host, plan.Container} {
			s := plan.Sysctl{Place: p, Key: "net/ipv6/conf/none/accept_dad", Value: "0", IfPresent: true}
			created, err := m.kernel.Apply(s)
			if created || err != nil {
				m.Errorf("%s, if present: created %v, %v, want neither", s.ID(), created, err)
			}
			m.asPlanned(s)
			s.IfPresent = false
			created, err = m.kernel.Apply(s)
			m.refused(err, cnierr.KernelRefused)
			if created || !errors.Is(err, fs.ErrNotExist) {
				m.Errorf("%s: created %v, %v, want it absent", s.ID(), created, err)
			}
		}
		m.unchanged(before, "after settings that are not there")
	})
}

// TestSysctlReadsFirst takes a file that cannot be written: to find the value there is success, to need another is not.
func TestSysctlReadsFirst(t *testing.T) {
	t.Parallel()
	const readOnly = "net/ipv4/tcp_available_congestion_control"
	on(t, func(m *machine) {
		now, err := m.kernel.Setting(readOnly)
		m.must(err)
		for _, p := range []plan.Place{plan.Host, plan.Container} {
			s := plan.Sysctl{Place: p, Key: readOnly, Value: now}
			if created, err := m.kernel.Apply(s); created || err != nil {
				m.Errorf("%s: created %v, %v, want it found as it is", s.ID(), created, err)
			}
			s.Value = "none"
			_, err := m.kernel.Apply(s)
			m.refused(err, cnierr.KernelRefused)
			if want := "set it from " + now + " to none"; !strings.Contains(err.Error(), want) {
				m.Errorf("%v: want it to say %q", err, want)
			}
		}
	})
}

// TestSysctlOfThePlace: the container's setting is not the host's, and the thread comes home.
func TestSysctlOfThePlace(t *testing.T) {
	t.Parallel()
	const key = "net/ipv4/ip_forward"
	for _, p := range []plan.Place{plan.Host, plan.Container} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				home := m.thread()
				m.apply(plan.Sysctl{Place: p, Key: key, Value: "1"})
				for _, place := range []plan.Place{plan.Host, plan.Container} {
					want := map[bool]string{true: "1", false: "0"}[place == p]
					m.must(m.in(place, func() error {
						got, err := os.ReadFile(setting(key))
						if strings.TrimSpace(string(got)) != want {
							m.Errorf("in the %s it is %q, want %q", place, got, want)
						}
						return err
					}))
				}
				if _, err := m.kernel.Apply(plan.Sysctl{Place: p, Key: "net/none", Value: "1"}); err == nil {
					m.Error("a setting that is not there must fail")
				}
				if now := m.thread(); now != home {
					m.Errorf("the thread is in %s, want %s", now, home)
				}
				if got, err := m.kernel.Setting(key); err != nil || got != map[bool]string{true: "1", false: "0"}[p == plan.Host] {
					m.Errorf("Setting says %q, %v", got, err)
				}
			})
		})
	}
}

// thread is the namespace of the calling thread.
func (m *machine) thread() string {
	m.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	m.must(err)
	return name
}

// TestUndoSysctl puts back what this Node changed on the host, and nothing else: a container's settings die with it.
func TestUndoSysctl(t *testing.T) {
	t.Parallel()
	const key = "net/ipv4/ip_forward"
	onHost, inContainer := plan.Sysctl{Key: key, Value: "1"}, plan.Sysctl{Place: plan.Container, Key: key, Value: "1"}
	for _, test := range []struct {
		name  string
		host  string // the host's value before
		apply []plan.Object
		undo  plan.Object
		want  string // the host's value after
	}{
		{"changed", "0", []plan.Object{onHost}, onHost, "0"},
		{"right before", "1", []plan.Object{onHost}, onHost, "1"},
		{"never applied", "1", nil, onHost, "1"},
		{"changed in the container only", "1", []plan.Object{onHost, inContainer}, onHost, "1"},
		{"the container's", "0", []plan.Object{onHost, inContainer}, inContainer, "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				m.must(write(plan.Host, key, test.host)(m))
				m.apply(test.apply...)
				m.undo(test.undo)
				if got, err := m.kernel.Setting(key); got != test.want || err != nil {
					m.Errorf("after Undo it is %q, %v, want %q", got, err, test.want)
				}
			})
		})
	}
}

// TestSysctlAsWanted: what is known without its file is known from the host as it is now, and nothing else passes for it.
func TestSysctlAsWanted(t *testing.T) {
	t.Parallel()
	bridge := plan.Bridge{Name: "br0", Kind: "bridge", Up: true}
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/br0/accept_ra"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				s := plan.Sysctl{Key: key, Value: "1"}
				others := []string{"0"}
				if strings.HasSuffix(key, "accept_ra") {
					s.Value, others = "0", []string{"1", "2"}
				}
				for _, before := range append(others, s.Value) {
					m.apply(bridge)
					m.must(write(plan.Host, key, before)(m))
					m.apply(bridge) // which looks at it
					created, err := m.kernel.Apply(s)
					if err != nil || created != (before != s.Value) {
						m.Errorf("%s of %s: created %v, %v", key, before, created, err)
					}
					m.asPlanned(s)
				}
			})
		})
	}
}
