package result_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/veth-cni/veth/pkg/ipam"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/pkg/result"
	"github.com/veth-cni/veth/test/golden"
)

// netns is written as no one would clean it: the result repeats it to the letter.
const netns = "/var/run/../run//netns/c1"

var facts = result.Facts{MTU: 1450, BridgeMAC: net.HardwareAddr{6, 0, 0, 0, 0, 1}, BridgeMTU: 9000}

// attached is a configuration and what it made.
type attached struct {
	cfg   *netconf.Config
	addrs plan.Addresses
	plan  plan.Plan
}

// attach plays an ADD of a configuration of testdata in a version, with the fifth address of each range set.
func attach(t *testing.T, name, version string) attached {
	t.Helper()
	config, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	config = bytes.Replace(config, []byte(`"cniVersion": "1.1.0"`), fmt.Appendf(nil, `"cniVersion": %q`, version), 1)
	cfg := parse(t, config)
	addrs := plan.Addresses{Routes: cfg.IPAM.Routes, Leased: true}
	for set := range cfg.IPAM.Pool.Sets {
		a := cfg.IPAM.Pool.At(set, 4)
		r, _ := cfg.IPAM.Pool.RangeOf(a)
		addrs.List = append(addrs.List, plan.Assigned{Prefix: netip.PrefixFrom(a, r.Subnet.Bits()), Gateway: r.Gateway})
	}
	if cfg.IPAM.ResolvConf != "" {
		addrs.DNS = types.DNS{Search: []string{"example.com"}}
	}
	return attached{cfg: cfg, addrs: addrs, plan: plan.Build(cfg, addrs)}
}

func parse(t *testing.T, config []byte) *netconf.Config {
	t.Helper()
	cfg, err := netconf.Parse(netconf.Request{ContainerID: "c0ffee", IfName: "eth0", Netns: netns, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// print is what the runtime reads.
func (a attached) print(t *testing.T) []byte {
	t.Helper()
	converted, err := result.Build(a.cfg, a.plan, a.addrs, facts).GetAsVersion(a.cfg.CNIVersion)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := converted.PrintTo(&b); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), '\n')
}

func TestBuild(t *testing.T) {
	tests := []struct{ name, version string }{
		{"routed", "1.1.0"},
		{"routed", "1.0.0"},
		{"routed", "0.4.0"},
		{"routed", "0.3.1"},
		{"routed", "0.2.0"},
		{"ptp", "1.1.0"},
		{"bridge", "1.1.0"},
		{"layer2", "1.1.0"},
		{"layer2", "0.3.1"},
		{"vlan-gateway", "1.1.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.version, func(t *testing.T) {
			path := filepath.Join("testdata", tt.name+"-"+tt.version+".golden")
			golden.Compare(t, path, string(attach(t, tt.name, tt.version).print(t)))
		})
	}
}

// Before 0.3.0 a result has no room for an interface without an address, which is why netconf refuses such a network.
func TestLayer2InOldResult(t *testing.T) {
	a := attach(t, "layer2", "1.1.0")
	if _, err := result.Build(a.cfg, a.plan, a.addrs, facts).GetAsVersion("0.2.0"); err == nil {
		t.Error("a result of version 0.2.0 has no address and is valid")
	}
}

// What ADD printed, CHECK reads back: the plan built from it is the plan that was applied.
func TestRoundTrip(t *testing.T) {
	for _, name := range []string{"routed", "ptp", "bridge", "layer2", "vlan-gateway"} {
		for _, version := range []string{"1.1.0", "1.0.0", "0.4.0"} {
			t.Run(name+" "+version, func(t *testing.T) {
				added := attach(t, name, version)
				prev := previous(t, added.print(t))
				own, index := result.Interface(prev, added.cfg.Attachment)
				if own == nil || own.Name != "eth0" {
					t.Fatalf("the container's interface is %v", own)
				}
				addrs, err := result.Addresses(prev, index)
				if err != nil {
					t.Fatal(err)
				}
				if again := plan.Build(added.cfg, ipam.Relet(added.cfg, addrs)); again.String() != added.plan.String() {
					t.Errorf("ADD:\n%s\nCHECK:\n%s", added.plan, again)
				}
			})
		}
	}
}

