package netconf

import (
	"encoding/json"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/veth-cni/veth/pkg/lease"
)

var (
	addr   = netip.MustParseAddr
	prefix = netip.MustParsePrefix
)

func mustParse(t *testing.T, r Request) *Config {
	t.Helper()
	c, err := Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// The whole Config of configurations as operators write them, those of the reference plugins among them.
func TestParse(t *testing.T) {
	anyScope := int64(253)
	range4 := lease.Range{
		Subnet: prefix("10.88.0.0/24"), First: addr("10.88.0.1"), Last: addr("10.88.0.254"), Gateway: addr("10.88.0.1"),
	}
	range6 := lease.Range{
		Subnet: prefix("2001:db8::/64"), First: addr("2001:db8::10"), Last: addr("2001:db8::20"),
		Gateway: addr("2001:db8::3"),
	}
	for _, tt := range []struct {
		name string
		Request
		config string
		want   Config
	}{
		{
			name:   "shortest",
			config: `{"name": "net", "type": "veth", "ipam": {"type": "dhcp"}}`,
			want: Config{
				CNIVersion: "0.1.0", Network: "net", Type: TypeVeth, DefaultGateway: true, AntiSpoof: true, IPAM: IPAM{Type: "dhcp"},
			},
		},
		{
			name: "reference bridge",
			config: `{"cniVersion": "0.3.1", "name": "mynet", "type": "bridge", "bridge": "mynet0",
				"isDefaultGateway": true, "forceAddress": false, "ipMasq": true, "hairpinMode": true,
				"ipam": {"type": "host-local", "subnet": "10.10.0.0/16", "unknown": [1]}}`,
			want: Config{
				CNIVersion: "0.3.1", Network: "mynet", Type: TypeBridge, Mode: Bridged,
				Bridge: Bridge{Name: "mynet0", Gateway: true, Hairpin: true},
				IPMasq: true, DefaultGateway: true, IPAM: IPAM{Type: "host-local"},
			},
		},
		{
			name: "reference bridge, layer 2",
			config: `{"cniVersion": "0.3.1", "name": "mynet", "type": "bridge", "bridge": "",
				"disableContainerInterface": true, "vlan": 100, "preserveDefaultVlan": true,
				"vlanTrunk": [{"id": 300}, {"minID": 200, "maxID": 202}, {"id": 201}, {"minID": 4094, "maxID": 4094, "id": 1}],
				"portIsolation": true, "macspoofchk": true, "promiscMode": true, "isGateway": true, "ipam": {}}`,
			want: Config{
				CNIVersion: "0.3.1", Network: "mynet", Type: TypeBridge, Mode: Bridged,
				Bridge: Bridge{
					Name: "cni0", Gateway: true, Promisc: true, Isolated: true, MACLocked: true,
					VLAN: 100, Trunk: []uint16{1, 200, 201, 202, 300, 4094}, PreserveDefaultVLAN: true,
				},
				DisableContainerInterface: true,
			},
		},
		{
			name: "reference ptp",
			config: `{"cniVersion": "1.0.0", "name": "mynet", "type": "ptp", "ipMasq": true, "ipMasqBackend": "iptables",
				"mtu": 512, "ipam": {"type": "host-local", "subnet": "10.1.1.0/24"},
				"dns": {"nameservers": ["10.1.1.1", "8.8.8.8"], "domain": "a", "search": ["b"], "options": ["c"]}}`,
			want: Config{
				CNIVersion: "1.0.0", Network: "mynet", Type: TypePTP, MTU: 512, IPMasq: true, AntiSpoof: true,
				IPAM: IPAM{Type: "host-local"},
				DNS: types.DNS{
					Nameservers: []string{"10.1.1.1", "8.8.8.8"}, Domain: "a", Search: []string{"b"}, Options: []string{"c"},
				},
			},
		},
		{
			name: "everything of the built-in IPAM",
			Request: Request{
				ContainerID: "c1", IfName: "eth0", Netns: "/run/netns/x",
				Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u=1;X=y",
			},
			config: `{"cniVersion": "1.1.0", "name": "pods", "type": "veth", "bridge": "br0", "isGateway": true,
				"enabledad": true, "syncDelete": true, "mtu": 1280, "ipMasqBackend": "nftables", "capabilities": {"ips": true, "zz": true},
				"forceAddress": true,
				"args": {"cni": {"ips": ["10.88.0.7/24"], "zz": 1}, "zz": {}}, "example.com/x": 1, "a/b": 1,
				"runtimeConfig": {"mac": "02:00:00:00:00:01", "ips": ["::ffff:10.89.0.5"], "zz": 1,
					"ipRanges": [[{"subnet": "2001:db8::/64", "rangeStart": "2001:db8::10", "rangeEnd": "2001:db8::20",
						"gateway": "2001:db8::3", "zz": 1}]]},
				"ipam": {"type": "veth", "subnet": "10.88.0.0/24", "x/y": 1,
					"ranges": [[{"subnet": "::ffff:10.89.0.0/120", "a.b": 1, "rangeStart": null}]],
					"exclude": ["10.88.0.128/25", "10.88.0.9", "2001:db8::11", "::ffff:10.88.0.8"],
					"routes": [{"dst": "0.0.0.0/0"}, {"dst": "2001:db8:1::/48", "gw": "2001:db8::9", "mtu": 1400,
						"advmss": 1200, "priority": 50, "table": 100, "scope": 253}, {"dst": "::ffff:10.0.0.0/104"}],
					"resolvConf": "/etc/resolv.conf", "dataDir": "/var/lib/cni"}}`,
			want: Config{
				CNIVersion: "1.1.0", Network: "pods", Type: TypeVeth, Mode: Bridged, MTU: 1280, EnableDAD: true, SyncDelete: true,
				Attachment: Attachment{
					ContainerID: "c1", IfName: "eth0", Netns: "/run/netns/x", PodNamespace: "ns", PodName: "pod",
				},
				MAC:    net.HardwareAddr{2, 0, 0, 0, 0, 1},
				Bridge: Bridge{Name: "br0", Gateway: true, ForceAddress: true},
				IPAM: IPAM{
					Type: IPAMBuiltin,
					Pool: lease.Pool{
						Sets: []lease.Set{{range6}, {range4}, {{
							Subnet: prefix("10.89.0.0/24"), First: addr("10.89.0.1"), Last: addr("10.89.0.254"),
							Gateway: addr("10.89.0.1"),
						}}},
						Exclude: []netip.Prefix{
							prefix("10.88.0.128/25"), prefix("10.88.0.9/32"), prefix("2001:db8::11/128"), prefix("10.88.0.8/32"),
						},
					},
					Requested: []netip.Addr{addr("10.88.0.7"), addr("10.89.0.5")},
					Routes: []Route{
						{Dst: prefix("0.0.0.0/0")},
						{
							Dst: prefix("2001:db8:1::/48"), Via: addr("2001:db8::9"), MTU: 1400, AdvMSS: 1200,
							Priority: 50, Table: 100, Scope: &anyScope,
						},
						{Dst: prefix("10.0.0.0/8")},
					},
					ResolvConf: "/etc/resolv.conf",
				},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.Config = []byte(tt.config)
			tt.want.Raw = tt.Config
			equal(t, "Config", *mustParse(t, tt.Request), tt.want)
		})
	}
}

func TestDefaultGateway(t *testing.T) {
	for _, tt := range []struct {
		name, keys       string
		inside, onBridge bool
	}{
		{"veth", `"type": "veth"`, true, false},
		{"veth true", `"type": "veth", "isDefaultGateway": true`, true, false},
		{"veth false", `"type": "veth", "isDefaultGateway": false`, false, false},
		{"veth null", `"type": "veth", "isDefaultGateway": null`, true, false},
		{"veth with bridge", `"type": "veth", "bridge": "br0"`, false, false},
		{"veth with bridge true", `"type": "veth", "bridge": "br0", "isDefaultGateway": true`, true, true},
		{"bridge", `"type": "bridge", "isGateway": true`, false, true},
		{"bridge true", `"type": "bridge", "isDefaultGateway": true, "isGateway": false`, true, true},
		{"ptp", `"type": "ptp"`, false, false},
		{"ptp false", `"type": "ptp", "isDefaultGateway": false`, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, Request{Config: []byte(`{"cniVersion": "1.1.0", "name": "net", ` + tt.keys + `}`)})
			equal(t, "DefaultGateway", c.DefaultGateway, tt.inside)
			equal(t, "Bridge.Gateway", c.Bridge.Gateway, tt.onBridge)
		})
	}
}

