package plan_test

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

func mac(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }

func scope(n uint8) *uint8 { return &n }

// The objects that are wanted, each made anew for each comparison, so that nothing is equal only because it is shared.
func bridge() plan.Bridge {
	return plan.Bridge{Name: "br0", Kind: "bridge", MTU: 1500, MAC: mac(1), Promisc: true, VLANs: true, Alias: "a", Up: true}
}

func pair() plan.Pair {
	return plan.Pair{Host: "vh", MAC: mac(1), MTU: 1500, Master: "br0", Alias: "net/c/eth0 ns/pod", Peer: "eth0", Up: true, Group: 7, Ends: ends()}
}

func inside() plan.Interface { return plan.Interface{Name: "eth0", MAC: mac(1), MTU: 1500, Up: true} }

func altname() plan.Lease { return plan.Lease{Link: "vh", Name: "10.88.0.5@net"} }

func address() plan.Address {
	return plan.Address{
		Link: "br0", Prefix: netip.MustParsePrefix("10.88.0.1/24"), Scope: 253, State: "ok",
		Sole: true, Force: true, Label: "br0:x",
	}
}

func route() plan.Route {
	return plan.Route{
		Place: plan.Container, Link: "eth0", Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fe80::1"),
		Src: netip.MustParseAddr("2001:db8::5"), Scope: scope(0), Table: 100, Metric: 7, MTU: 1400, AdvMSS: 1340,
	}
}

func neighbour() plan.Neighbour {
	return plan.Neighbour{Place: plan.Container, Link: "eth0", Addr: netip.MustParseAddr("fe80::1"), MAC: mac(1)}
}

func sysctl() plan.Sysctl {
	return plan.Sysctl{Key: "net/ipv4/ip_forward", Value: "1", IfPresent: true}
}

func sourceCheck() plan.SourceCheck { return plan.SourceCheck{State: "ok"} }

func sourceFilter() plan.SourceFilter {
	return plan.SourceFilter{Link: "vh", MAC: mac(1), Sources: []netip.Addr{netip.MustParseAddr("10.88.0.5")}, State: "ok"}
}

func ingress() plan.Ingress {
	return plan.Ingress{Network: "net", Link: plan.Link{Name: "br0"}, Policy: netconf.IngressSameNetwork, State: "ok"}
}

func forwardAccept() plan.ForwardAccept {
	return plan.ForwardAccept{Network: "net", Link: plan.Link{Group: 0x7000_0001}, IPv4: true, State: "ok"}
}

func port() plan.Port { return plan.Port{Link: "vh", Hairpin: true, Isolated: true} }

func forwarding() plan.Forwarding { return plan.Forwarding{Link: "vh", MAC: mac(1), VLAN: 100} }

func portVLANs() plan.PortVLANs {
	return plan.PortVLANs{Link: "vh", PVID: 100, Tagged: []uint16{200, 201}}
}

func vlanInterface() plan.VLANInterface {
	return plan.VLANInterface{Name: "br0.100", Bridge: "br0", VLAN: 100, Up: true}
}

func masquerade() plan.Masquerade {
	return plan.Masquerade{Subnet: netip.MustParsePrefix("10.88.0.0/24"), Network: "net", State: "ok"}
}

// wanted is one object of each kind.
func wanted() []plan.Object {
	return []plan.Object{
		bridge(), pair(), inside(), altname(), address(), route(), neighbour(), sysctl(), port(), forwarding(), portVLANs(),
		vlanInterface(), masquerade(), sourceCheck(), sourceFilter(), ingress(), forwardAccept(),
		wireSettings(), longPackets(),
	}
}

// but is what the kernel shows when one thing differs.
func but[T plan.Object](o T, change func(*T)) plan.Object {
	change(&o)
	return o
}

