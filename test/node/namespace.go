package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// namespaces is where named network namespaces are, as for ip-netns(8).
const namespaces = "/run/netns"

// Namespace is a network namespace that a file keeps alive.
type Namespace struct {
	Name string
	Path string // what a runtime passes as CNI_NETNS

	close func() error
}

// Node is a namespace that stands for a machine. Its containers are namespaces beside it.
type Node struct {
	*Namespace
	t          testing.TB
	containers atomic.Int32
}

var nodes atomic.Int32

// New makes a node for one test. It and its containers are removed when the test ends, also when it fails or panics.
func New(t testing.TB) *Node {
	t.Helper()
	Require(t)
	n := &Node{Namespace: create(t, fmt.Sprintf("node%d", nodes.Add(1))), t: t}
	if err := n.Do(age); err != nil {
		t.Fatalf("namespace %s: %v", n.Name, err)
	}
	return n
}

// age uses up the first interface indexes, as a machine has done long before it runs a container. In a namespace as new
// as the container's both ends of a veth pair would have index 2, and for such a pair the kernel takes a carrier that
// comes up for no urgent matter (net/core/link_watch.c): IPv6 would hear of it up to a second later.
func age() error {
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "age0"}, PeerName: "age1"}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("adding a veth pair: %w", err)
	}
	return netlink.LinkDel(veth)
}

// Container makes a namespace that stands for a container on the node: empty but for a loopback interface that is up.
// The name is part of its path; without one it is numbered.
func (n *Node) Container(name ...string) *Namespace {
	n.t.Helper()
	if len(name) == 0 {
		name = []string{fmt.Sprintf("c%d", n.containers.Add(1))}
	}
	return create(n.t, n.Name+"-"+name[0])
}

func create(t testing.TB, name string) *Namespace {
	t.Helper()
	ns, err := Create(name)
	if err != nil {
		t.Fatalf("namespace %s: %v", name, err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Errorf("namespace %s: %v", name, err)
		}
	})
	return ns
}

// Create makes a network namespace with its loopback interface up and keeps it at /run/netns/name. It needs what Enter
// gives. The caller closes it.
func Create(name string) (*Namespace, error) {
	path := filepath.Join(namespaces, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	leave := func() error { return unix.Unshare(unix.CLONE_NEWNET) }
	err = elsewhere(leave, func() error {
		if err := loopbackUp(); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return &Namespace{Name: name, Path: path, close: sync.OnceValue(func() error { return release(path) })}, nil
}

func release(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting %s: %w", path, err)
	}
	return os.Remove(path)
}

// Close lets go of the namespace, as when a container dies without a DEL. The kernel destroys it some milliseconds
// later, once no process and no socket is in it, and every veth pair with an end inside goes too. Only the first call
// does anything.
func (ns *Namespace) Close() error { return ns.close() }

// Do runs fn with the calling goroutine's thread inside the namespace. Sockets opened there stay in it, and
// /proc/sys/net shows its settings. A goroutine that fn starts is not inside.
func (ns *Namespace) Do(fn func() error) error {
	return elsewhere(func() error {
		file, err := os.Open(ns.Path)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering %s: %w", ns.Path, err)
		}
		return nil
	}, fn)
}

// Start starts a process inside the namespace. Go forks on the thread that calls Start, and clone(2) gives the child
// that thread's namespaces, so no wrapper program is needed.
func (ns *Namespace) Start(cmd *exec.Cmd) error { return ns.Do(cmd.Start) }

// Run runs a process inside the namespace to its end.
func (ns *Namespace) Run(cmd *exec.Cmd) error {
	if err := ns.Start(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

// elsewhere takes the calling goroutine's thread to another network namespace with enter, runs fn there and brings the
// thread back. A network namespace is a thread's, not the process's, so the goroutine is locked to the thread until the
// thread is home again. A thread that cannot go home is unfit for any other goroutine: it stays locked and the panic
// ends it.
func elsewhere(enter, fn func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		defer home.Close()
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(fmt.Sprintf("a thread cannot return to its network namespace: %v", err))
		}
		runtime.UnlockOSThread()
	}()
	if err := enter(); err != nil {
		return err
	}
	return fn()
}