// The address that every container in routed mode takes for the host is no container's.
func TestRoutedGatewayIsNotLeased(t *testing.T) {
	const gateway = "169.254.1.1"
	inRange := func(kind string, more ...string) string {
		return `{"cniVersion": "1.1.0", "name": "net", "type": "` + kind + `", ` + strings.Join(append(more, `"ipam": {
			"type": "veth", "subnet": "169.254.0.0/16"}`), ", ") + `}`
	}
	for _, tt := range []struct {
		name, config string
		leased       bool
	}{
		{"routed", inRange("veth"), false},
		{"ptp, whose gateway is the range's", inRange("ptp"), true},
		{"bridge", inRange("veth", `"bridge": "br0"`), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pool := mustParse(t, Request{Config: []byte(tt.config)}).IPAM.Pool
			if err := pool.Usable(addr(gateway)); (err == nil) != tt.leased {
				t.Errorf("Usable(%s): %v, want it leased: %v", gateway, err, tt.leased)
			}
		})
	}
}

// Values at the edges of what is allowed.
func TestEdges(t *testing.T) {
	for _, tt := range []struct {
		name string
		Request
		config string
	}{
		{"mtu 0", Request{}, veth(`"mtu": 0`)},
		{"mtu 68", Request{}, veth(`"mtu": 68`)},
		{"mtu 65535", Request{}, veth(`"mtu": 65535`)},
		{"mtu 1280 with IPv6", Request{}, pooled(`"mtu": 1280`)},
		{"mtu 68 with IPv4 alone", Request{}, veth(`"ipam": {"type": "veth", "subnet": "10.88.0.0/30"}`, `"mtu": 68`)},
		{"vlan 4094", Request{}, bridged(`"vlan": 4094`)},
		{"gateway's interface of 15 bytes", Request{}, pooled(`"bridge": "bridge-net", "isGateway": true, "vlan": 1000`)},
		{"gateway's interface not in layer 2", Request{}, veth(`"bridge": "bridge-net-0000", "isGateway": true, "vlan": 1`)},
		{"gateway on the bridge itself", Request{}, pooled(`"bridge": "bridge-net-0000", "isGateway": true`)},
		{"vlan without a gateway", Request{}, pooled(`"bridge": "bridge-net-0000", "vlan": 1`)},
		{"names of 15 bytes", Request{IfName: "0123456789abcde"}, veth(`"bridge": "0123456789abcde"`)},
		{"ineffective keys of a bridge", Request{}, veth(`"bridge": "", "isGateway": false, "vlan": 0, "vlanTrunk": [],
			"macspoofchk": null`)},
		{"version 0.2.0 with one set of each family", Request{}, `{"cniVersion": "0.2.0", "name": "n", "type": "veth",
			"ipam": {"type": "veth", "ranges": [[{"subnet": "10.0.0.0/8"}], [{"subnet": "2001:db8::/64"}]]}}`},
		{"version 0.3.0 with two sets of a family", Request{}, `{"cniVersion": "0.3.0", "name": "n", "type": "veth",
			"ipam": {"type": "veth", "ranges": [[{"subnet": "10.0.0.0/8"}], [{"subnet": "172.16.0.0/12"}]]}}`},
		{"layer 2 in version 0.3.0", Request{}, `{"cniVersion": "0.3.0", "name": "n", "type": "veth"}`},
		{"nulls", Request{}, veth(`"ipam": null, "dns": null, "args": null, "runtimeConfig": {"ips": null, "ipRanges": null},
			"prevResult": null, "vlanTrunk": null, "capabilities": null`)},
		{"IgnoreUnknown after the key", Request{Args: "A=b;IgnoreUnknown=True"}, veth()},
		{"a delegate's requests are its own", Request{Args: "IP=x"}, veth(`"ipam": {"type": "dhcp"},
			"args": {"cni": {"ips": 5}}, "runtimeConfig": {"ips": "?", "ipRanges": 7}`)},
		{"a losing MAC is not read", Request{Args: "MAC=x"}, veth(`"runtimeConfig": {"mac": "02:00:00:00:00:01"}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.Config = []byte(tt.config)
			mustParse(t, tt.Request)
		})
	}
}

func TestMACPrecedence(t *testing.T) {
	const envMAC, argsMAC, runtimeMAC = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
	for _, tt := range []struct{ name, env, args, runtime, want string }{
		{"none", "", "", "", ""},
		{"CNI_ARGS", envMAC, "", "", envMAC},
		{"args", "", argsMAC, "", argsMAC},
		{"runtimeConfig", "", "", runtimeMAC, runtimeMAC},
		{"args over CNI_ARGS", envMAC, argsMAC, "", argsMAC},
		{"runtimeConfig over CNI_ARGS", envMAC, "", runtimeMAC, runtimeMAC},
		{"runtimeConfig over args", envMAC, argsMAC, runtimeMAC, runtimeMAC},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, Request{
				Args: "MAC=" + tt.env,
				Config: []byte(veth(`"args": {"cni": {"mac": "`+tt.args+`"}}`,
					`"runtimeConfig": {"mac": "`+tt.runtime+`"}`)),
			})
			equal(t, "MAC", c.MAC.String(), tt.want)
		})
	}
}

func TestRequested(t *testing.T) {
	for _, tt := range []struct{ name, env, args, runtime, want string }{
		{"none", "", "null", "null", `null`},
		{"CNI_ARGS", "10.88.0.5", "null", "null", `["10.88.0.5"]`},
		{"CNI_ARGS with the length of an address", "10.88.0.5/32", "null", "null", `["10.88.0.5"]`},
		{"CNI_ARGS with length", "10.88.0.5/24", "null", "null", `["10.88.0.5"]`},
		{"args hides CNI_ARGS", "10.88.0.5", `["10.88.0.6"]`, "null", `["10.88.0.6"]`},
		{"empty args hides CNI_ARGS", "garbage", `[]`, "null", `null`},
		{"runtimeConfig adds to CNI_ARGS", "10.88.0.5", "null", `["2001:db8::5"]`, `["10.88.0.5", "2001:db8::5"]`},
		{"runtimeConfig adds to args", "", `["2001:db8::5/64"]`, `["10.88.0.5"]`, `["2001:db8::5", "10.88.0.5"]`},
		{"one address in two ways", "10.88.0.5", "null", `["10.88.0.5/24"]`, `["10.88.0.5"]`},
		{"mapped", "", `["::ffff:10.88.0.5"]`, "null", `["10.88.0.5"]`},
		{"mapped with length", "", `["::ffff:10.88.0.5/120"]`, "null", `["10.88.0.5"]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want []netip.Addr
			if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
				t.Fatal(err)
			}
			c := mustParse(t, Request{
				Args: "IP=" + tt.env,
				Config: []byte(pooled(`"args": {"cni": {"ips": `+tt.args+`}}`,
					`"runtimeConfig": {"ips": `+tt.runtime+`}`)),
			})
			equal(t, "Requested", c.IPAM.Requested, want)
		})
	}
}

