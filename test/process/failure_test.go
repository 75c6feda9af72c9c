package process

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/node"
)

// A failed ADD cleans up by itself, at whichever of its steps it fails, on a node that has never seen the network and
// on one that has.
func TestFailedAddLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		config string
		env    []string
		before func(h *host, c *node.Namespace) error
		code   uint
		words  []string
	}{
		{
			"the delegate fails", with(bridged, delegatedIPAM), nil,
			func(h *host, _ *node.Namespace) error {
				newDelegate(h).fails("ADD", `{"cniVersion": "1.1.0", "code": 11, "msg": "no address today"}`)
				return nil
			}, 11,
			[]string{`"delegate"`, "no address today"},
		},
		{
			"the delegate gives nothing", with(routed, delegatedIPAM), nil,
			func(h *host, _ *node.Namespace) error {
				newDelegate(h).says("ADD", `{"cniVersion": "1.1.0"}`)
				return nil
			}, 108,
			[]string{`"delegate"`, "no address"},
		},
		{
			"the delegate talks nonsense", with(routed, delegatedIPAM), nil,
			func(h *host, _ *node.Namespace) error {
				newDelegate(h).says("ADD", `hello`)
				return nil
			}, 108,
			[]string{`"delegate"`},
		},
		{
			"an address is taken", with(routed, `{"args": {"cni": {"ips": ["10.88.0.9"]}}}`), nil,
			func(h *host, _ *node.Namespace) error {
				h.add(with(routed, `{"ipMasq": false, "ipam": {"ranges": [[{"subnet": "10.88.0.0/24"}]]}}`),
					h.Container("holder"), "CNI_ARGS=IP=10.88.0.9")
				return nil
			}, 103,
			[]string{"10.88.0.9"},
		},
		{
			"the second pool is exhausted", with(routed, `{"ipam": {"ranges": [[{"subnet": "10.88.0.0/24"}],
				[{"subnet": "2001:db8:88::/64", "rangeStart": "2001:db8:88::5", "rangeEnd": "2001:db8:88::5"}]]}}`), nil,
			func(h *host, _ *node.Namespace) error {
				h.add(with(routed, `{"ipMasq": false, "args": {"cni": {"ips": ["2001:db8:88::5"]}},
					"ipam": {"ranges": [[{"subnet": "2001:db8:88::/64"}]]}}`), h.Container("holder"))
				return nil
			}, 104,
			[]string{"podnet", "2001:db8:88::/64", "range set 2"},
		},
		{
			"a route is refused", with(bridged, `{"ipam": {"routes": [{"dst": "192.0.2.0/24", "gw": "10.88.0.7", "scope": 254}]}}`),
			nil, nil, 100,
			[]string{"container route 192.0.2.0/24", "invalid"},
		},
		{
			"a host route is somebody else's", routed,
			[]string{"CNI_ARGS=IP=10.88.0.9"},
			func(h *host, _ *node.Namespace) error {
				return h.Do(func() error {
					return netlink.RouteAdd(&netlink.Route{Dst: netlink.NewIPNet([]byte{10, 88, 0, 9}), Type: unix.RTN_BLACKHOLE})
				})
			}, 100,
			[]string{"host route 10.88.0.9/32", "exists"},
		},
		{
			"the bridge has another gateway address", bridged, nil,
			func(h *host, _ *node.Namespace) error {
				return h.Do(func() error {
					br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
					if err := netlink.LinkAdd(br); err != nil {
						return err
					}
					a, err := netlink.ParseAddr("198.18.0.1/24")
					if err != nil {
						return err
					}
					return errors.Join(netlink.AddrAdd(br, a), netlink.LinkSetUp(br))
				})
			}, 107,
			[]string{"br0", "198.18.0.1/24", "forceAddress"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			if tt.before != nil {
				if err := tt.before(h, c); err != nil {
					t.Fatal(err)
				}
			}
			for _, again := range []string{"on a new node", "again"} {
				h.leaves(func() { h.call("ADD", tt.config, c, tt.env...).refused(tt.code, tt.words...) }, c)
				if t.Failed() {
					t.Fatal(again)
				}
			}
		})
	}
}

// A container whose sysctls cannot be set is not attached.
func TestReadOnlySysctlsFailAddCleanly(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			h.leaves(func() {
				cmd := h.command("ADD", mode.config, c)
				err := node.Apart(func() error {
					return unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND|unix.MS_REC, "")
				}, func() error {
					return unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
				}, func() error { return h.Start(cmd) })
				h.finish(cmd, err).refused(100, "sysctl net/ipv", "read-only file system")
			}, c)
		})
	}
}

