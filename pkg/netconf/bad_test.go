package netconf

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// veth is a configuration of type veth with more keys.
func veth(keys ...string) string {
	all := append([]string{`"cniVersion": "1.1.0", "name": "net", "type": "veth"`}, keys...)
	return "{" + strings.Join(all, ", ") + "}"
}

// pooled is a configuration with the built-in IPAM, one range set of each family, and more keys.
func pooled(keys ...string) string {
	return veth(append([]string{`"ipam": {"type": "veth", "exclude": ["10.88.0.128/25", "10.88.0.9"],
		"ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "2001:db8::/64"}]]}`}, keys...)...)
}

// builtin is a configuration with these keys in the built-in IPAM.
func builtin(keys string) string {
	return veth(`"ipam": {"type": "veth", ` + keys + `}`)
}

// bridged is a configuration with a bridge and more keys.
func bridged(keys ...string) string { return veth(append([]string{`"bridge": "br0"`}, keys...)...) }

type badCase struct {
	name string
	Request
	config string
	code   uint
	msg    string
}

func runBad(t *testing.T, cases []badCase) {
	t.Helper()
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			tt.Config = []byte(tt.config)
			got, err := Parse(tt.Request)
			if err == nil {
				t.Fatalf("Parse gave %+v, want an error: %s", got, tt.msg)
			}
			coded := cnierr.Of(err, 0)
			if coded.Code != tt.code || coded.Msg != tt.msg {
				t.Errorf("Parse failed with code %d:\n%s\nwant code %d:\n%s", coded.Code, coded.Msg, tt.code, tt.msg)
			}
			ParseLenient(tt.Request) // never fails
		})
	}
}

func TestBadJSON(t *testing.T) {
	runBad(t, []badCase{
		{"empty", Request{}, ``, 6, `the network configuration is not JSON, wrong at byte 0: unexpected end of JSON input`},
		{
			"cut short",
			Request{},
			`{"name": "n`, 6,
			`the network configuration is not JSON, wrong at byte 11: unexpected end of JSON input`,
		},
		{"stray comma", Request{}, `{"name": "n",}`, 6, `the network configuration is not JSON, wrong at byte 14: ` +
			`invalid character '}' looking for beginning of object key string`},
		{"trailing", Request{}, `{} {}`, 6, `the network configuration is not JSON, wrong at byte 4: ` +
			`invalid character '{' after top-level value`},
		{"list", Request{}, `[1]`, 6, `the network configuration: [1] is not valid: want an object`},
		{"null", Request{}, `null`, 6, `the network configuration: null is not valid: want an object`},
	})
}

func TestBadType(t *testing.T) {
	runBad(t, []badCase{
		{"string", Request{}, `{"name": 5}`, 6, `name: 5 is not valid: want a string`},
		{"integer", Request{}, veth(`"mtu": "1500"`), 6, `mtu: "1500" is not valid: want an integer`},
		{"fraction", Request{}, veth(`"mtu": 1500.5`), 6, `mtu: 1500.5 is not valid: want an integer`},
		{
			"beyond 32 bits",
			Request{},
			veth(`"mtu": 4294968796`), 7,
			`mtu: 4294968796 is not valid: want 68 to 65535 bytes, or 0 for that of the route to the world`,
		},
		{
			"beyond 64 bits",
			Request{},
			veth(`"mtu": 99999999999999999999`), 6,
			`mtu: 99999999999999999999 is not valid: want an integer`,
		},
		{"boolean", Request{}, veth(`"ipMasq": "true"`), 6, `ipMasq: "true" is not valid: want true or false`},
		{"how to delete", Request{}, veth(`"syncDelete": "yes"`), 6, `syncDelete: "yes" is not valid: want true or false`},
		{"pointer", Request{}, veth(`"isDefaultGateway": 1`), 6, `isDefaultGateway: 1 is not valid: want true or false`},
		{"list", Request{}, veth(`"vlanTrunk": {"id": 1}`), 6, `vlanTrunk: {"id":1} is not valid: want a list`},
		{"element", Request{}, veth(`"vlanTrunk": [{"id": 1}, 2]`), 6, `vlanTrunk[1]: 2 is not valid: want an object`},
		{"null element", Request{}, veth(`"vlanTrunk": [null]`), 6, `vlanTrunk[0]: null is not valid: want an object`},
		{
			"in an element",
			Request{},
			veth(`"vlanTrunk": [{"id": "1"}]`), 6,
			`vlanTrunk[0].id: "1" is not valid: want an integer`,
		},
		{"object", Request{}, veth(`"dns": []`), 6, `dns: [] is not valid: want an object`},
		{"dns", Request{}, veth(`"dns": {"search": "a"}`), 6, `dns.search: "a" is not valid: want a list`},
		{
			"dns element",
			Request{},
			veth(`"dns": {"nameservers": ["192.0.2.1", 1]}`), 6,
			`dns.nameservers[1]: 1 is not valid: want a string`,
		},
		{"ipam", Request{}, veth(`"ipam": "host-local"`), 6, `ipam: "host-local" is not valid: want an object`},
		{"ipam.type", Request{}, veth(`"ipam": {"type": 1}`), 6, `ipam.type: 1 is not valid: want a string`},
		{
			"ranges of a flat list",
			Request{},
			builtin(`"ranges": [{"subnet": "10.0.0.0/8"}]`), 6,
			`ipam.ranges[0]: {"subnet":"10.0.0.0/8"} is not valid: want a list of ranges, as in [[{"subnet": "10.88.0.0/16"}]]`,
		},
		{
			"ranges without a list",
			Request{},
			builtin(`"ranges": {"subnet": "10.0.0.0/8"}`), 6,
			`ipam.ranges: {"subnet":"10.0.0.0/8"} is not valid: want a list of lists of ranges, such as [[{"subnet": "10.88.0.0/16"}]]`,
		},
		{
			"null set",
			Request{},
			builtin(`"ranges": [null]`), 6,
			`ipam.ranges[0]: null is not valid: want a list of ranges, as in [[{"subnet": "10.88.0.0/16"}]]`,
		},
		{
			"subnet",
			Request{},
			builtin(`"ranges": [[{"subnet": 10}]]`), 6,
			`ipam.ranges[0][0].subnet: 10 is not valid: want a string`,
		},
		{
			"route",
			Request{},
			builtin(`"subnet": "10.0.0.0/8", "routes": [{"dst": "0.0.0.0/0", "mtu": true}]`), 6,
			`ipam.routes[0].mtu: true is not valid: want an integer`,
		},
		{"args", Request{}, veth(`"args": 1`), 6, `args: 1 is not valid: want an object`},
		{
			"args.cni.mac",
			Request{},
			veth(`"args": {"cni": {"mac": 2}}`), 6,
			`args.cni.mac: 2 is not valid: want a string`,
		},
		{
			"args.cni.ips",
			Request{},
			pooled(`"args": {"cni": {"ips": "10.88.0.5"}}`), 6,
			`args.cni.ips: "10.88.0.5" is not valid: want a list`,
		},
		{
			"runtimeConfig.ips",
			Request{},
			pooled(`"runtimeConfig": {"ips": [7]}`), 6,
			`runtimeConfig.ips[0]: 7 is not valid: want a string`,
		},
		{
			"runtimeConfig.ipRanges",
			Request{},
			pooled(`"runtimeConfig": {"ipRanges": [[5]]}`), 6,
			`runtimeConfig.ipRanges[0][0]: 5 is not valid: want an object`,
		},
		{
			"capabilities",
			Request{},
			veth(`"capabilities": ["mac"]`), 6,
			`capabilities: ["mac"] is not valid: want an object`,
		},
		{"prevResult", Request{}, veth(`"prevResult": "ok"`), 6, `prevResult: "ok" is not valid: want an object`},
		{
			"long value",
			Request{},
			veth(`"mtu": "` + strings.Repeat("é", 100) + `"`), 6,
			`mtu: "` + strings.Repeat("é", 39) + `... is not valid: want an integer`,
		},
	})
}

