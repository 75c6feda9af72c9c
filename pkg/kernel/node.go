// Package kernel is where a plan meets the kernel: it applies, observes and undoes one object at a time, each kind in a
// file of its own. No other package speaks rtnetlink or opens a network namespace.
package kernel

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strings"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// Node is the machine as one call of the plugin sees it: the namespace the plugin runs in and, once entered, the
// container's. Each has one rtnetlink socket that stays bound to its namespace, so nothing enters and leaves for a
// request. A Node belongs to one goroutine.
type Node struct {
	host      *side
	container *side
	netns     *space
	settings  settings
	home      int                         // the host's, a descriptor, once a container was entered
	before    map[string]string           // host sysctls that Apply changed, as they were
	joined    map[plan.VLANInterface]bool // those for which Apply made the bridge a member of the VLAN
	glimpsed  netlink.Link                // the interface that HostMTU has looked at, until Apply does
	found     map[string]netlink.Link     // bridges that Apply changed, as they were
	shorter   map[string]netconf.Sizes    // those of bridges that Apply changed, as they were
	evicted   map[string][]plan.Address   // those that Apply removed to make room for another, by its ID
	entered   bool                        // the thread is in the container's namespace
}

// Open connects to the namespace of the calling thread.
func Open() (*Node, error) {
	host, err := dial(netns.None())
	if err != nil {
		return nil, cnierr.Wrap(cnierr.KernelRefused, err, "reach the host's network namespace")
	}
	return &Node{
		host: host, before: map[string]string{}, joined: map[plan.VLANInterface]bool{},
		found: map[string]netlink.Link{}, shorter: map[string]netconf.Sizes{}, evicted: map[string][]plan.Address{},
	}, nil
}

// Enter opens the container's network namespace at a path. It fails with UnknownContainer when there is nothing at the
// path, and with InvalidNetNS when it is no network namespace or the host's own.
func (n *Node) Enter(path string) error {
	home, err := unix.Open(ownNamespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return cnierr.Wrap(cnierr.IOFailure, err, "look at the plugin's own network namespace")
	}
	space, err := openNamespace(path, home)
	if err != nil {
		_ = unix.Close(home)
		return err
	}
	n.netns, n.home = space, home
	return n.Inside(func() error {
		n.container, err = dial(netns.NsHandle(space.fd))
		return cnierr.Wrap(cnierr.KernelRefused, err, "reach the network namespace %s", path)
	})
}

// ownNamespace is that of the thread that looks.
const ownNamespace = "/proc/thread-self/ns/net"

// Close releases the sockets and the namespace.
func (n *Node) Close() {
	n.host.close()
	n.settings.close()
	if n.container != nil {
		n.container.close()
	}
	if n.netns != nil {
		_ = unix.Close(n.home)
		n.netns.close()
	}
}

// space is a container's network namespace.
type space struct {
	path string
	fd   int
}

func (s *space) close() { _ = unix.Close(s.fd) }

// openNamespace opens one as it is. The library's handle would be known to the runtime's poller, for which there is
// nothing to wait.
func openNamespace(path string, home int) (*space, error) {
	err := ns.IsNSorErr(path)
	s := &space{path: path, fd: -1}
	if err == nil {
		s.fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	var gone ns.NSPathNotExistErr
	switch {
	case errors.As(err, &gone) || errors.Is(err, unix.ENOENT):
		return nil, cnierr.Wrap(cnierr.UnknownContainer, err, "CNI_NETNS: %q does not exist", path)
	case err != nil:
		return nil, cnierr.Wrap(cnierr.InvalidNetNS, err, "CNI_NETNS: %q is not a network namespace", path)
	}
	if err := s.usable(home); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// usable refuses what is not a network namespace (ioctl_ns(2): NS_GET_NSTYPE, Linux 4.11), and the host's own. The
// library takes any namespace, and any file of /proc, for one.
func (s *space) usable(home int) error {
	kind, err := unix.IoctlRetInt(s.fd, unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		return cnierr.New(cnierr.InvalidNetNS, "CNI_NETNS: %q is not a network namespace", s.path)
	}
	own, err := same(s.fd, home)
	if err == nil && own && !overridden() {
		err = cnierr.New(cnierr.InvalidNetNS, "CNI_NETNS: %q is the host's own network namespace: want a container's", s.path)
	}
	return err
}

// overridden reports whether the caller insists on the host's own namespace, as the CNI library lets it.
func overridden() bool {
	v := os.Getenv("CNI_NETNS_OVERRIDE")
	return v == "1" || strings.EqualFold(v, "true")
}

// same compares namespaces by device and inode, which is what makes two of them the same (namespaces(7)).
func same(a, b int) (bool, error) {
	var x, y unix.Stat_t
	if err := errors.Join(unix.Fstat(a, &x), unix.Fstat(b, &y)); err != nil {
		return false, cnierr.Wrap(cnierr.IOFailure, err, "compare the network namespaces")
	}
	return x.Dev == y.Dev && x.Ino == y.Ino, nil
}

// Inside runs fn on a thread that is in the container's namespace, for what only a thread's own view shows: /proc/sys.
// Apply and Observe of a container's sysctl go there by themselves; a series of them is faster in one Inside. If the
// thread cannot return it stays locked, so that it ends with its goroutine and no other ever runs on it.
func (n *Node) Inside(fn func() error) (err error) {
	if n.entered {
		return fn()
	}
	runtime.LockOSThread()
	if err := unix.Setns(n.netns.fd, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return cnierr.Wrap(cnierr.KernelRefused, err, "enter the network namespace %s", n.netns.path)
	}
	n.entered = true
	defer func() {
		n.entered = false
		if back := unix.Setns(n.home, unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, cnierr.Wrap(cnierr.KernelRefused, back, "return from %s", n.netns.path))
			return
		}
		runtime.UnlockOSThread()
	}()
	return fn()
}

// in runs fn with the view of a place.
func (n *Node) in(p plan.Place, fn func() error) error {
	if p == plan.Host {
		return fn()
	}
	return n.Inside(fn)
}

func (n *Node) side(p plan.Place) *side {
	if p == plan.Host {
		return n.host
	}
	return n.container
}

// Seen returns the hardware address and the MTU of a host interface that Apply met, without asking again.
func (n *Node) Seen(name string) (net.HardwareAddr, int) {
	if l, ok := n.host.known[name]; ok {
		return l.HardwareAddr, l.MTU
	}
	return nil, 0
}
