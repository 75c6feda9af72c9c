package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

var (
	web = lease.Owner{Network: "podnet", ContainerID: "c1", IfName: "eth0", PodNamespace: "shop", PodName: "web"}
	dns = lease.Owner{Network: "podnet", ContainerID: "c2", IfName: "eth0", PodNamespace: "shop", PodName: "dns"}
	lab = lease.Owner{Network: "lab", ContainerID: "c3", IfName: "eth0"}
)

// port reads "tcp 0.0.0.0:8080 10.88.0.5:80".
func port(text string) plan.HostPort {
	words := strings.Fields(text)
	protocol := map[string]netconf.Protocol{"tcp": netconf.TCP, "udp": netconf.UDP, "sctp": netconf.SCTP}[words[0]]
	p := plan.HostPort{Protocol: protocol, Host: netip.MustParseAddrPort(words[1]), Open: true}
	if len(words) > 2 {
		p.Pod = netip.MustParseAddrPort(words[2])
	}
	return p
}

// routed are ports of a container with routes, bridged of one on bridge br0.
func routed(owner lease.Owner, ports ...string) plan.HostPorts {
	h := plan.HostPorts{Owner: owner, Link: owner.HostName(), Source: plan.RoutedGateway4, Hairpin: true}
	for _, p := range ports {
		h.Ports = append(h.Ports, port(p))
	}
	return h
}

func bridged(owner lease.Owner, ports ...string) plan.HostPorts {
	h := routed(owner, ports...)
	h.Link, h.Source = "br0", netip.Addr{}
	return h
}

func restricted(h plan.HostPorts, sources ...string) plan.HostPorts {
	for _, s := range sources {
		h.Sources = append(h.Sources, netip.MustParsePrefix(s))
	}
	for i := range h.Ports {
		h.Ports[i].Open = false
	}
	return h
}

// living says who lives: the owners given.
func living(owners ...lease.Owner) Living {
	return func(hostEnd string) (string, error) {
		for _, o := range owners {
			if o.HostName() == hostEnd {
				return o.String(), nil
			}
		}
		return "", nil
	}
}

var everybody = living(web, dns, lab)

func publish(t testing.TB, f *Firewall, list ...plan.HostPorts) {
	t.Helper()
	for _, h := range list {
		if created, err := f.ApplyHostPorts(h, everybody); err != nil || !created {
			t.Fatalf("apply %v: created %v, error %v", h.Ports, created, err)
		}
		published(t, f, h)
	}
}

func published(t testing.TB, f *Firewall, h plan.HostPorts) {
	t.Helper()
	if d := differences(t, f, h); len(d) > 0 {
		t.Errorf("%s: %s", h.ID(), d)
	}
}

func differences(t testing.TB, f *Firewall, h plan.HostPorts) plan.Findings {
	t.Helper()
	got, err := f.ObserveHostPorts(h, everybody)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Diff([]plan.Object{h}, []plan.Object{got})
}

func TestHostPortListings(t *testing.T) {
	for _, c := range []struct {
		golden string
		apply  []plan.HostPorts
	}{
		{"hostports-routed", []plan.HostPorts{
			routed(web, "tcp 0.0.0.0:8080 10.88.0.5:80", "tcp [::]:8080 [2001:db8:88::5]:80"),
			routed(lab, "udp 192.0.2.1:53 198.18.0.5:5353", "sctp [2001:db8::1]:3868 [2001:db8:99::5]:3868"),
		}},
		{"hostports-bridged", []plan.HostPorts{
			bridged(web, "tcp 0.0.0.0:8080 10.88.0.5:80"), bridged(dns, "udp 127.0.0.1:53 10.88.0.6:53"),
		}},
		{"hostports-sources", []plan.HostPorts{
			restricted(routed(web, "tcp 0.0.0.0:8080 10.88.0.5:80", "udp [2001:db8::1]:53 [2001:db8:88::5]:53"),
				"192.0.2.0/24", "198.18.0.9/32", "2001:db8:1::/48"),
			routed(dns, "tcp 0.0.0.0:9090 10.88.0.6:90"),
		}},
		{"hostports-masqall", []plan.HostPorts{func() plan.HostPorts {
			h := bridged(web, "tcp 0.0.0.0:8080 10.88.0.5:80")
			h.Masquerade = true
			return h
		}()}},
	} {
		t.Run(c.golden, func(t *testing.T) {
			f := fresh(t)
			publish(t, f, c.apply...)
			golden(t, c.golden)
			// What was listed can be loaded, and is the same to CHECK.
			before := nft(t, "list", "ruleset")
			nft(t, "flush", "ruleset")
			nft(t, before)
			for _, h := range c.apply {
				published(t, f, h)
			}
			for _, h := range c.apply {
				if _, err := f.ReleaseHostPorts(h.Owner, keys(h)); err != nil {
					t.Fatal(err)
				}
			}
			golden(t, "empty")
		})
	}
}

// keys are ports as DEL knows them.
func keys(h plan.HostPorts) []plan.HostPort {
	list := slices.Clone(h.Ports)
	for i := range list {
		list[i].Pod = netip.AddrPort{}
	}
	return list
}

var _ = errors.Is
var _ = fmt.Sprint
var _ = cnierr.Of
