package process

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// badInput is a call that is refused. It starts from a network that has one attachment already, so that nothing shared
// is left to make, and all that a refused call may change is nothing.
type badInput struct {
	name   string
	base   string // the network; of its variant with patch, ADD is called
	patch  string
	env    []string
	before func(t *testing.T, h *host) error // what makes the input bad, where the input alone does not
	code   uint
	words  []string // key and value
}

func badInputs(t *testing.T, verb string, cases []badInput) {
	t.Helper()
	t.Parallel()
	for _, b := range cases {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.add(b.base, h.Container("other"), "CNI_ARGS=IP=10.88.0.99")
			c := h.Container()
			if b.before != nil {
				if err := b.before(t, h); err != nil {
					t.Fatal(err)
				}
			}
			config := b.base
			if b.patch != "" {
				config = with(config, b.patch)
			}
			h.leaves(func() {
				o := h.call(verb, config, c, b.env...)
				o.refused(b.code, b.words...)
				o.answersIn("1.1.0")
			}, c)
		})
	}
}

func TestBadConfigurations(t *testing.T) {
	ranges := func(s string) string { return `{"ipam": {"ranges": ` + s + `}}` }
	badInputs(t, "ADD", []badInput{
		{"a key nobody knows", routed, `{"ipMask": true}`, nil, nil, 2, []string{`ipMask`, `true`, `did you mean "ipMasq"?`}},
		{
			"a key nobody knows in ipam", routed, `{"ipam": {"subnets": "10.0.0.0/8"}}`, nil, nil, 2,
			[]string{"ipam.subnets", "10.0.0.0/8", `did you mean "subnet"?`},
		},
		{"no name", routed, `{"name": null}`, nil, nil, 7, []string{"name"}},
		{"a name with illegal characters", routed, `{"name": "pod net"}`, nil, nil, 7, []string{"name", "pod net"}},
		{"a name of another type", routed, `{"name": 5}`, nil, nil, 6, []string{"name", "5", "string"}},
		{"a number in quotes", routed, `{"mtu": "1500"}`, nil, nil, 6, []string{"mtu", `"1500"`, "integer"}},
		{"a list that is an object", routed, ranges(`{}`), nil, nil, 6, []string{"ipam.ranges", "{", "a list"}},
		{"another plugin's type", routed, `{"type": "macvlan"}`, nil, nil, 2, []string{"type", `"macvlan"`, `"veth"`}},

		{"negative mtu", routed, `{"mtu": -1}`, nil, nil, 7, []string{"mtu", "-1", "68 to 65535"}},
		{"huge mtu", routed, `{"mtu": 65536}`, nil, nil, 7, []string{"mtu", "65536", "68 to 65535"}},
		{"mtu too small for IPv6", routed, `{"mtu": 1279}`, nil, nil, 7, []string{"mtu", "1279", "1280"}},
		{"mtu above the bridge's", bridged, `{"mtu": 9000}`, nil, nil, 107, []string{"mtu", "9000", "1500", `"br0"`}},

		{
			"hairpin and promisc", bridged, `{"hairpinMode": true, "promiscMode": true}`, nil, nil, 7,
			[]string{"hairpinMode", "promiscMode"},
		},
		{"vlan out of range", bridged, `{"vlan": 4095}`, nil, nil, 7, []string{"vlan", "4095", "4094"}},
		{"negative vlan", bridged, `{"vlan": -1}`, nil, nil, 7, []string{"vlan", "-1"}},
		{"trunk out of range", bridged, `{"vlanTrunk": [{"id": 4095}]}`, nil, nil, 7, []string{"vlanTrunk[0].id", "4095"}},
		{"trunk turned round", bridged, `{"vlanTrunk": [{"minID": 9, "maxID": 5}]}`, nil, nil, 7, []string{"minID", "9", "5"}},
		{"a bridge's key without a bridge", routed, `{"hairpinMode": true}`, nil, nil, 7, []string{"hairpinMode", "bridge"}},

		{
			"a subnet that is none", routed, ranges(`[[{"subnet": "10.88.0.0"}]]`), nil, nil, 7,
			[]string{"ipam.ranges[0][0].subnet", `"10.88.0.0"`},
		},
		{
			"a subnet with host bits", routed, ranges(`[[{"subnet": "10.88.0.5/24"}]]`), nil, nil, 7,
			[]string{"ipam.ranges[0][0]", "10.88.0.5/24", "10.88.0.0"},
		},
		{
			"overlapping ranges", routed, ranges(`[[{"subnet": "10.88.0.0/24"}], [{"subnet": "10.88.0.0/16"}]]`), nil, nil, 7,
			[]string{"ipam.ranges", "overlap", "10.88.0.254", "10.88.255.254"},
		},
		{
			"a range too small", routed, ranges(`[[{"subnet": "10.88.0.0/31"}]]`), nil, nil, 7,
			[]string{"ipam.ranges[0][0]", "10.88.0.0/31", "/30"},
		},
		{
			"a range turned round", routed,
			ranges(`[[{"subnet": "10.88.0.0/24", "rangeStart": "10.88.0.9", "rangeEnd": "10.88.0.5"}]]`), nil, nil, 7,
			[]string{"ipam.ranges[0][0]", "10.88.0.9", "10.88.0.5"},
		},
		{
			"a gateway outside its subnet", routed, ranges(`[[{"subnet": "10.88.0.0/24", "gateway": "10.89.0.1"}]]`), nil, nil, 7,
			[]string{"ipam.ranges[0][0]", "gateway 10.89.0.1", "10.88.0.0/24"},
		},
		{
			"families mixed in a range set", routed, ranges(`[[{"subnet": "10.88.0.0/24"}, {"subnet": "2001:db8::/64"}]]`), nil, nil, 7,
			[]string{"ipam.ranges", "10.88.0.0/24", "2001:db8::/64", "one set for each family"},
		},
		{
			"a subnet of loopback", routed, ranges(`[[{"subnet": "127.0.0.0/8"}]]`), nil, nil, 7,
			[]string{"ipam.ranges[0][0]", "127.0.0.0/8", "loopback"},
		},
		{"no ranges", routed, ranges(`[]`), nil, nil, 7, []string{"ipam.ranges", "missing"}},
		{
			"a route that is none", routed, `{"ipam": {"routes": [{"dst": "default"}]}}`, nil, nil, 7,
			[]string{"ipam.routes[0].dst", `"default"`},
		},
		{
			"resolvConf absent", routed, `{"ipam": {"resolvConf": "/no/such/file"}}`, nil, nil, 7,
			[]string{"ipam.resolvConf", `"/no/such/file"`},
		},

		{
			"an address outside the ranges", routed, `{"args": {"cni": {"ips": ["10.99.0.1"]}}}`, nil, nil, 103,
			[]string{"args.cni.ips[0]", "10.99.0.1", "10.88.0.1-10.88.0.254"},
		},
		{
			"an excluded address", routed, `{"ipam": {"exclude": ["10.88.0.9"]}, "args": {"cni": {"ips": ["10.88.0.9"]}}}`, nil, nil, 103,
			[]string{"args.cni.ips[0]", "10.88.0.9", "excluded"},
		},
		{
			"the gateway's address", routed, `{"runtimeConfig": {"ips": ["2001:db8:88::1/64"]}}`, nil, nil, 103,
			[]string{"runtimeConfig.ips[0]", "2001:db8:88::1", "gateway"},
		},
		{
			"an address that is taken", routed, `{"args": {"cni": {"ips": ["10.88.0.99"]}}}`, nil, nil, 103,
			[]string{"10.88.0.99", "held by container", "-other", "interface eth0", "network podnet"},
		},
		{
			"an address that is none", routed, `{"runtimeConfig": {"ips": ["10.88.0"]}}`, nil, nil, 7,
			[]string{"runtimeConfig.ips[0]", `"10.88.0"`},
		},
		{"a malformed MAC", routed, `{"runtimeConfig": {"mac": "02:00"}}`, nil, nil, 7, []string{"runtimeConfig.mac", `"02:00"`}},
		{
			"a multicast MAC", routed, `{"args": {"cni": {"mac": "01:00:5e:00:00:01"}}}`, nil, nil, 7,
			[]string{"args.cni.mac", `"01:00:5e:00:00:01"`, "unicast"},
		},

		{"a bridge that is another interface", routed, `{"bridge": "lo"}`, nil, nil, 107, []string{"bridge", `"lo"`, "kind"}},
		{"a bridge name of 16 bytes", bridged, `{"bridge": "0123456789abcdef"}`, nil, nil, 7, []string{"bridge", `"0123456789abcdef"`, "15"}},
		{
			"a bridge with another gateway address", bridged,
			`{"name": "othernet", "ipMasq": false, "ipam": {"ranges": [[{"subnet": "10.89.0.0/24"}]]}}`, nil, nil, 107,
			[]string{"br0", "10.88.0.1/24", "10.89.0.1/24", "forceAddress"},
		},
		{
			"a masqueraded subnet that overlaps another network's", routed,
			`{"name": "othernet", "ipam": {"ranges": [[{"subnet": "10.88.0.0/16"}]]}}`, nil, nil, 107,
			[]string{"ipMasq", "10.88.0.0/16", "podnet"},
		},
		{"an ipam type that is a path", routed, `{"ipam": {"type": "../evil"}}`, nil, nil, 7, []string{"ipam.type", `"../evil"`}},
		{"an ipam type that is not there", routed, `{"ipam": {"type": "nowhere"}}`, nil, nil, 108, []string{`"nowhere"`}},
		{
			"a prevResult that is none", routed, `{"prevResult": {"ips": [{"address": "10.0.0.1"}]}}`, nil, nil, 6,
			[]string{"prevResult", "10.0.0.1"},
		},
	})
}

