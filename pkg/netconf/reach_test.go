package netconf

import "testing"

// On a bridge a route's gateway is a neighbour of the container.
func TestGatewayOutOfReach(t *testing.T) {
	const ranges = `"bridge": "br0", "ipam": {"type": "veth", "ranges": [
		[{"subnet": "10.88.0.0/24"}, {"subnet": "10.88.1.0/24"}], [{"subnet": "2001:db8::/64"}]], "routes": [`
	runBad(t, []badCase{
		{
			"elsewhere",
			Request{},
			veth(ranges + `{"dst": "192.0.2.0/24", "gw": "198.18.77.1"}]}`), 7,
			"ipam.routes[0].gw: 198.18.77.1 is in no subnet of ipam: want the address of a router in one of " +
				"[10.88.0.0/24 10.88.1.0/24 2001:db8::/64]",
		},
		{
			"elsewhere in IPv6",
			Request{},
			veth(ranges + `{"dst": "192.0.2.0/24", "gw": "10.88.1.7"}, {"dst": "::/0", "gw": "2001:db8:1::1"}]}`), 7,
			"ipam.routes[1].gw: 2001:db8:1::1 is in no subnet of ipam: want the address of a router in one of " +
				"[10.88.0.0/24 10.88.1.0/24 2001:db8::/64]",
		},
		{
			"by a gateway that is out of reach itself",
			Request{},
			veth(ranges + `{"dst": "198.18.77.0/24", "gw": "10.88.0.7"}, {"dst": "192.0.2.0/24", "gw": "198.18.77.1"}]}`), 7,
			"ipam.routes[1].gw: 198.18.77.1 is in no subnet of ipam: want the address of a router in one of " +
				"[10.88.0.0/24 10.88.1.0/24 2001:db8::/64]",
		},
	})
	for name, config := range map[string]string{
		"on any link":             veth(ranges + `{"dst": "::/0", "gw": "fe80::7"}]}`),
		"behind a direct route":   veth(ranges + `{"dst": "198.18.77.1/32", "scope": 253}, {"dst": "192.0.2.0/24", "gw": "198.18.77.1"}]}`),
		"the host in routed mode": builtin(`"subnet": "10.88.0.0/24", "routes": [{"dst": "192.0.2.0/24", "gw": "198.18.77.1"}]`),
	} {
		if _, err := Parse(Request{Config: []byte(config)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
