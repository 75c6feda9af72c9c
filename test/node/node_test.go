package node_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }

var (
	nodeAddr      = netip.MustParsePrefix("198.18.0.1/24")
	containerAddr = netip.MustParsePrefix("198.18.0.2/24")
	nodeAddr6     = netip.MustParsePrefix("2001:db8::1/64")
	containerIP6  = netip.MustParsePrefix("2001:db8::2/64")
	linkLocal     = netip.MustParsePrefix("fe80::1/64")
)

func TestNothingOfTheMachineIsReached(t *testing.T) {
	node.Require(t)
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if link.Attrs().Flags&net.FlagLoopback == 0 && link.Attrs().Flags&net.FlagUp != 0 {
			t.Errorf("the run's own namespace has %s up: it must be fresh", link.Attrs().Name)
		}
	}
	for _, dir := range []string{"/run", "/var/lib/cni"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil {
			t.Fatal(err)
		}
		if fs.Type != unix.TMPFS_MAGIC {
			t.Errorf("%s is not a tmpfs of the run's own", dir)
		}
	}
	if os.Geteuid() != 0 {
		t.Errorf("the run must be root of its namespaces, it is %d", os.Geteuid())
	}
}

func TestDoEntersAndReturns(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home := threadNamespace(t)
	boom := errors.New("boom")
	var inside string
	err := c.Do(func() error {
		inside = threadNamespace(t)
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("Do must return what its function returns, it returned %v", err)
	}
	if want := inode(t, c.Path); inside != want {
		t.Errorf("inside: namespace %s, want %s", inside, want)
	}
	func() {
		defer func() { _ = recover() }()
		_ = c.Do(func() error { panic(boom) })
	}()
	if now := threadNamespace(t); now != home {
		t.Errorf("after Do the thread is in %s, want %s", now, home)
	}
}

func TestDoShowsTheNamespacesSysctls(t *testing.T) {
	t.Parallel()
	const file = "/proc/sys/net/ipv4/ip_forward"
	n := node.New(t)
	c := n.Container()
	if err := c.Do(func() error { return os.WriteFile(file, []byte("1"), 0o644) }); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		ns   *node.Namespace
		want string
	}{{c, "1"}, {n.Namespace, "0"}} {
		var got []byte
		err := test.ns.Do(func() (err error) {
			got, err = os.ReadFile(file)
			return err
		})
		if err != nil || strings.TrimSpace(string(got)) != test.want {
			t.Errorf("%s: ip_forward %q, %v, want %s", test.ns.Name, got, err, test.want)
		}
	}
}

func TestRunStartsProcessesInside(t *testing.T) {
	t.Parallel()
	c := node.New(t).Container()
	for range 20 {
		var out bytes.Buffer
		cmd := exec.Command("readlink", "/proc/self/ns/net")
		cmd.Stdout = &out
		if err := c.Run(cmd); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.TrimSpace(out.String()), inode(t, c.Path); got != want {
			t.Fatalf("the process ran in %s, want %s", got, want)
		}
	}
}

func TestNothingIsLeft(t *testing.T) {
	var paths []string
	for name, end := range map[string]func(t *testing.T, c *node.Namespace){
		"by returning": func(*testing.T, *node.Namespace) {},
		"by Skip":      func(t *testing.T, _ *node.Namespace) { t.Skip("the point is what remains") },
		"by Close": func(t *testing.T, c *node.Namespace) {
			if err := errors.Join(c.Close(), c.Close()); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := node.New(t)
			c := n.Container("gone")
			paths = append(paths, n.Path, c.Path)
			for _, path := range paths[len(paths)-2:] {
				if _, err := os.Stat(path); err != nil {
					t.Error(err)
				}
			}
			end(t, c)
		})
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
		if strings.Contains(string(mounts), path+" ") {
			t.Errorf("%s is still mounted", path)
		}
	}
}

