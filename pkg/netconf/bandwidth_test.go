package netconf

import (
	"testing"
	"time"
)

func TestBandwidth(t *testing.T) {
	const kubelet = `"runtimeConfig": {"bandwidth": {"ingressRate": 1000000, "ingressBurst": 2147483647,
		"egressRate": 2000000, "egressBurst": 2147483647}}`
	dynamic := Bandwidth{Ingress: Limit{1e6, 1<<31 - 1}, Egress: Limit{2e6, 1<<31 - 1}, Latency: 25 * time.Millisecond}
	for _, tt := range []struct {
		name, config string
		want         Bandwidth
	}{
		{"none", veth(), Bandwidth{}},
		{"a latency of nothing", veth(`"bandwidthLatency": 5`), Bandwidth{}},
		{"zero is none", veth(`"ingressRate": 0, "egressRate": 0, "egressBurst": 0`), Bandwidth{}},
		{"null is none", veth(`"ingressRate": null, "runtimeConfig": {"bandwidth": null}`), Bandwidth{}},
		{
			"from the network", veth(`"ingressRate": 1000000, "ingressBurst": 8000, "egressRate": 1000, "bandwidthLatency": 100`),
			Bandwidth{Ingress: Limit{1e6, 8000}, Egress: Limit{1000, 0}, Latency: 100 * time.Millisecond},
		},
		{"from the runtime", veth(kubelet), dynamic},
		{"of a bridge", bridged(kubelet), dynamic},
		{"of the reference type", `{"cniVersion": "1.1.0", "name": "net", "type": "ptp", ` + kubelet + `}`, dynamic},
		{
			"the network wins", veth(`"ingressRate": 5000, "egressRate": 6000`, kubelet),
			Bandwidth{Ingress: Limit{5000, 0}, Egress: Limit{6000, 0}, Latency: 25 * time.Millisecond},
		},
		{
			"the network wins in its direction", veth(`"egressRate": 5000, "egressBurst": 100`, kubelet),
			Bandwidth{Ingress: Limit{1e6, 1<<31 - 1}, Egress: Limit{5000, 100}, Latency: 25 * time.Millisecond},
		},
		{"the slowest", veth(`"ingressRate": 1000, "bandwidthLatency": 1`), Bandwidth{Ingress: Limit{1000, 0}, Latency: time.Millisecond}},
		{
			"the fastest", veth(`"egressRate": 1000000000000000, "egressBurst": 18446744073709551615, "bandwidthLatency": 1000`),
			Bandwidth{Egress: Limit{1e15, 1<<64 - 1}, Latency: time.Second},
		},
		{
			"other keys of the runtime's", veth(`"runtimeConfig": {"bandwidth": {"egressRate": 4000, "shape": "round"}}`),
			Bandwidth{Egress: Limit{4000, 0}, Latency: 25 * time.Millisecond},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			equal(t, "Bandwidth", mustParse(t, Request{Config: []byte(tt.config)}).Bandwidth, tt.want)
		})
	}
}

func TestBadBandwidth(t *testing.T) {
	const rates = `1000 (1 kbit/s) to 1000000000000000 (1 Pbit/s) bits a second, or 0 for no limit`
	runBad(t, []badCase{
		{
			"burst alone",
			Request{},
			veth(`"ingressBurst": 5`), 7,
			`ingressRate: missing: want a rate beside ingressBurst, or neither`,
		},
		{
			"burst alone at run time",
			Request{},
			veth(`"runtimeConfig": {"bandwidth": {"egressBurst": 5}}`), 7,
			`runtimeConfig.bandwidth.egressRate: missing: want a rate beside runtimeConfig.bandwidth.egressBurst, or neither`,
		},
		{"too slow", Request{}, veth(`"egressRate": 999`), 7, `egressRate: 999 is not valid: want ` + rates},
		{
			"too fast",
			Request{},
			veth(`"ingressRate": 1000000000000001`), 7,
			`ingressRate: 1000000000000001 is not valid: want ` + rates,
		},
		{
			"too slow behind the network's",
			Request{},
			veth(`"egressRate": 1000, "runtimeConfig": {"bandwidth": {"egressRate": 1}}`), 7,
			`runtimeConfig.bandwidth.egressRate: 1 is not valid: want ` + rates,
		},
		{"negative", Request{}, veth(`"egressRate": -5`), 6, `egressRate: -5 is not valid: want an integer that is not negative`},
		{"text", Request{}, veth(`"egressRate": "10M"`), 6, `egressRate: "10M" is not valid: want an integer that is not negative`},
		{
			"not an object",
			Request{},
			veth(`"runtimeConfig": {"bandwidth": 5}`), 6,
			`runtimeConfig.bandwidth: 5 is not valid: want an object`,
		},
		{
			"no time at all",
			Request{},
			veth(`"bandwidthLatency": 0`), 7,
			`bandwidthLatency: 0 is not valid: want 1 to 1000 milliseconds`,
		},
		{
			"too long",
			Request{},
			veth(`"bandwidthLatency": 1001`), 7,
			`bandwidthLatency: 1001 is not valid: want 1 to 1000 milliseconds`,
		},
		{
			"a slip",
			Request{},
			veth(`"egressrate": 5000`), 2,
			`egressrate: unknown key with value 5000; did you mean "egressRate"?`,
		},
	})
}
