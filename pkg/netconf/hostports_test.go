package netconf

import (
	"net/netip"
	"testing"

	"github.com/veth-cni/veth/pkg/cnierr"
)

func mapped(mappings string) string {
	return pooled(`"runtimeConfig": {"portMappings": ` + mappings + `}`)
}

func TestHostPorts(t *testing.T) {
	for _, tt := range []struct {
		name, config string
		want         HostPorts
	}{
		{"none", pooled(), HostPorts{}},
		{"the capability alone", pooled(`"capabilities": {"portMappings": true}`), HostPorts{Capable: true}},
		{"defaults", mapped(`[{"hostPort": 8080, "containerPort": 80}]`), HostPorts{
			Mappings: []PortMapping{{Protocol: TCP, HostPort: 8080, ContainerPort: 80}},
		}},
		{
			"protocols in any case, addresses, unused ports",
			mapped(`[{"hostPort": 1, "containerPort": 2, "protocol": "UDP", "hostIP": "192.0.2.1"},
				{"hostPort": 1, "containerPort": 2, "protocol": "sctp", "hostIP": "::ffff:192.0.2.1"},
				{"hostPort": 0, "containerPort": 99999, "protocol": "nonsense"},
				{"hostPort": 1, "containerPort": 2, "protocol": "Tcp", "hostIP": "0.0.0.0"},
				{"hostPort": 1, "containerPort": 2, "protocol": "tcp", "hostIP": "::"},
				{"hostPort": 65535, "containerPort": 65535, "hostIP": "192.0.2.1", "other": 1},
				{"hostPort": 65535, "containerPort": 65535, "hostIP": "192.0.2.2"}]`),
			HostPorts{Mappings: []PortMapping{
				{Protocol: UDP, Host: addr("192.0.2.1"), HostPort: 1, ContainerPort: 2},
				{Protocol: SCTP, Host: addr("192.0.2.1"), HostPort: 1, ContainerPort: 2},
				{Protocol: TCP, Host: addr("0.0.0.0"), HostPort: 1, ContainerPort: 2},
				{Protocol: TCP, Host: addr("::"), HostPort: 1, ContainerPort: 2},
				{Protocol: TCP, Host: addr("192.0.2.1"), HostPort: 65535, ContainerPort: 65535},
				{Protocol: TCP, Host: addr("192.0.2.2"), HostPort: 65535, ContainerPort: 65535},
			}},
		},
		{
			"as containerd writes them", mapped(`[{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "192.0.2.1"}]`),
			HostPorts{Mappings: []PortMapping{{Protocol: TCP, Host: addr("192.0.2.1"), HostPort: 8080, ContainerPort: 80}}},
		},
		{
			"settings", pooled(`"snat": true, "masqAll": true, "hostPortInUse": "warn",
				"hostPortSources": ["192.0.2.7/24", "::/0"], "hostPortAddresses": ["192.0.2.1", "2001:db8::1"]`),
			HostPorts{
				MasqueradeAll: true, InUse: InUseWarn, Sources: []netip.Prefix{prefix("192.0.2.0/24"), prefix("::/0")},
				Addresses: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")},
			},
		},
		{"without snat", pooled(`"snat": false, "hostPortInUse": "ignore"`), HostPorts{KeepSources: true, InUse: InUseIgnore}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Request{Config: []byte(tt.config)}
			equal(t, "HostPorts", mustParse(t, r).HostPorts, tt.want)
			lenient := ParseLenient(r).HostPorts
			equal(t, "lenient mappings", lenient.Mappings, tt.want.Mappings)
			equal(t, "lenient addresses", lenient.Addresses, tt.want.Addresses)
		})
	}
}

// containerd's ranges come like its mappings.
func TestRangesAsContainerdWritesThem(t *testing.T) {
	c := mustParse(t, Request{Config: []byte(veth(`"ipam": {"type": "veth"}, "runtimeConfig": {"ipRanges":
		[[{"Subnet": "10.88.0.0/24", "RangeStart": "10.88.0.10", "RangeEnd": "", "Gateway": ""}]]}`))})
	if first := c.IPAM.Pool.Sets[0][0].First; first != addr("10.88.0.10") {
		t.Errorf("the first address is %s", first)
	}
}