func TestPrevResult(t *testing.T) {
	const modern = `{"interfaces": [{"name": "eth0", "sandbox": "/n"}],
		"ips": [{"address": "10.0.0.5/8", "gateway": "10.0.0.1", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}]}`
	const dated = `{"interfaces": [{"name": "eth0", "sandbox": "/n"}],
		"ips": [{"version": "4", "address": "10.0.0.5/8", "gateway": "10.0.0.1", "interface": 0}]}`
	for _, tt := range []struct{ version, result string }{
		{"0.1.0", `{"ip4": {"ip": "10.0.0.5/8", "gateway": "10.0.0.1"}}`},
		{"0.2.0", `{"ip4": {"ip": "10.0.0.5/8", "gateway": "10.0.0.1", "routes": [{"dst": "0.0.0.0/0"}]}}`},
		{"0.3.0", dated},
		{"0.3.1", dated},
		{"0.4.0", dated},
		{"1.0.0", modern},
		{"1.1.0", modern},
	} {
		t.Run(tt.version, func(t *testing.T) {
			r := Request{Config: []byte(`{"cniVersion": "` + tt.version + `", "name": "n", "type": "ptp", "prevResult": ` +
				tt.result + `}`)}
			c := mustParse(t, r)
			if c.Prev == nil || len(c.Prev.IPs) != 1 {
				t.Fatalf("Prev is %+v, want one address", c.Prev)
			}
			equal(t, "version", c.Prev.Version(), "1.1.0")
			equal(t, "address", c.Prev.IPs[0].Address.String(), "10.0.0.5/8")
			equal(t, "gateway", c.Prev.IPs[0].Gateway.String(), "10.0.0.1")
			equal(t, "lenient Prev", ParseLenient(r).Prev, c.Prev)
		})
	}
	if c := mustParse(t, Request{Config: []byte(veth())}); c.Prev != nil {
		t.Errorf("Prev is %+v without a prevResult", c.Prev)
	}
}