func TestUnknownKey(t *testing.T) {
	runBad(t, []badCase{
		{
			"near",
			Request{},
			veth(`"ipMask": true`), 2,
			`ipMask: unknown key with value true; did you mean "ipMasq"?`,
		},
		{
			"case",
			Request{},
			veth(`"IPMasq": true`), 2,
			`IPMasq: unknown key with value true; did you mean "ipMasq"?`,
		},
		{
			"case alone is no edit",
			Request{},
			veth(`"MTU": 1500`), 2,
			`MTU: unknown key with value 1500; did you mean "mtu"?`,
		},
		{"swapped", Request{}, veth(`"mut": 1500`), 2, `mut: unknown key with value 1500; did you mean "mtu"?`},
		{"far", Request{}, veth(`"backend": "nft"`), 2, `backend: unknown key with value "nft"`},
		{
			"very long",
			Request{},
			veth(`"` + strings.Repeat("x", 5000) + `": 1`), 2,
			strings.Repeat("x", 5000) + `: unknown key with value 1`,
		},
		{"first by name", Request{}, veth(`"zz": 1, "hairpin": 2, "aa": 3`), 2, `aa: unknown key with value 3`},
		{
			"even null",
			Request{},
			veth(`"brige": null`), 2,
			`brige: unknown key with value null; did you mean "bridge"?`,
		},
		{
			"trunk",
			Request{},
			bridged(`"vlanTrunk": [{"id": 1}, {"minId": 2, "maxID": 3}]`), 2,
			`vlanTrunk[1].minId: unknown key with value 2; did you mean "minID"?`,
		},
		{
			"dns",
			Request{},
			veth(`"dns": {"nameserver": ["192.0.2.1"]}`), 2,
			`dns.nameserver: unknown key with value ["192.0.2.1"]; did you mean "nameservers"?`,
		},
		{
			"ipam",
			Request{},
			builtin(`"subnets": "10.0.0.0/8"`), 2,
			`ipam.subnets: unknown key with value "10.0.0.0/8"; did you mean "subnet"?`,
		},
		{
			"range",
			Request{},
			builtin(`"ranges": [[{"subnet": "10.0.0.0/8", "rangeStop": "10.0.0.9"}]]`), 2,
			`ipam.ranges[0][0].rangeStop: unknown key with value "10.0.0.9"; did you mean "rangeStart"?`,
		},
		{
			"route",
			Request{},
			builtin(`"subnet": "10.0.0.0/8", "routes": [{"dest": "0.0.0.0/0"}]`), 2,
			`ipam.routes[0].dest: unknown key with value "0.0.0.0/0"; did you mean "dst"?`,
		},
		{
			"ipam without a type",
			Request{},
			veth(`"ipam": {"tpye": "host-local"}`), 2,
			`ipam.tpye: unknown key with value "host-local"; did you mean "type"?`,
		},
	})
}

