package kernel_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/plan"
)

// What Detach removes is free when it returns, though a child still waits for the kernel: the same names, in both
// namespaces, and the same lease can be had at once.
func TestDetachLeavesRoomAtOnce(t *testing.T) {
	t.Parallel()
	requireChild(t)
	for _, master := range []string{"", bridge.Name} {
		t.Run("master "+master, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				if master != "" {
					m.apply(bridge)
				}
				before := m.snapshot()
				p := pairOf(owner)
				p.Master = master
				waiting := 0
				for range 45 {
					attached(m.T, m.container, func(k *kernel.Node) { // each as a call of the plugin
						m := &machine{T: m.T, node: m.node, container: m.container, kernel: k}
						m.apply(p, plan.Lease{Link: p.Host, Name: lease.Name(owner.Network, addr("198.18.0.5"))}, inside)
						m.must(m.kernel.Detach(owner, kernel.Removal{}))
					})
					waiting = max(waiting, m.working()) // and the next comes while they work
				}
				m.reap()
				m.unchanged(before, "after Detach")
				if waiting < 2 {
					m.Errorf("at most %d children worked at a time: want Detach to return before its child", waiting)
				}
			})
		})
	}
}

func TestDetachWaits(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		before := m.snapshot()
		for range 5 {
			m.apply(pairOf(owner))
			m.must(m.kernel.Detach(owner, kernel.Removal{Wait: true}))
			if n := m.working(); n != 0 {
				m.Errorf("%d children are at work: want Detach to wait", n)
			}
			m.unchanged(before, "after Detach")
		}
	})
}

// However many changes others make meanwhile, Detach hears of its own.
func TestDetachInAStorm(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.must(foreign("crowd"))
		before := m.snapshot()
		stop, stopped := make(chan struct{}), make(chan error)
		go func() {
			stopped <- m.node.Do(func() error { return storm(stop) })
		}()
		for range 20 {
			m.apply(pairOf(owner))
			m.must(m.kernel.Detach(owner, kernel.Removal{}))
		}
		m.reap()
		close(stop)
		m.must(<-stopped)
		m.unchanged(before, "after the storm")
	})
}

// storm has the kernel tell of interfaces, thousands of times a second.
func storm(stop chan struct{}) error {
	l, err := netlink.LinkByName("crowd")
	if err != nil {
		return err
	}
	for {
		select {
		case <-stop:
			return netlink.LinkSetMTU(l, 1400)
		default:
		}
		for mtu := range 50 {
			if err := netlink.LinkSetMTU(l, 1300+mtu); err != nil {
				return err
			}
		}
	}
}

// children are those that this thread has made.
func (m *machine) children() []int {
	m.Helper()
	text, err := os.ReadFile("/proc/thread-self/children")
	if errors.Is(err, os.ErrNotExist) {
		m.Skip("this kernel does not list children (CONFIG_PROC_CHILDREN)")
	}
	m.must(err)
	var list []int
	for _, field := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(field)
		m.must(err)
		list = append(list, pid)
	}
	return list
}

// working counts the children that have not ended.
func (m *machine) working() int {
	m.Helper()
	n := 0
	for _, pid := range m.children() {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		m.must(err)
		if _, after, _ := bytes.Cut(stat, []byte(") ")); after[0] != 'Z' {
			n++
		}
	}
	return n
}

// reap waits for the children.
func (m *machine) reap() {
	m.Helper()
	for _, pid := range m.children() {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
			m.Fatalf("wait for child %d: %v", pid, err)
		}
	}
}

// requireChild skips the test where nobody goes on before a deletion is done: on processors without a child, and on kernels
// that do not echo a deletion.
func requireChild(t *testing.T) {
	t.Helper()
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("there is no child for " + runtime.GOARCH)
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	release := unix.ByteSliceToString(name.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		t.Fatalf("kernel %q: %v", release, err)
	}
	if major < 6 || major == 6 && minor < 2 {
		t.Skipf("kernel %s does not echo a deletion (6.2 does)", release)
	}
}

