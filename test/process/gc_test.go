package process

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/node"
)

// What GC removes depends on the list it is given, and on there being one.
func TestGC(t *testing.T) {
	t.Parallel()
	const one = `[{"containerID": "first", "ifname": "eth0"}]`
	for _, tt := range []struct {
		name, keys    string
		first, second bool // stay
		says          string
	}{
		{"a list with one of two", `"cni.dev/valid-attachments": ` + one, true, false, ""},
		{"the list under both names", `"cni.dev/valid-attachments": ` + one + `, "cni.dev/attachments": ` + one, true, false, ""},
		{"the list under its older name", `"cni.dev/attachments": ` + one, true, false, ""},
		{"another interface of the first", `"cni.dev/valid-attachments": [{"containerID": "first", "ifname": "eth1"}]`, false, false, ""},
		{"an empty list", `"cni.dev/valid-attachments": []`, false, false, ""},
		{"no list", `"x/y": 1`, true, true, "valid-attachments"},
		{"null", `"cni.dev/valid-attachments": null`, true, true, "valid-attachments"},
		{"null under both names", `"cni.dev/valid-attachments": null, "cni.dev/attachments": null`, true, true, "valid-attachments"},
		{"a list that cannot be read", `"cni.dev/valid-attachments": {"containerID": "first"}`, true, true, "valid-attachments"},
		{"an entry that cannot be read", `"cni.dev/valid-attachments": [{"containerID": "first", "ifname": "eth0"}, {}]`, true, true, "valid-attachments"},
	} {
		for _, mode := range modes {
			t.Run(tt.name+", "+mode.name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t)
				c1, c2 := h.Container(), h.Container()
				before := h.Snapshot()
				first := h.add(mode.config, c1, "CNI_CONTAINERID=first")
				second := h.add(mode.config, c2, "CNI_CONTAINERID=second")
				gc := strings.TrimSuffix(mode.config, "}") + ", " + tt.keys + "}"
				o := h.call("GC", gc, nil).succeeds()
				if !strings.Contains(o.stderr, tt.says) {
					t.Errorf("GC says %q, want it to speak of %q", o.stderr, tt.says)
				}
				for _, a := range []struct {
					outcome
					c     *node.Namespace
					id    string
					stays bool
				}{{first, c1, "first", tt.first}, {second, c2, "second", tt.second}} {
					o := h.call("CHECK", a.before(mode.config), a.c, "CNI_CONTAINERID="+a.id)
					if a.stays {
						o.succeeds()
					} else {
						o.refused(105, a.hostEnd())
					}
				}
				if !tt.first && !tt.second {
					if diff := butForwarding(node.Diff(before, h.Snapshot())); diff != "" {
						t.Errorf("GC of the whole network leaves\n%s", diff)
					}
				}
				h.leaves(func() { h.call("GC", gc, nil).succeeds() }, c1, c2)
			})
		}
	}
}

// What other networks and other programs have is not GC's.
func TestGCTouchesOnlyItsNetwork(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			added := h.add(mode.config, c)
			if err := h.Do(func() error {
				return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0123456789a"}, PeerName: "stranger"})
			}); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"othernet", "pod", "podnet2", "podnet-"} {
				gc := with(mode.config, `{"name": "`+name+`", "cni.dev/valid-attachments": []}`)
				h.leaves(func() { h.call("GC", gc, nil).succeeds() }, c)
			}
			h.check(mode.config, c, added)
		})
	}
}

// Any configuration that can still be read is one that GC can clean up with.
func TestGCWithABrokenConfiguration(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.add(bridged, h.Container())
	h.call("GC", with(bridged, `{"mtu": -1, "vlan": "none", "brige": 1, "ipam": {"ranges": 5}, "cni.dev/valid-attachments": []}`), nil).succeeds()
	if strings.Contains(h.Snapshot(), "link veth") {
		t.Errorf("an interface is left:\n%s", h.Snapshot())
	}
}