// A key that is there twice counts neither way, wherever the plugin reads it. What others read is theirs.
func TestKeyTwice(t *testing.T) {
	const once = `: given more than once, as 1 and as 2: want it once`
	var cases []badCase
	for path, config := range map[string]string{
		"mtu":                       veth(`"mtu": 1, "ipMasq": false, "mtu": 2`),
		"name":                      veth(`"name": 1, "name": 2`),
		"capabilities.zone":         veth(`"capabilities": {"zone": 1, "zone": 2}`),
		"args.cni.mac":              veth(`"args": {"cni": {"mac": 1, "mac": 2}}`),
		"runtimeConfig":             veth(`"runtimeConfig": 1, "runtimeConfig": 2`),
		"runtimeConfig.mac":         veth(`"runtimeConfig": {"mac": 1, "mac": 2}`),
		"runtimeConfig.ips":         pooled(`"runtimeConfig": {"ips": 1, "ips": 2}`),
		"dns.search":                veth(`"dns": {"search": 1, "search": 2}`),
		"vlanTrunk[0].id":           bridged(`"vlanTrunk": [{"id": 1, "id": 2}]`),
		"ipam.type":                 veth(`"ipam": {"type": 1, "type": 2}`),
		"ipam.subnet":               builtin(`"subnet": 1, "subnet": 2`),
		"ipam.ranges[0][0].gateway": builtin(`"ranges": [[{"gateway": 1, "gateway": 2}]]`),
		"ipam.routes[0].dst":        builtin(`"routes": [{"dst": 1, "dst": 2}]`),
		"runtimeConfig.portMappings[0].hostPort": pooled(
			`"runtimeConfig": {"portMappings": [{"hostPort": 1, "hostPort": 2, "containerPort": 80}]}`),
		"runtimeConfig.io.kubernetes.cri.pod-annotations.a": veth(
			`"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"a": 1, "a": 2}}`),
		"cni.dev/valid-attachments[0].ifname": veth(`"cni.dev/valid-attachments": [{"ifname": 1, "ifname": 2}]`),
	} {
		cases = append(cases, badCase{path, Request{}, config, 7, path + once})
	}
	runBad(t, cases)
	for _, theirs := range []string{
		veth(`"args": {"zone": 1, "zone": 2}`), veth(`"runtimeConfig": {"zone": 1, "zone": 2}`),
		veth(`"ipam": {"type": "dhcp", "zone": 1, "zone": 2}`), veth(`"example.org/x": 1, "example.org/x": 2`),
		veth(`"prevResult": {"zone": 1, "zone": 2}`),
	} {
		if _, err := Parse(Request{Config: []byte(theirs)}); err != nil {
			t.Errorf("%s\nis refused: %v", theirs, err)
		}
	}
}

// A list is what an operator has, and not what a plugin is handed: even GC, by hand, must not take it for a network
// without a key.
func TestConfigurationList(t *testing.T) {
	const list = `{"cniVersion": "1.1.0", "name": "net", "disableCheck": true, "plugins": [{"type": "veth"}]}`
	const want = `plugins: this is a configuration list: want one of its plugins, with the list's name and cniVersion`
	runBad(t, []badCase{{"list", Request{}, list, 2, want}})
	_, err := Vet(Request{Config: []byte(list)})
	if coded := cnierr.Of(err, 0); err == nil || coded.Code != 2 || coded.Msg != want {
		t.Errorf("Vet gave %v, want %s", err, want)
	}
}

func TestCapabilities(t *testing.T) {
	runBad(t, []badCase{
		{
			"near",
			Request{},
			veth(`"capabilities": {"mac": true, "portMapping": true}`), 2,
			`capabilities.portMapping: unknown capability with value true; did you mean "portMappings"?`,
		},
		{
			"case",
			Request{},
			veth(`"capabilities": {"ipranges": false}`), 2,
			`capabilities.ipranges: unknown capability with value false; did you mean "ipRanges"?`,
		},
		{
			"with dots",
			Request{},
			veth(`"capabilities": {"io.kubernetes.cri.pod-annotation": true}`), 2,
			`capabilities.io.kubernetes.cri.pod-annotation: unknown capability with value true; ` +
				`did you mean "io.kubernetes.cri.pod-annotations"?`,
		},
		{"first by name", Request{}, veth(`"capabilities": {"macs": 1, "ip": 2}`), 2, `capabilities.ip: unknown capability with value 2; did you mean "ips"?`},
	})
	passes := append([]string{"zz", "io.kubernetes.cri.annotations", "example.org/ip"}, slices.Concat(capable, conventional)...)
	for _, name := range passes {
		if _, err := Parse(Request{Config: []byte(veth(`"capabilities": {"` + name + `": true}`))}); err != nil {
			t.Errorf("%s is refused: %v", name, err)
		}
	}
}

func TestBadIdentity(t *testing.T) {
	const nameWant = ` is not valid: want letters, digits, '_', '.' and '-', the first a letter or a digit`
	const ifWant = ` is not valid: want 1 to 15 bytes without '/', ':', '%' and white space, ` +
		`and not ".", "..", "all" or "default"`
	runBad(t, []badCase{
		{"no name", Request{}, `{"type": "veth"}`, 7, `name: missing: want the network's name`},
		{"null name", Request{}, `{"type": "veth", "name": null}`, 7, `name: missing: want the network's name`},
		{"name", Request{}, `{"type": "veth", "name": "-net"}`, 7, `name: "-net"` + nameWant},
		{"name with newline", Request{}, `{"type": "veth", "name": "net\n"}`, 7, `name: "net\n"` + nameWant},
		{"no type", Request{}, `{"name": "net"}`, 7, `type: missing: want "veth", "bridge" or "ptp"`},
		{
			"type",
			Request{},
			`{"name": "net", "type": "macvlan"}`, 2,
			`type: "macvlan" is not valid: want "veth", "bridge" or "ptp"`,
		},
		{"container id", Request{ContainerID: "a/b"}, veth(), 4, `CNI_CONTAINERID: "a/b"` + nameWant},
		{
			"ifname with 16 bytes",
			Request{IfName: "0123456789abcdef"},
			veth(), 4,
			`CNI_IFNAME: "0123456789abcdef"` + ifWant,
		},
		{
			"ifname in 16 bytes of UTF-8",
			Request{IfName: "éééééééé"},
			veth(), 4,
			`CNI_IFNAME: "éééééééé"` + ifWant,
		},
		{"ifname .", Request{IfName: "."}, veth(), 4, `CNI_IFNAME: "."` + ifWant},
		{"ifname ..", Request{IfName: ".."}, veth(), 4, `CNI_IFNAME: ".."` + ifWant},
		{"ifname /", Request{IfName: "a/b"}, veth(), 4, `CNI_IFNAME: "a/b"` + ifWant},
		{"ifname :", Request{IfName: "eth0:1"}, veth(), 4, `CNI_IFNAME: "eth0:1"` + ifWant},
		{"ifname space", Request{IfName: "eth 0"}, veth(), 4, `CNI_IFNAME: "eth 0"` + ifWant},
		{"ifname template", Request{IfName: "eth%d"}, veth(), 4, `CNI_IFNAME: "eth%d"` + ifWant},
		{"ifname all", Request{IfName: "all"}, veth(), 4, `CNI_IFNAME: "all"` + ifWant},
		{"ifname default", Request{IfName: "default"}, veth(), 4, `CNI_IFNAME: "default"` + ifWant},
		{"bridge too long", Request{}, veth(`"bridge": "0123456789abcdef"`), 7, `bridge: "0123456789abcdef"` + ifWant},
		{"bridge with zero byte", Request{}, veth(`"bridge": "br\u0000"`), 7, `bridge: "br\x00"` + ifWant},
		{"bridge of bridge", Request{}, `{"name": "n", "type": "bridge", "bridge": "a b"}`, 7, `bridge: "a b"` + ifWant},
	})
}