func TestCloseTakesTheVethWithIt(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	connect(t, n, c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for strings.Contains(n.Snapshot(), "link host0") {
		if time.Now().After(deadline) {
			t.Fatalf("the host end outlives its container:\n%s", n.Snapshot())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	connect(t, n, c)
	absent := netip.MustParseAddr("198.18.0.9")
	unrouted := netip.MustParseAddr("192.0.2.1")
	for _, test := range []struct {
		name  string
		to    netip.Addr
		opts  node.PingOptions
		fails bool
	}{
		{name: "IPv4", to: nodeAddr.Addr()},
		{name: "IPv6", to: nodeAddr6.Addr()},
		{name: "link-local", to: linkLocal.Addr().WithZone("eth0")},
		{name: "itself", to: containerAddr.Addr()},
		{name: "IPv4 source", to: nodeAddr.Addr(), opts: node.PingOptions{Source: containerAddr.Addr()}},
		{name: "IPv6 source", to: nodeAddr6.Addr(), opts: node.PingOptions{Source: containerIP6.Addr()}},
		{name: "source not ours", to: nodeAddr.Addr(), opts: node.PingOptions{Source: unrouted}, fails: true},
		{name: "IPv4 MTU", to: nodeAddr.Addr(), opts: node.PingOptions{Size: 1400 - 28, DontFragment: true}},
		{name: "IPv4 MTU+1", to: nodeAddr.Addr(), opts: node.PingOptions{Size: 1400 - 27, DontFragment: true}, fails: true},
		{name: "IPv4 fragments", to: nodeAddr.Addr(), opts: node.PingOptions{Size: 3000}},
		{name: "IPv6 MTU", to: nodeAddr6.Addr(), opts: node.PingOptions{Size: 1400 - 48, DontFragment: true}},
		{name: "IPv6 MTU+1", to: nodeAddr6.Addr(), opts: node.PingOptions{Size: 1400 - 47, DontFragment: true}, fails: true},
		{name: "IPv6 fragments", to: nodeAddr6.Addr(), opts: node.PingOptions{Size: 3000}},
		{name: "nobody", to: absent, opts: node.PingOptions{Timeout: 300 * time.Millisecond}, fails: true},
		{name: "no route", to: unrouted, fails: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := c.PingWith(test.to, test.opts)
			if (err != nil) != test.fails {
				t.Errorf("ping %s %+v: %v, want failure: %v", test.to, test.opts, err, test.fails)
			}
		})
	}
}

func TestPingEndsWithTheErrorAboutIt(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	connect(t, n, c)
	do(t, n.Namespace, func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
	})
	do(t, c, func() error {
		return netlink.RouteAdd(&netlink.Route{Gw: nodeAddr.Addr().AsSlice()})
	})
	start := time.Now()
	err := c.Ping(netip.MustParseAddr("192.0.2.1"))
	if err == nil || !strings.Contains(err.Error(), "ICMP type 3 code 0") {
		t.Errorf("ping through a router without a route: %v, want the router's ICMP type 3 code 0", err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %v, want no wait for the timeout", took)
	}
}

func TestMirrorShowsWhoComes(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c := n.Container()
	connect(t, n, c)
	for _, network := range []string{"tcp", "udp"} {
		for server, client := range map[netip.Addr]netip.Addr{
			nodeAddr.Addr(): containerAddr.Addr(), nodeAddr6.Addr(): containerIP6.Addr(),
		} {
			seen, err := c.SeenAs(network, n.Mirror(t, network, netip.AddrPortFrom(server, 0)))
			if err != nil || seen.Addr() != client {
				t.Errorf("%s from %s is seen as %s, %v", network, client, seen, err)
			}
			if _, err := n.SeenAs(network, netip.AddrPortFrom(client, 9)); err == nil {
				t.Errorf("%s to a port that nobody listens on must fail", network)
			}
		}
	}
}

func TestSnapshotSeesEveryChange(t *testing.T) {
	t.Parallel()
	for _, test := range changes {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := node.New(t)
			if test.name == "bridge port's VLAN" {
				requireVLANs(t, n)
			}
			connect(t, n, n.Container())
			before := n.Snapshot()
			do(t, n.Namespace, test.change)
			changed := n.Snapshot()
			if diff := node.Diff(before, changed); !strings.Contains(diff, test.want) {
				t.Errorf("the difference is\n%swant a line with %q", diff, test.want)
			}
			do(t, n.Namespace, test.undo)
			if diff := node.Diff(before, n.Snapshot()); diff != "" {
				t.Errorf("after the undo there remains\n%s", diff)
			}
		})
	}
}

func TestSnapshotsOfEqualNodesAreEqual(t *testing.T) {
	t.Parallel()
	var texts []string
	for range 2 {
		n := node.New(t)
		connect(t, n, n.Container())
		texts = append(texts, n.Snapshot())
	}
	if diff := node.Diff(texts[0], texts[1]); diff != "" {
		t.Errorf("two nodes made alike differ:\n%s", diff)
	}
}