func TestBadEnvironments(t *testing.T) {
	badInputs(t, "ADD", []badInput{
		{"no container id", routed, "", []string{"CNI_CONTAINERID="}, nil, 4, []string{"CNI_CONTAINERID", "want it set"}},
		{
			"neither container id nor interface name", routed, "",
			[]string{"CNI_CONTAINERID=", "CNI_IFNAME="},
			nil, 4,
			[]string{"CNI_CONTAINERID, CNI_IFNAME: missing: want them set"},
		},
		{"a container id with a slash", routed, "", []string{"CNI_CONTAINERID=a/b"}, nil, 4, []string{"CNI_CONTAINERID", "a/b"}},
		{"no interface name", routed, "", []string{"CNI_IFNAME"}, nil, 4, []string{"CNI_IFNAME"}},
		{
			"an interface name of 16 bytes", routed, "",
			[]string{"CNI_IFNAME=0123456789abcdef"},
			nil, 4,
			[]string{"CNI_IFNAME", "0123456789abcdef", "15"},
		},
		{"an interface name with a slash", routed, "", []string{"CNI_IFNAME=a/b"}, nil, 4, []string{"CNI_IFNAME", "a/b"}},
		{"an interface name with a space", routed, "", []string{"CNI_IFNAME=a b"}, nil, 4, []string{"CNI_IFNAME", "a b"}},
		{"an interface name that is a template", routed, "", []string{"CNI_IFNAME=eth%d"}, nil, 4, []string{"CNI_IFNAME", "eth%d"}},
		{"an interface name that is a directory", routed, "", []string{"CNI_IFNAME=.."}, nil, 4, []string{"CNI_IFNAME", ".."}},
		{"an interface name that is taken", routed, "", []string{"CNI_IFNAME=lo"}, nil, 102, []string{"CNI_IFNAME", `"lo"`}},
		{"no namespace", routed, "", []string{"CNI_NETNS="}, nil, 4, []string{"CNI_NETNS"}},
		{"a namespace that is not there", routed, "", []string{"CNI_NETNS=/no/such"}, nil, 3, []string{"CNI_NETNS", `"/no/such"`}},
		{"a namespace that is a file", routed, "", []string{"CNI_NETNS=/proc/version"}, nil, 8, []string{"CNI_NETNS", `"/proc/version"`}},
		{
			"a namespace of another kind", routed, "",
			[]string{"CNI_NETNS=/proc/self/ns/mnt"},
			nil, 8,
			[]string{"CNI_NETNS", `"/proc/self/ns/mnt"`},
		},
		{
			"the host's own namespace", routed, "",
			[]string{"CNI_NETNS=/proc/self/ns/net"},
			nil, 8,
			[]string{"CNI_NETNS", `"/proc/self/ns/net"`, "host's own"},
		},
		{"an argument nobody knows", routed, "", []string{"CNI_ARGS=FOO=bar"}, nil, 4, []string{"CNI_ARGS", `"FOO"`, `"bar"`, "IgnoreUnknown=1"}},
		{"an argument without a value", routed, "", []string{"CNI_ARGS=FOO"}, nil, 4, []string{"CNI_ARGS", `"FOO"`, "KEY=VALUE"}},
		{"an address that is none", routed, "", []string{"CNI_ARGS=IP=x"}, nil, 4, []string{"CNI_ARGS IP", `"x"`}},
		{"an address outside the ranges", routed, "", []string{"CNI_ARGS=IP=10.99.0.1"}, nil, 103, []string{"CNI_ARGS IP", "10.99.0.1"}},
		{"a multicast MAC", routed, "", []string{"CNI_ARGS=MAC=01:00:5e:00:00:01"}, nil, 4, []string{"CNI_ARGS MAC", `"01:00:5e:00:00:01"`}},
		{"a verb nobody knows", routed, "", []string{"CNI_COMMAND=ATTACH"}, nil, 4, []string{"CNI_COMMAND", "ATTACH"}},
		{"a host end that is attached already", routed, "", []string{"CNI_CONTAINERID=twice"}, func(_ *testing.T, h *host) error {
			h.add(routed, h.Container(), "CNI_CONTAINERID=twice")
			return nil
		}, 101, []string{"podnet/twice/eth0", "DEL"}},
		{"a bridge that is a veth", bridged, `{"bridge": "br9"}`, nil, func(_ *testing.T, h *host) error {
			return h.Do(func() error {
				return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "br9"}, PeerName: "br10"})
			})
		}, 107, []string{"bridge", `"br9"`, `"veth"`}},
	})
}

