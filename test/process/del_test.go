package process

import (
	"strings"
	"testing"

	"github.com/veth-cni/veth/test/node"
)

// DEL needs nothing but the attachment's identity, works with whatever else it gets, and can be repeated.
func TestDelWithWhatIsLeft(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		patch  string
		env    []string
		before func(*node.Namespace) error // what happens to the container
		prev   bool
	}{
		{"everything", "", nil, nil, true},
		{"no prevResult", "", nil, nil, false},
		{"an empty prevResult", `{"prevResult": {}}`, nil, nil, false},
		{"a broken prevResult", `{"prevResult": {"ips": [{"address": "none"}]}}`, nil, nil, false},
		{"no namespace", "", []string{"CNI_NETNS"}, nil, true},
		{"an empty namespace", "", []string{"CNI_NETNS="}, nil, false},
		{"a namespace that is gone", "", nil, (*node.Namespace).Close, true},
		{"a namespace that is gone, and no prevResult", "", nil, (*node.Namespace).Close, false},
		{"a namespace that is a file", "", []string{"CNI_NETNS=/proc/version"}, nil, false},
		{"the host's own namespace", "", []string{"CNI_NETNS=/proc/self/ns/net"}, nil, false},
		{"an invalid mtu", `{"mtu": -1}`, nil, nil, true},
		{"an mtu of another type", `{"mtu": "big"}`, nil, nil, true},
		{"a key nobody knows", `{"brige": "br0", "ipam": {"subnets": []}}`, nil, nil, true},
		{"ranges that overlap", `{"ipam": {"ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "10.88.0.0/16"}]]}}`, nil, nil, false},
		{"no ipam", `{"ipam": null}`, nil, nil, true},
		{"an ipam of another type", `{"ipam": 5}`, nil, nil, false},
		{"keys that contradict", `{"hairpinMode": true, "promiscMode": true, "bridge": "0123456789abcdef"}`, nil, nil, true},
		{"another bridge", `{"bridge": "br7"}`, nil, nil, true},
		{"another type", `{"type": "macvlan"}`, nil, nil, true},
		{"an unknown argument", "", []string{"CNI_ARGS=FOO=bar"}, nil, true},
		{"no CNI_PATH", "", []string{"CNI_PATH"}, nil, true},
	} {
		for _, mode := range modes {
			t.Run(tt.name+", "+mode.name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t)
				h.add(mode.config, h.Container("other"))
				c := h.Container()
				h.leaves(func() {
					added := h.add(mode.config, c)
					config := mode.config
					if tt.prev {
						config = added.before(config)
					}
					if tt.patch != "" {
						config = with(config, tt.patch)
					}
					if tt.before != nil {
						if err := tt.before(c); err != nil {
							t.Fatal(err)
						}
					}
					h.del(config, c, tt.env...)
					h.del(config, c, tt.env...)
				})
			})
		}
	}
}

func TestDelOfWhatNeverWas(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		h := newHost(t)
		c := h.Container()
		h.leaves(func() { h.del(mode.config, c) }, c)
		h.leaves(func() {
			h.call("ADD", mode.config, c, "CNI_ARGS=IP=10.99.0.1").refused(103)
			h.del(mode.config, c)
		}, c)
	}
}

// A DEL removes one attachment: neither another container's, nor another interface of the same, nor that of a network
// whose name begins the same.
func TestDelTouchesOnlyItsAttachment(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	other := with(routed, `{"name": "podnet2", "ipam": {"ranges": [[{"subnet": "10.90.0.0/24"}]]}}`)
	added := h.add(routed, c)
	h.leaves(func() {
		h.del(other, c)
		h.del(routed, c, "CNI_IFNAME=eth1")
		h.del(routed, c, "CNI_CONTAINERID=another")
	}, c)
	h.check(routed, c, added)
}

// The address of a delegate goes back when no interface has it any more, and a delegate that fails does not keep the
// rest from being removed.
func TestDelAndTheDelegate(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := newDelegate(h)
	c := h.Container()
	config := with(routed, delegatedIPAM)
	h.add(config, c)
	d.called("ADD")
	d.fails("DEL", `{"cniVersion": "1.1.0", "code": 11, "msg": "cannot release"}`)
	o := h.call("DEL", config, c)
	o.refused(11, `"delegate"`, "cannot release")
	if !strings.Contains(o.stdout, `"msg": "DEL of IPAM plugin`) {
		t.Errorf("want the verb once: %s", o.stdout)
	}
	d.called("DEL")
	if links := h.Snapshot(); strings.Contains(links, "link veth") {
		t.Errorf("the interface stays although only the delegate has failed:\n%s", links)
	}
}