func TestBadArgs(t *testing.T) {
	runBad(t, []badCase{
		{"unknown", Request{Args: "FOO=bar"}, veth(), 4, `CNI_ARGS: unknown key "FOO" with value "bar": want IgnoreUnknown=1 beside it`},
		{
			"unknown, not ignored",
			Request{Args: "IgnoreUnknown=0;FOO=bar=baz"},
			veth(), 4,
			`CNI_ARGS: unknown key "FOO" with value "bar=baz": want IgnoreUnknown=1 beside it`,
		},
		{
			"case",
			Request{Args: "Mac=02:00:00:00:00:01"},
			veth(), 4,
			`CNI_ARGS: unknown key "Mac" with value "02:00:00:00:00:01": want IgnoreUnknown=1 beside it; did you mean "MAC"?`,
		},
		{
			"no pair",
			Request{Args: "IgnoreUnknown=1;FOO"},
			veth(), 4,
			`CNI_ARGS: "FOO" is not valid: want KEY=VALUE, with ';' between one and the next`,
		},
		{
			"empty pair",
			Request{Args: "IP=10.88.0.5;"},
			pooled(), 4,
			`CNI_ARGS: "" is not valid: want KEY=VALUE, with ';' between one and the next`,
		},
		{
			"IgnoreUnknown",
			Request{Args: "IgnoreUnknown=yes"},
			veth(), 4,
			`CNI_ARGS IgnoreUnknown: "yes" is not valid: want 1, true, 0 or false`,
		},
		{
			"IgnoreUnknown empty",
			Request{Args: "IgnoreUnknown="},
			veth(), 4,
			`CNI_ARGS IgnoreUnknown: "" is not valid: want 1, true, 0 or false`,
		},
		{
			"first of two",
			Request{Args: "A;B"},
			veth(), 4,
			`CNI_ARGS: "A" is not valid: want KEY=VALUE, with ';' between one and the next`,
		},
	})
}

func TestBadMAC(t *testing.T) {
	const want = ` is not valid: want a unicast hardware address of 6 bytes, such as 02:00:5e:10:00:01`
	runBad(t, []badCase{
		{"malformed", Request{}, veth(`"runtimeConfig": {"mac": "02:00"}`), 7, `runtimeConfig.mac: "02:00"` + want},
		{
			"multicast",
			Request{},
			veth(`"args": {"cni": {"mac": "01:00:5e:00:00:01"}}`), 7,
			`args.cni.mac: "01:00:5e:00:00:01"` + want,
		},
		{
			"broadcast",
			Request{},
			veth(`"runtimeConfig": {"mac": "ff:ff:ff:ff:ff:ff"}`), 7,
			`runtimeConfig.mac: "ff:ff:ff:ff:ff:ff"` + want,
		},
		{"zero", Request{Args: "MAC=00:00:00:00:00:00"}, veth(), 4, `CNI_ARGS MAC: "00:00:00:00:00:00"` + want},
		{
			"8 bytes",
			Request{},
			veth(`"runtimeConfig": {"mac": "02:00:00:00:00:00:00:01"}`), 7,
			`runtimeConfig.mac: "02:00:00:00:00:00:00:01"` + want,
		},
		{
			"the winner is the one checked",
			Request{Args: "MAC=02:00:00:00:00:01"},
			veth(`"runtimeConfig": {"mac": "x"}, "args": {"cni": {"mac": "02:00:00:00:00:02"}}`), 7,
			`runtimeConfig.mac: "x"` + want,
		},
	})
}

