package process

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/test/node"
)

// asking is a configuration as a runtime hands it over for a pod with annotations.
func asking(config, allow string, notes map[string]string) string {
	prefixed := map[string]string{"kubernetes.io/config.source": "api"}
	for name, value := range notes {
		prefixed["veth-cni.github.io/"+name] = value
	}
	text, err := json.Marshal(prefixed)
	if err != nil {
		panic(err)
	}
	return with(config, `{"allowPodAnnotations": [`+allow+`], "runtimeConfig": {"io.kubernetes.cri.pod-annotations": `+string(text)+`}}`)
}

// A pod gets what its annotations ask for: the address and the MAC others meet it by, and packets no larger than it
// wants. Nobody else's packets get smaller.
func TestPodAnnotations(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			plain, pod := h.Container(), h.Container()
			h.add(with(mode.config, `{"mtu": 1500}`), plain)
			config := asking(with(mode.config, `{"mtu": 1500}`), `"address", "mac", "mtu"`, map[string]string{
				"address": "10.88.0.77,2001:db8:88::77", "mac": "02:00:5e:10:00:01", "mtu": "1400",
			})
			h.leaves(func() {
				added := h.add(config, pod)
				mac, mtu := link(t, pod, "eth0")
				if mac != "02:00:5e:10:00:01" || mtu != 1400 {
					t.Errorf("the container has MAC %s and MTU %d", mac, mtu)
				}
				for _, i := range added.result().Interfaces {
					if want := map[bool]int{true: 1400, false: 1500}[i.Sandbox != "" || mode.name == "routed"]; i.Mtu != want {
						t.Errorf("the result says that %s has MTU %d, want %d", i.Name, i.Mtu, want)
					}
				}
				h.check(config, pod, added)
				for _, a := range []string{"10.88.0.77", "2001:db8:88::77"} {
					if err := plain.Ping(netip.MustParseAddr(a)); err != nil {
						t.Error(err)
					}
				}
				h.del(config, pod)
			}, plain, pod)
		})
	}
}

// The MTU of a pod is its own even where the kernel makes a bridge follow its ports.
func TestPodMTUIsNoBridges(t *testing.T) {
	t.Parallel()
	for _, made := range []string{"by the operator", "by the plugin"} {
		t.Run(made, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			if made == "by the operator" {
				if err := h.Do(func() error {
					return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}})
				}); err != nil {
					t.Fatal(err)
				}
			}
			pod := h.Container()
			config := asking(bridged, `"mtu"`, map[string]string{"mtu": "1280"})
			added := h.add(config, pod)
			if _, mtu := link(t, h.Namespace, "br0"); mtu != 1500 {
				t.Errorf("a pod's wish made the bridge's MTU %d", mtu)
			}
			if _, mtu := link(t, pod, "eth0"); mtu != 1280 {
				t.Errorf("the container has MTU %d, want 1280", mtu)
			}
			h.check(config, pod, added)
			if err := byNameIn(pod, "eth0", func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1300) }); err != nil {
				t.Fatal(err)
			}
			h.call("CHECK", added.before(config), pod).refused(105, "eth0", "mtu: want 1280, found 1300")
		})
	}
}

func byNameIn(ns *node.Namespace, name string, do func(netlink.Link) error) error {
	return ns.Do(func() error { return byName(name, do) })
}

// What the pod asks for is checked against the MTU that ADD chose: bursts and queues are made of frames of that.
func TestPodBandwidthAndMTU(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			pod := h.Container()
			config := asking(mode.config, `"mtu", "bandwidth"`, map[string]string{"mtu": "1300", "ingressRate": "10000"})
			added := h.add(config, pod)
			h.check(config, pod, added)
			h.call("CHECK", with(added.before(config), `{"ingressRate": 5000}`), pod).refused(105, "shaper", "rate")
			h.del(config, pod)
		})
	}
}

// What is not allowed, or cannot be, fails and leaves nothing. DEL takes back what there is whatever the annotations say.
func TestPodAnnotationsRefused(t *testing.T) {
	t.Parallel()
	const all = `"address", "mac", "mtu"`
	for _, tt := range []struct {
		name, allow, note, value string
		code                     uint
		words                    []string
	}{
		{"nothing allowed", ``, "address", "10.88.0.77", 7, []string{"veth-cni.github.io/address", "not allowed", "podnet"}},
		{"something else allowed", `"mtu"`, "mac", "02:00:5e:10:00:01", 7, []string{"veth-cni.github.io/mac", "not allowed"}},
		{"misspelt", all, "adress", "10.88.0.77", 2, []string{"veth-cni.github.io/adress", `"address"`}},
		{"outside the ranges", all, "address", "203.0.113.9", 103, []string{"veth-cni.github.io/address", "203.0.113.9"}},
		{"the gateway", all, "address", "10.88.0.1", 103, []string{"gateway"}},
		{"another's address", all, "address", "10.88.0.66", 103, []string{"10.88.0.66", "first"}},
		{"the MAC of a container's address", all, "mac", "0a:58:0a:58:00:42", 7, []string{"0a:58"}},
		{"no MTU for IPv6", all, "mtu", "576", 7, []string{"veth-cni.github.io/mtu", "1280"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			other, pod := h.Container("first"), h.Container()
			h.add(asking(routed, all, map[string]string{"address": "10.88.0.66"}), other)
			config := asking(routed, tt.allow, map[string]string{tt.note: tt.value})
			h.leaves(func() { h.call("ADD", config, pod).refused(tt.code, tt.words...) }, other, pod)
			h.leaves(func() {
				h.add(routed, pod)
				h.del(config, pod)
			}, other, pod)
		})
	}
}
