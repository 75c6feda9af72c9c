package netconf

import (
	"encoding/json"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// annotated is a configuration that allows some words, on top of base, of a pod with annotations "name=value".
func annotated(base func(...string) string, allow string, notes ...string) string {
	all := map[string]string{"example.com/mtu": "9", "mtu": "9", "veth-cni.github.io": "x", "kubernetes.io/config.seen": "\n"}
	for _, note := range notes {
		name, value, _ := strings.Cut(note, "=")
		all[AnnotationPrefix+name] = value
	}
	text, _ := json.Marshal(map[string]any{"io.kubernetes.cri.pod-annotations": all})
	words, _ := json.Marshal(strings.Fields(allow))
	return base(`"allowPodAnnotations": `+string(words), `"runtimeConfig": `+string(text))
}

func TestAnnotations(t *testing.T) {
	mac := func(s string) net.HardwareAddr { m, _ := net.ParseMAC(s); return m }
	for _, tt := range []struct {
		name, config, args string
		mac                net.HardwareAddr
		podMTU             int
		requested          []netip.Addr
	}{
		{"none of ours", annotated(pooled, ""), "", nil, 0, nil},
		{"null is none", pooled(`"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"veth-cni.github.io/mtu": null}}`), "", nil, 0, nil},
		{"null is none of all", pooled(`"runtimeConfig": {"io.kubernetes.cri.pod-annotations": null}`), "", nil, 0, nil},
		{"others' of any type", pooled(`"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"x": 5}}`), "", nil, 0, nil},
		{
			"all", annotated(pooled, "mtu address mac", "address=10.88.0.5, 2001:db8::5", "mac=02:00:00:00:00:07", "mtu=1400"), "",
			mac("02:00:00:00:00:07"), 1400,
			[]netip.Addr{addr("10.88.0.5"), addr("2001:db8::5")},
		},
		{"allowed and not asked for", annotated(pooled, "mtu address mac"), "", nil, 0, nil},
		{"with a prefix length", annotated(pooled, "address", "address=10.88.0.5/24"), "", nil, 0, []netip.Addr{addr("10.88.0.5")}},
		{
			"MAC where only the host sees it", annotated(func(k ...string) string { return pooled(append(k, `"antiSpoof": true`)...) },
				"mac", "mac=02:00:00:00:00:07"), "",
			mac("02:00:00:00:00:07"), 0, nil,
		},
		{"MAC of the runtime wins", annotated(pooled, "mac", "mac=02:00:00:00:00:07"), "MAC=02:00:00:00:00:09", mac("02:00:00:00:00:09"), 0, nil},
		{
			"MAC of the network yields", annotated(func(k ...string) string { return pooled(append(k, `"mac": "02:00:00:00:00:09"`)...) },
				"mac", "mac=02:00:00:00:00:07"), "",
			mac("02:00:00:00:00:07"), 0, nil,
		},
		{
			"address the runtime asks for too", annotated(pooled, "address", "address=10.88.0.5"), "IP=10.88.0.5", nil, 0,
			[]netip.Addr{addr("10.88.0.5")},
		},
		{
			"address beside the runtime's other family", annotated(pooled, "address", "address=10.88.0.5"), "IP=2001:db8::5", nil, 0,
			[]netip.Addr{addr("10.88.0.5"), addr("2001:db8::5")},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, Request{Args: tt.args, Config: []byte(tt.config)})
			equal(t, "MAC", c.MAC, tt.mac)
			equal(t, "MTU", c.PodMTU, tt.podMTU)
			equal(t, "requested", c.IPAM.Requested, tt.requested)
		})
	}
}

