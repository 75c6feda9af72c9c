package netconf

import (
	"slices"
	"testing"
)

func TestWire(t *testing.T) {
	c := mustParse(t, Request{Config: []byte(pooled(`"numTxQueues": 2, "numRxQueues": 4096, "gro": false,
		"offloads": {"tx-checksumming": false, "tx-udp-segmentation": false, "tcp-segmentation-offload": false},
		"rpsCPUs": "5,0-2,1", "xpsCPUs": ["0", "8191"], "qdisc": "mq", "gsoMaxSize": 65536, "groMaxSize": 4096`))})
	equal(t, "wire", c.Wire, Wire{
		Queues: Queues{Tx: 2, Rx: 4096}, Sizes: Sizes{GSO: 65536, GRO: 4096}, Qdisc: "mq",
		RPS: CPUs{0, 1, 2, 5}, XPS: []CPUs{{0}, {8191}},
		Offloads: []Offload{
			{"rx-gro", false},
			{"tx-checksum-ip-generic", false},
			{"tx-checksum-sctp", false},
			{"tx-tcp-ecn-segmentation", false},
			{"tx-tcp-mangleid-segmentation", false},
			{"tx-tcp-segmentation", false},
			{"tx-tcp6-segmentation", false},
			{"tx-udp-segmentation", false},
		},
	})
	c = mustParse(t, Request{Config: []byte(pooled(`"gsoIPv4MaxSize": 4096, "groIPv4MaxSize": 524280, "gsoMaxSize": 524280`))})
	equal(t, "sizes", c.Wire.Sizes, Sizes{GSO: 524280, GSO4: 4096, GRO4: 524280})
	c = mustParse(t, Request{Config: []byte(pooled())})
	equal(t, "nothing asked for", c.Wire, Wire{})
}

func TestCPUs(t *testing.T) {
	for text, want := range map[string]string{"0": "0", "0-3": "0-3", "3,1,2": "1-3", "0-1,3,5-6,5": "0-1,3,5-6"} {
		cpus, err := parseCPUs("x", text)
		if err != nil || cpus.String() != want || !slices.IsSorted(cpus) {
			t.Errorf("%s: %s, %v, want %s", text, cpus, err, want)
		}
	}
	equal(t, "no processors", CPUs(nil).String(), "")
}