// A delegate that fails keeps nothing from being removed, and its failure is reported.
func TestGCGoesOnAfterAFailure(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := newDelegate(h)
	config := with(routed, delegatedIPAM)
	before := h.Snapshot()
	h.add(config, h.Container())
	d.says("ADD", `{"cniVersion": "1.1.0", "ips": [{"address": "10.88.0.8/24"}]}`)
	h.add(config, h.Container())
	d.called("ADD", "ADD")
	d.fails("GC", `{"cniVersion": "1.1.0", "code": 11, "msg": "cannot collect"}`)
	o := h.call("GC", with(config, `{"cni.dev/valid-attachments": []}`), nil)
	o.refused(11, `"delegate"`, "cannot collect")
	if !strings.Contains(o.stdout, `"msg": "GC of IPAM plugin`) {
		t.Errorf("want the verb once: %s", o.stdout)
	}
	d.called("GC")
	if diff := butForwarding(node.Diff(before, h.Snapshot())); diff != "" {
		t.Errorf("GC leaves\n%s", diff)
	}
}

// STATUS tells whether an ADD would succeed, needs nothing but the configuration, and changes nothing.
func TestStatus(t *testing.T) {
	t.Parallel()
	set := func(key, value string) func(*host) error {
		return func(h *host) error {
			return h.Do(func() error { return os.WriteFile("/proc/sys/"+key, []byte(value), 0o644) })
		}
	}
	pool := `{"ipam": {"ranges": [[{"subnet": "10.88.0.0/24", "rangeStart": "10.88.0.5", "rangeEnd": "10.88.0.5"}]]}}`
	delegateSays := func(text string) func(*host) error {
		return func(h *host) error {
			newDelegate(h).fails("STATUS", text)
			return nil
		}
	}
	pools := func(subnet string) string {
		return `{"name": "other", "ipam": {"ranges": [[{"subnet": "` + subnet + `"}]]}}`
	}
	attached := func(config string) func(*host) error {
		return func(h *host) error {
			h.add(config, h.Container())
			return nil
		}
	}
	isolated := with(bridged, `{"ingressPolicy": "isolated"}`)
	for _, tt := range []struct {
		name, config string
		before       func(*host) error
		code         uint // 0: healthy
		words        []string
	}{
		{"routed", routed, nil, 0, nil},
		{
			"a bridge with another address", bridged, having("br0", "192.0.2.1/24"), 50,
			[]string{"host address 10.88.0.1/24 dev br0", "192.0.2.1/24 already", "forceAddress"},
		},
		{
			"a bridge with another address that may go", with(bridged, `{"forceAddress": true}`), having("br0", "192.0.2.1/24"),
			0, nil,
		},
		{"a bridge that has the address", bridged, having("br0", "10.88.0.1/24"), 0, nil},
		{"a bridge that has the address and another", bridged, having("br0", "10.88.0.1/24", "192.0.2.1/24"), 0, nil},
		{
			"another policy on the bridge", with(bridged, `{"ingressPolicy": "same-network"}`),
			attached(with(isolated, `{"name": "other"}`)), 50,
			[]string{"ingressPolicy", "br0", "other", "same-network"},
		},
		{"the same policy on the bridge", isolated, attached(with(isolated, `{"name": "other"}`)), 0, nil},
		{
			"a subnet that contains another network's", routed, attached(with(routed, pools("10.88.0.128/25"))), 50,
			[]string{"ipMasq: subnet 10.88.0.0/24", "10.88.0.128/25", "other"},
		},
		{"a subnet beside another network's", routed, attached(with(routed, pools("10.88.1.0/24"))), 0, nil},
		{
			"a sysctl that is not there", with(routed, `{"sysctl": {"net.core.nosuch": "1"}}`), nil, 50,
			[]string{"container sysctl net/core/nosuch", "no such file"},
		},
		{
			"a sysctl that the interface has not", with(routed, `{"sysctl": {"net.ipv4.conf.IFNAME.nosuch": "1"}}`), nil, 50,
			[]string{"container sysctl net/ipv4/conf/IFNAME/nosuch"},
		},
		{
			"a value that a sysctl does not take", with(bridged, `{"sysctl": {"net.ipv4.ip_forward": "word"}}`), nil, 50,
			[]string{"container sysctl net/ipv4/ip_forward", "invalid argument"},
		},
		{
			"sysctls", with(bridged, `{"sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1", "net.core.somaxconn": "99"}}`),
			nil, 0, nil,
		},
		{
			"a sysctl of another interface, which a container may have",
			with(routed, `{"sysctl": {"net.ipv4.conf.eth7.log_martians": "1"}}`), nil, 0, nil,
		},
		{"processors that the machine has not", with(routed, `{"rpsCPUs": "8191"}`), nil, 50, []string{"rpsCPUs"}},
		{"a subnet of another interface", bridged, having("lan0", "10.88.0.9/24"), 50, []string{
			"host address 10.88.0.1/24 dev br0", "lan0", "10.88.0.9/24", "another subnet",
		}},
		{"a part of it on another interface", bridged, having("lan0", "2001:db8:88::9/96"), 0, nil},
		{"a part of a larger subnet", bridged, having("lan0", "10.88.9.9/8"), 0, nil},
		{"a subnet of an interface that is down", bridged, func(h *host) error {
			return errors.Join(having("lan0", "10.88.0.9/24")(h), h.Do(func() error { return byName("lan0", netlink.LinkSetDown) }))
		}, 0, nil},
		{"a single address of it", bridged, having("lan0", "10.88.0.9/32"), 0, nil},
		{
			"a subnet of another interface, where the host takes no part", with(bridged, `{"isDefaultGateway": false, "ipMasq": false}`),
			having("lan0", "10.88.0.9/24"), 0, nil,
		},
		{"addresses out of a subnet of the host's", routed, having("lan0", "10.88.0.9/24"), 0, nil},
		{
			"a pool of the host's own address", with(routed, pool), having("lan0", "10.88.0.5/24"), 50,
			[]string{"podnet", "10.88.0.0/24", "the host's own"},
		},
		{
			"routes of the container", with(bridged, `{"ipam": {"routes": [
				{"dst": "192.0.2.0/24", "gw": "10.88.0.77"}, {"dst": "2001:db8:99::/64"}]}}`), nil, 0, nil,
		},
		{
			"a route by a gateway of a range that no address is from", with(bridged, `{"ipam": {"ranges": [[
				{"subnet": "10.88.0.0/24"}, {"subnet": "10.88.1.0/24"}]], "routes": [{"dst": "192.0.2.0/24", "gw": "10.88.1.77"}]}}`),
			nil, 50,
			[]string{"container route 192.0.2.0/24", "10.88.1.77"},
		},
		{"bridge", bridged, nil, 0, nil},
		{"layer 2", layer2, nil, 0, nil},
		{"a bridge that is there", bridged, func(h *host) error {
			h.add(bridged, h.Container())
			return nil
		}, 0, nil},
		{"a bridge that is another interface", with(bridged, `{"bridge": "lo"}`), nil, 50, []string{"bridge", `"lo"`}},
		{"a bridge whose MTU is too small", with(bridged, `{"mtu": 9000}`), func(h *host) error {
			h.add(with(bridged, `{"mtu": 1400}`), h.Container())
			return nil
		}, 50, []string{"mtu: 9000", "1400", `"br0"`}},
		{
			"no resolv.conf", with(bridged, `{"ipam": {"resolvConf": "/no/such/file"}}`), nil, 50,
			[]string{"ipam.resolvConf", `"/no/such/file"`},
		},
		{"an exhausted pool", with(routed, pool), func(h *host) error {
			h.add(with(routed, pool), h.Container())
			return nil
		}, 50, []string{"podnet", "10.88.0.0/24", "leased"}},
		{"a pool with a free address", with(routed, pool), func(h *host) error {
			c := h.Container()
			h.add(with(routed, pool), c)
			h.del(with(routed, pool), c)
			return nil
		}, 0, nil},
		{"a delegate that is not there", with(routed, `{"ipam": {"type": "nowhere"}}`), nil, 50, []string{`"nowhere"`}},
		{
			"a delegate that is not ready", with(routed, delegatedIPAM),
			delegateSays(`{"cniVersion": "1.1.0", "code": 50, "msg": "still counting"}`), 50,
			[]string{`"delegate"`, "still counting"},
		},
		{
			"a delegate that limits what there is", with(routed, delegatedIPAM),
			delegateSays(`{"cniVersion": "1.1.0", "code": 51, "msg": "half asleep"}`), 51,
			[]string{`"delegate"`, "half asleep"},
		},
		{
			"a delegate that fails in its own way", with(routed, delegatedIPAM),
			delegateSays(`{"cniVersion": "1.1.0", "code": 11, "msg": "later"}`), 50,
			[]string{`"delegate"`, "later"},
		},
		{"loose reverse path filter", routed, set("net/ipv4/conf/all/rp_filter", "2"), 0, nil},
		{"loose reverse path filter, but a bridge", bridged, set("net/ipv4/conf/all/rp_filter", "2"), 0, nil},
		{
			"loose reverse path filter, but no IPv4", with(routed, `{"ipam": {"ranges": [[{"subnet": "2001:db8:88::/64"}]]}}`),
			set("net/ipv4/conf/all/rp_filter", "2"), 0, nil,
		},
		{"strict reverse path filter", routed, set("net/ipv4/conf/all/rp_filter", "1"), 0, nil},
		{
			"strict reverse path filter, for containers that may send from anywhere", with(routed, `{"antiSpoof": false}`),
			set("net/ipv4/conf/all/rp_filter", "1"), 50,
			[]string{"rp_filter", "1", "antiSpoof"},
		},
		{
			"loose reverse path filter, for containers that may send from anywhere", with(routed, `{"antiSpoof": false}`),
			set("net/ipv4/conf/all/rp_filter", "2"), 0, nil,
		},
		{"isolation in routed mode", with(routed, `{"ingressPolicy": "isolated", "forwardAccept": true}`), nil, 0, nil},
		{"isolation on a bridge", with(bridged, `{"ingressPolicy": "isolated", "antiSpoof": true, "forwardAccept": true}`), nil, 0, nil},
		{"a configuration that is refused", with(routed, `{"mtu": -1}`), nil, 7, []string{"mtu", "-1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			if tt.before != nil {
				if err := tt.before(h); err != nil {
					t.Fatal(err)
				}
			}
			h.leaves(func() {
				o := h.call("STATUS", tt.config, nil)
				if tt.code != 0 {
					o.refused(tt.code, tt.words...)
				} else if o.succeeds().stdout != "" {
					t.Errorf("want a healthy STATUS to print nothing: %s", o)
				}
			})
		})
	}
}