func TestValidAttachments(t *testing.T) {
	const newer, older = `"cni.dev/valid-attachments": `, `"cni.dev/attachments": `
	one := []Attachment{{ContainerID: "a", IfName: "eth0"}}
	for _, tt := range []struct {
		name  string
		keys  []string
		want  []Attachment
		given bool
	}{
		{"absent", nil, nil, false},
		{"null", []string{newer + `null`}, nil, false},
		{"empty", []string{newer + `[]`}, []Attachment{}, true},
		{"one", []string{newer + `[{"containerID": "a", "ifname": "eth0", "other": 1}]`}, one, true},
		{"older", []string{older + `[{"containerID": "a", "ifname": "eth0"}]`}, one, true},
		{"older empty", []string{older + `[]`}, []Attachment{}, true},
		{"older null", []string{older + `null`}, nil, false},
		{"newer first", []string{newer + `[{"containerID": "a", "ifname": "eth0"}]`, older + `[]`}, one, true},
		{"newer null hides older", []string{newer + `null`, older + `[]`}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Request{Config: []byte(veth(tt.keys...))}
			for _, c := range []*Config{mustParse(t, r), ParseLenient(r)} {
				equal(t, "Valid", c.Valid, tt.want)
				equal(t, "ValidGiven", c.ValidGiven, tt.given)
			}
		})
	}
}