func TestBadJSON(t *testing.T) {
	t.Parallel()
	for name, stdin := range map[string]string{
		"empty": "", "cut short": `{"cniVersion": "1.1.0", "name": "n`, "a stray comma": `{"name": "podnet",}`,
		"a list": `[1]`, "null": `null`, "two values": `{} {}`, "not text": "\x00\xff",
	} {
		for _, verb := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS"} {
			t.Run(verb+" "+name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t)
				c := h.Container()
				h.leaves(func() { h.call(verb, stdin, c).refused(6, "the network configuration") }, c)
			})
		}
	}
}

// The verb is what is wrong, whatever else is missing too.
func TestBadVerb(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for name, stdin := range map[string]string{"a configuration": routed, "nothing": "", "no JSON": "{"} {
		for _, verb := range []string{"FOO", "add", "VERSIONS"} {
			t.Run(verb+" with "+name, func(*testing.T) {
				o := h.call(verb, stdin, nil)
				o.refused(4, "CNI_COMMAND", `"`+verb+`"`, "ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION")
			})
		}
	}
}

func TestCheckWithoutPrevResultIsRefused(t *testing.T) {
	badInputs(t, "CHECK", []badInput{
		{"routed", routed, "", nil, nil, 7, []string{"prevResult"}},
		{"bridge", bridged, "", nil, nil, 7, []string{"prevResult"}},
	})
}

