package netconf

import (
	"strconv"
	"testing"
)

// mostWord is the highest metric and number of a table that a result can name on this machine.
var mostWord = map[int]string{32: "2147483647", 64: "4294967295"}[strconv.IntSize]

func TestRouting(t *testing.T) {
	for _, tt := range []struct {
		keys string
		want Routing
	}{
		{`"mtu": 0`, Routing{}},
		{`"table": null`, Routing{}},
		{`"table": 1`, Routing{Table: 1, DefaultGateway: true}},
		{`"table": 2147483647`, Routing{Table: 2147483647, DefaultGateway: true}},
		{`"table": ` + mostWord, Routing{Table: uint32(mostOfRoute), DefaultGateway: true}},
		{`"table": "auto"`, Routing{AutoTable: true, DefaultGateway: true}},
		{`"table": 100, "isDefaultGateway": false`, Routing{Table: 100}},
		{`"table": 100, "isDefaultGateway": true`, Routing{Table: 100}},
		{`"defaultRouteMetric": ` + mostWord, Routing{DefaultMetric: uint32(mostOfRoute)}},
		{`"defaultRouteMetric": 0`, Routing{}},
	} {
		t.Run(tt.keys, func(t *testing.T) {
			r := Request{Config: []byte(pooled(tt.keys))}
			equal(t, "routing", mustParse(t, r).Routing, tt.want)
			lenient := ParseLenient(r).Routing
			tt.want.DefaultMetric = 0
			equal(t, "lenient", lenient, tt.want)
		})
	}
}

func TestBadRouting(t *testing.T) {
	table := ` is not valid: want "auto" or the number of a routing table, 1 to ` + mostWord + ` without 253, 254 and 255`
	metric := ` is not valid: want 0, for the kernel's own, to ` + mostWord
	runBad(t, []badCase{
		{"zero", Request{}, pooled(`"table": 0`), 7, `table: 0` + table},
		{"negative", Request{}, pooled(`"table": -1`), 7, `table: -1` + table},
		{"default", Request{}, pooled(`"table": 253`), 7, `table: 253` + table},
		{"main", Request{}, pooled(`"table": 254`), 7, `table: 254` + table},
		{"local", Request{}, pooled(`"table": 255`), 7, `table: 255` + table},
		{"large", Request{}, pooled(`"table": 4294967296`), 7, `table: 4294967296` + table},
		{"word", Request{}, pooled(`"table": "main"`), 7, `table: "main"` + table},
		{"fraction", Request{}, pooled(`"table": 1.5`), 6, `table: 1.5` + table},
		{"list", Request{}, pooled(`"table": [1]`), 6, `table: [1]` + table},
		{"layer 2", Request{}, veth(`"table": 100`), 7, `table: contradicts a network without ipam: no address to route`},
		{"metric negative", Request{}, pooled(`"defaultRouteMetric": -1`), 7, `defaultRouteMetric: -1` + metric},
		{"metric large", Request{}, pooled(`"defaultRouteMetric": 4294967296`), 7, `defaultRouteMetric: 4294967296` + metric},
		{
			"metric on layer 2",
			Request{},
			veth(`"defaultRouteMetric": 1`), 7,
			`defaultRouteMetric: contradicts a network without ipam: no routes`,
		},
		{
			"addSourceHints",
			Request{},
			pooled(`"addSourceHints": true`), 2,
			`addSourceHints: unknown key with value true`,
		},
	})
}

func TestSized(t *testing.T) {
	four := `"ipam": {"type": "veth", "ranges": [[{"subnet": "10.88.0.0/24"}]]}`
	for _, tt := range []struct {
		name, config  string
		world, bridge int
		want          int
	}{
		{"nothing known", veth(four), 0, 0, 0},
		{"world", veth(four), 1400, 0, 1400},
		{"bridge", veth(four), 0, 1400, 1400},
		{"bridge smaller", veth(four), 1450, 1400, 1400},
		{"bridge larger", veth(four), 1450, 9000, 1450},
		{"overhead", veth(four, `"mtuOverhead": 50`), 1500, 0, 1450},
		{"overhead is the world's", veth(four, `"mtuOverhead": 50`), 0, 1500, 1500},
		{"named", veth(four, `"mtu": 1300`), 1500, 1400, 1300},
		{"IPv4 alone", veth(four), 576, 0, 576},
		{"next to nothing", veth(four, `"mtuOverhead": 500`), 540, 0, 68},
		{"IPv6", pooled(), 576, 0, 1280},
		{"somebody else's addresses", veth(`"ipam": {"type": "dhcp"}`), 576, 0, 1280},
		{"more than a veth takes", veth(four), 65536, 0, 65535},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, Request{Config: []byte(tt.config)})
			before := *c
			equal(t, "MTU", c.Sized(tt.world, tt.bridge).MTU, tt.want)
			equal(t, "the configuration itself", *c, before)
		})
	}
	runBad(t, []badCase{
		{"negative", Request{}, veth(`"mtuOverhead": -1`), 7, `mtuOverhead: -1 is not valid: want 0 to 65467 bytes`},
		{"large", Request{}, veth(`"mtuOverhead": 65468`), 7, `mtuOverhead: 65468 is not valid: want 0 to 65467 bytes`},
		{
			"beside mtu",
			Request{},
			veth(`"mtuOverhead": 50, "mtu": 1400`), 7,
			`mtuOverhead: has no effect beside mtu, which is 1400: want one of them`,
		},
	})
}
