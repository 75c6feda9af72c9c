package process

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/test/node"
)

// The kubelet hands down a burst that no user has asked for, the largest number of 31 bits.
const (
	limitRate = 20_000_000
	kubelets  = `{"runtimeConfig": {"bandwidth": {"ingressRate": 20000000, "ingressBurst": 2147483647,
		"egressRate": 20000000, "egressBurst": 2147483647}}}`
)

// limited is a limited container and one on the same network that is not.
type limited struct {
	*host
	config string
	pod    *node.Namespace
	added  outcome
	peer   *node.Namespace
	other  outcome
}

func newLimited(t *testing.T, config string) limited {
	t.Helper()
	h := newHost(t)
	l := limited{host: h, config: with(config, kubelets), pod: h.Container("pod"), peer: h.Container("peer")}
	l.added = h.call("ADD", l.config, l.pod)
	if l.added.status != 0 && !machinesRoot(t) {
		l.added.refused(106, "egressRate needs BPF", "initial user namespace")
		t.Skip("needs the machine's root")
	}
	l.added.succeeds()
	l.other = h.add(config, l.peer)
	return l
}

// machinesRoot reports whether the test runs in the initial user namespace, which maps every user to itself.
func machinesRoot(t *testing.T) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	return slices.Equal(strings.Fields(string(b)), []string{"0", "0", "4294967295"})
}

// ingress is a stream towards the container, egress one from it.
func (l limited) ingress(is4 bool) stream {
	return stream{network: "tcp", from: l.peer, to: l.pod, addr: ofFamily(l.added, is4), flows: 1, lasts: 2 * time.Second}
}

func (l limited) egress(is4 bool) stream {
	return stream{network: "tcp", from: l.pod, to: l.peer, addr: ofFamily(l.other, is4), flows: 1, lasts: 2 * time.Second}
}

func ofFamily(o outcome, is4 bool) netip.Addr {
	list := o.addresses()
	return list[slices.IndexFunc(list, func(a netip.Addr) bool { return a.Is4() == is4 })]
}

// isKept holds a stream to the limit: its first second and the whole strictly, because tokens are counted. How much of
// the rate is used depends on what else the machine does, so least leaves room.
func isKept(t *testing.T, s stream, least float64) {
	t.Helper()
	got, err := s.run()
	if err != nil {
		t.Fatal(err)
	}
	if most := limitRate / 8 * 1.1; float64(got.first) > most {
		t.Errorf("%d bytes in the first second, want at most 110 %% of the rate: %.0f", got.first, most)
	}
	if most := limitRate * (1 + 0.1/got.took.Seconds()); got.rate() > most {
		t.Errorf("%.0f bit/s over %v, want at most the rate and one burst: %.0f", got.rate(), got.took, most)
	}
	if got.rate() < least*limitRate {
		t.Errorf("%.0f bit/s over %v, want at least %.0f %% of %d", got.rate(), got.took, least*100, limitRate)
	}
	t.Logf("%.1f %% of the rate, %.1f %% in the first second", got.rate()/limitRate*100, float64(got.first)*8/limitRate*100)
}

func TestBandwidthIsKept(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, config string
		is4          bool
		flows        int
	}{
		{"routed, IPv4, one flow", routed, true, 1},
		{"routed, IPv6, four flows", routed, false, 4},
		{"bridge, IPv4, four flows", bridged, true, 4},
		{"bridge, IPv6, one flow", bridged, false, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLimited(t, tt.config)
			in, out := l.ingress(tt.is4), l.egress(tt.is4)
			in.flows, out.flows = tt.flows, tt.flows
			// One after the other: each direction's acknowledgements are the other's traffic.
			t.Run("ingress", func(t *testing.T) { isKept(t, in, 0.6) })
			t.Run("egress", func(t *testing.T) { isKept(t, out, 0.6) })
		})
	}
}

// A container with every capability in its own namespace removes what it can reach there. What it then sends by UDP, all
// that a processor gives, is no more than before.
func TestContainerCannotLiftBandwidth(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			l := newLimited(t, mode.config)
			if err := l.pod.Do(liftBandwidth); err != nil {
				t.Fatal(err)
			}
			in, out, tcp := l.ingress(true), l.egress(true), l.egress(false)
			in.network, out.network = "udp", "udp"
			t.Run("ingress", func(t *testing.T) { isKept(t, in, 0.5) })
			t.Run("egress", func(t *testing.T) { isKept(t, out, 0.5) })
			t.Run("egress by TCP", func(t *testing.T) { isKept(t, tcp, 0) })
			l.call("CHECK", l.added.before(l.config), l.pod).refused(105, "container shaper eth0: missing")
		})
	}
}

// liftBandwidth removes the queueing discipline of eth0 and lets packets be as long as ever.
func liftBandwidth() error {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetGSOMaxSize(link, 1<<16); err != nil {
		return err
	}
	return netlink.QdiscDel(&netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0),
	}})
}

