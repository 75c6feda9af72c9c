package netconf

import (
	"path"
	"strings"
	"testing"
)

// checkTuning holds every setting to what is below /proc/sys/net, by one spelling.
func checkTuning(t *testing.T, c *Config) {
	t.Helper()
	seen := map[string]bool{}
	for _, s := range c.Tuning.Sysctls {
		must(t, strings.HasPrefix(s.Key, "net/") && path.Clean(s.Key) == s.Key, "a path below net", s.Key)
		must(t, !strings.Contains(s.Key, "/../") && !strings.ContainsRune(s.Key, 0), "a path without tricks", s.Key)
		must(t, !seen[s.Key], "a setting made once", s.Key)
		must(t, !strings.ContainsAny(s.Value, "\n\x00"), "a value of one line", s.Value)
		seen[s.Key] = true
	}
}

func TestSysctlNames(t *testing.T) {
	for _, tt := range []struct {
		config, ifName string
		name, key      string
		ofInterface    bool
	}{
		{"net.ipv4.ip_forward", "eth0", "net.ipv4.ip_forward", "net/ipv4/ip_forward", false},
		{"net/ipv4/ip_forward", "eth0", "net.ipv4.ip_forward", "net/ipv4/ip_forward", false},
		{"net.ipv4.conf.IFNAME.arp_filter", "eth0", "net.ipv4.conf.IFNAME.arp_filter", "net/ipv4/conf/eth0/arp_filter", true},
		{"net/ipv6/conf/IFNAME/forwarding", "eth0", "net.ipv6.conf.IFNAME.forwarding", "net/ipv6/conf/eth0/forwarding", true},
		{"net.ipv4.neigh.IFNAME.ucast_solicit", "e.5", "net.ipv4.neigh.IFNAME.ucast_solicit", "net/ipv4/neigh/e.5/ucast_solicit", true},
		{"net.ipv4.conf.eth0.arp_filter", "eth0", "net.ipv4.conf.eth0.arp_filter", "net/ipv4/conf/eth0/arp_filter", true},
		{"net.ipv4.conf.eth1.arp_filter", "eth0", "net.ipv4.conf.eth1.arp_filter", "net/ipv4/conf/eth1/arp_filter", false},
		{"net.ipv4.conf.eth0/5.arp_filter", "eth0.5", "net.ipv4.conf.eth0/5.arp_filter", "net/ipv4/conf/eth0.5/arp_filter", true},
		{"net/ipv4/conf/eth0.5/arp_filter", "eth0.5", "net.ipv4.conf.eth0/5.arp_filter", "net/ipv4/conf/eth0.5/arp_filter", true},
		{"net.ipv4.conf.IFNAME.arp_filter", "", "net.ipv4.conf.IFNAME.arp_filter", "net/ipv4/conf/IFNAME/arp_filter", true},
		{"net.ipv4.conf.xIFNAME.arp_filter", "eth0", "net.ipv4.conf.xIFNAME.arp_filter", "net/ipv4/conf/xIFNAME/arp_filter", false},
	} {
		t.Run(tt.config+" "+tt.ifName, func(t *testing.T) {
			c := mustParse(t, Request{IfName: tt.ifName, Config: []byte(veth(`"sysctl": {"` + tt.config + `": " 1\t 2 "}`))})
			equal(t, "setting", c.Tuning.Sysctls,
				[]Sysctl{{Name: tt.name, Key: tt.key, Value: "1 2", OfInterface: tt.ofInterface}})
		})
	}
}

// The kernel shows a list of ports otherwise than it was written, and CHECK compares with what it shows.
func TestSysctlOfPorts(t *testing.T) {
	for value, want := range map[string]string{
		"":                        "",
		"8080":                    "8080",
		"8080,9148,8081":          "8080-8081,9148",
		"30000-30010,30005-30020": "30000-30020",
		"5-5,1-3,4,7":             "1-5,7",
		"2-9,3-4,65535":           "2-9,65535",
		"9-2":                     "9-2",
		"http":                    "http",
		"1,65536":                 "1,65536",
		"1,,2":                    "1,,2",
	} {
		c := mustParse(t, Request{Config: []byte(veth(`"sysctl": {"net.ipv4.ip_local_reserved_ports": "` + value + `"}`))})
		equal(t, "value of "+value, c.Tuning.Sysctls[0].Value, want)
	}
	c := mustParse(t, Request{Config: []byte(veth(`"sysctl": {"net.ipv4.ping_group_range": "2,1"}`))})
	equal(t, "another setting's value", c.Tuning.Sysctls[0].Value, "2,1")
}

func TestSysctlOrder(t *testing.T) {
	c := mustParse(t, Request{IfName: "aaa", Config: []byte(veth(`"sysctl": {
		"net.ipv4.conf.IFNAME.forwarding": "0", "net.ipv4.conf.default.forwarding": "0", "net.ipv4.tcp_rmem": "1 2 3",
		"net.ipv6.conf.IFNAME.forwarding": "0", "net.ipv6.conf.all.forwarding": "1", "net.ipv4.ip_forward": "1"}`))})
	var keys []string
	for _, s := range c.Tuning.Sysctls {
		keys = append(keys, s.Key)
	}
	equal(t, "order", keys, []string{
		"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding",
		"net/ipv4/conf/default/forwarding", "net/ipv4/tcp_rmem",
		"net/ipv4/conf/aaa/forwarding", "net/ipv6/conf/aaa/forwarding",
	})
}

