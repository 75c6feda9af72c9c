package firewall

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }

// enterNew puts the test's thread into a network namespace of its own. The thread stays locked, so it ends with the
// test and takes the namespace along.
func enterNew(t testing.TB) {
	t.Helper()
	node.Require(t)
	runtime.LockOSThread()
	must(t, unix.Unshare(unix.CLONE_NEWNET))
}

// current is the network namespace of the test's thread.
func current(t testing.TB) int {
	t.Helper()
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// another makes a network namespace and leaves the thread where it is.
func another(t testing.TB) int {
	t.Helper()
	home := current(t)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	fd := current(t)
	enter(t, home)
	return fd
}

func enter(t testing.TB, namespace int) {
	t.Helper()
	if err := unix.Setns(namespace, unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// within runs do in another network namespace.
func within(t testing.TB, namespace int, do func()) {
	t.Helper()
	home := current(t)
	enter(t, namespace)
	defer enter(t, home)
	do()
}

// nft runs the nft program in the thread's namespace. Without the program the test is skipped, in CI it fails.
func nft(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(node.Program(t, "nft"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// wire connects the thread's namespace with another by a veth pair. Each end gets addresses, and is up.
func wire(t testing.TB, w cable) {
	t.Helper()
	link := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: w.name},
		PeerName:      w.name,
		PeerNamespace: netlink.NsFd(w.to),
	}
	must(t, netlink.LinkAdd(link))
	up(t, w.name, w.here)
	within(t, w.to, func() { up(t, w.name, w.there) })
}

type cable struct {
	name        string // of both ends
	to          int    // the namespace of the other end
	here, there []string
}

func up(t testing.TB, name string, addresses []string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	for _, a := range addresses {
		addr, err := netlink.ParseAddr(a)
		must(t, err)
		addr.Flags = unix.IFA_F_NODAD
		must(t, netlink.AddrAdd(link, addr))
	}
	must(t, netlink.LinkSetUp(link))
}

// route sends everything the thread's namespace has no better route for to a gateway.
func route(t testing.TB, gateways ...string) {
	t.Helper()
	for _, g := range gateways {
		must(t, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(g)}))
	}
}

func sysctl(t testing.TB, key, value string) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/net/"+key, []byte(value), 0))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// adopt puts the thread of a subtest, which has a goroutine of its own, into a namespace, and ends it with the subtest.
func adopt(t testing.TB, namespace int) {
	t.Helper()
	runtime.LockOSThread()
	enter(t, namespace)
}
