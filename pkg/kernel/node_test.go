package kernel_test

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/test/node"
)

func TestEnterRefuses(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		dir := m.TempDir()
		file := filepath.Join(dir, "file")
		m.must(os.WriteFile(file, nil, 0o600))
		dangling := filepath.Join(dir, "dangling")
		m.must(os.Symlink(filepath.Join(dir, "none"), dangling))
		closed := m.node.Container()
		m.must(closed.Close())
		for _, test := range []struct {
			name, path string
			code       uint
		}{
			{"no path", "", cnierr.UnknownContainer},
			{"nothing there", filepath.Join(dir, "none"), cnierr.UnknownContainer},
			{"a dangling link", dangling, cnierr.UnknownContainer},
			{"a namespace that was removed", closed.Path, cnierr.UnknownContainer},
			{"a process that ended", "/proc/4194304/ns/net", cnierr.UnknownContainer},
			{"a regular file", file, cnierr.InvalidNetNS},
			{"a directory", dir, cnierr.InvalidNetNS},
			{"another file of /proc", "/proc/version", cnierr.InvalidNetNS},
			{"a directory of /proc", "/proc/self/ns", cnierr.InvalidNetNS},
			{"a namespace of another kind", "/proc/self/ns/mnt", cnierr.InvalidNetNS},
			{"the host's own", m.node.Path, cnierr.InvalidNetNS},
			{"the host's own by /proc", "/proc/thread-self/ns/net", cnierr.InvalidNetNS},
		} {
			k, err := kernel.Open()
			m.must(err)
			err = k.Enter(test.path)
			if got := cnierr.Of(err, 0); err == nil || got.Code != test.code || !strings.HasPrefix(got.Msg, "CNI_NETNS: ") {
				m.Errorf("%s: %v, want code %d and a message about CNI_NETNS", test.name, err, test.code)
			}
			k.Close()
		}
	})
}

// A plain user is told once which namespace it was.
func TestEnterWithoutPrivilege(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		c := m.node.Container()
		k, err := kernel.Open()
		m.must(err)
		defer k.Close()
		err = powerless(func() error { return k.Enter(c.Path) })
		want := "enter the network namespace " + c.Path + ": operation not permitted"
		if got := cnierr.Of(err, 0); err == nil || got.Code != cnierr.KernelRefused || got.Msg != want {
			m.Errorf("%v, want %s", err, want)
		}
	})
}

// TestEnterOverride is not parallel: it sets an environment variable.
func TestEnterOverride(t *testing.T) {
	on(t, func(m *machine) {
		for _, test := range []struct {
			value string
			ok    bool
		}{{"1", true}, {"true", true}, {"TRUE", true}, {"True", true}, {"", false}, {"0", false}, {"false", false}} {
			t.Setenv("CNI_NETNS_OVERRIDE", test.value)
			k, err := kernel.Open()
			m.must(err)
			err = k.Enter(m.node.Path)
			if (err == nil) != test.ok {
				m.Errorf("CNI_NETNS_OVERRIDE=%q: %v, want success: %v", test.value, err, test.ok)
			}
			if err == nil { // the host's own namespace is now the container's
				_, err := k.Apply(pair)
				m.must(err, k.Undo(pair))
			}
			k.Close()
		}
	})
}

// TestHandlesStay: a Node talks to the namespaces it was opened for, whatever the thread does since.
func TestHandlesStay(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	c, other := n.Container(), n.Container()
	var k *kernel.Node
	do(t, n.Namespace, func() (err error) {
		k, err = kernel.Open()
		return err
	})
	defer k.Close()
	do(t, n.Namespace, func() error { return k.Enter(c.Path) })
	before := other.Snapshot()
	do(t, other, func() error {
		if _, err := k.Apply(pair); err != nil {
			return err
		}
		if got, err := k.Observe(pair); err != nil || len(plan.Diff([]plan.Object{pair}, []plan.Object{got})) > 0 {
			t.Errorf("from another namespace the pair is %v, %v", got, err)
		}
		list, err := k.Attachments("podnet")
		if len(list) != 0 { // its name is not the owner's
			t.Errorf("Attachments lists %v", list)
		}
		return err
	})
	if diff := node.Diff(before, other.Snapshot()); diff != "" {
		t.Errorf("the thread's namespace differs:\n%s", diff)
	}
	if s := n.Snapshot(); !strings.Contains(s, "link vh veth up") {
		t.Errorf("the node is\n%swant vh", s)
	}
}

// TestNothingStaysOpen is not parallel: it counts the process's descriptors.
func TestNothingStaysOpen(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collected os.File closes itself, and would hide a leak
	on(t, func(m *machine) {
		file := filepath.Join(m.TempDir(), "file")
		m.must(os.WriteFile(file, nil, 0o600))
		round := func() {
			k, err := kernel.Open()
			m.must(err)
			defer k.Close()
			for _, path := range []string{file, "/none", "/proc/self/ns/mnt", m.node.Path} {
				if err := k.Enter(path); err == nil {
					m.Errorf("Enter(%s) must fail", path)
				}
			}
			m.must(k.Enter(m.container.Path))
			m.must(k.ProbeBridge(plan.Bridge{Name: "br0"}))
			forward := plan.Sysctl{Place: plan.Container, Key: "net/ipv4/ip_forward", Value: "1"}
			for _, o := range []plan.Object{bridge, port, inside, forward} {
				_, err := k.Apply(o)
				m.must(err)
				_, err = k.Observe(o)
				m.must(err)
			}
			_, err = k.Taken("podnet")
			m.must(err, k.Undo(port), k.Undo(bridge))
		}
		round() // the runtime opens what it keeps: epoll
		before := descriptors(m)
		for range 20 {
			round()
		}
		if after := descriptors(m); after != before {
			m.Errorf("%d descriptors are open, %d were", after, before)
		}
	})
}

func descriptors(m *machine) int {
	m.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	m.must(err)
	return len(list)
}
