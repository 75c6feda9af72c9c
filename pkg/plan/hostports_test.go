package plan_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

func hostPorts() plan.HostPorts {
	return plan.HostPorts{
		Owner: lease.Owner{Network: "lan", ContainerID: "c1", IfName: "eth0"}, Link: "br0", Hairpin: true, Masquerade: true,
		State: "ok", Ports: []plan.HostPort{{
			Protocol: netconf.UDP, Host: netip.MustParseAddrPort("192.0.2.1:53"), Pod: netip.MustParseAddrPort("10.88.0.5:5353"),
		}},
	}
}

// Each field of host ports once, and how CHECK tells an operator that it differs.
func TestHostPortDifferences(t *testing.T) {
	onePort := func(change func(*plan.HostPort)) func(*plan.HostPorts) {
		return func(o *plan.HostPorts) {
			o.Ports = slices.Clone(o.Ports)
			change(&o.Ports[0])
		}
	}
	for _, tt := range []struct {
		change func(*plan.HostPorts)
		text   string
	}{
		{
			func(o *plan.HostPorts) { o.State = "nftables table inet veth is missing" },
			"state: want ok, found nftables table inet veth is missing",
		},
		{func(o *plan.HostPorts) { o.Ports = nil }, "udp 192.0.2.1:53: want 10.88.0.5:5353 for hostPortSources, found nothing"},
		{
			onePort(func(p *plan.HostPort) { p.Holder = "pod a/b" }),
			"udp 192.0.2.1:53: want 10.88.0.5:5353 for hostPortSources, found 10.88.0.5:5353 of pod a/b",
		},
		{
			onePort(func(p *plan.HostPort) { p.Open = true }),
			"udp 192.0.2.1:53: want 10.88.0.5:5353 for hostPortSources, found 10.88.0.5:5353",
		},
		{func(o *plan.HostPorts) { o.Hairpin = false }, "hairpin: want on, found off"},
		{func(o *plan.HostPorts) { o.Masquerade = false }, "masquerade: want on, found off"},
	} {
		t.Run(tt.text, func(t *testing.T) {
			found := plan.Diff([]plan.Object{hostPorts()}, []plan.Object{but(hostPorts(), tt.change)})
			if want := hostPorts().ID() + ": " + tt.text; found.String() != want {
				t.Errorf("got %q, want %q", found, want)
			}
		})
	}
}

// What DEL looks for is what ADD made, for every combination of settings.
func TestClaimedPortsCoverTheBuilt(t *testing.T) {
	for _, s := range scenarios(t) {
		claimed := plan.ClaimedPorts(s.parse(t))
		for _, o := range s.build(t).Shared {
			h, ok := o.(plan.HostPorts)
			if !ok {
				continue
			}
			for _, p := range h.Ports {
				if !slices.ContainsFunc(claimed, func(c plan.HostPort) bool { return c.Protocol == p.Protocol && c.Host == p.Host }) {
					t.Errorf("%s: %s is not claimed", s.name, p)
				}
			}
		}
	}
}

func TestAnswerable(t *testing.T) {
	only4 := plan.Addresses{List: []plan.Assigned{{Prefix: netip.MustParsePrefix("10.88.0.5/24")}}}
	for name, tt := range map[string]struct {
		host      string
		addresses []netip.Addr
		ok        bool
	}{
		"every address":              {"", nil, true},
		"every address of IPv4":      {"0.0.0.0", nil, true},
		"every address of IPv6":      {"::", nil, false},
		"one":                        {"192.0.2.1", nil, true},
		"one of the other family":    {"2001:db8::1", nil, false},
		"listed":                     {"", []netip.Addr{netip.MustParseAddr("192.0.2.1")}, true},
		"listed of the other family": {"", []netip.Addr{netip.MustParseAddr("2001:db8::1")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := netconf.PortMapping{Protocol: netconf.TCP, HostPort: 8080, ContainerPort: 80}
			if tt.host != "" {
				m.Host = netip.MustParseAddr(tt.host)
			}
			cfg := &netconf.Config{HostPorts: netconf.HostPorts{Mappings: []netconf.PortMapping{m}, Addresses: tt.addresses}}
			if err := plan.Answerable(cfg, only4); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}