// What an ADD could not set, STATUS tells before: /proc/sys may be mounted read-only, and a kernel may have no IPv6.
func TestStatusOfSettings(t *testing.T) {
	t.Parallel()
	readOnlyAt := func(path string) func() error {
		return func() error {
			return errors.Join(
				unix.Mount(path, path, "", unix.MS_BIND, ""),
				unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""),
			)
		}
	}
	readOnly, netReadOnly := readOnlyAt("/proc/sys"), readOnlyAt("/proc/sys/net")
	noIPv6 := func() error {
		return errors.Join(
			unix.Mount("none", "/proc/sys/net/ipv6", "tmpfs", 0, ""),
			// A process that may have a /proc/sys of its own would see through it.
			confine(onCall(unix.SYS_FSOPEN, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM))),
		)
	}
	ipv4 := with(bridged, `{"ipam": {"ranges": [[{"subnet": "10.88.0.0/24"}]]}}`)
	for _, tt := range []struct {
		name, verb, config string
		step               func() error
		code               uint // 0: healthy
		words              []string
	}{
		{"read-only", "STATUS", routed, readOnly, 50, []string{"host sysctl net/ipv4/ip_forward: cannot be written: read-only file system"}},
		{"read-only, and no addresses", "STATUS", with(layer2, `{"bridge": "br1"}`), readOnly, 0, nil},
		{"no IPv6", "STATUS", bridged, noIPv6, 50, []string{"IPv6 is not in this kernel"}},
		{"no IPv6, and IPv4 alone", "STATUS", ipv4, noIPv6, 0, nil},
		{"read-only, an ADD", "ADD", bridged, readOnly, 100, []string{"read-only file system"}},
		{"read-only below net, an ADD", "ADD", bridged, netReadOnly, 100, []string{"read-only file system"}},
		{"no IPv6, an ADD", "ADD", bridged, noIPv6, 106, []string{"IPv6 is not in this kernel"}},
		{"no IPv6, and an ADD of IPv4 alone", "ADD", ipv4, noIPv6, 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			if err := h.Do(func() error {
				return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br1"}})
			}); err != nil {
				t.Fatal(err)
			}
			cmd := h.command(tt.verb, tt.config, h.Container())
			o := h.finish(cmd, node.Apart(func() error { return h.Do(tt.step) }, func() error { return h.Start(cmd) }))
			if tt.code != 0 {
				o.refused(tt.code, tt.words...)
			} else {
				o.succeeds()
			}
		})
	}
}