// Of a flood every datagram that arrives has waited in a full queue: as long as bandwidthLatency says. The median is
// judged, and some room given, because a busy machine has delays of its own.
func TestBandwidthLatency(t *testing.T) {
	t.Parallel()
	const latency, room = 30 * time.Millisecond, 30 * time.Millisecond
	l := newLimited(t, with(routed, `{"bandwidthLatency": 30}`))
	for name, s := range map[string]stream{"ingress": l.ingress(true), "egress": l.egress(true)} {
		t.Run(name, func(t *testing.T) {
			s.network, s.lasts = "udp", time.Second
			got, err := s.run()
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(got.waits)
			if len(got.waits) < 100 {
				t.Fatalf("%d datagrams have arrived, want some hundreds", len(got.waits))
			}
			median := got.waits[len(got.waits)/2]
			if median < latency/3 || median > latency+room {
				t.Errorf("the median datagram waited %v, want about %v", median, latency)
			}
			t.Logf("median %v, 90 %% within %v", median, got.waits[len(got.waits)*9/10])
		})
	}
}

func TestCheckComparesBandwidth(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			l := newLimited(t, mode.config)
			l.check(l.config, l.pod, l.added)
			hostEnd := l.added.hostEnd()
			slower := strings.ReplaceAll(l.config, "20000000", "10000000")
			l.call("CHECK", l.added.before(slower), l.pod).refused(105,
				"host policer "+hostEnd+": rate: want 10000000bit/s, found 20000000bit/s",
				"host shaper "+hostEnd+": rate: want 10000000bit/s, found 20000000bit/s",
				"container shaper eth0: rate: want 10000000bit/s, found 20000000bit/s")
			if err := l.Do(func() error { return removeQdiscs(hostEnd) }); err != nil {
				t.Fatal(err)
			}
			l.call("CHECK", l.added.before(l.config), l.pod).refused(105,
				"host policer "+hostEnd+": missing", "host shaper "+hostEnd+": missing")
		})
	}
}

// A slow limit's burst and queue are counted in frames, whose size the configuration may leave to the node, and the
// result of an older version does not tell.
func TestCheckKnowsTheFrames(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			uplink := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink", MTU: 9000, Flags: net.FlagUp}, PeerName: "world"}
			if err := h.Do(func() error {
				if err := netlink.LinkAdd(uplink); err != nil {
					return err
				}
				_, everywhere, _ := net.ParseCIDR("0.0.0.0/0")
				return netlink.RouteAdd(&netlink.Route{LinkIndex: uplink.Index, Dst: everywhere})
			}); err != nil {
				t.Fatal(err)
			}
			c := h.Container()
			config := with(routed, `{"cniVersion": "`+version+`", "ingressRate": 100000}`)
			added := h.add(config, c)
			if s := h.Snapshot(); !strings.Contains(s, "rate 12500 limit 90180") {
				t.Errorf("want ten frames of 9018 bytes to wait:\n%s", s)
			}
			h.check(config, c, added)
		})
	}
}

func removeQdiscs(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	list, err := netlink.QdiscList(link)
	if err != nil {
		return err
	}
	for _, q := range list {
		if err := netlink.QdiscDel(q); err != nil {
			return err
		}
	}
	return nil
}

func TestStatusTriesBandwidth(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.leaves(func() {
		h.call("STATUS", with(routed, `{"ingressRate": 5000}`), nil).succeeds()
		o := h.call("STATUS", with(routed, `{"egressRate": 5000}`), nil)
		if machinesRoot(t) {
			o.succeeds()
		} else {
			o.refused(50, "egressRate needs BPF")
		}
	})
}

// Whatever ends an attachment ends its limits: they are on its interfaces and nowhere else.
func TestBandwidthLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			l := newLimited(t, mode.config)
			c := l.Container()
			l.leaves(func() {
				l.add(l.config, c)
				l.del(l.config, c, "CNI_NETNS=")
				bad := with(l.config, `{"ipam": {"routes": [{"dst": "192.0.2.0/24", "gw": "10.88.0.7", "scope": 254}]}}`)
				l.call("ADD", bad, c).refused(100)
				l.killEverywhere(l.config, c, func(int) { l.del(mode.config, c) }) // a DEL that knows of no limits
				l.del(mode.config, c)
			}, c)
		})
	}
}

// conf/45-bandwidth.conflist limits what pods receive; how much each may send is the runtime's to say.
func TestBandwidthConfiguration(t *testing.T) {
	t.Parallel()
	newLimited(t, routed)
	h := newHost(t)
	c := h.Container()
	const capability = `CAP_ARGS={"bandwidth": {"ingressRate": 5000, "egressRate": 50000000, "egressBurst": 2147483647}}`
	h.cnitool("../../conf", "add", "shaped", c, capability).succeeds()
	h.cnitool("../../conf", "check", "shaped", c, capability).succeeds()
	for _, want := range []struct{ where, line string }{
		{h.Snapshot(), " rate 125000000 limit 2500000"},
		{h.Snapshot(), "filter bpf "},
		{c.Snapshot(), "qdisc tbf 1:0 dev eth0 rate 6250000 limit 125000"},
		{c.Snapshot(), "gso_max_size 31250 dev eth0"},
	} {
		if !strings.Contains(want.where, want.line) {
			t.Errorf("want %q in\n%s", want.line, want.where)
		}
	}
	h.cnitool("../../conf", "del", "shaped", c, capability).succeeds()
}
