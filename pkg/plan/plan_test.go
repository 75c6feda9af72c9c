package plan_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/test/golden"
)

// scenario is a file of testdata: a configuration as an operator writes it. Beside it lies the plan it gives.
type scenario struct {
	name   string
	config []byte
}

func scenarios(t *testing.T) []scenario {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	var all []scenario
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, scenario{strings.TrimSuffix(filepath.Base(path), ".json"), b})
	}
	return all
}

func (s scenario) parse(t *testing.T) *netconf.Config {
	t.Helper()
	r := netconf.Request{ContainerID: "c0ffee", IfName: "eth0", Netns: "/run/netns/c1", Config: s.config}
	if strings.HasSuffix(s.name, "-pod") {
		r.Args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0"
	}
	cfg, err := netconf.Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func (s scenario) build(t *testing.T) plan.Plan {
	t.Helper()
	cfg := s.parse(t)
	return plan.Build(cfg, addresses(s.name, cfg))
}

// addresses are those an attachment is given: the fifth of each range set, or the answer of an IPAM plugin.
func addresses(name string, cfg *netconf.Config) plan.Addresses {
	switch name {
	case "routed-delegated":
		return plan.Addresses{List: []plan.Assigned{
			{Prefix: netip.MustParsePrefix("10.88.0.7/32")}, {Prefix: netip.MustParsePrefix("2001:db8:88::7/128")},
		}}
	case "bridge-delegated":
		return plan.Addresses{List: []plan.Assigned{
			{Prefix: netip.MustParsePrefix("10.88.0.7/24")}, {Prefix: netip.MustParsePrefix("2001:db8:88::7/64")},
		}}.WithGateways()
	}
	out := plan.Addresses{Routes: cfg.IPAM.Routes, Leased: cfg.IPAM.Builtin()}
	for set := range cfg.IPAM.Pool.Sets {
		a := cfg.IPAM.Pool.At(set, 4)
		r, _ := cfg.IPAM.Pool.RangeOf(a)
		out.List = append(out.List, plan.Assigned{Prefix: netip.PrefixFrom(a, r.Subnet.Bits()), Gateway: r.Gateway})
	}
	return out
}

func TestBuild(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			golden.Compare(t, filepath.Join("testdata", s.name+".golden"), s.build(t).String())
		})
	}
}

// A plan is compared with what another call of the plugin made from the same configuration.
func TestBuildTwice(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			want, got := s.build(t), s.build(t)
			if want.String() != got.String() {
				t.Errorf("first:\n%s\nthen:\n%s", want, got)
			}
			if found := plan.Diff(want.Objects(), got.Objects()); len(found) > 0 {
				t.Error(found)
			}
		})
	}
}

// Wire is applied before there are addresses, and by what it made the rest is found: Build must not say otherwise.
func TestWireIsPartOfBuild(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			wire, whole := plan.Wire(s.parse(t)).String(), s.build(t).String()
			if !strings.HasPrefix(whole, wire) {
				t.Errorf("Wire:\n%s\nBuild:\n%s", wire, whole)
			}
		})
	}
}

func TestEveryObjectOnce(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			seen := map[string]bool{}
			for _, o := range s.build(t).Objects() {
				if seen[o.ID()] {
					t.Errorf("two objects are %q", o.ID())
				}
				seen[o.ID()] = true
			}
		})
	}
}

// The kernel acts on sysctls when the interface comes up, announces the IPv4 addresses that are there at that moment,
// makes the routes of IPv6 addresses best when they come after it, and takes no other route before it.
func TestOrderInside(t *testing.T) {
	stage := func(o plan.Object) int {
		switch o := o.(type) {
		case plan.Sysctl, plan.Shaper, plan.Knobs, plan.WireSettings:
			return 0
		case plan.Address:
			if o.Prefix.Addr().Is6() {
				return 3
			}
			return 1
		case plan.Interface:
			return 2
		case plan.Neighbour, plan.Route:
			return 4
		}
		t.Fatalf("%T is no object of a container", o)
		return 0
	}
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			inside := s.build(t).Inside
			if !slices.IsSortedFunc(inside, func(a, b plan.Object) int { return stage(a) - stage(b) }) {
				t.Errorf("out of order:\n%s", plan.Plan{Inside: inside})
			}
			up := func(o plan.Object) bool { return stage(o) == 2 }
			if !slices.ContainsFunc(inside, up) {
				t.Error("no interface inside")
			}
		})
	}
}