// In a network namespace that was made together with its user namespace the kernel shows iptables-legacy to nobody.
func TestStatusInAFreshUserNamespace(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	cmd := h.command("STATUS", bridged, nil)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path, cmd.Args = unshare, []string{"unshare", "-rnm", cmd.Path}
	h.finish(cmd, h.Start(cmd)).succeeds()
}

// What STATUS cannot try is no reason to say that all is well: a kernel that has no room for another namespace cannot give
// a bridge a try, and one that lets nobody look at nftables promises no source check, whatever the reverse path filter.
func TestStatusIsTruthfulAboutWhatItCannotTry(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		config     string
		capability uintptr
		word       string
	}{
		{bridged, unix.CAP_SYS_ADMIN, "bridge"},
		{with(bridged, `{"ipMasq": false, "antiSpoof": true}`), unix.CAP_SYS_ADMIN, "network namespace"},
		{with(routed, `{"ipMasq": false}`), unix.CAP_NET_ADMIN, "antiSpoof"},
		{with(routed, `{"ipMasq": false, "antiSpoof": false, "ingressPolicy": "isolated"}`), unix.CAP_NET_ADMIN, "ingressPolicy"},
	} {
		if tt.capability == unix.CAP_NET_ADMIN && !machinesRoot(t) {
			tt.word = "cannot be written" // /proc/sys asks for the capability before nftables can
		}
		h := newHost(t)
		cmd := h.command("STATUS", tt.config, nil)
		err := node.Apart(func() error { return unix.Prctl(unix.PR_CAPBSET_DROP, tt.capability, 0, 0, 0) }, func() error { return h.Start(cmd) })
		h.finish(cmd, err).refused(50, tt.word)
	}
}