func TestContainerMTU(t *testing.T) {
	network := func(key string) func(...string) string {
		return func(k ...string) string { return pooled(append(k, key)...) }
	}
	for _, tt := range []struct {
		name, config  string
		world, bridge int
		mtu, inside   int
	}{
		{"no wish", annotated(network(`"mtu": 1500`), ""), 9000, 0, 1500, 1500},
		{"less than the network's", annotated(network(`"mtu": 1500`), "mtu", "mtu=1300"), 9000, 0, 1500, 1300},
		{"more than the network's", annotated(network(`"mtu": 1500`), "mtu", "mtu=9000"), 9000, 0, 1500, 1500},
		{"less than the way out", annotated(network(`"mtu": 0`), "mtu", "mtu=1300"), 1400, 0, 1400, 1300},
		{"more than the way out", annotated(network(`"mtu": 0`), "mtu", "mtu=1450"), 1400, 0, 1400, 1400},
		{"more than the bridge", annotated(network(`"mtu": 0`), "mtu", "mtu=1450"), 9000, 1400, 1400, 1400},
		{"nothing known", annotated(network(`"mtu": 0`), "mtu", "mtu=1300"), 0, 0, 1500, 1300},
		{"nothing known, more", annotated(network(`"mtu": 0`), "mtu", "mtu=9000"), 0, 0, 1500, 1500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, Request{Config: []byte(tt.config)}).Sized(tt.world, tt.bridge)
			equal(t, "network's", c.MTU, tt.mtu)
			equal(t, "container's", c.ContainerMTU(), tt.inside)
		})
	}
	equal(t, "not known yet", (&Config{PodMTU: 1300}).ContainerMTU(), 0)
}

// A pod may close itself to more than its network does, and never open itself to more.
func TestContainerIngress(t *testing.T) {
	order := []IngressPolicy{IngressOpen, IngressSameNetwork, IngressIsolated}
	for _, theirs := range order {
		for _, own := range order {
			t.Run(theirs.String()+" and "+own.String(), func(t *testing.T) {
				network := func(k ...string) string { return pooled(append(k, `"ingressPolicy": "`+theirs.String()+`"`)...) }
				c := mustParse(t, Request{Config: []byte(annotated(network, "ingressPolicy", "ingressPolicy="+own.String()))})
				equal(t, "network's", c.Ingress, theirs)
				equal(t, "pod's", c.PodIngress, own)
				equal(t, "container's", c.ContainerIngress(), max(theirs, own))
				equal(t, "allowed", c.PodIngressAllowed, true)
			})
		}
	}
	same := mustParse(t, Request{Config: []byte(annotated(pooled, "ingressPolicy", "ingressPolicy=same-bridge"))})
	equal(t, "same-bridge", same.ContainerIngress(), IngressSameNetwork)
	unreadable := Config{Ingress: IngressUnreadable, PodIngress: IngressIsolated}
	equal(t, "unreadable", unreadable.ContainerIngress(), IngressUnreadable)
}

func TestPodBandwidth(t *testing.T) {
	network := func(key string) func(...string) string {
		return func(k ...string) string { return pooled(append(k, key)...) }
	}
	const ms = 25e6
	for _, tt := range []struct {
		name, config string
		want         Bandwidth
	}{
		{
			"no other limit", annotated(pooled, "bandwidth", "ingressRate=1000000", "egressRate=2000000"),
			Bandwidth{Ingress: Limit{Rate: 1e6}, Egress: Limit{Rate: 2e6}, Latency: ms},
		},
		{"one direction", annotated(pooled, "bandwidth", "egressRate=1000"), Bandwidth{Egress: Limit{Rate: 1000}, Latency: ms}},
		{
			"less than the network's", annotated(network(`"ingressRate": 5000000, "ingressBurst": 9000000`), "bandwidth", "ingressRate=1000000"),
			Bandwidth{Ingress: Limit{Rate: 1e6, Burst: 9e6}, Latency: ms},
		},
		{
			"more than the network's", annotated(network(`"ingressRate": 5000000`), "bandwidth", "ingressRate=6000000"),
			Bandwidth{Ingress: Limit{Rate: 5e6}, Latency: ms},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			equal(t, "bandwidth", mustParse(t, Request{Config: []byte(tt.config)}).Bandwidth, tt.want)
		})
	}
	const both = `"allowPodAnnotations": ["bandwidth"], "runtimeConfig": {"bandwidth": {"ingressRate": 5000, "egressRate": 5000},
		"io.kubernetes.cri.pod-annotations": {"veth-cni.github.io/ingressRate": "6000", "veth-cni.github.io/egressRate": "4000"}}`
	equal(t, "beside the runtime's", mustParse(t, Request{Config: []byte(pooled(both))}).Bandwidth,
		Bandwidth{Ingress: Limit{Rate: 5000}, Egress: Limit{Rate: 4000}, Latency: ms})
}