// A locked port's entry names a VLAN, which the kernel refuses before the port is in it.
func TestOrderGuards(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			entered := false
			for _, o := range s.build(t).Guards {
				switch o.(type) {
				case plan.Forwarding:
					entered = true
				case plan.Port, plan.PortVLANs:
					if entered {
						t.Errorf("%s comes after the forwarding entry", o.ID())
					}
				}
			}
		})
	}
}

// The host forwards only once everything else is as it should be.
func TestSharedEndsWithForwarding(t *testing.T) {
	forwards := func(o plan.Object) bool {
		s, ok := o.(plan.Sysctl)
		return ok && (s.Key == "net/ipv4/ip_forward" || s.Key == "net/ipv6/conf/all/forwarding")
	}
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			p := s.build(t)
			first := slices.IndexFunc(p.Shared, forwards)
			for _, o := range p.Shared[max(first, 0):] {
				if first >= 0 && !forwards(o) {
					t.Errorf("%s comes after forwarding", o.ID())
				}
			}
			if first < 0 && slices.ContainsFunc(p.Outside, func(o plan.Object) bool { _, ok := o.(plan.Route); return ok }) {
				t.Error("the host has routes to the container and does not forward")
			}
		})
	}
}

// Everything a plan names fits what the kernel takes, however long the names of CNI are.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("n", 300)
	s := scenario{config: []byte(`{"name": "` + long + `", "type": "veth", "bridge": "br-345678901234", "macspoofchk": true,
		"ipam": {"type": "veth", "subnet": "2001:db8:ffff:ffff:ffff:ffff:ffff:ff00/120"}}`)}
	p := s.build(t)
	if len(p.Pair.Host) > 15 || len(p.Pair.Alias) > 255 {
		t.Errorf("the host end's name is %q, its alias %q", p.Pair.Host, p.Pair.Alias)
	}
	for _, o := range p.Leases {
		if name := o.(plan.Lease).Name; len(name) > 127 {
			t.Errorf("the lease %q has %d bytes", name, len(name))
		}
	}
	if alias := p.Base[0].(plan.Bridge).Alias; len(alias) > 255 {
		t.Errorf("the bridge's alias %q has %d bytes", alias, len(alias))
	}
}

func TestContainerMAC(t *testing.T) {
	tests := []struct{ addr, want string }{
		{"10.88.0.5", "0a:58:0a:58:00:05"},
		{"255.255.255.254", "0a:58:ff:ff:ff:fe"},
		{"2001:db8::5", "0e:e3:b3:8e:0a:ff"},
	}
	for _, tt := range tests {
		mac := plan.ContainerMAC(netip.MustParseAddr(tt.addr))
		if mac.String() != tt.want {
			t.Errorf("%s: got %s, want %s", tt.addr, mac, tt.want)
		}
		if mac[0]&3 != 2 {
			t.Errorf("%s: %s is not locally administered and unicast", tt.addr, mac)
		}
	}
}

func TestWithGateways(t *testing.T) {
	given := plan.Addresses{List: []plan.Assigned{
		{Prefix: netip.MustParsePrefix("10.88.0.7/24"), Gateway: netip.MustParseAddr("10.88.0.254")},
		{Prefix: netip.MustParsePrefix("10.88.1.7/24")},
		{Prefix: netip.MustParsePrefix("2001:db8::7/64")},
	}}
	var got []string
	for _, a := range given.WithGateways().List {
		got = append(got, a.Gateway.String())
	}
	if want := []string{"10.88.0.254", "10.88.1.1", "2001:db8::1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if given.List[1].Gateway.IsValid() {
		t.Error("the addresses given were changed")
	}
}