// A GC that cannot see who is attached takes nothing from anybody.
func TestGCWithoutAView(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			config := with(mode.config, `{"ingressPolicy": "isolated"}`)
			h.add(config, h.Container())
			h.leaves(func() {
				cmd := h.command("GC", with(config, `{"cni.dev/valid-attachments": []}`), nil)
				// The library for rtnetlink, which lists, is alone in asking a socket for its address.
				blind := onGetsockname(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOBUFS))
				h.finish(cmd, confined(blind, func() error { return h.Start(cmd) })).refused(100, "list the interfaces")
			})
		})
	}
}

// Two networks on one bridge with addresses of one subnet: GC of the first takes nothing that the second counts on, and
// when both are empty GC of either leaves nothing.
func TestGCBesideANeighbour(t *testing.T) {
	t.Parallel()
	for _, last := range []string{"podnet", "othernet"} {
		t.Run(last+" last", func(t *testing.T) {
			t.Parallel()
			beside(t, last)
		})
	}
}

func beside(t *testing.T, last string) {
	shared := `{"ipMasq": true, "ingressPolicy": "isolated", "forwardAccept": true, "ipam": {"type": "veth", "ranges": [[{"subnet": "10.88.0.0/24"`
	first := with(bridged, shared+`, "rangeEnd": "10.88.0.99"}]]}}`)
	second := with(with(bridged, `{"name": "othernet"}`), shared+`, "rangeStart": "10.88.0.100"}]]}}`)
	h := newHost(t)
	c1, c2 := h.Container(), h.Container()
	before := h.Snapshot()
	h.add(first, c1)
	added := h.add(second, c2)
	h.call("DEL", first, c1).succeeds()
	nobody := `{"cni.dev/valid-attachments": []}`
	h.call("GC", with(first, nobody), nil).succeeds()
	h.check(second, c2, added)
	h.call("DEL", second, c2).succeeds()
	if last == "podnet" {
		h.add(first, c1)
		h.call("DEL", first, c1).succeeds()
	}
	h.call("GC", with(with(second, nobody), `{"name": "`+last+`"}`), nil).succeeds()
	if diff := butForwarding(node.Diff(before, h.Snapshot())); diff != "" {
		t.Errorf("both networks leave\n%s", diff)
	}
}
