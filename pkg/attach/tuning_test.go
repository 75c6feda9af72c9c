package attach_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/test/node"
)

// tuned wants something of every kind, in every spelling.
var tuned = network{
	"sysctl": map[string]string{
		"net.ipv4.conf.IFNAME.log_martians":         "1",
		"net/ipv4/conf/all/forwarding":              "1",
		"net.ipv4.conf.IFNAME.forwarding":           "0",
		"net.ipv4.conf.IFNAME.arp_notify":           "0",
		"net.ipv4.tcp_rmem":                         "4096 100000 200000",
		"net.ipv4.ip_local_reserved_ports":          "30005-30009,30000-30004", // which the kernel joins
		"net.ipv6.conf.IFNAME.hop_limit":            "32",
		"net.ipv4.neigh.IFNAME.gc_stale_time":       "77",
		"net.ipv4.ip_unprivileged_port_start":       "0",
		"net.ipv6.conf.all.disable_ipv6":            "1",
		"net.ipv4.conf.default.accept_source_route": "1",
	},
	"promisc": true, "allmulti": true, "txQLen": 321, "mac": "02:00:5e:10:00:07",
}

func TestTuning(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]network{"routed": routed, "bridge": on(bridge, "a", network{})} {
		for _, ifName := range []string{"eth0", "eth0.100"} {
			t.Run(name+" "+ifName, func(t *testing.T) {
				t.Parallel()
				n := node.New(t)
				c := n.Container()
				set(t, n.Namespace, "net/ipv4/tcp_rmem", "4096 50000 60000")
				eth0 := attachTo(t, n, c, ifName, dual("a", "1", mode).with(tuned))
				for key, want := range map[string]string{
					"net/ipv4/conf/IFNAME/log_martians":         "1",
					"net/ipv4/conf/all/forwarding":              "1",
					"net/ipv4/conf/IFNAME/forwarding":           "0", // although "all" hands its value on
					"net/ipv4/conf/IFNAME/arp_notify":           "0", // although bridge mode would have it on
					"net/ipv4/tcp_rmem":                         "4096\t100000\t200000",
					"net/ipv4/ip_local_reserved_ports":          "30000-30009",
					"net/ipv6/conf/IFNAME/hop_limit":            "32",
					"net/ipv4/neigh/IFNAME/gc_stale_time":       "77",
					"net/ipv4/ip_unprivileged_port_start":       "0",
					"net/ipv6/conf/IFNAME/disable_ipv6":         "0", // although "all" hands its value on
					"net/ipv4/conf/default/accept_source_route": "1",
				} {
					key = strings.Replace(key, "IFNAME", ifName, 1)
					if got := get(t, c, key); got != want {
						t.Errorf("%s is %q, want %q", key, got, want)
					}
				}
				for key, want := range map[string]string{
					"net/ipv4/tcp_rmem": "4096\t50000\t60000", "net/ipv4/ip_unprivileged_port_start": "1024",
					"net/ipv6/conf/all/disable_ipv6": "0",
				} {
					if got := get(t, n.Namespace, key); got != want {
						t.Errorf("the node's %s is %q, want %q: it was reached", key, got, want)
					}
				}
				a := link(t, c, ifName)
				if a.RawFlags&unix.IFF_PROMISC == 0 || a.RawFlags&unix.IFF_ALLMULTI == 0 || a.TxQLen != 321 ||
					a.HardwareAddr.String() != "02:00:5e:10:00:07" {
					t.Errorf("the interface is %+v", a)
				}
				settle(n.Namespace, c)
				for _, to := range eth0.addresses() {
					if err := n.Ping(to); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

func TestCheckComparesTuning(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	eth0 := attachTo(t, n, c, "eth0", dual("a", "1", tuned))
	set(t, c, "net/ipv4/conf/eth0/log_martians", "0")
	wrong(t, eth0, "container sysctl net/ipv4/conf/eth0/log_martians: value: want 1, found 0")
	set(t, c, "net/ipv4/conf/eth0/log_martians", "1")
	ip(t, c, "link", "set", "eth0", "promisc", "off", "allmulticast", "off", "txqueuelen", "5")
	wrong(t, eth0, "container settings of interface eth0: promisc: want yes, found no; "+
		"container settings of interface eth0: allmulti: want on, found off; "+
		"container settings of interface eth0: txqlen: want 321, found 5")
}

// allmulti: false is a wish, the absence of the key is none.
func TestAllMultiOff(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c, other := n.Container(), n.Container()
	off := attachTo(t, n, c, "eth0", dual("a", "1", network{"allmulti": false}))
	ip(t, c, "link", "set", "eth0", "allmulticast", "on")
	wrong(t, off, "allmulti: want off, found on")
	none := attachTo(t, n, other, "eth0", dual("a", "1", nil))
	ip(t, other, "link", "set", "eth0", "allmulticast", "on", "promisc", "on", "txqueuelen", "5")
	if err := none.check(); err != nil {
		t.Error(err)
	}
}

func TestFailedSysctlUndoesTheAdd(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	before := n.Snapshot()
	for key, cause := range map[string]error{
		"net.ipv4.conf.IFNAME.no_such_thing": syscall.ENOENT,
		"net.ipv4.ip_local_port_range":       syscall.EINVAL,
	} {
		eth0 := &call{node: n, inside: c, ifName: "eth0", conf: dual("a", "1", network{"sysctl": network{key: "7"}})}
		if err := eth0.add(); !errors.Is(err, cause) || !strings.Contains(err.Error(), "container sysctl net/ipv4/") {
			t.Errorf("%s: %v, want %v", key, err, cause)
		}
	}
	if d := node.Diff(before, n.Snapshot()); d != "" {
		t.Errorf("the failed ADDs have left:\n%s", d)
	}
}

// A container may share the host's network namespace if the caller insists (CNI_NETNS_OVERRIDE).
func TestNoSysctlsForTheHost(t *testing.T) {
	n := node.New(t)
	t.Setenv("CNI_NETNS_OVERRIDE", "1")
	eth0 := &call{node: n, inside: n.Namespace, ifName: "eth0", conf: dual("a", "1", tuned)}
	if err := eth0.add(); err == nil || cnierr.Of(err, 0).Code != cnierr.InvalidNetNS {
		t.Errorf("ADD to the host's own namespace: %v", err)
	}
	if got := get(t, n.Namespace, "net/ipv4/ip_unprivileged_port_start"); got != "1024" {
		t.Errorf("the node's setting is %s", got)
	}
}

// world gives a node a way out with some MTU: an interface named out, and whatever routes ip(8) is told to add.
func world(t *testing.T, n *node.Node, mtu string, routes ...string) {
	t.Helper()
	ip(t, n.Namespace, "link", "add", "out", "mtu", mtu, "type", "bridge")
	ip(t, n.Namespace, "link", "set", "out", "up")
	for _, r := range routes {
		ip(t, n.Namespace, strings.Fields(r)...)
	}
}

func TestAutomaticMTU(t *testing.T) {
	t.Parallel()
	const four, six = "route add default dev out", "-6 route add default dev out"
	for _, tt := range []struct {
		name   string
		mtu    string
		routes []string
		keys   network
		want   int
	}{
		{name: "IPv4", mtu: "1400", routes: []string{four}, want: 1400},
		{name: "IPv6", mtu: "1400", routes: []string{six}, want: 1400},
		{name: "jumbo", mtu: "9000", routes: []string{four, six}, want: 9000},
		{name: "the smaller of two", mtu: "1400", routes: []string{
			four, "link add out6 mtu 1350 type bridge", "link set out6 up", "-6 route add default dev out6",
		}, want: 1350},
		{name: "the route's own", mtu: "1500", routes: []string{"route add default dev out mtu 1380"}, want: 1380},
		{name: "the IPv6 route's own", mtu: "1500", routes: []string{four, six + " mtu 1370"}, want: 1370},
		{name: "advertised by a router", mtu: "1500", routes: []string{six}, want: 1390},
		{name: "next hops", mtu: "1460", routes: []string{
			"link add out2 mtu 1450 type bridge", "link set out2 up",
			"route add default nexthop dev out nexthop dev out2 nexthop dev out",
		}, want: 1450},
		{name: "two halves of the world", mtu: "1410", routes: []string{
			"route add 0.0.0.0/1 dev out", "route add 128.0.0.0/1 dev out",
		}, want: 1410},
		{name: "overhead", mtu: "1500", routes: []string{four}, keys: network{"mtuOverhead": 50}, want: 1450},
		{name: "IPv6 needs 1280", mtu: "1300", routes: []string{four}, keys: network{"mtuOverhead": 50}, want: 1280},
		{name: "explicit", mtu: "1400", routes: []string{four}, keys: network{"mtu": 1600}, want: 1600},
		{name: "no way out", mtu: "1400", want: 1500},
		{name: "blackhole", mtu: "1400", routes: []string{"route add blackhole default"}, want: 1500},
		{name: "loopback", mtu: "1400", routes: []string{"route add default dev lo"}, want: 1500},
	} {
		for mode, keys := range map[string]network{"routed": routed, "bridge": on(bridge, "a", network{})} {
			t.Run(tt.name+" "+mode, func(t *testing.T) {
				t.Parallel()
				n := node.New(t)
				c := n.Container()
				world(t, n, tt.mtu, tt.routes...)
				if tt.name == "advertised by a router" {
					set(t, n.Namespace, "net/ipv6/conf/out/mtu", "1390")
				}
				eth0 := attachTo(t, n, c, "eth0", dual("a", "1", keys).with(tt.keys))
				if got := link(t, c, "eth0").MTU; got != tt.want {
					t.Errorf("the container's interface has MTU %d, want %d", got, tt.want)
				}
				for _, i := range eth0.result.Interfaces {
					if i.Mtu != tt.want {
						t.Errorf("the result gives %s MTU %d, want %d", i.Name, i.Mtu, tt.want)
					}
					if i.Sandbox == "" && link(t, n.Namespace, i.Name).MTU != tt.want {
						t.Errorf("%s has MTU %d, want %d", i.Name, link(t, n.Namespace, i.Name).MTU, tt.want)
					}
				}
			})
		}
	}
}

// A bridge that is there counts: packets between its ports may be as large as it says, and no larger.
func TestAutomaticMTUOfABridge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, bridge, world string
		want                int
	}{
		{"smaller", "1350", "1400", 1350},
		{"larger", "9000", "1400", 1400},
		{"no way out", "1350", "", 1350},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := node.New(t)
			ip(t, n.Namespace, "link", "add", "br-a", "mtu", tt.bridge, "type", "bridge")
			if tt.world != "" {
				world(t, n, tt.world, "route add default dev out")
			}
			c := n.Container()
			attachTo(t, n, c, "eth0", dual("a", "1", on(bridge, "a", network{})))
			if got := link(t, c, "eth0").MTU; got != tt.want {
				t.Errorf("the container's interface has MTU %d, want %d", got, tt.want)
			}
		})
	}
}

func TestCheckComparesTheMTUThatAddChose(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.1.0", "0.4.0"} { // a result of 0.4.0 has no MTU
		for _, mode := range []network{routed, on(bridge, "a", network{})} {
			n := node.New(t)
			c := n.Container()
			world(t, n, "1400", "route add default dev out")
			eth0 := attachTo(t, n, c, "eth0", dual("a", "1", mode).with(network{"cniVersion": version}))
			ip(t, n.Namespace, "link", "set", "out", "mtu", "1300")
			if err := eth0.check(); err != nil {
				t.Errorf("%s: CHECK after the way out has changed: %v", version, err)
			}
			ip(t, c, "link", "set", "eth0", "mtu", "1390") // a plugin later in the chain may do that
			if err := eth0.check(); err != nil {
				t.Errorf("%s: CHECK after the container's end has changed: %v", version, err)
			}
			host := eth0.result.Interfaces[len(eth0.result.Interfaces)-2].Name
			ip(t, n.Namespace, "link", "set", host, "mtu", "1399")
			if version == "1.1.0" {
				wrong(t, eth0, "host interface "+host+": mtu: want 1400, found 1399")
			} else if err := eth0.check(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A result without MTU does not excuse what the configuration names.
func TestCheckComparesTheMTUOfTheConfiguration(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	eth0 := attachTo(t, n, n.Container(), "eth0", dual("a", "1", network{"cniVersion": "0.4.0", "mtu": 1400}))
	host := eth0.result.Interfaces[0].Name
	ip(t, n.Namespace, "link", "set", host, "mtu", "1399")
	wrong(t, eth0, "host interface "+host+": mtu: want 1400, found 1399")
}

// The container sends to the world what fits the way there whole, and learns of what does not at once.
func TestPacketsFitTheWayOut(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]network{
		"routed": routed, "bridge": on(bridge, "a", network{"isDefaultGateway": true}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := node.New(t)
			c, outside := n.Container(), n.Container("outside")
			neighbour(t, n, outside, 1400)
			eth0 := attachTo(t, n, c, "eth0", dual("a", "1", mode))
			settle(n.Namespace, c, outside)
			for _, to := range eth0.addresses() {
				if err := outside.Ping(to); err != nil {
					t.Error(err)
				}
			}
			for _, far := range []struct {
				to      string
				headers int
			}{{"198.18.0.2", 28}, {"2001:db8:18::2", 48}} {
				fits := node.PingOptions{Size: 1400 - far.headers, DontFragment: true}
				if err := c.PingWith(addr(far.to), fits); err != nil {
					t.Error(err)
				}
				fits.Size++
				if err := c.PingWith(addr(far.to), fits); !errors.Is(err, syscall.EMSGSIZE) {
					t.Errorf("ping %s with 1401 bytes: %v, want %v", far.to, err, syscall.EMSGSIZE)
				}
			}
		})
	}
}

// neighbour connects a node by a veth pair with a namespace that is its way out: 198.18.0.2 and 2001:db8:18::2.
func neighbour(t *testing.T, n *node.Node, outside *node.Namespace, mtu int) {
	t.Helper()
	if err := n.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "out", MTU: mtu}, PeerName: "in"})
	}); err != nil {
		t.Fatal(err)
	}
	ip(t, n.Namespace, "link", "set", "in", "netns", outside.Name)
	for _, side := range []struct {
		ns        *node.Namespace
		dev, host string
		other     string
	}{{n.Namespace, "out", "1", "2"}, {outside, "in", "2", "1"}} {
		ip(t, side.ns, "address", "add", "198.18.0."+side.host+"/24", "dev", side.dev)
		ip(t, side.ns, "address", "add", "2001:db8:18::"+side.host+"/64", "dev", side.dev, "nodad")
		ip(t, side.ns, "link", "set", side.dev, "up")
		ip(t, side.ns, "route", "add", "default", "via", "198.18.0."+side.other)
		ip(t, side.ns, "-6", "route", "add", "default", "via", "2001:db8:18::"+side.other)
	}
}