func TestBadAnnotations(t *testing.T) {
	const note = "annotation veth-cni.github.io/"
	const unicast = ` is not valid: want a unicast hardware address of 6 bytes, such as 02:00:5e:10:00:01`
	const derived = ` is not valid: want an address that does not begin with 06, 0e or 0a:58, as those derived for bridges and other containers do`
	const rate = ` is not valid: want 1000 (1 kbit/s) to 1000000000000000 (1 Pbit/s) bits a second, in digits`
	long := strings.Repeat("x", 300)
	runBad(t, []badCase{
		{
			"allowed what nobody knows",
			Request{},
			pooled(`"allowPodAnnotations": ["mut"]`), 2,
			`allowPodAnnotations[0]: "mut" is not valid: want one of ` + wordList + `; did you mean "mtu"?`,
		},
		{
			"allowed twice",
			Request{},
			pooled(`"allowPodAnnotations": ["mtu", "mtu"]`), 7,
			`allowPodAnnotations[1]: "mtu" is not valid: want each word once`,
		},
		{"allowed null", Request{}, pooled(`"allowPodAnnotations": [null]`), 6, `allowPodAnnotations[0]: null is not valid: want a string`},
		{"allowed all", Request{}, pooled(`"allowPodAnnotations": true`), 6, `allowPodAnnotations: true is not valid: want a list`},
		{
			"address of a delegate",
			Request{},
			veth(`"ipam": {"type": "dhcp"}, "allowPodAnnotations": ["address"]`), 7,
			`allowPodAnnotations[0]: "address" contradicts ipam.type "dhcp": only the built-in IPAM, "veth", knows which addresses it may give`,
		},
		{
			"MAC behind a lock",
			Request{},
			bridged(`"macspoofchk": true, "allowPodAnnotations": ["mtu", "mac"]`), 7,
			`allowPodAnnotations[1]: "mac" contradicts macspoofchk: a lock on an address that the pod chooses keeps nobody from choosing another's`,
		},
		{
			"MAC behind another lock",
			Request{},
			bridged(`"ipam": {"type": "dhcp"}, "antiSpoof": true, "allowPodAnnotations": ["mac"]`), 7,
			`allowPodAnnotations[0]: "mac" contradicts antiSpoof: a lock on an address that the pod chooses keeps nobody from choosing another's`,
		},
		{
			"a policy nobody knows",
			Request{},
			annotated(pooled, "ingressPolicy", "ingressPolicy=closed"), 2,
			note + `ingressPolicy: "closed" is not valid: want "open", "same-network" (or "same-bridge", which means the same) or "isolated"`,
		},
		{
			"a policy where none is allowed",
			Request{},
			annotated(pooled, "mtu", "ingressPolicy=open"), 7,
			note + `ingressPolicy: not allowed on network "net": want it taken off the pod, or "ingressPolicy" in allowPodAnnotations`,
		},
		{
			"not allowed",
			Request{},
			annotated(pooled, "", "mtu=1400"), 7,
			note + `mtu: not allowed on network "net": want it taken off the pod, or "mtu" in allowPodAnnotations`,
		},
		{
			"another allowed",
			Request{},
			annotated(pooled, "mac", "address=10.88.0.5"), 7,
			note + `address: not allowed on network "net": want it taken off the pod, or "address" in allowPodAnnotations`,
		},
		{"misspelt", Request{}, annotated(pooled, "mac", "adress=10.88.0.5"), 2, note + `adress: unknown annotation; did you mean "address"?`},
		{"another case", Request{}, annotated(pooled, "mac", "MAC=x"), 2, note + `MAC: unknown annotation; did you mean "mac"?`},
		{"no name", Request{}, annotated(pooled, "mac", "=x"), 2, note + `: unknown annotation`},
		{"long name", Request{}, annotated(pooled, "", long+"=1"), 2, note + long[:63] + `...: unknown annotation`},
		{"name with a trick", Request{}, annotated(pooled, "", "a\x1b[2J\n=1"), 2, note + `a\x1b[2J\n: unknown annotation`},
		{"long value", Request{}, annotated(pooled, "mtu", "mtu=1"+long), 7, note + `mtu: 301 bytes: want at most 256`},
		{"no value", Request{}, annotated(pooled, "mtu", "mtu="), 7, note + `mtu: "" is not valid: want a value, or no such annotation`},
		{
			"value of another type",
			Request{},
			pooled(`"allowPodAnnotations": ["mtu"], "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"veth-cni.github.io/mtu": 1400}}`), 6,
			note + `mtu: 1400 is not valid: want a string`,
		},
		{
			"annotations of another type",
			Request{},
			pooled(`"runtimeConfig": {"io.kubernetes.cri.pod-annotations": ["x"]}`), 6,
			`runtimeConfig.io.kubernetes.cri.pod-annotations: ["x"] is not valid: want an object`,
		},

		{"MAC", Request{}, annotated(pooled, "mac", "mac=x"), 7, note + `mac: "x"` + unicast},
		{"MAC multicast", Request{}, annotated(pooled, "mac", "mac=01:00:00:00:00:01"), 7, note + `mac: "01:00:00:00:00:01"` + unicast},
		{"MAC long", Request{}, annotated(pooled, "mac", "mac=02:00:00:00:00:00:00:01"), 7, note + `mac: "02:00:00:00:00:00:00:01"` + unicast},
		{"MAC of a pod", Request{}, annotated(pooled, "mac", "mac=0a-58-0a-58-00-05"), 7, note + `mac: "0a-58-0a-58-00-05"` + derived},
		{"MAC of a pod with IPv6", Request{}, annotated(pooled, "mac", "mac=0e:00:00:00:00:05"), 7, note + `mac: "0e:00:00:00:00:05"` + derived},
		{"MAC of a bridge", Request{}, annotated(pooled, "mac", "mac=06:00:00:00:00:05"), 7, note + `mac: "06:00:00:00:00:05"` + derived},
		{
			"MAC that does not count",
			Request{Args: "MAC=02:00:00:00:00:09"},
			annotated(pooled, "mac", "mac=x"), 7,
			note + `mac: "x"` + unicast,
		},

		{"rate of none", Request{}, annotated(pooled, "bandwidth", "ingressRate=0"), 7, note + `ingressRate: "0"` + rate},
		{"rate small", Request{}, annotated(pooled, "bandwidth", "ingressRate=999"), 7, note + `ingressRate: "999"` + rate},
		{"rate large", Request{}, annotated(pooled, "bandwidth", "egressRate=1000000000000001"), 7, note + `egressRate: "1000000000000001"` + rate},
		{"rate with a unit", Request{}, annotated(pooled, "bandwidth", "egressRate=10M"), 7, note + `egressRate: "10M"` + rate},
		{"burst", Request{}, annotated(pooled, "bandwidth", "egressBurst=9"), 2, note + `egressBurst: unknown annotation`},

		{"MTU of none", Request{}, annotated(pooled, "mtu", "mtu=0"), 7, note + `mtu: "0" is not valid: want a number of bytes, 68 to 65535`},
		{"MTU negative", Request{}, annotated(pooled, "mtu", "mtu=-1"), 7, note + `mtu: "-1" is not valid: want a number of bytes, 68 to 65535`},
		{"MTU padded", Request{}, annotated(pooled, "mtu", "mtu= 1400"), 7, note + `mtu: " 1400" is not valid: want a number of bytes, 68 to 65535`},
		{"MTU large", Request{}, annotated(pooled, "mtu", "mtu=65536"), 7, note + `mtu: "65536" is not valid: want a number of bytes, 68 to 65535`},
		{"MTU small", Request{}, annotated(veth, "mtu", "mtu=67"), 7, note + `mtu: 67 is not valid: want a number of bytes, 68 to 65535`},
		{
			"MTU too small for IPv6",
			Request{},
			annotated(pooled, "mtu", "mtu=1279"), 7,
			note + `mtu: 1279 is not valid: want at least 1280 bytes for 2001:db8::/64, IPv6's minimum (RFC 8200)`,
		},

		{
			"address",
			Request{},
			annotated(pooled, "address", "address=x"), 7,
			note + `address: "x" is not valid: want an address such as "10.88.0.9" or "2001:db8::9"`,
		},
		{
			"address nothing",
			Request{},
			annotated(pooled, "address", "address=10.88.0.5,"), 7,
			note + `address: "" is not valid: want an address such as "10.88.0.9" or "2001:db8::9"`,
		},
		{
			"address outside",
			Request{},
			annotated(pooled, "address", "address=10.89.0.5"), 103,
			note + `address: 10.89.0.5 is outside every range: 10.88.0.1-10.88.0.254, 2001:db8::1-2001:db8::ffff:ffff:ffff:ffff`,
		},
		{
			"address of the gateway",
			Request{},
			annotated(pooled, "address", "address=10.88.0.1"), 103,
			note + `address: 10.88.0.1 is the gateway of subnet 10.88.0.0/24`,
		},
		{
			"address excluded",
			Request{},
			annotated(pooled, "address", "address=10.88.0.200"), 103,
			note + `address: 10.88.0.200 is excluded by 10.88.0.128/25`,
		},
		{
			"address twice",
			Request{},
			annotated(pooled, "address", "address=10.88.0.5,10.88.0.5"), 7,
			note + `address: asks for 10.88.0.5 again, as ` + note + `address does`,
		},
		{
			"two addresses",
			Request{},
			annotated(pooled, "address", "address=10.88.0.5,10.88.0.6"), 7,
			note + `address: 10.88.0.6 and 10.88.0.5 of ` + note + `address are of the same range set, which gives an attachment one address`,
		},
		{
			"address against the runtime's",
			Request{Args: "IP=10.88.0.6"},
			annotated(pooled, "address", "address=10.88.0.5"), 7,
			`CNI_ARGS IP: 10.88.0.6 and 10.88.0.5 of ` + note + `address are of the same range set, which gives an attachment one address`,
		},
	})
}