func TestBadHostPorts(t *testing.T) {
	const path = "runtimeConfig.portMappings"
	twice := func(a, b string) string {
		return mapped(`[{"hostPort": 8080, "containerPort": 80` + a + `}, {"hostPort": 8080, "containerPort": 81` + b + `}]`)
	}
	runBad(t, []badCase{
		{
			name: "not a list", config: mapped(`{}`), code: cnierr.DecodingFailure,
			msg: path + `: {} is not valid: want a list`,
		},
		{
			name: "not a number", config: mapped(`[{"hostPort": "80"}]`), code: cnierr.DecodingFailure,
			msg: path + `[0].hostPort: "80" is not valid: want an integer`,
		},
		{
			name: "host port", config: mapped(`[{"hostPort": 65536, "containerPort": 80}]`), code: cnierr.InvalidConfig,
			msg: path + `[0].hostPort: 65536 is not valid: want 1 to 65535`,
		},
		{
			name: "container port", config: mapped(`[{"hostPort": 80}]`), code: cnierr.InvalidConfig,
			msg: path + `[0].containerPort: 0 is not valid: want 1 to 65535`,
		},
		{
			name: "protocol", config: mapped(`[{"hostPort": 80, "containerPort": 80, "protocol": "icmp"}]`),
			code: cnierr.UnsupportedField, msg: path + `[0].protocol: "icmp" is not valid: want "tcp", "udp" or "sctp"`,
		},
		{
			name: "address", config: mapped(`[{"hostPort": 80, "containerPort": 80, "hostIP": "fe80::1%eth0"}]`),
			code: cnierr.InvalidConfig,
			msg:  path + `[0].hostIP: "fe80::1%eth0" is not valid: want an address of the host, such as 192.0.2.1`,
		},
		{
			name: "loopback of IPv6", config: mapped(`[{"hostPort": 80, "containerPort": 80, "hostIP": "::1"}]`),
			code: cnierr.InvalidConfig, msg: path + `[0].hostIP: "::1" is not valid: want another address: ` +
				`the kernel lets no connection to ::1 leave the host's loopback interface`,
		},
		{
			name: "twice", config: twice("", ""), code: cnierr.InvalidConfig,
			msg: path + `[1]: tcp 8080 is asked for twice, the other time as tcp 8080`,
		},
		{
			name: "on one address and on all", config: twice(`, "hostIP": "0.0.0.0"`, `, "hostIP": "192.0.2.1"`),
			code: cnierr.InvalidConfig,
			msg:  path + `[1]: tcp 192.0.2.1:8080 is asked for twice, the other time as tcp 0.0.0.0:8080`,
		},
		{
			name: "on all and on those of a family", config: twice(``, `, "hostIP": "::"`), code: cnierr.InvalidConfig,
			msg: path + `[1]: tcp [::]:8080 is asked for twice, the other time as tcp 8080`,
		},
		{
			name:   "without addresses",
			config: bridged(`"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80}]}`), code: cnierr.InvalidConfig,
			msg: path + `: contradicts a network without ipam: a container without an address cannot have ports of the host`,
		},
		{
			name: "masqAll without snat", config: pooled(`"snat": false, "masqAll": true`), code: cnierr.InvalidConfig,
			msg: `masqAll: contradicts snat: false, want at most one of them`,
		},
		{
			name: "in use", config: pooled(`"hostPortInUse": "no"`), code: cnierr.UnsupportedField,
			msg: `hostPortInUse: "no" is not valid: want "refuse", "warn" or "ignore"`,
		},
		{
			name: "sources", config: pooled(`"hostPortSources": ["192.0.2.1"]`), code: cnierr.InvalidConfig,
			msg: `hostPortSources[0]: "192.0.2.1" is not valid: want a prefix, such as 192.0.2.0/24`,
		},
		{
			name: "addresses", config: pooled(`"hostPortAddresses": ["192.0.2.0/24"]`), code: cnierr.InvalidConfig,
			msg: `hostPortAddresses[0]: "192.0.2.0/24" is not valid: want an address of the host, such as 192.0.2.1`,
		},
		{
			name: "all addresses", config: pooled(`"hostPortAddresses": ["192.0.2.1", "::"]`), code: cnierr.InvalidConfig,
			msg: `hostPortAddresses[1]: "::" is not valid: want addresses of the host, each once`,
		},
		{
			name: "a misspelt key", config: pooled(`"hostPortSource": []`), code: cnierr.UnsupportedField,
			msg: `hostPortSource: unknown key with value []; did you mean "hostPortSources"?`,
		},
	})
}

// DEL takes what it can read.
func TestLenientHostPorts(t *testing.T) {
	got := ParseLenient(Request{Config: []byte(mapped(`[{"hostPort": "x"}, {"hostPort": 8080, "containerPort": 80},
		{"hostPort": 8081}, {"hostPort": 0}, {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "nowhere"}]`))})
	equal(t, "mappings", got.HostPorts.Mappings, []PortMapping{{Protocol: TCP, HostPort: 8080, ContainerPort: 80}})
}

// And so does its bandwidth.
func TestBandwidthAsContainerdWritesIt(t *testing.T) {
	c := mustParse(t, Request{Config: []byte(pooled(`"runtimeConfig": {"bandwidth":
		{"IngressRate": 1000000, "IngressBurst": 8000, "EgressRate": 2000000, "EgressBurst": 8000}}`))})
	if c.Bandwidth.Ingress.Rate != 1000000 || c.Bandwidth.Egress.Rate != 2000000 {
		t.Errorf("got %+v", c.Bandwidth)
	}
}
