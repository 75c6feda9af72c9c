package plan_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// insidePlan is what a plan for a second interface wants in the container, one object a line.
func insidePlan(t *testing.T, keys string) string {
	t.Helper()
	cfg, err := netconf.Parse(netconf.Request{ContainerID: "c1", IfName: "net1", Netns: "/n", Config: []byte(
		`{"cniVersion": "1.1.0", "name": "net", ` + keys + `}`)})
	if err != nil {
		t.Fatal(err)
	}
	addrs := plan.Addresses{Routes: cfg.IPAM.Routes, List: []plan.Assigned{
		{Prefix: netip.MustParsePrefix("10.88.0.5/24"), Gateway: netip.MustParseAddr("10.88.0.1")},
		{Prefix: netip.MustParsePrefix("2001:db8::5/64"), Gateway: netip.MustParseAddr("2001:db8::1")},
	}}
	return plan.Plan{Inside: plan.Build(cfg, addrs).Inside}.String()
}

// routes keeps the lines about routes and rules.
func routes(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "container route") || strings.HasPrefix(line, "container rule") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

const ranges = `"ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "2001:db8::/64"}]]`

func TestBuildRoutingTables(t *testing.T) {
	const ipam = `"ipam": {"type": "veth", ` + ranges + `}`
	const rules = "container rule 30000 from 10.88.0.5 table 7\ncontainer rule 30000 from 2001:db8::5 table 7\n"
	for _, tt := range []struct{ name, keys, want string }{
		{
			"routed", `"type": "veth", "table": 7, ` + ipam,
			"container route default table 7 dev net1 via 169.254.1.1\n" +
				"container route IPv6 default table 7 dev net1 via fe80::1\n" + rules,
		},
		{
			"routed without default route", `"type": "veth", "table": 7, "isDefaultGateway": false, ` + ipam,
			"container route 10.88.0.0/24 table 7 dev net1 via 169.254.1.1\n" +
				"container route 2001:db8::/64 table 7 dev net1 via fe80::1\n" + rules,
		},
		{
			"bridge", `"type": "veth", "bridge": "br0", "table": 7, ` + ipam,
			"container route 10.88.0.0/24 table 7 dev net1 via none\n" +
				"container route 2001:db8::/64 table 7 dev net1 via none\n" +
				"container route default table 7 dev net1 via 10.88.0.1\n" +
				"container route IPv6 default table 7 dev net1 via 2001:db8::1\n" + rules,
		},
		{
			"bridge without default route", `"type": "bridge", "table": 7, "isDefaultGateway": false, ` + ipam,
			"container route 10.88.0.0/24 table 7 dev net1 via none\n" +
				"container route 2001:db8::/64 table 7 dev net1 via none\n" + rules,
		},
		{
			"ptp", `"type": "ptp", "table": 7, ` + ipam,
			"container route 10.88.0.1/32 table 7 dev net1 via none src 10.88.0.5\n" +
				"container route 10.88.0.0/24 table 7 dev net1 via 10.88.0.1 src 10.88.0.5\n" +
				"container route 2001:db8::1/128 table 7 dev net1 via none src 2001:db8::5\n" +
				"container route 2001:db8::/64 table 7 dev net1 via 2001:db8::1 src 2001:db8::5\n" +
				"container route default table 7 dev net1 via 10.88.0.1\n" +
				"container route IPv6 default table 7 dev net1 via 2001:db8::1\n" + rules,
		},
		{
			"routes of IPAM go along unless they name a table",
			`"type": "veth", "table": 7, "isDefaultGateway": false, "ipam": {"type": "veth", ` + ranges + `, "routes": [
				{"dst": "192.0.2.0/24"}, {"dst": "10.88.0.0/24", "table": 254}, {"dst": "198.18.0.0/15", "table": 9}]}`,
			"container route 192.0.2.0/24 table 7 dev net1 via 169.254.1.1\n" +
				"container route 10.88.0.0/24 dev net1 via 169.254.1.1\n" +
				"container route 198.18.0.0/15 table 9 dev net1 via 169.254.1.1\n" +
				"container route 10.88.0.0/24 table 7 dev net1 via 169.254.1.1\n" +
				"container route 2001:db8::/64 table 7 dev net1 via fe80::1\n" + rules,
		},
		{
			"a default route of IPAM for another table is not the attachment's",
			`"type": "bridge", "table": 7, "ipam": {"type": "veth", ` + ranges + `, "routes": [
				{"dst": "0.0.0.0/0", "gw": "10.88.0.9", "table": 9}, {"dst": "::/0", "gw": "2001:db8::9"}]}`,
			"container route 10.88.0.0/24 table 7 dev net1 via none\n" +
				"container route 2001:db8::/64 table 7 dev net1 via none\n" +
				"container route default table 9 dev net1 via 10.88.0.9\n" +
				"container route IPv6 default table 7 dev net1 via 2001:db8::9\n" +
				"container route default table 7 dev net1 via 10.88.0.1\n" + rules,
		},
		{
			"metric of default routes alone",
			`"type": "veth", "defaultRouteMetric": 50, "ipam": {"type": "veth", ` + ranges + `, "routes": [
				{"dst": "192.0.2.0/24"}, {"dst": "0.0.0.0/0", "priority": 9}]}`,
			"container route 192.0.2.0/24 dev net1 via 169.254.1.1\n" +
				"container route default metric 9 dev net1 via 169.254.1.1\n" +
				"container route IPv6 default metric 50 dev net1 via fe80::1\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := routes(insidePlan(t, tt.keys)); got != tt.want {
				t.Errorf("got:\n%swant:\n%s", got, tt.want)
			}
		})
	}
}