func TestBadLink(t *testing.T) {
	const mtu = ` is not valid: want 68 to 65535 bytes, or 0 for that of the route to the world`
	const bridgeless = `: has no effect without a bridge; want "bridge" too, or it left out`
	const ptpless = `: type "ptp" has no bridge; want it left out, or another type`
	ptp := func(keys string) string { return `{"name": "net", "type": "ptp", ` + keys + `}` }
	runBad(t, []badCase{
		{"mtu negative", Request{}, veth(`"mtu": -1`), 7, `mtu: -1` + mtu},
		{"mtu 67", Request{}, veth(`"mtu": 67`), 7, `mtu: 67` + mtu},
		{"mtu 65536", Request{}, veth(`"mtu": 65536`), 7, `mtu: 65536` + mtu},
		{
			"mtu 1279 with IPv6",
			Request{},
			pooled(`"mtu": 1279`), 7,
			`mtu: 1279 is not valid: want at least 1280 bytes for 2001:db8::/64, IPv6's minimum (RFC 8200)`,
		},
		{
			"hairpin and promisc",
			Request{},
			bridged(`"hairpinMode": true, "promiscMode": true`), 7,
			`hairpinMode: contradicts promiscMode, want at most one of them: ` +
				`a promiscuous bridge already hands frames back to the host, and they would arrive twice`,
		},
		{
			"ipMasqBackend",
			Request{},
			veth(`"ipMasqBackend": "ipset"`), 2,
			`ipMasqBackend: "ipset" is not valid: want "nftables" or "iptables"; both mean native nftables`,
		},
		{
			"ipMasqBackend empty",
			Request{},
			veth(`"ipMasqBackend": ""`), 2,
			`ipMasqBackend: "" is not valid: want "nftables" or "iptables"; both mean native nftables`,
		},
		{
			"ipMasq",
			Request{},
			bridged(`"ipMasq": true`), 7,
			`ipMasq: contradicts a network without ipam: no address to masquerade`,
		},
		{
			"disabled with built-in",
			Request{},
			pooled(`"bridge": "br0", "disableContainerInterface": true`), 7,
			`disableContainerInterface: contradicts ipam.type "veth": an interface that stays down takes no address`,
		},
		{
			"disabled with delegate",
			Request{},
			bridged(`"disableContainerInterface": true, "ipam": {"type": "dhcp"}`), 7,
			`disableContainerInterface: contradicts ipam.type "dhcp": an interface that stays down takes no address`,
		},
		{
			"gateway's interface",
			Request{},
			pooled(`"bridge": "bridge-net0", "isGateway": true, "vlan": 1000`), 7,
			`bridge: "bridge-net0" is not valid: want a shorter name: ` +
				`the gateway's interface, "bridge-net0.1000", may have 15 bytes`,
		},

		{"isGateway", Request{}, veth(`"isGateway": true`), 7, `isGateway` + bridgeless},
		{"forceAddress", Request{}, veth(`"forceAddress": true`), 7, `forceAddress` + bridgeless},
		{"hairpinMode", Request{}, veth(`"hairpinMode": true`), 7, `hairpinMode` + bridgeless},
		{"promiscMode", Request{}, veth(`"promiscMode": true`), 7, `promiscMode` + bridgeless},
		{"vlan", Request{}, veth(`"vlan": 5`), 7, `vlan` + bridgeless},
		{"vlanTrunk", Request{}, veth(`"vlanTrunk": [{"id": 5}]`), 7, `vlanTrunk` + bridgeless},
		{"preserveDefaultVlan", Request{}, veth(`"preserveDefaultVlan": true`), 7, `preserveDefaultVlan` + bridgeless},
		{"macspoofchk", Request{}, veth(`"macspoofchk": true`), 7, `macspoofchk` + bridgeless},
		{"portIsolation", Request{}, veth(`"portIsolation": true`), 7, `portIsolation` + bridgeless},
		{"disabled", Request{}, veth(`"disableContainerInterface": true`), 7, `disableContainerInterface` + bridgeless},
		{"all named", Request{}, veth(`"bridge": "", "vlan": 5, "isGateway": true`), 7, `isGateway, vlan` + bridgeless},
		{"ptp with bridge", Request{}, ptp(`"bridge": "br0", "vlan": 5`), 7, `bridge, vlan` + ptpless},
		{"ptp with isDefaultGateway", Request{}, ptp(`"isDefaultGateway": true`), 7, `isDefaultGateway` + ptpless},
	})
}

func TestBadVLAN(t *testing.T) {
	trunk := func(entries string) string { return bridged(`"vlanTrunk": [` + entries + `]`) }
	const want = ` is not valid: want 1 to 4094`
	runBad(t, []badCase{
		{"vlan -1", Request{}, bridged(`"vlan": -1`), 7, `vlan: -1 is not valid: want 0, for none, to 4094`},
		{"vlan 4095", Request{}, bridged(`"vlan": 4095`), 7, `vlan: 4095 is not valid: want 0, for none, to 4094`},
		{"id 0", Request{}, trunk(`{"id": 0}`), 7, `vlanTrunk[0].id: 0` + want},
		{"id 4095", Request{}, trunk(`{"id": 4094}, {"id": 4095}`), 7, `vlanTrunk[1].id: 4095` + want},
		{"minID 0", Request{}, trunk(`{"minID": 0, "maxID": 5}`), 7, `vlanTrunk[0].minID: 0` + want},
		{"maxID 4095", Request{}, trunk(`{"minID": 5, "maxID": 4095}`), 7, `vlanTrunk[0].maxID: 4095` + want},
		{
			"minID alone",
			Request{},
			trunk(`{"minID": 5}`), 7,
			`vlanTrunk[0].maxID: missing: want both minID and maxID, or neither`,
		},
		{
			"maxID alone",
			Request{},
			trunk(`{"maxID": 5, "id": 1}`), 7,
			`vlanTrunk[0].minID: missing: want both minID and maxID, or neither`,
		},
		{
			"turned round",
			Request{},
			trunk(`{"minID": 6, "maxID": 5}`), 7,
			`vlanTrunk[0].minID: 6 is not valid: want at most maxID, which is 5`,
		},
		{"nothing", Request{}, trunk(`{"id": 1}, {}`), 7, `vlanTrunk[1]: missing: want id, or minID and maxID`},
	})
}