func TestDiff(t *testing.T) {
	for _, test := range []struct{ name, before, after, want string }{
		{"equal", "a\nb\n", "a\nb\n", ""},
		{"changed", "a\nb\nc\n", "a\nB\nc\n", "- b\n+ B\n"},
		{"one of two equal lines", "a\na\n", "a\n", "- a\n"},
		{"order", "a\nb\n", "b\na\n", "the same lines in another order\n"},
	} {
		if got := node.Diff(test.before, test.after); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// TestRunsAsPlainUser runs this test binary again as a user who is nobody, from the machine's point of view.
func TestRunsAsPlainUser(t *testing.T) {
	cmd := again(t, "^TestRunStartsProcessesInside$|^TestPing$")
	if ids, err := os.ReadFile("/proc/self/uid_map"); err == nil && strings.Contains(string(ids), "4294967295") {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	} // else the run has one user only, its root, who is the plain user this test wants
	out, err := cmd.CombinedOutput()
	if err != nil || !slices.Contains(strings.Split(string(out), "\n"), "PASS") {
		t.Errorf("the run as a plain user: %v\n%s", err, out)
	}
}

func TestLeakedMarkerIsNotBelieved(t *testing.T) {
	mounts := func() int {
		text, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), " /run ")
	}
	for _, marker := range []string{"yes", "1 net:[1] mnt:[1]", strconv.Itoa(os.Getpid()) + " net:[1]"} {
		cmd := again(t, "^TestDoEntersAndReturns$")
		cmd.Env = append(cmd.Env, "VETH_NODE_OUTSIDE="+marker)
		before := mounts()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("marker %q: %v\n%s", marker, err, out)
		}
		if after := mounts(); after != before {
			t.Errorf("marker %q: the run mounted over its parent's /run (%d mounts, before %d)", marker, after, before)
		}
	}
}

// again is a command that runs some of this binary's tests from a place that every user can reach.
func again(t *testing.T, tests string) *exec.Cmd {
	t.Helper()
	if os.Getenv("NODE_TEST_AGAIN") != "" {
		t.Skip("this is the run that a test started")
	}
	node.Require(t)
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "node.test")
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-test.v", "-test.run="+tests)
	cmd.Env = append(os.Environ(), "NODE_TEST_AGAIN=1", "CI=true")
	cmd.Dir = "/"
	return cmd
}

// connect makes a veth pair host0, eth0 between node and container with addresses of both families and MTU 1400.
func connect(t *testing.T, n *node.Node, c *node.Namespace) {
	t.Helper()
	do(t, n.Namespace, func() error {
		file, err := os.Open(c.Path)
		if err != nil {
			return err
		}
		defer file.Close()
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: "host0", MTU: 1400},
			PeerName:      "eth0",
			PeerNamespace: netlink.NsFd(int(file.Fd())),
		})
	})
	do(t, c, func() error { return configure("eth0", containerAddr, containerIP6) })
	do(t, n.Namespace, func() error { return configure("host0", nodeAddr, nodeAddr6, linkLocal) })
	_, _ = c.Snapshot(), n.Snapshot() // they wait for the addresses
}

func configure(name string, addrs ...netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if err := netlink.AddrAdd(link, address(a)); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

func address(p netip.Prefix) *netlink.Addr {
	bits := p.Addr().BitLen()
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), bits)}}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}

func do(t *testing.T, ns *node.Namespace, fn func() error) {
	t.Helper()
	if err := ns.Do(fn); err != nil {
		t.Fatal(err)
	}
}

// requireVLANs skips on a kernel whose bridges do not filter VLANs (CONFIG_BRIDGE_VLAN_FILTERING).
func requireVLANs(t *testing.T, n *node.Node) {
	t.Helper()
	yes := true
	probe := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "probe"}, VlanFiltering: &yes}
	switch err := n.Do(func() error { return netlink.LinkAdd(probe) }); {
	case errors.Is(err, unix.EOPNOTSUPP):
		t.Skip("this kernel's bridges do not filter VLANs")
	case err != nil:
		t.Fatal(err)
	}
	do(t, n.Namespace, func() error { return netlink.LinkDel(probe) })
}

func threadNamespace(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// inode is the namespace that path keeps, as a link below /proc would show it.
func inode(t *testing.T, path string) string {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return "net:[" + strconv.FormatUint(stat.Ino, 10) + "]"
}