// The kernel's own route for the subnet would be in the main table.
func TestAddressesOfATableBringNoRoute(t *testing.T) {
	for keys, want := range map[string]bool{`"type": "bridge"`: false, `"type": "bridge", "table": 7`: true} {
		cfg, err := netconf.Parse(netconf.Request{IfName: "net1", Config: []byte(
			`{"name": "net", ` + keys + `, "ipam": {"type": "veth", ` + ranges + `}}`)})
		if err != nil {
			t.Fatal(err)
		}
		p := plan.Build(cfg, plan.Addresses{List: []plan.Assigned{{Prefix: netip.MustParsePrefix("10.88.0.5/24")}}})
		for _, o := range p.Inside {
			if a, ok := o.(plan.Address); ok && a.Quiet != want {
				t.Errorf("%s: %s: Quiet is %t", keys, a.ID(), a.Quiet)
			}
		}
	}
}

func TestTable(t *testing.T) {
	table := func(network, id, ifName string) uint32 {
		return plan.Table(&netconf.Config{
			Network: network, Routing: netconf.Routing{AutoTable: true},
			Attachment: netconf.Attachment{ContainerID: id, IfName: ifName},
		})
	}
	seen := map[uint32]bool{}
	for _, n := range []uint32{
		table("net", "c1", "net1"), table("net2", "c1", "net1"), table("net", "c2", "net1"), table("net", "c1", "net2"),
	} {
		if n < 1<<30 || n >= 1<<31 || seen[n] {
			t.Errorf("table %d is small, large, or taken", n)
		}
		seen[n] = true
	}
	if again := table("net", "c1", "net1"); !seen[again] {
		t.Errorf("the table of an attachment has become %d", again)
	}
}

func TestBuildTuningInOrder(t *testing.T) {
	got := insidePlan(t, `"type": "bridge", "promisc": true, "allmulti": false, "txQLen": 0, "mtu": 1400, "sysctl": {
		"net.ipv4.conf.IFNAME.arp_notify": "0", "net.ipv4.conf.IFNAME.log_martians": "1",
		"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv4.tcp_rmem": "1 2 3"}, "ipam": {"type": "veth", `+ranges+`}`)
	want := `container sysctl net/ipv6/conf/all/disable_ipv6 = 1
container sysctl net/ipv4/tcp_rmem = 1 2 3
container sysctl net/ipv6/conf/net1/disable_ipv6 = 0
container sysctl net/ipv6/conf/net1/accept_dad = 0
container sysctl net/ipv6/conf/net1/accept_ra = 0
container sysctl net/ipv6/conf/net1/ndisc_notify = 1
container sysctl net/ipv4/conf/net1/arp_notify = 0
container sysctl net/ipv4/conf/net1/log_martians = 1
container settings of interface net1 promisc allmulti off txqlen 0
container address 10.88.0.5/24 dev net1 scope global state ok
container interface net1 up mac 0a:58:0a:58:00:05 mtu 1400
container address 2001:db8::5/64 dev net1 scope global state ok
`
	if !strings.Contains(got, want) {
		t.Errorf("got:\n%swant, among others:\n%s", got, want)
	}
}