func TestBadIPAM(t *testing.T) {
	const prefix = ` is not valid: want a subnet such as "10.88.0.0/16" or "2001:db8::/64"`
	const addr = ` is not valid: want an address such as "10.88.0.9" or "2001:db8::9"`
	const exclude = ` is not valid: want a subnet such as "10.88.3.0/24" or an address such as "10.88.0.9"`
	excluding := func(s string) string { return builtin(`"subnet": "10.88.0.0/24", "exclude": ["` + s + `"]`) }
	routing := func(s string) string { return builtin(`"subnet": "10.88.0.0/24", "routes": [{` + s + `}]`) }
	runBad(t, []badCase{
		{
			"type is a path",
			Request{},
			veth(`"ipam": {"type": "../evil"}`), 7,
			`ipam.type: "../evil" is not valid: want the plain file name of a plugin`,
		},
		{
			"type is a directory",
			Request{},
			veth(`"ipam": {"type": ".."}`), 7,
			`ipam.type: ".." is not valid: want the plain file name of a plugin`,
		},
		{
			"type forgotten",
			Request{},
			veth(`"ipam": {"subnet": "10.88.0.0/16"}`), 7,
			`ipam.type: missing: want "veth", the name of another IPAM plugin, or an empty ipam for layer 2 alone`,
		},
		{
			"no ranges",
			Request{},
			veth(`"ipam": {"type": "veth", "ranges": []}`), 7,
			`ipam.ranges: missing: want at least one range set for the built-in IPAM, such as [[{"subnet": "10.88.0.0/16"}]]`,
		},
		{
			"empty set",
			Request{},
			builtin(`"ranges": [[{"subnet": "10.88.0.0/24"}], []]`), 7,
			`ipam.ranges[1]: missing: want at least one range in the set`,
		},
		{
			"no subnet",
			Request{},
			builtin(`"ranges": [[{"rangeStart": "10.88.0.5"}]]`), 7,
			`ipam.ranges[0][0].subnet: missing: want a subnet such as "10.88.0.0/16" or "2001:db8::/64"`,
		},
		{
			"no flat subnet",
			Request{},
			builtin(`"gateway": "10.88.0.5"`), 7,
			`ipam.subnet: missing: want a subnet such as "10.88.0.0/16" or "2001:db8::/64"`,
		},
		{"subnet without length", Request{}, builtin(`"subnet": "10.88.0.0"`), 7, `ipam.subnet: "10.88.0.0"` + prefix},
		{
			"subnet with leading zeros",
			Request{},
			builtin(`"subnet": "010.88.0.0/16"`), 7,
			`ipam.subnet: "010.88.0.0/16"` + prefix,
		},
		{"subnet with zone", Request{}, builtin(`"subnet": "fe80::%eth0/64"`), 7, `ipam.subnet: "fe80::%eth0/64"` + prefix},
		{"mapped beyond IPv4", Request{}, builtin(`"subnet": "::ffff:0:0/95"`), 7, `ipam.subnet: "::ffff:0:0/95"` + prefix},
		{
			"rangeStart",
			Request{},
			builtin(`"subnet": "10.88.0.0/24", "rangeStart": "10.88.0"`), 7,
			`ipam.rangeStart: "10.88.0"` + addr,
		},
		{
			"rangeEnd",
			Request{},
			veth(`"ipam": {"type": "veth"}, "runtimeConfig": {"ipRanges":
			[[{"subnet": "fe80::/64", "rangeEnd": "fe80::5%1"}]]}`), 7,
			`runtimeConfig.ipRanges[0][0].rangeEnd: "fe80::5%1"` + addr,
		},
		{
			"gateway",
			Request{},
			builtin(`"ranges": [[{"subnet": "10.88.0.0/24", "gateway": "10.88.0.1/24"}]]`), 7,
			`ipam.ranges[0][0].gateway: "10.88.0.1/24"` + addr,
		},
		{
			"host bits",
			Request{},
			builtin(`"ranges": [[{"subnet": "10.88.0.5/24"}]]`), 7,
			`ipam.ranges[0][0]: subnet 10.88.0.5/24 has host bits set: the network address is 10.88.0.0`,
		},
		{
			"too small",
			Request{},
			builtin(`"subnet": "10.88.0.0/31"`), 7,
			`ipam: subnet 10.88.0.0/31 is too small to lease from: want /30 or larger`,
		},
		{
			"gateway outside",
			Request{},
			builtin(`"ranges": [[{"subnet": "10.88.0.0/24", "gateway": "10.89.0.1"}]]`), 7,
			`ipam.ranges[0][0]: gateway 10.89.0.1 is outside subnet 10.88.0.0/24`,
		},
		{
			"family of gateway",
			Request{},
			builtin(`"ranges": [[{"subnet": "10.88.0.0/24", "gateway": "::1"}]]`), 7,
			`ipam.ranges[0][0]: gateway ::1 is outside subnet 10.88.0.0/24`,
		},
		{
			"overlap",
			Request{},
			builtin(`"subnet": "10.88.0.0/24", "ranges": [[{"subnet": "10.88.0.0/16"}]]`), 7,
			`ipam and ipam.ranges: ranges 10.88.0.1-10.88.0.254 and 10.88.0.1-10.88.255.254 overlap`,
		},
		{
			"overlap with the runtime's",
			Request{},
			pooled(`"runtimeConfig": {"ipRanges": [[{"subnet": "10.88.0.0/24"}]]}`), 7, `runtimeConfig.ipRanges and ` +
				`ipam.ranges: ranges 10.88.0.1-10.88.0.254 and 10.88.0.1-10.88.0.254 overlap`,
		},
		{
			"mixed families",
			Request{},
			builtin(`"ranges": [[{"subnet": "10.88.0.0/24"}, {"subnet": "2001:db8::/64"}]]`), 7,
			`ipam.ranges: range set 1 mixes IPv4 and IPv6, 10.88.0.0/24 and 2001:db8::/64: want one set for each family`,
		},
		{
			"nothing left",
			Request{},
			excluding("10.88.0.0/16"), 7,
			`ipam: range set 1 (10.88.0.1-10.88.0.254) has nothing to lease: every address is excluded, a gateway, ` +
				`a network address or a broadcast address`,
		},
		{
			"two of a family before 0.3.0",
			Request{},
			`{"cniVersion": "0.2.0", "name": "net", "type": "ptp", "ipam": {
			"type": "veth", "ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "10.89.0.0/24"}]]}}`, 7,
			`ipam.ranges: more than one range set of a family, of which a result of cniVersion 0.2.0 has no room ` +
				`for the addresses; want at least 0.3.0`,
		},
		{"exclude", Request{}, excluding("10.88.0"), 7, `ipam.exclude[0]: "10.88.0"` + exclude},
		{
			"exclude with host bits",
			Request{},
			excluding("10.88.0.5/25"), 7,
			`ipam.exclude[0]: "10.88.0.5/25" is not valid: want 10.88.0.0/25, without host bits`,
		},

		{
			"no dst",
			Request{},
			routing(`"gw": "10.88.0.1"`), 7,
			`ipam.routes[0].dst: missing: want a subnet such as "10.88.0.0/16" or "2001:db8::/64"`,
		},
		{"dst", Request{}, routing(`"dst": "default"`), 7, `ipam.routes[0].dst: "default"` + prefix},
		{
			"dst with host bits",
			Request{},
			routing(`"dst": "10.1.2.3/8"`), 7,
			`ipam.routes[0].dst: "10.1.2.3/8" is not valid: want 10.0.0.0/8, without host bits`,
		},
		{
			"gw",
			Request{},
			routing(`"dst": "0.0.0.0/0", "gw": "router"`), 7,
			`ipam.routes[0].gw: "router" is not valid: want the address of a router`,
		},
		{
			"gw unspecified",
			Request{},
			routing(`"dst": "0.0.0.0/0", "gw": "0.0.0.0"`), 7,
			`ipam.routes[0].gw: "0.0.0.0" is not valid: want the address of a router`,
		},
		{
			"gw multicast",
			Request{},
			routing(`"dst": "::/0", "gw": "ff02::2"`), 7,
			`ipam.routes[0].gw: "ff02::2" is not valid: want the address of a router`,
		},
		{
			"gw of the other family",
			Request{},
			routing(`"dst": "0.0.0.0/0", "gw": "fe80::1"`), 7,
			`ipam.routes[0].gw: "fe80::1" is not valid: want an address of dst's family, 0.0.0.0/0`,
		},
		{
			"route mtu",
			Request{},
			routing(`"dst": "::/0", "mtu": 65536`), 7,
			`ipam.routes[0].mtu: 65536 is not valid: want 0 to 65535 bytes`,
		},
		{
			"advmss",
			Request{},
			routing(`"dst": "::/0", "advmss": -1`), 7,
			`ipam.routes[0].advmss: -1 is not valid: want 0 to 65535 bytes`,
		},
		{
			"priority",
			Request{},
			routing(`"dst": "::/0", "priority": -1`), 7,
			`ipam.routes[0].priority: -1 is not valid: want 0 to ` + mostWord,
		},
		{
			"table",
			Request{},
			routing(`"dst": "::/0", "table": 4294967296`), 7,
			`ipam.routes[0].table: 4294967296 is not valid: want 0 to ` + mostWord,
		},
		{
			"scope",
			Request{},
			routing(`"dst": "::/0", "scope": 256`), 7,
			`ipam.routes[0].scope: 256 is not valid: want 0 to 255, as in rtnetlink(7)`,
		},
	})
}