func TestParseLenient(t *testing.T) {
	env := Request{ContainerID: "c1", IfName: "eth0", Netns: "/n", Args: "bad;K8S_POD_NAMESPACE=ns;X=1;K8S_POD_NAME=pod"}
	attachment := Attachment{ContainerID: "c1", IfName: "eth0", Netns: "/n", PodNamespace: "ns", PodName: "pod"}
	for _, tt := range []struct {
		name, config string
		want         Config
	}{
		{"not JSON", `{`, Config{CNIVersion: "0.1.0"}},
		{"empty", `{}`, Config{CNIVersion: "0.1.0"}},
		{
			"wrong everywhere",
			`{"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0", "ipMasq": true, "mtu": "x", "vlan": -1,
				"isDefaultGateway": 5, "vlanTrunk": [null], "dns": 1, "args": 2, "runtimeConfig": 3, "capabilities": 4, "what": 5,
				"prevResult": 6, "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}, {"containerID": "b"}],
				"ipam": {"type": "veth", "ranges": 7, "what": 8}}`,
			Config{
				CNIVersion: "1.1.0", Network: "net", Type: TypeBridge, Mode: Bridged, Bridge: Bridge{Name: "br0"},
				IPMasq: true, IPAM: IPAM{Type: IPAMBuiltin},
			},
		},
		{
			"wrong in what is wanted",
			`{"cniVersion": 1, "name": 2, "type": 3, "bridge": 4, "ipMasq": 5, "ipam": 6, "prevResult": {"ips": [null]}}`,
			Config{CNIVersion: "0.1.0"},
		},
		{
			"names that no kernel and no directory has",
			`{"name": "net", "type": "bridge", "bridge": "a/b", "ipam": {"type": "../x"}}`,
			Config{CNIVersion: "0.1.0", Network: "net", Type: TypeBridge, Mode: Bridged},
		},
		{
			"bridge by default", `{"name": "net", "type": "bridge", "ipam": {"type": "dhcp"}}`,
			Config{
				CNIVersion: "0.1.0", Network: "net", Type: TypeBridge, Mode: Bridged, Bridge: Bridge{Name: "cni0"},
				IPAM: IPAM{Type: "dhcp"},
			},
		},
		{
			"ptp has no bridge", `{"name": "net", "type": "ptp", "bridge": "br0"}`,
			Config{CNIVersion: "0.1.0", Network: "net", Type: TypePTP},
		},
		{
			"a policy that nobody knows", `{"name": "net", "type": "ptp", "ingressPolicy": "closed", "antiSpoof": 1}`,
			Config{CNIVersion: "0.1.0", Network: "net", Type: TypePTP, Ingress: IngressUnreadable},
		},
		{
			"given twice: the last",
			`{"name": "x", "name": "net", "type": "veth", "type": "ptp", "ipMasq": false, "ipMasq": true,
				"ipam": {"type": "veth", "type": "dhcp"}, "capabilities": {"mac": 1, "mac": 2}}`,
			Config{CNIVersion: "0.1.0", Network: "net", Type: TypePTP, IPMasq: true, IPAM: IPAM{Type: "dhcp"}},
		},
		{
			"what DEL heeds beside what cannot be read",
			`{"name": "net", "type": "ptp", "ingressPolicy": "isolated", "syncDelete": true, "mtu": "x"}`,
			Config{CNIVersion: "0.1.0", Network: "net", Type: TypePTP, Ingress: IngressIsolated, SyncDelete: true},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := env
			r.Config = []byte(tt.config)
			tt.want.Attachment, tt.want.Raw = attachment, r.Config
			equal(t, "Config", *ParseLenient(r), tt.want)
			if _, err := Parse(r); err == nil {
				t.Error("Parse takes it as well: the row shows nothing")
			}
		})
	}
}

// Every field of a raw struct must have a tag: the tags are the list of known keys.
func TestKnownKeys(t *testing.T) {
	for _, raw := range []any{
		rawConfig{}, rawTrunk{}, rawArgs{}, rawRuntime{}, rawAttachment{}, rawIPAM{}, rawRange{}, rawRoute{},
	} {
		var seen []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(raw)) {
			if f.Anonymous {
				continue
			}
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if key == "" || slices.Contains(seen, key) {
				t.Errorf("%T.%s has no key of its own", raw, f.Name)
			}
			seen = append(seen, key)
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[rawRuntime]()) {
		if !slices.Contains(capable, f.Tag.Get("json")) {
			t.Errorf("%q is none of the capabilities", f.Tag.Get("json"))
		}
	}
}