// differences has each field of each kind of object once, and how CHECK tells an operator that it differs.
var differences = append([]difference{
	{
		bridge(), but(bridge(), func(o *plan.Bridge) { o.Kind = "dummy" }),
		"host interface br0: kind: want bridge, found dummy",
	},
	{bridge(), but(bridge(), func(o *plan.Bridge) { o.Up = false }), "host interface br0: up: want yes, found no"},
	{bridge(), but(bridge(), func(o *plan.Bridge) { o.MTU = 9000 }), "host interface br0: mtu: want 1500, found 9000"},
	{
		bridge(), but(bridge(), func(o *plan.Bridge) { o.Promisc = false }),
		"host interface br0: promisc: want yes, found no",
	},
	{
		bridge(), but(bridge(), func(o *plan.Bridge) { o.VLANs = false }),
		"host interface br0: vlan_filtering: want yes, found no",
	},
	{pair(), but(pair(), func(o *plan.Pair) { o.Up = false }), "host interface vh: up: want yes, found no"},
	{
		pair(), but(pair(), func(o *plan.Pair) { o.MAC = mac(2) }),
		"host interface vh: mac: want 02:00:00:00:00:01, found 02:00:00:00:00:02",
	},
	{pair(), but(pair(), func(o *plan.Pair) { o.MTU = 1400 }), "host interface vh: mtu: want 1500, found 1400"},
	{pair(), but(pair(), func(o *plan.Pair) { o.Master = "" }), "host interface vh: master: want br0, found none"},
	{
		pair(), but(pair(), func(o *plan.Pair) { o.Alias = "" }),
		"host interface vh: alias: want net/c/eth0 ns/pod, found nothing",
	},
	{pair(), but(pair(), func(o *plan.Pair) { o.Peer = "" }), "host interface vh: peer: want eth0, found nothing"},
	{pair(), but(pair(), func(o *plan.Pair) { o.Group = 8 }), "host interface vh: group: want 0x7, found 0x8"},
	{
		inside(), but(inside(), func(o *plan.Interface) { o.Up = false }),
		"container interface eth0: up: want yes, found no",
	},
	{
		inside(), but(inside(), func(o *plan.Interface) { o.MAC = mac(2) }),
		"container interface eth0: mac: want 02:00:00:00:00:01, found 02:00:00:00:00:02",
	},
	{
		inside(), but(inside(), func(o *plan.Interface) { o.MTU = 1400 }),
		"container interface eth0: mtu: want 1500, found 1400",
	},
	{altname(), but(altname(), func(o *plan.Lease) { o.Link = "x" }), "host altname 10.88.0.5@net: dev: want vh, found x"},
	{
		address(), but(address(), func(o *plan.Address) { o.Scope = 0 }),
		"host address 10.88.0.1/24 dev br0: scope: want link, found global",
	},
	{
		address(), but(address(), func(o *plan.Address) { o.State = "dadfailed" }),
		"host address 10.88.0.1/24 dev br0: state: want ok, found dadfailed",
	},
	{
		route(), but(route(), func(o *plan.Route) { o.Link = "eth1" }),
		"container route IPv6 default table 100 metric 7: dev: want eth0, found eth1",
	},
	{
		route(), but(route(), func(o *plan.Route) { o.Via = netip.Addr{} }),
		"container route IPv6 default table 100 metric 7: via: want fe80::1, found none",
	},
	{
		route(), but(route(), func(o *plan.Route) { o.Src = netip.MustParseAddr("2001:db8::6") }),
		"container route IPv6 default table 100 metric 7: src: want 2001:db8::5, found 2001:db8::6",
	},
	{
		route(), but(route(), func(o *plan.Route) { o.MTU = 0 }),
		"container route IPv6 default table 100 metric 7: mtu: want 1400, found nothing",
	},
	{
		route(), but(route(), func(o *plan.Route) { o.AdvMSS = 1 }),
		"container route IPv6 default table 100 metric 7: advmss: want 1340, found 1",
	},
	{
		route(), but(route(), func(o *plan.Route) { o.Scope = scope(77) }),
		"container route IPv6 default table 100 metric 7: scope: want global, found 77",
	},
	{
		neighbour(), but(neighbour(), func(o *plan.Neighbour) { o.MAC = nil }),
		"container neighbour fe80::1 dev eth0: lladdr: want 02:00:00:00:00:01, found nothing",
	},
	{
		sysctl(), but(sysctl(), func(o *plan.Sysctl) { o.Value = "0" }),
		"host sysctl net/ipv4/ip_forward: value: want 1, found 0",
	},
	{port(), but(port(), func(o *plan.Port) { o.Hairpin = false }), "host bridge port vh: hairpin: want on, found off"},
	{port(), but(port(), func(o *plan.Port) { o.Isolated = false }), "host bridge port vh: isolated: want on, found off"},
	{port(), but(port(), func(o *plan.Port) { o.Locked = true }), "host bridge port vh: locked: want off, found on"},
	{
		forwarding(), but(forwarding(), func(o *plan.Forwarding) { o.Link = "x" }),
		"host fdb 02:00:00:00:00:01 vlan 100: dev: want vh, found x",
	},
	{
		portVLANs(), but(portVLANs(), func(o *plan.PortVLANs) { o.PVID = 1 }),
		"host bridge vlan dev vh: pvid: want 100, found 1",
	},
	{
		portVLANs(), but(portVLANs(), func(o *plan.PortVLANs) { o.Tagged = nil }),
		"host bridge vlan dev vh: tagged: want 200,201, found none",
	},
	{
		vlanInterface(), but(vlanInterface(), func(o *plan.VLANInterface) { o.Up = false }),
		"host interface br0.100: up: want yes, found no",
	},
	{
		vlanInterface(), but(vlanInterface(), func(o *plan.VLANInterface) { o.Bridge = "eth0" }),
		"host interface br0.100: link: want br0, found eth0",
	},
	{
		vlanInterface(), but(vlanInterface(), func(o *plan.VLANInterface) { o.VLAN = 0 }),
		"host interface br0.100: vlan: want 100, found nothing",
	},
	{
		masquerade(), but(masquerade(), func(o *plan.Masquerade) { o.State = "chain postrouting missing" }),
		"host nftables masquerade 10.88.0.0/24: state: want ok, found chain postrouting missing",
	},
	{
		sourceCheck(), but(sourceCheck(), func(o *plan.SourceCheck) { o.State = "missing" }),
		"host nftables source check: state: want ok, found missing",
	},
	{
		sourceFilter(), but(sourceFilter(), func(o *plan.SourceFilter) { o.Sources = nil }),
		"host source filter vh: sources: want 02:00:00:00:00:01,10.88.0.5, found 02:00:00:00:00:01",
	},
	{
		sourceFilter(), but(sourceFilter(), func(o *plan.SourceFilter) { o.State = "another program" }),
		"host source filter vh: state: want ok, found another program",
	},
	{
		ingress(), but(ingress(), func(o *plan.Ingress) { o.Policy = netconf.IngressIsolated }),
		"host nftables ingress policy of br0: policy: want same-network, found isolated",
	},
	{
		but(ingress(), func(o *plan.Ingress) { o.Pods = true }), ingress(),
		"host nftables ingress policy of br0: pods with policies: want yes, found no",
	},
	{
		plan.PortIngress{State: "ok"},
		plan.PortIngress{State: "missing"},
		"host nftables ingress policies of bridge ports: state: want ok, found missing",
	},
	{
		ingress(), but(ingress(), func(o *plan.Ingress) { o.State = "missing" }),
		"host nftables ingress policy of br0: state: want ok, found missing",
	},
	{
		forwardAccept(), but(forwardAccept(), func(o *plan.ForwardAccept) { o.State = "a chain drops" }),
		"host nftables rules of others for group 0x70000001: state: want ok, found a chain drops",
	},
}, wireDifferences()...)