const wordList = "address, bandwidth, ingressPolicy, mac, mtu"

// FuzzAnnotations holds what pods write to changing nothing but what they may, and never for more than the network gives.
func FuzzAnnotations(f *testing.F) {
	for _, seed := range [][2]string{
		{"mtu", "1400"},
		{"mtu", "65535"},
		{"egressRate", "2000"},
		{"ingressRate", "1000000000000000"},
		{"mac", "02:00:00:00:00:07"},
		{"mac", "0a:58:00:00:00:07"},
		{"address", "10.88.0.5,2001:db8::5"},
		{"address", "::ffff:10.88.0.5/120"},
		{"adress", "\x00"},
		{"ingressPolicy", "isolated"},
	} {
		f.Add(seed[0], seed[1], 0)
		f.Add(seed[0], seed[1], 1300)
	}
	f.Fuzz(func(t *testing.T, name, value string, mtu int) {
		network := func(keys ...string) string {
			key, _ := json.Marshal(mtu)
			return pooled(append(keys, `"mtu": `+string(key), `"ingressRate": 1000000, "egressRate": 1000000`)...)
		}
		without, err := Parse(Request{Config: []byte(annotated(network, ""))})
		if err != nil {
			return
		}
		if _, err := Parse(Request{Config: []byte(annotated(network, "", name+"="+value))}); err == nil {
			t.Error("taken although the network allows nothing")
		}
		with, err := Parse(Request{Config: []byte(annotated(network, "address mac mtu bandwidth ingressPolicy", name+"="+value))})
		if err != nil {
			return
		}
		checkLink(t, with)
		checkPool(t, with)
		must(t, with.MAC == nil || with.MAC[0] != 0x06 && with.MAC[0] != 0x0e, "MAC", with.MAC)
		a, b := with.Sized(1500, 1400), without.Sized(1500, 1400)
		must(t, a.MTU == b.MTU && a.ContainerMTU() <= b.ContainerMTU() && a.ContainerMTU() >= minMTU6, "MTU", a)
		must(t, a.Bandwidth.Ingress.Rate <= 1e6 && a.Bandwidth.Egress.Rate <= 1e6, "bandwidth", a.Bandwidth)
		must(t, a.Bandwidth.Ingress.Rate >= 1000 && a.Bandwidth.Egress.Rate >= 1000, "bandwidth", a.Bandwidth)
		with.Bandwidth = without.Bandwidth
		must(t, with.ContainerIngress() >= without.ContainerIngress() && with.ContainerIngress() <= IngressIsolated, "policy", with.PodIngress)
		with.PodIngress, with.PodIngressAllowed = without.PodIngress, without.PodIngressAllowed
		with.MAC, with.PodMTU, with.IPAM.Requested, with.Raw = nil, 0, nil, without.Raw
		if !reflect.DeepEqual(with, without) {
			t.Errorf("%s=%q made of\n%+v\n%+v", name, value, without, with)
		}
	})
}