// A delegate that has given an address gets it back, whatever fails afterwards, and not before the interface that had
// it is gone.
func TestFailedAddReleasesTheDelegatesAddress(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := newDelegate(h)
	c := h.Container()
	config := with(bridged, delegatedIPAM)
	d.says("ADD", `{"cniVersion": "1.1.0", "ips": [{"address": "10.88.0.7/24", "gateway": "10.88.0.1"}],
		"routes": [{"dst": "192.0.2.0/24", "gw": "198.18.0.1"}]}`)
	h.leaves(func() { h.call("ADD", config, c).refused(100, "container route 192.0.2.0/24") }, c)
	d.called("ADD", "DEL")
	if got := d.stdin("DEL"); got != config {
		t.Errorf("the delegate's DEL got the configuration\n%s\nwant what the plugin got:\n%s", got, config)
	}

	d.fails("DEL", `{"cniVersion": "1.1.0", "code": 11, "msg": "cannot release"}`)
	h.leaves(func() {
		h.call("ADD", config, c).refused(100, "container route 192.0.2.0/24", "cannot release")
	}, c)
	d.called("ADD", "DEL")
}

// The reference's own host-local, which remembers in files what it has given.
func TestFailedAddReleasesHostLocalsAddress(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	dir := t.TempDir()
	config := with(bridged, `{"ipam": {"type": "host-local", "dataDir": "`+dir+`", "ranges": [[{"subnet": "10.88.0.0/24"}]],
		"routes": [{"dst": "192.0.2.0/24", "gw": "198.18.0.1"}]}}`)
	h.leaves(func() { h.call("ADD", config, c).refused(100, "container route 192.0.2.0/24", "198.18.0.1", "eth0") }, c)
	entries, err := os.ReadDir(dir + "/podnet")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err == nil {
			t.Errorf("host-local still holds %s", e.Name())
		}
	}
}

// A failing ADD takes nothing from one that succeeds beside it, although both find, make and share the same bridge,
// gateway, masquerading and forwarding.
func TestFailingAddsBesideSucceedingOnes(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			bad := with(mode.config, `{"ipam": {"routes": [{"dst": "192.0.2.0/24", "gw": "10.88.0.7", "scope": 254}]}}`)
			for range 10 {
				h := newHost(t)
				var good [3]*node.Namespace
				var added [3]chan outcome
				var failed [3]chan outcome
				for i := range good {
					good[i] = h.Container()
					added[i], failed[i] = h.background("ADD", mode.config, good[i]), h.background("ADD", bad, h.Container())
				}
				for i, c := range good {
					(<-failed[i]).refused(100)
					h.check(mode.config, c, (<-added[i]).succeeds())
				}
			}
		})
	}
}

// background is call beside other calls.
func (h *host) background(verb, config string, c *node.Namespace, env ...string) chan outcome {
	h.t.Helper()
	cmd := h.command(verb, config, c, env...)
	err := h.Start(cmd)
	done := make(chan outcome, 1)
	go func() {
		if err == nil {
			err = cmd.Wait()
		}
		o := outcome{t: h.t, what: fmt.Sprint(cmd.Args, cmd.Env), stderr: fmt.Sprint(cmd.Stderr), stdout: fmt.Sprint(cmd.Stdout)}
		if cmd.ProcessState != nil {
			o.status = cmd.ProcessState.ExitCode()
		} else {
			o.status, o.stderr = -1, fmt.Sprint(err)
		}
		done <- o
	}()
	return done
}

// forwarding matches what ADD switches on for the host to route at all, and nobody switches off again, because nobody
// knows who else counts on it.
var forwarding = regexp.MustCompile(`^[-+] sysctl net/ipv[46]/(ip_forward|conf/[^/]*/forwarding) [01]$`)

// butForwarding is a list of changes without those.
func butForwarding(diff string) string {
	var rest strings.Builder
	for line := range strings.Lines(diff) {
		if !forwarding.MatchString(strings.TrimSuffix(line, "\n")) && strings.ContainsAny(line[:1], "+-") {
			rest.WriteString(line)
		}
	}
	return rest.String()
}

// A runtime that is gone when the result is there has not got it: the ADD fails, and undoes what it has done.
func TestAddToNobody(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			h.add(mode.config, h.Container("other"))
			h.leaves(func() {
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				r.Close()
				cmd := h.command("ADD", mode.config, c)
				cmd.Stdout = w
				if err := errors.Join(h.Start(cmd), w.Close()); err != nil {
					t.Fatal(err)
				}
				if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
					t.Errorf("ADD: %v, want exit status 1", err)
				}
			}, c)
		})
	}
}