type difference struct {
	want, got plan.Object
	text      string
}

func TestDiffNamesTheField(t *testing.T) {
	for _, tt := range differences {
		t.Run(tt.text, func(t *testing.T) {
			if found := plan.Diff([]plan.Object{tt.want}, []plan.Object{tt.got}); found.String() != tt.text {
				t.Errorf("got %q", found)
			}
		})
	}
}

// Whoever adds a field adds a line to differences.
func TestDifferencesAreComplete(t *testing.T) {
	for _, o := range wanted() {
		var tested []string
		for _, tt := range differences {
			if tt.want.ID() == o.ID() {
				tested = append(tested, plan.Diff([]plan.Object{tt.want}, []plan.Object{tt.got})[0].Field)
			}
		}
		var fields []string
		for _, f := range o.Fields() {
			fields = append(fields, f.Name)
		}
		if !slices.Equal(tested, fields) {
			t.Errorf("%s: the fields are %v, tested are %v", o.ID(), fields, tested)
		}
	}
}

// What is missing because the pair is, is said once. What others share is compared all the same.
func TestDiffWithoutPair(t *testing.T) {
	p := plan.Plan{
		Base: []plan.Object{bridge()}, Pair: pair(), Leases: []plan.Object{altname()}, Inside: []plan.Object{inside(), route()},
		Guards: []plan.Object{plan.Sysctl{Key: "net/ipv4/conf/vh/rp_filter", Value: "1"}, ingress(), sourceCheck()},
		Common: []plan.Object{address()}, Outside: []plan.Object{plan.Neighbour{Link: "vh", Addr: netip.MustParseAddr("10.88.0.5")}},
		Shared: []plan.Object{plan.Sysctl{Key: "net/ipv4/conf/vh/route_localnet", Value: "1"}, masquerade(), sysctl()},
	}
	none := func(plan.Object) bool { return false }
	const gone = "host interface vh: missing, and with it the container's eth0 and all that was on either end"
	for _, tt := range []struct {
		name string
		seen []plan.Object
		text string
	}{
		{"all there", p.Objects(), ""},
		{"the pair alone", []plan.Object{bridge(), address(), ingress(), sourceCheck(), masquerade(), sysctl()}, gone},
		{
			"more",
			[]plan.Object{bridge(), address(), sourceCheck(), masquerade()},
			gone + "; host nftables ingress policy of br0: missing; host sysctl net/ipv4/ip_forward: missing",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := p.Diff(tt.seen, none).String(); got != tt.text {
				t.Errorf("got %q, want %q", got, tt.text)
			}
		})
	}
	spared := p.Diff([]plan.Object{pair()}, func(o plan.Object) bool { return o.ID() != bridge().ID() })
	if got := spared.String(); got != "host interface br0: missing" {
		t.Errorf("with all spared but the bridge: %q", got)
	}
}

