package firewall

import (
	"net/netip"
	"testing"

	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// heirsOf is who is behind br0 and has addresses of pods4, at the first look and at every later one.
type heirsOf []string

func (h heirsOf) survey() Survey {
	looks := 0
	return func() (Heirs, error) {
		name := h[min(looks, len(h)-1)]
		looks++
		return heir(name), nil
	}
}

type heir string

func (h heir) Behind(link string) []string {
	if link != "br0" || h == "" {
		return nil
	}
	return []string{string(h)}
}

func (h heir) Within(first, last netip.Addr) []string {
	if !pods4.Subnet.Contains(first) || !pods4.Subnet.Contains(last) {
		return nil
	}
	return h.Behind("br0")
}

func (h heir) Alive(network string) bool { return string(h) == network }

// Whoever is still there keeps what it found when it came, also if it came while the first went. The last leaves nothing.
func TestHeirs(t *testing.T) {
	forth := plan.ForwardAccept{Network: "podnet", Link: br0, IPv4: true, IPv6: true, State: "ok"}
	isolated, same := policy("podnet", br0, netconf.IngressIsolated), policy("podnet", br0, netconf.IngressSameNetwork)
	links := bridged(web, "tcp 0.0.0.0:8080 10.88.0.5:80")
	for _, c := range []struct {
		name    string
		apply   func(*Firewall) error
		observe func(*Firewall) (string, error)
		retire  func(f *Firewall, network string) error
		once    bool // nobody can come meanwhile: what an ADD counts on is of the transaction that its own is of
	}{
		{"isolated", applies(isolated), observes(isolated), (*Firewall).RetireIngress, false},
		{"same-network", applies(same), observes(same), (*Firewall).RetireIngress, false},
		{
			"masquerade",
			func(f *Firewall) error { _, err := f.Apply(subnet(pods4.Subnet.String(), "podnet")); return err },
			func(f *Firewall) (string, error) { return f.Missing(pods4) },
			(*Firewall).RetireMasquerade, false,
		},
		{
			"forwardAccept",
			func(f *Firewall) error { _, err := f.ApplyForwardAccept(forth); return err },
			func(f *Firewall) (string, error) {
				got, err := f.ObserveForwardAccept(forth)
				return worse(got.State), err
			},
			func(f *Firewall, network string) error {
				return f.RetireForwardAccept(plan.ForwardAccept{Network: network, Link: br0, IPv4: true, IPv6: true})
			},
			false,
		},
		{
			"hairpin",
			func(f *Firewall) error {
				other := routed(lab, "tcp 0.0.0.0:8081 10.88.0.6:80") // without any port nothing of host ports stays
				_, _, err := f.ApplyHostPorts(other, living())
				if err == nil {
					_, _, err = f.ApplyHostPorts(links, living())
				}
				if err == nil {
					_, err = f.ReleaseHostPorts(links.Owner, links.Ports)
				}
				return err
			},
			func(f *Firewall) (string, error) {
				has, err := f.conn.has(linkEntries(links)[0])
				if !has {
					return "no hairpin", err
				}
				return "", err
			},
			func(f *Firewall, network string) error {
				_, err := f.CollectHostPorts(network, living())
				return err
			},
			true,
		},
	} {
		for name, heirs := range map[string]heirsOf{"who is there": {"lab"}, "who comes meanwhile": {"", "lab"}} {
			if c.once && len(heirs) > 1 {
				continue
			}
			t.Run(c.name+", "+name, func(t *testing.T) {
				t.Parallel()
				f := fresh(t)
				nft(t, "add table inet filter; add chain inet filter forward { type filter hook forward priority 0; policy drop; }")
				must(t, c.apply(f))
				f.Survey = heirs.survey()
				must(t, c.retire(f, "podnet"))
				healthy(t, f, c.observe)
				f.Survey = heirsOf{"lab"}.survey()
				must(t, c.retire(f, "podnet")) // it has nothing any more
				healthy(t, f, c.observe)
				f.Survey = heirsOf{""}.survey()
				must(t, c.retire(f, "lab"))
				if got, err := c.observe(f); got == "" || err != nil {
					t.Errorf("after the last network has gone: %q, %v", got, err)
				}
			})
		}
	}
}

func applies(i plan.Ingress) func(*Firewall) error {
	return func(f *Firewall) error { _, err := f.ApplyIngress(i); return err }
}

func observes(i plan.Ingress) func(*Firewall) (string, error) {
	return func(f *Firewall) (string, error) {
		got, err := f.ObserveIngress(i)
		if got.Policy != i.Policy {
			return "the policy is " + got.Policy.String(), err
		}
		return worse(got.State), err
	}
}

func worse(state string) string {
	if state == "ok" {
		return ""
	}
	return state
}

func healthy(t *testing.T, f *Firewall, observe func(*Firewall) (string, error)) {
	t.Helper()
	if got, err := observe(f); got != "" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// What a network was left goes when it is open, and is taken over by whoever wants it.
func TestLeftPolicies(t *testing.T) {
	isolated, same := policy("podnet", br0, netconf.IngressIsolated), policy("podnet", br0, netconf.IngressSameNetwork)
	left := func(t *testing.T) *Firewall {
		f := fresh(t)
		must(t, applies(isolated)(f))
		f.Survey = heirsOf{"lab"}.survey()
		must(t, f.RetireIngress("podnet"))
		healthy(t, f, observes(isolated))
		return f
	}
	t.Run("the heir is open", func(t *testing.T) {
		f := left(t)
		f.Survey = heirsOf{"podnet"}.survey()
		must(t, f.OpenIngress("lab"))
		listed(t, "empty")
	})
	t.Run("the network comes back", func(t *testing.T) {
		f := left(t)
		must(t, applies(isolated)(f))
		f.Survey = heirsOf{"podnet"}.survey()
		must(t, f.OpenIngress("lab"))
		healthy(t, f, observes(isolated))
		must(t, f.RetireIngress("lab"))
		healthy(t, f, observes(isolated))
	})
	t.Run("the network comes back with another policy", func(t *testing.T) {
		f := left(t)
		must(t, applies(same)(f))
		healthy(t, f, observes(same))
	})
	t.Run("the heir goes and is not heard of again", func(t *testing.T) {
		f := left(t)
		f.Survey = heirsOf{""}.survey()
		must(t, f.RetireIngress("another"))
		listed(t, "empty")
	})
}

// Of masquerading that a network was left which is gone without a GC, another's GC takes care.
func TestLeftSubnets(t *testing.T) {
	f := fresh(t)
	apply(t, f, pods4)
	f.Survey = heirsOf{"lab"}.survey()
	must(t, f.RetireMasquerade("podnet"))
	seen(t, f, pods4)
	f.Survey = heirsOf{"podnet"}.survey()
	must(t, f.RetireMasquerade("another")) // podnet is back, and rides on it
	seen(t, f, pods4)
	f.Survey = heirsOf{""}.survey()
	must(t, f.RetireMasquerade("another"))
	listed(t, "empty")
	apply(t, f, pods4)
	must(t, f.DropMasquerade("lab"))
	seen(t, f, pods4)
	must(t, f.DropMasquerade("podnet"))
	listed(t, "empty")
}

// Pods of a network without a policy do not open the bridge of one that is isolated.
func TestOpenPodsBesideAnIsolatedNetwork(t *testing.T) {
	f := fresh(t)
	isolated := policy("podnet", br0, netconf.IngressIsolated)
	pods := plan.Ingress{Network: "lab", Link: br0, Policy: netconf.IngressOpen, Pods: true, State: "ok"}
	must(t, applies(isolated)(f))
	must(t, applies(pods)(f))
	f.Survey = heirsOf{"podnet"}.survey()
	must(t, f.OpenIngress("lab"))
	healthy(t, f, observes(isolated))
}
