package netconf

import "testing"

func TestIsolation(t *testing.T) {
	type isolation struct {
		ingress   IngressPolicy
		antiSpoof bool
		forward   ForwardAccept
	}
	for _, tt := range []struct {
		name, config string
		want         isolation
	}{
		{"routed", pooled(), isolation{IngressOpen, true, ForwardReport}},
		{"routed without addresses", veth(), isolation{IngressOpen, false, ForwardReport}},
		{"routed without addresses, asked for", veth(`"antiSpoof": true`), isolation{IngressOpen, true, ForwardReport}},
		{"bridge", pooled(`"bridge": "br0"`), isolation{IngressOpen, false, ForwardReport}},
		{"null is absent", pooled(`"antiSpoof": null`, `"forwardAccept": null`, `"ingressPolicy": null`), isolation{IngressOpen, true, ForwardReport}},
		{"open", pooled(`"ingressPolicy": "open"`), isolation{IngressOpen, true, ForwardReport}},
		{"same-network", pooled(`"ingressPolicy": "same-network"`), isolation{IngressSameNetwork, true, ForwardReport}},
		{"same-bridge", pooled(`"ingressPolicy": "same-bridge"`, `"bridge": "br0"`), isolation{IngressSameNetwork, false, ForwardReport}},
		{"isolated", pooled(`"ingressPolicy": "isolated"`), isolation{IngressIsolated, true, ForwardReport}},
		{"trusted", pooled(`"antiSpoof": false`), isolation{IngressOpen, false, ForwardReport}},
		{"a bridge that trusts nobody", pooled(`"antiSpoof": true`, `"bridge": "br0"`), isolation{IngressOpen, true, ForwardReport}},
		{"forward", pooled(`"forwardAccept": true`), isolation{IngressOpen, true, ForwardOpen}},
		{"forward by somebody else", pooled(`"forwardAccept": false`), isolation{IngressOpen, true, ForwardIgnore}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, Request{Config: []byte(tt.config)})
			equal(t, "isolation", isolation{c.Ingress, c.AntiSpoof, c.Forward}, tt.want)
		})
	}
}

func TestBadIsolation(t *testing.T) {
	runBad(t, []badCase{
		{
			"policy",
			Request{},
			veth(`"ingressPolicy": "closed"`), 2,
			`ingressPolicy: "closed" is not valid: want "open", "same-network" (or "same-bridge", which means the same) or "isolated"`,
		},
		{"policy of another type", Request{}, veth(`"ingressPolicy": true`), 6, `ingressPolicy: true is not valid: want a string`},
		{"antiSpoof of another type", Request{}, veth(`"antiSpoof": "yes"`), 6, `antiSpoof: "yes" is not valid: want true or false`},
		{"forwardAccept of another type", Request{}, veth(`"forwardAccept": 1`), 6, `forwardAccept: 1 is not valid: want true or false`},
		{
			"antiSpoof without addresses",
			Request{},
			bridged(`"antiSpoof": true`), 7,
			"antiSpoof: contradicts a network without ipam: no address to hold containers to; want macspoofchk, which holds them to their MAC",
		},
		{
			"antiSpoof with tagged VLANs",
			Request{},
			pooled(`"bridge": "br0"`, `"antiSpoof": true`, `"vlanTrunk": [{"id": 7}]`), 7,
			"antiSpoof: contradicts vlanTrunk: the addresses that containers have in tagged VLANs are their own affair; " +
				"want macspoofchk, which holds them to their MAC",
		},
	})
}