func TestDiff(t *testing.T) {
	tests := []struct {
		name      string
		want, got []plan.Object
		text      string
	}{
		{"all as wanted", wanted(), wanted(), ""},
		{"in another order", []plan.Object{pair(), inside()}, []plan.Object{inside(), pair()}, ""},
		{"missing", []plan.Object{pair(), sysctl()}, []plan.Object{pair()}, "host sysctl net/ipv4/ip_forward: missing"},
		{
			"nothing there",
			[]plan.Object{address(), route()},
			nil,
			"host address 10.88.0.1/24 dev br0: missing; container route IPv6 default table 100 metric 7: missing",
		},
		{
			"several fields",
			[]plan.Object{inside()},
			[]plan.Object{plan.Interface{Name: "eth0", MTU: 1500}},
			"container interface eth0: up: want yes, found no; " +
				"container interface eth0: mac: want 02:00:00:00:00:01, found nothing",
		},
		{
			"what others added",
			[]plan.Object{pair()},
			append(wanted(), plan.Sysctl{Key: "net/ipv4/conf/all/forwarding", Value: "1"}), "",
		},
		{
			"the same in the other namespace",
			[]plan.Object{sysctl()},
			[]plan.Object{but(sysctl(), func(o *plan.Sysctl) { o.Place = plan.Container })},
			"host sysctl net/ipv4/ip_forward: missing",
		},
		{
			"the same in another table",
			[]plan.Object{route()},
			[]plan.Object{but(route(), func(o *plan.Route) { o.Table = 0 })},
			"container route IPv6 default table 100 metric 7: missing",
		},
		{
			"the main table by its number",
			[]plan.Object{but(route(), func(o *plan.Route) { o.Table = 254 })},
			[]plan.Object{but(route(), func(o *plan.Route) { o.Table = 0 })},
			"",
		},
		{
			"of an address, with another prefix length",
			[]plan.Object{address()},
			[]plan.Object{but(address(), func(o *plan.Address) { o.Prefix = netip.MustParsePrefix("10.88.0.1/16") })},
			"host address 10.88.0.1/24 dev br0: missing",
		},
		{
			"the kernel's choice",
			[]plan.Object{
				plan.Bridge{Name: "br0"}, plan.Interface{Name: "eth0"}, plan.Sysctl{Key: "net/ipv4/ip_forward"},
			},
			wanted(), "",
		},
		{
			"a gateway where there is to be none",
			[]plan.Object{plan.Route{Place: plan.Container, Dst: netip.MustParsePrefix("::/0"), Table: 100, Metric: 7}},
			wanted(),
			"container route IPv6 default table 100 metric 7: via: want none, found fe80::1",
		},
		{
			"what is not compared",
			[]plan.Object{bridge(), address(), masquerade()},
			[]plan.Object{
				but(bridge(), func(o *plan.Bridge) { o.MAC, o.Alias = nil, "" }),
				but(address(), func(o *plan.Address) { o.Label, o.Sole, o.Force, o.Quiet = "", false, false, true }),
				but(masquerade(), func(o *plan.Masquerade) { o.Network = "other" }),
			},
			"",
		},
		{
			"a bridge where there is to be none",
			[]plan.Object{but(pair(), func(o *plan.Pair) { o.Master = "" })},
			[]plan.Object{pair()},
			"host interface vh: master: want none, found br0",
		},
		{
			"a tagged VLAN where there is to be none",
			[]plan.Object{but(portVLANs(), func(o *plan.PortVLANs) { o.Tagged = nil })},
			[]plan.Object{portVLANs()},
			"host bridge vlan dev vh: tagged: want none, found 200,201",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if found := plan.Diff(tt.want, tt.got); found.String() != tt.text {
				t.Errorf("got  %q\nwant %q", found, tt.text)
			}
		})
	}
}