// Names as long as the kernel and the specification let them be: 15 bytes for interfaces, 127 for alternative names,
// no limit for networks and containers.
func TestLongNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for _, tt := range []struct{ name, network, container, ifname, bridge string }{
		{"15 bytes of interface", "podnet", "c", "abcdefghijklmno", "bcdefghijklmnop"},
		{"a network that just fits a lease", long[:87], "c", "eth0", "br0"},
		{"a network one byte longer", long[:88], "c", "eth0", "br0"},
		{"a network of 127 bytes", long[:127], "c", "eth0", "br0"},
		{"a network of 128 bytes", long[:128], "c", "eth0", "br0"},
		{"a network beyond every limit", long, "c", "eth0", "br0"},
		{"a container beyond every limit", "podnet", long, "eth0", "br0"},
		{"all beyond", long, long, "abcdefghijklmno", "abcdefghijklmno"},
	} {
		for _, mode := range modes {
			t.Run(tt.name+", "+mode.name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t)
				config := with(mode.config, `{"name": "`+tt.network+`"}`)
				if mode.name == "bridge" {
					config = with(config, `{"bridge": "`+tt.bridge+`"}`)
				}
				h.add(config, h.Container("other"))
				c := h.Container()
				env := []string{"CNI_CONTAINERID=" + tt.container, "CNI_IFNAME=" + tt.ifname}
				h.leaves(func() {
					added := h.add(config, c, env...)
					h.check(config, c, added, env...)
					h.call("ADD", config, h.Container(), env...).refused(101)
					h.del(config, c, env...)
				}, c)
			})
		}
	}
}

// A call that is refused because of another attachment takes nothing from that one.
func TestRefusalLeavesTheOtherAttachment(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	added := h.add(routed, c)
	h.leaves(func() {
		h.call("ADD", routed, c).refused(101)
		h.call("ADD", routed, c, "CNI_CONTAINERID=another").refused(102, "CNI_IFNAME", `"eth0"`)
	}, c)
	h.check(routed, c, added)
}