// RemoveAll removes what it is given, in more than one portion, and nothing else; and whatever somebody has put into the
// group of the doomed does not keep it from that.
func TestRemoveAll(t *testing.T) {
	t.Parallel()
	group := func(name string, number uint32) func(m *machine) error {
		return by(plan.Host, name, func(l netlink.Link) error { return netlink.LinkSetGroup(l, int(number)) })
	}
	for _, test := range []struct {
		name string
		make func(m *machine) error
	}{
		{"an empty group", func(*machine) error { return nil }},
		{"one that a GC that was killed has left", func(m *machine) error {
			o := lease.Owner{Network: "podnet", ContainerID: "left", IfName: "left"}
			m.apply(killed(o))
			return group(o.HostName(), plan.GroupDoomed)(m)
		}},
		{"an interface that cannot be deleted", group("lo", plan.GroupDoomed)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				live := lease.Owner{Network: "podnet", ContainerID: "live", IfName: "live"}
				other := lease.Owner{Network: "othernet", ContainerID: "c", IfName: "other"}
				m.must(foreign("plain"))
				m.apply(pairOf(live), pairOf(other))
				before := m.snapshot()
				m.must(test.make(m))
				for i := range 70 {
					o := lease.Owner{Network: "podnet", ContainerID: "c", IfName: fmt.Sprintf("eth%d", i)}
					m.apply(pairOf(o))
				}
				var forgotten []kernel.Attached
				for _, a := range m.attachments("podnet") {
					if a.Name != live.HostName() {
						forgotten = append(forgotten, a)
					}
				}
				m.must(m.kernel.Detach(lease.Owner{Network: "podnet", ContainerID: "c", IfName: "eth3"}, kernel.Removal{Wait: true}))
				for range 2 { // what is gone already is no error
					left, err := m.kernel.RemoveAll(forgotten)
					if err != nil || len(left) > 0 {
						m.Fatalf("RemoveAll leaves %v: %v", left, err)
					}
				}
				m.must(group("lo", 0)(m))
				m.unchanged(before, "after RemoveAll")
			})
		})
	}
}

// A name says nothing about an attachment that was made after the list, however RemoveAll and Undo remove what was meant.
func TestRemoveOnlyWhatWasMeant(t *testing.T) {
	t.Parallel()
	for _, group := range []int{0, int(plan.GroupDoomed)} { // of lo, which cannot be deleted
		on(t, func(m *machine) {
			m.must(by(plan.Host, "lo", func(l netlink.Link) error { return netlink.LinkSetGroup(l, group) })(m))
			stale := lease.Owner{Network: "stalenet", ContainerID: "c", IfName: "stale"}
			m.apply(pairOf(owner), pairOf(stale))
			list := append(m.attachments(owner.Network), m.attachments(stale.Network)...)
			attached(t, m.container, func(k *kernel.Node) { // another call
				m.must(k.Detach(owner, kernel.Removal{Wait: true}))
				_, err := k.Apply(pairOf(owner))
				m.must(err)
			})
			left, err := m.kernel.RemoveAll(list)
			if err != nil || len(left) > 0 {
				m.Errorf("RemoveAll leaves %v: %v", left, err)
			}
			m.must(m.kernel.Undo(pairOf(owner)))
			m.asPlanned(pairOf(owner))
			if got := m.attachments(stale.Network); len(got) != 0 {
				m.Errorf("%v is left", got)
			}
		})
	}
}

// Without the right to, nothing is removed, and all that stays is named.
func TestRemoveAllRefused(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(pairOf(owner))
		before := m.snapshot()
		list := m.attachments(owner.Network)
		var left []kernel.Attached
		err := powerless(func() (err error) {
			left, err = m.kernel.RemoveAll(list)
			return err
		})
		if !errors.Is(err, syscall.EPERM) || len(left) != 1 || !strings.Contains(err.Error(), owner.HostName()) {
			m.Errorf("RemoveAll leaves %v: %v; want it to leave %s, and to say so", left, err, owner.HostName())
		}
		if err := powerless(func() error { return m.kernel.Detach(owner, kernel.Removal{}) }); !errors.Is(err, syscall.EPERM) {
			m.Errorf("Detach: %v, want %v", err, syscall.EPERM)
		}
		m.unchanged(before, "after both were refused")
	})
}

// powerless runs fn on a thread that has put its capabilities down.
func powerless(fn func() error) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had [2]unix.CapUserData
	if err := unix.Capget(&header, &had[0]); err != nil {
		return err
	}
	none := had
	none[0].Effective, none[1].Effective = 0, 0
	if err := unix.Capset(&header, &none[0]); err != nil {
		return err
	}
	err := fn()
	return errors.Join(err, unix.Capset(&header, &had[0]))
}