// CHECK prints these, and operators look for them with ip(8), bridge(8) and sysctl(8).
func TestString(t *testing.T) {
	p := plan.Plan{Base: []plan.Object{bridge()}, Pair: pair(), Inside: wanted()[2:]}
	const want = `host interface br0 kind bridge up mtu 1500 promisc vlan_filtering
host interface vh up mac 02:00:00:00:00:01 mtu 1500 master br0 alias "net/c/eth0 ns/pod" peer eth0 group 0x7 txqueues 2 rxqueues 4 gso_max_size 200000 gro_max_size 200001 gso_ipv4_max_size 200002 gro_ipv4_max_size 200003 peer txqueues 2 peer rxqueues 4 peer gso_max_size 200000 peer gro_max_size 200001 peer gso_ipv4_max_size 200002 peer gro_ipv4_max_size 200003
container interface eth0 up mac 02:00:00:00:00:01 mtu 1500
host altname 10.88.0.5@net dev vh
host address 10.88.0.1/24 dev br0 scope link state ok
container route IPv6 default table 100 metric 7 dev eth0 via fe80::1 src 2001:db8::5 mtu 1400 advmss 1340 scope global
container neighbour fe80::1 dev eth0 lladdr 02:00:00:00:00:01
host sysctl net/ipv4/ip_forward = 1
host bridge port vh hairpin on isolated on locked off
host fdb 02:00:00:00:00:01 vlan 100 dev vh
host bridge vlan dev vh pvid 100 tagged 200,201
host interface br0.100 up link br0 vlan 100
host nftables masquerade 10.88.0.0/24 state ok
host nftables source check state ok
host source filter vh sources 02:00:00:00:00:01,10.88.0.5 state ok
host nftables ingress policy of br0 policy same-network state ok
host nftables rules of others for group 0x70000001 state ok
container wire settings eth0 offloads "rx-gro on, tx-tcp-segmentation off" rps 0-2,5 xps "0:0 1:1,3" qdisc fq
host packet sizes of br0 gso_max_size 200000 gro_max_size 200001 gso_ipv4_max_size 200002 gro_ipv4_max_size 200003
`
	if got := p.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