// With another IPAM plugin nothing but the result tells CHECK what ADD was given.
func TestRoundTripDelegated(t *testing.T) {
	for _, name := range []string{"routed", "ptp", "bridge", "vlan-gateway"} {
		t.Run(name, func(t *testing.T) {
			added := attach(t, name, "0.4.0")
			added.addrs.Leased = false
			added.plan = plan.Build(added.cfg, added.addrs)
			prev := previous(t, added.print(t))
			_, index := result.Interface(prev, added.cfg.Attachment)
			addrs, err := result.Addresses(prev, index)
			if err != nil {
				t.Fatal(err)
			}
			want, got := added.plan.Objects(), plan.Build(added.cfg, addrs).Objects()
			if found := append(plan.Diff(want, got), plan.Diff(got, want)...); len(found) > 0 {
				t.Error(found)
			}
		})
	}
}

func previous(t *testing.T, printed []byte) *current.Result {
	t.Helper()
	var v struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(printed, &v); err != nil {
		t.Fatal(err)
	}
	parsed, err := create.Create(v.CNIVersion, printed)
	if err != nil {
		t.Fatal(err)
	}
	r, err := current.NewResultFromResult(parsed)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A chain's prevResult holds what others added: their interfaces and addresses are not ours.
func TestAddressesOfChain(t *testing.T) {
	prev := previous(t, []byte(`{
		"cniVersion": "1.1.0",
		"interfaces": [
			{"name": "eth0", "sandbox": "/run/netns/other"}, {"name": "vethx"}, {"name": "eth0"},
			{"name": "eth0", "sandbox": "`+netns+`"}, {"name": "tun0", "sandbox": "`+netns+`"}
		],
		"ips": [
			{"address": "192.0.2.1/24", "interface": 4}, {"address": "10.88.0.5/24", "gateway": "10.88.0.1", "interface": 3},
			{"address": "2001:db8::5/64", "interface": 3}, {"address": "192.0.2.9/32"}
		],
		"routes": [
			{"dst": "0.0.0.0/0", "gw": "10.88.0.1"}, {"dst": "198.18.0.0/15"},
			{"dst": "192.0.2.0/24", "gw": "192.0.2.2", "mtu": 1400, "advmss": 1360, "priority": 5, "table": 0, "scope": 253}
		],
		"dns": {"nameservers": ["192.0.2.53"]}
	}`))
	own, index := result.Interface(prev, netconf.Attachment{IfName: "eth0", Netns: netns})
	if own != prev.Interfaces[3] || index != 3 {
		t.Fatalf("the attachment's interface is %v, %d", own, index)
	}
	got, err := result.Addresses(prev, index)
	if err != nil {
		t.Fatal(err)
	}
	scope := int64(253)
	want := plan.Addresses{
		List: []plan.Assigned{
			{Prefix: netip.MustParsePrefix("10.88.0.5/24"), Gateway: netip.MustParseAddr("10.88.0.1")},
			{Prefix: netip.MustParsePrefix("2001:db8::5/64")},
			{Prefix: netip.MustParsePrefix("192.0.2.9/32")}, // on no interface: as in results before 0.3.0
		},
		Routes: []netconf.Route{
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.88.0.1")},
			{Dst: netip.MustParsePrefix("198.18.0.0/15")},
			{
				Dst: netip.MustParsePrefix("192.0.2.0/24"), Via: netip.MustParseAddr("192.0.2.2"),
				MTU: 1400, AdvMSS: 1360, Priority: 5, Scope: &scope,
			},
		},
		DNS: types.DNS{Nameservers: []string{"192.0.2.53"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	all, err := result.Addresses(prev, -1)
	if err != nil || len(all.List) != 4 {
		t.Errorf("of all interfaces: %+v, %v", all.List, err)
	}
}

func TestInterface(t *testing.T) {
	r := &current.Result{Interfaces: []*current.Interface{
		{Name: "br0"}, {Name: "eth0"}, {Name: "eth1", Sandbox: netns}, {Name: "eth0", Sandbox: netns},
	}}
	tests := []struct {
		name       string
		attachment netconf.Attachment
		index      int
	}{
		{"by name and sandbox", netconf.Attachment{IfName: "eth0", Netns: netns}, 3},
		{"DEL without a namespace", netconf.Attachment{IfName: "eth0"}, 3},
		{"another namespace", netconf.Attachment{IfName: "eth0", Netns: "/run/netns/c2"}, -1},
		{"the host's", netconf.Attachment{IfName: "br0"}, -1},
		{"not listed", netconf.Attachment{IfName: "eth2", Netns: netns}, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			own, index := result.Interface(r, tt.attachment)
			if index != tt.index || (own == nil) != (tt.index < 0) {
				t.Errorf("got %v, %d, want %d", own, index, tt.index)
			}
		})
	}
}

// The library has IPv4 addresses and masks in four bytes or in sixteen, depending on who made them.
func TestAddressForms(t *testing.T) {
	ip4, mask4 := net.IPv4(10, 88, 0, 5).To4(), net.CIDRMask(24, 32)
	ip6 := net.ParseIP("2001:db8::5")
	tests := []struct {
		name string
		net  net.IPNet
		want string // empty: refused
	}{
		{"four bytes", net.IPNet{IP: ip4, Mask: mask4}, "10.88.0.5/24"},
		{"sixteen bytes, mask of four", net.IPNet{IP: ip4.To16(), Mask: mask4}, "10.88.0.5/24"},
		{"sixteen bytes both", net.IPNet{IP: ip4.To16(), Mask: net.CIDRMask(120, 128)}, "10.88.0.5/24"},
		{"mask beyond IPv4", net.IPNet{IP: ip4.To16(), Mask: net.CIDRMask(64, 128)}, ""},
		{"IPv6", net.IPNet{IP: ip6, Mask: net.CIDRMask(64, 128)}, "2001:db8::5/64"},
		{"IPv6, mask of IPv4", net.IPNet{IP: ip6, Mask: mask4}, ""},
		{"no mask", net.IPNet{IP: ip4}, ""},
		{"mask with holes", net.IPNet{IP: ip4, Mask: net.IPMask{255, 0, 255, 0}}, ""},
		{"no address", net.IPNet{Mask: mask4}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &current.Result{IPs: []*current.IPConfig{{Address: tt.net, Gateway: net.IPv4(10, 88, 0, 1)}}}
			got, err := result.Addresses(r, -1)
			if tt.want == "" {
				if err == nil || !strings.HasPrefix(err.Error(), "ips[0].address: ") {
					t.Errorf("got %v, %v", got.List, err)
				}
				return
			}
			want := plan.Assigned{Prefix: netip.MustParsePrefix(tt.want), Gateway: netip.MustParseAddr("10.88.0.1")}
			if err != nil || got.List[0] != want {
				t.Errorf("got %v, %v, want %v", got.List, err, want)
			}
		})
	}
	r := &current.Result{Routes: []*types.Route{{}, {Dst: net.IPNet{IP: ip4}}}}
	if got, err := result.Addresses(r, -1); err == nil || !strings.HasPrefix(err.Error(), "routes[0].dst: ") {
		t.Errorf("a route to nowhere: got %v, %v", got.Routes, err)
	}
}

// A plugin that is given a result hands it on with its own behind it.
func TestHandsOn(t *testing.T) {
	a := attach(t, "bridge", "1.1.0")
	alone := result.Build(a.cfg, a.plan, a.addrs, facts)
	a.cfg.Prev = previous(t, []byte(`{
		"cniVersion": "1.1.0",
		"interfaces": [{"name": "net1", "sandbox": "`+netns+`"}],
		"ips": [{"address": "192.0.2.1/24", "interface": 0}],
		"routes": [{"dst": "198.18.0.0/15", "gw": "192.0.2.9"}],
		"dns": {"nameservers": ["192.0.2.53"]}
	}`))
	got := result.Build(a.cfg, a.plan, a.addrs, facts)
	if got.Interfaces[0].Name != "net1" || len(got.Interfaces) != len(alone.Interfaces)+1 {
		t.Errorf("interfaces: %v", got.Interfaces)
	}
	if got.IPs[0].Address.String() != "192.0.2.1/24" || len(got.Routes) != len(alone.Routes)+1 {
		t.Errorf("ips: %v, routes: %v", got.IPs, got.Routes)
	}
	_, own := result.Interface(got, a.cfg.Attachment)
	for _, ip := range got.IPs[1:] {
		if *ip.Interface != own {
			t.Errorf("%s points at interface %d, want %d", ip.Address.String(), *ip.Interface, own)
		}
	}
	if alone.DNS.IsEmpty() && !reflect.DeepEqual(got.DNS, a.cfg.Prev.DNS) {
		t.Errorf("dns: %v", got.DNS)
	}
}

func TestAddressesRefusesNull(t *testing.T) {
	for _, r := range []*current.Result{{IPs: []*current.IPConfig{nil}}, {Routes: []*types.Route{nil}}} {
		if _, err := result.Addresses(r, -1); err == nil || !strings.Contains(err.Error(), "[0]: null") {
			t.Errorf("%+v: %v", r, err)
		}
	}
}