func TestBadRequested(t *testing.T) {
	const addr = ` is not valid: want an address such as "10.88.0.9" or "2001:db8::9"`
	args := func(ips string) string { return pooled(`"args": {"cni": {"ips": [` + ips + `]}}`) }
	runBad(t, []badCase{
		{"malformed", Request{}, args(`"10.88.0"`), 7, `args.cni.ips[0]: "10.88.0"` + addr},
		{"empty", Request{}, args(`""`), 7, `args.cni.ips[0]: ""` + addr},
		{"zone", Request{}, args(`"2001:db8::5%eth0"`), 7, `args.cni.ips[0]: "2001:db8::5%eth0"` + addr},
		{"prefix length", Request{}, args(`"10.88.0.5/33"`), 7, `args.cni.ips[0]: "10.88.0.5/33"` + addr},
		{"CNI_ARGS", Request{Args: "IP=x"}, pooled(), 4, `CNI_ARGS IP: "x"` + addr},
		{
			"outside",
			Request{},
			args(`"10.88.0.5", "10.99.0.1"`), 103,
			`args.cni.ips[1]: 10.99.0.1 is outside every range: 10.88.0.1-10.88.0.254, ` +
				`2001:db8::1-2001:db8::ffff:ffff:ffff:ffff`,
		},
		{
			"another prefix length than the range's",
			Request{Args: "IP=10.88.0.5/16"},
			pooled(), 4,
			`CNI_ARGS IP: "10.88.0.5/16" is not valid: want 10.88.0.5, or with the prefix length of its range, 10.88.0.5/24`,
		},
		{
			"another prefix length than the range's, in the configuration",
			Request{},
			pooled(`"runtimeConfig": {"ips": ["10.88.0.5/24", "2001:db8::5/48"]}`), 7,
			`runtimeConfig.ips[1]: "2001:db8::5/48" is not valid: want 2001:db8::5, or with the prefix length of its range, 2001:db8::5/64`,
		},
		{
			"excluded",
			Request{Args: "IP=10.88.0.9"},
			pooled(), 103,
			`CNI_ARGS IP: 10.88.0.9 is excluded by 10.88.0.9/32`,
		},
		{
			"gateway",
			Request{},
			pooled(`"runtimeConfig": {"ips": ["2001:db8::1/64"]}`), 103,
			`runtimeConfig.ips[0]: 2001:db8::1 is the gateway of subnet 2001:db8::/64`,
		},
		{"two of one set", Request{}, pooled(`"args": {"cni": {"ips": ["10.88.0.5"]}},
			"runtimeConfig": {"ips": ["2001:db8::5", "10.88.0.6"]}`), 7, `runtimeConfig.ips[1]: 10.88.0.6 and ` +
			`10.88.0.5 of args.cni.ips[0] are of the same range set, which gives an attachment one address`},
		{
			"twice",
			Request{},
			args(`"10.88.0.5", "10.88.0.5/24"`), 7,
			`args.cni.ips[1]: asks for 10.88.0.5 again, as args.cni.ips[0] does`,
		},
	})
}