func TestBadWire(t *testing.T) {
	queues := func(key, value string) badCase {
		return badCase{key + value, Request{}, veth(`"` + key + `": ` + value), 7, key + ": " + value + " is not valid: want 1 to 4096 queues"}
	}
	size := func(key, value string) badCase {
		return badCase{key + value, Request{}, veth(`"` + key + `": ` + value), 7, key + ": " + value + " is not valid: want 4096 to 524280 bytes"}
	}
	cpus := func(value string) badCase {
		return badCase{
			"rpsCPUs " + value,
			Request{},
			veth(`"rpsCPUs": "` + value + `"`), 7,
			`rpsCPUs: "` + value + `" is not valid: want processors such as "0-3,8", each at most 8191`,
		}
	}
	gro := func(name string) badCase {
		return badCase{
			name,
			Request{},
			veth(`"offloads": {"` + name + `": true}`), 2,
			"offloads." + name + `: has a key of its own: want "gro" beside "offloads"`,
		}
	}
	runBad(t, []badCase{
		queues("numTxQueues", "0"), queues("numTxQueues", "4097"), queues("numRxQueues", "-1"), queues("numRxQueues", "4097"),
		size("gsoMaxSize", "4095"), size("gsoMaxSize", "524281"), size("groMaxSize", "0"), size("groMaxSize", "524281"),
		size("gsoIPv4MaxSize", "0"), size("gsoIPv4MaxSize", "600000"), size("groIPv4MaxSize", "4095"), size("groIPv4MaxSize", "524281"),
		cpus(""), cpus("all"), cpus("0-"), cpus("3-1"), cpus("-1"), cpus("0,,1"), cpus("8192"), cpus("0-8192"), cpus("0 1"), cpus("99999"),
		{
			"xpsCPUs' entry",
			Request{},
			veth(`"numTxQueues": 2, "xpsCPUs": ["0", "x"]`), 7,
			`xpsCPUs[1]: "x" is not valid: want processors such as "0-3,8", each at most 8191`,
		},
		{
			"xpsCPUs with one queue",
			Request{},
			veth(`"xpsCPUs": ["0"]`), 7,
			"xpsCPUs: has no effect with one transmit queue: want numTxQueues, one for each entry",
		},
		{
			"xpsCPUs too few",
			Request{},
			veth(`"numTxQueues": 3, "xpsCPUs": ["0", "1"]`), 7,
			"xpsCPUs: 2 entries: want one for each of the 3 queues of numTxQueues",
		},
		gro("gro"), gro("rx-gro"), gro("generic-receive-offload"),
		{
			"slip",
			Request{},
			veth(`"offloads": {"tx-checksuming": true}`), 2,
			`offloads.tx-checksuming: no feature that a veth can change; did you mean "tx-checksumming"?: want one of ` +
				"generic-segmentation-offload, rx-checksumming, rx-gro-list, rx-udp-gro-forwarding, rx-vlan-offload, scatter-gather, " +
				"tcp-segmentation-offload, tx-checksum-ip-generic, tx-checksum-sctp, tx-checksumming, tx-gso-list, tx-scatter-gather, " +
				"tx-scatter-gather-fraglist, tx-sctp-segmentation, tx-tcp-ecn-segmentation, tx-tcp-mangleid-segmentation, " +
				"tx-tcp-segmentation, tx-tcp6-segmentation, tx-udp-segmentation, tx-vlan-offload",
		},
		{"no switch", Request{}, veth(`"offloads": {"rx-gro-list": 1}`), 6, "offloads.rx-gro-list: 1 is not valid: want true or false"},
		{"null switch", Request{}, veth(`"offloads": {"rx-gro-list": null}`), 6, "offloads.rx-gro-list: null is not valid: want true or false"},
		{"no object", Request{}, veth(`"offloads": ["rx-gro-list"]`), 6, `offloads: ["rx-gro-list"] is not valid: want an object`},
		{
			"given twice",
			Request{},
			veth(`"offloads": {"tcp-segmentation-offload": true, "tx-tcp6-segmentation": false}`), 7,
			"offloads.tx-tcp6-segmentation: tx-tcp6-segmentation is given by offloads.tcp-segmentation-offload already: want it once",
		},
		{
			"one that needs another",
			Request{},
			veth(`"offloads": {"tx-tcp-segmentation": true, "tx-checksum-ip-generic": false}`), 7,
			"offloads.tx-tcp-segmentation: the kernel has no tx-tcp-segmentation without tx-checksum-ip-generic, which " +
				"offloads.tx-checksum-ip-generic turns off: want both on, or both off",
		},
		{
			"BIG TCP without segmentation",
			Request{},
			veth(`"gsoMaxSize": 100000, "offloads": {"tcp-segmentation-offload": false}`), 7,
			"gsoMaxSize: contradicts offloads.tcp-segmentation-offload: no packet is longer than the MTU without tx-tcp6-segmentation",
		},
		{
			"BIG TCP without checksums",
			Request{},
			veth(`"gsoIPv4MaxSize": 100000, "offloads": {"tx-checksumming": false}`), 7,
			"gsoIPv4MaxSize: contradicts offloads.tx-checksumming: no packet is longer than the MTU without tx-checksum-ip-generic",
		},
		{
			"qdisc",
			Request{},
			veth(`"qdisc": "htb"`), 2,
			`qdisc: "htb" is not valid: want one of noqueue, pfifo, bfifo, pfifo_fast, fq, fq_codel, fq_pie, codel, pie, sfq, cake, mq`,
		},
		{
			"mq",
			Request{},
			veth(`"qdisc": "mq"`), 7,
			`qdisc: "mq" is for several transmit queues: want numTxQueues of 2 or more, or another`,
		},
		{
			"qdisc and a rate",
			Request{},
			veth(`"qdisc": "fq", "egressRate": 1000000`), 7,
			"qdisc: contradicts ingressRate and egressRate, which need tbf in its place: want one of them",
		},
	})
}

// A rate that a runtime brings for one container is no reason to refuse it.
func TestQdiscAndARuntimesRate(t *testing.T) {
	c := mustParse(t, Request{Config: []byte(pooled(`"qdisc": "fq", "runtimeConfig": {"bandwidth": {"egressRate": 1000000}}`))})
	equal(t, "qdisc", c.Wire.Qdisc, "fq")
}