func TestBadTuning(t *testing.T) {
	one := func(key, value string) string { return veth(`"sysctl": {"` + key + `": ` + value + `}`) }
	bad := func(name, key string) badCase {
		return badCase{
			name,
			Request{},
			one(key, `"1"`), 7,
			`sysctl["` + key + `"]: not a network setting: want the name of one below net, such as "net.ipv4.conf.IFNAME.log_martians"`,
		}
	}
	const text = ` is not valid: want a string, such as "1"`
	runBad(t, []badCase{
		bad("not of the network", "kernel.msgmax"),
		bad("not of the network, slashes", "vm/swappiness"),
		bad("like the network", "network.ipv4.x"),
		bad("no setting", "net"),
		bad("nothing", ""),
		bad("absolute", "/proc/sys/net/ipv4/ip_forward"),
		bad("absolute dots", ".net.ipv4.ip_forward"),
		bad("parent", "net/../kernel/msgmax"),
		bad("parent in dots", "net.//.kernel.msgmax"),
		bad("parent at the end", "net/ipv4/.."),
		bad("self", "net/./ipv4/ip_forward"),
		bad("self in dots", "net./.ipv4.ip_forward"),
		bad("double slash", "net//ipv4/ip_forward"),
		bad("double dot", "net..ipv4.ip_forward"),
		bad("trailing", "net/ipv4/"),
		{
			"NUL",
			Request{},
			one(`net/ipv4/a\u0000b`, `"1"`), 7,
			`sysctl["net/ipv4/a\x00b"]: not a network setting: want the name of one below net, such as ` +
				`"net.ipv4.conf.IFNAME.log_martians"`,
		},
		{"number", Request{}, one("net.ipv4.x", `1`), 6, `sysctl["net.ipv4.x"]: 1` + text},
		{"null", Request{}, one("net.ipv4.x", `null`), 6, `sysctl["net.ipv4.x"]: null` + text},
		{"lines", Request{}, one("net.ipv4.x", `"1\n2"`), 7, `sysctl["net.ipv4.x"]: "1\n2" is not valid: want one line of text`},
		{"list", Request{}, veth(`"sysctl": ["net.ipv4.x"]`), 6, `sysctl: ["net.ipv4.x"] is not valid: want an object`},
		{
			"twice",
			Request{},
			veth(`"sysctl": {"net.ipv4.x": "1", "net.ipv4.x": "2"}`), 7,
			`sysctl["net.ipv4.x"]: the same setting as sysctl["net.ipv4.x"]: want it once`,
		},
		{
			"twice, two spellings",
			Request{},
			veth(`"sysctl": {"net.ipv4.x": "1", "net/ipv4/x": "2"}`), 7,
			`sysctl["net/ipv4/x"]: the same setting as sysctl["net.ipv4.x"]: want it once`,
		},
		{
			"twice, by the interface's name",
			Request{IfName: "eth0"},
			veth(`"sysctl": {"net.ipv4.conf.eth0.x": "1", "net.ipv4.conf.IFNAME.x": "2"}`), 7,
			`sysctl["net.ipv4.conf.IFNAME.x"]: the same setting as sysctl["net.ipv4.conf.eth0.x"]: want it once`,
		},
		{
			"IPv6 off",
			Request{IfName: "eth0"},
			pooled(`"sysctl": {"net.ipv6.conf.IFNAME.disable_ipv6": "1"}`), 7,
			`sysctl["net.ipv6.conf.IFNAME.disable_ipv6"]: contradicts ipam.ranges, which gives addresses of 2001:db8::/64`,
		},
		{
			"IPv6's MTU",
			Request{IfName: "eth0"},
			pooled(`"sysctl": {"net.ipv6.conf.eth0.mtu": "1400"}`), 7,
			`sysctl["net.ipv6.conf.eth0.mtu"]: the kernel sets it to the interface's whenever the link comes up: want mtu`,
		},
		{"txQLen", Request{}, veth(`"txQLen": -1`), 7, `txQLen: -1 is not valid: want 0 to 2147483647 packets`},
		{"txQLen large", Request{}, veth(`"txQLen": 2147483648`), 7, `txQLen: 2147483648 is not valid: want 0 to 2147483647 packets`},
		{"promisc", Request{}, veth(`"promisc": 1`), 6, `promisc: 1 is not valid: want true or false`},
		{"allmulti", Request{}, veth(`"allmulti": "on"`), 6, `allmulti: "on" is not valid: want true or false`},
		{
			"mac", Request{}, veth(`"mac": "01:00:5e:00:00:01"`), 7, `mac: "01:00:5e:00:00:01" is not valid: want ` +
				`a unicast hardware address of 6 bytes, such as 02:00:5e:10:00:01`,
		},
		{"dataDir", Request{}, veth(`"dataDir": "/run"`), 2, `dataDir: unknown key with value "/run"`},
	})
}

func TestTuning(t *testing.T) {
	c := mustParse(t, Request{Args: "MAC=02:00:00:00:00:02", Config: []byte(pooled(
		`"promisc": true, "allmulti": false, "txQLen": 0, "mac": "02:00:00:00:00:01"`))})
	off, none := false, 0
	equal(t, "tuning", c.Tuning, Tuning{Promisc: true, AllMulti: &off, TxQLen: &none})
	equal(t, "mac beside CNI_ARGS", c.MAC.String(), "02:00:00:00:00:02")
	c = mustParse(t, Request{Config: []byte(veth(`"mac": "02:00:00:00:00:01"`))})
	equal(t, "mac", c.MAC.String(), "02:00:00:00:00:01")
	mustParse(t, Request{IfName: "eth0", Config: []byte(pooled(`"sysctl": {"net.ipv6.conf.IFNAME.disable_ipv6": "0"}`))})
	mustParse(t, Request{IfName: "eth0", Config: []byte(veth(`"sysctl": {"net.ipv6.conf.IFNAME.disable_ipv6": "1"}`))})
}