func TestBadPrevResult(t *testing.T) {
	prev := func(result string) string { return veth(`"prevResult": ` + result) }
	const is = `prevResult: not a result of cniVersion 1.1.0: `
	runBad(t, []badCase{
		{
			"address",
			Request{},
			prev(`{"ips": [{"address": "10.0.0.1"}]}`), 6,
			is + `could not parse prevResult: invalid CIDR address: 10.0.0.1`,
		},
		{"no address", Request{}, prev(`{"ips": [{"gateway": "10.0.0.1"}]}`), 6, is + `an entry of ips has no address`},
		{"no dst", Request{}, prev(`{"routes": [{"gw": "10.0.0.1"}]}`), 6, is + `an entry of routes has no dst`},
		{
			"index",
			Request{},
			prev(`{"interfaces": [{"name": "eth0"}], "ips": [{"address": "10.0.0.5/8", "interface": 1}]}`),
			6, is + `the address 10.0.0.5/8 is on an interface that is not listed`,
		},
		{
			"negative index",
			Request{},
			prev(`{"ips": [{"address": "10.0.0.5/8", "interface": -1}]}`),
			6, is + `the address 10.0.0.5/8 is on an interface that is not listed`,
		},
		{"null", Request{}, prev(`{"interfaces": [null]}`), 6, is + `a list in it holds null`},
		{"another version", Request{}, prev(`{"cniVersion": "0.4.0"}`), 6, is + `could not parse prevResult: ` +
			`result type supports [1.0.0 1.1.0] but unmarshalled CNIVersion is "0.4.0"`},
	})
}

func TestBadVersion(t *testing.T) {
	const known = ` is not valid: want one of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0`
	const layer2 = ` is not valid: want at least 0.3.0 for a network without ipam (layer 2): ` +
		`an older result must have an address; a cniVersion left out is 0.1.0`
	version := func(v, keys string) string { return `{"cniVersion": "` + v + `", "name": "net", ` + keys + `}` }
	unknown := []badCase{
		{"none", Request{}, version("x", `"type": "veth"`), 1, `cniVersion: "x"` + known},
		{"of the future", Request{}, version("9.9.9", `"type": "veth"`), 1, `cniVersion: "9.9.9"` + known},
		{"short", Request{}, version("1.1", `"type": "veth"`), 1, `cniVersion: "1.1"` + known},
		{"number", Request{}, `{"cniVersion": 1, "name": "net"}`, 6, `cniVersion: 1 is not valid: want a string`},
	}
	runBad(t, unknown)
	runBad(t, []badCase{
		{"layer 2", Request{}, version("0.2.0", `"type": "veth"`), 7, `cniVersion: "0.2.0"` + layer2},
		{"layer 2 of type ptp", Request{}, version("0.1.0", `"type": "ptp"`), 7, `cniVersion: "0.1.0"` + layer2},
		{"layer 2 without a version", Request{}, `{"name": "net", "type": "bridge"}`, 7, `cniVersion: "0.1.0"` + layer2},
		{
			"an interface that stays down",
			Request{},
			version("0.2.0", `"type": "bridge", "disableContainerInterface": true`), 7, `cniVersion: "0.2.0"` + layer2,
		},
		{
			"a result before it without an address",
			Request{},
			version("0.2.0", `"type": "veth", "prevResult": {}`), 7, `cniVersion: "0.2.0"` + layer2,
		},
	})
	for _, tt := range unknown { // the same, without what Parse alone looks at
		_, err := Vet(Request{Config: []byte(tt.config)})
		if coded := cnierr.Of(err, 0); err == nil || coded.Code != tt.code || coded.Msg != tt.msg {
			t.Errorf("%s: Vet gave %v, want %s", tt.name, err, tt.msg)
		}
	}
	for _, v := range []string{`"0.1.0"`, `"1.1.0"`, `""`, `null`} {
		if _, err := Vet(Request{Config: []byte(`{"cniVersion": ` + v + `, "name": "net"}`)}); err != nil {
			t.Errorf("Vet refuses cniVersion %s: %v", v, err)
		}
	}
	if _, err := Vet(Request{Config: []byte(`{"cniVersion": "9", "name": "x", "name": "net", "cniVersion": "1.1.0"}`)}); err != nil {
		t.Errorf("Vet refuses what DEL can do with: %v", err)
	}
}

func TestBadAttachments(t *testing.T) {
	runBad(t, []badCase{
		{
			"object",
			Request{},
			veth(`"cni.dev/valid-attachments": {}`), 6,
			`cni.dev/valid-attachments: {} is not valid: want a list`,
		},
		{
			"element",
			Request{},
			veth(`"cni.dev/attachments": [{"containerID": 1}]`), 6,
			`cni.dev/attachments[0].containerID: 1 is not valid: want a string`,
		},
		{
			"half",
			Request{},
			veth(`"cni.dev/valid-attachments": [{"containerID": "a"}]`), 7,
			`cni.dev/valid-attachments[0]: missing: want containerID and ifname`,
		},
	})
}

// An error that a lower layer gave must stay reachable through the one Parse returns.
func TestErrorsUnwrap(t *testing.T) {
	_, err := Parse(Request{Config: []byte(`{"ipam": {"type": "veth"`)})
	if errors.Unwrap(err) == nil {
		t.Errorf("%v wraps nothing", err)
	}
}
