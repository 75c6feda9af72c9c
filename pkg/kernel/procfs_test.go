package kernel_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/test/node"
)

// TestSettingsByAnInstanceOfTheirOwn hides the settings in everybody's /proc, and expects them to be written all the same,
// each in its namespace.
func TestSettingsByAnInstanceOfTheirOwn(t *testing.T) {
	t.Parallel()
	requireProc(t)
	n := node.New(t)
	c := n.Container()
	err := hidden(n.Namespace, func() error {
		for _, o := range []plan.Sysctl{
			{Place: plan.Host, Key: "net/ipv4/conf/lo/proxy_arp", Value: "1"},
			{Place: plan.Container, Key: "net/ipv6/conf/lo/disable_ipv6", Value: "1"},
		} {
			k, err := kernel.Open()
			if err != nil {
				return err
			}
			defer k.Close()
			if err := k.Enter(c.Path); err != nil {
				return err
			}
			if created, err := k.Apply(o); !created || err != nil {
				return fmt.Errorf("%s: created %v, %w", o.ID(), created, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []struct {
		space *node.Namespace
		want  [2]string
	}{{n.Namespace, [2]string{"1", "0"}}, {c, [2]string{"0", "1"}}} {
		var got [2]string
		do(t, at.space, func() error {
			return errors.Join(scan("net/ipv4/conf/lo/proxy_arp", &got[0]), scan("net/ipv6/conf/lo/disable_ipv6", &got[1]))
		})
		if got != at.want {
			t.Errorf("in %s proxy_arp and disable_ipv6 are %v, want %v", at.space.Path, got, at.want)
		}
	}
}

// TestSettingsAreNamedAsEverybodyFindsThem reads the path in messages, by which instance ever a setting was looked up.
func TestSettingsAreNamedAsEverybodyFindsThem(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		for key, value := range map[string]string{"net/ipv4/conf/lo/nothing": "1", "net/ipv4/conf/lo/rp_filter": "many"} {
			_, err := m.kernel.Apply(plan.Sysctl{Place: plan.Host, Key: key, Value: value})
			if err == nil || !strings.Contains(err.Error(), " "+setting(key)+": ") {
				m.Errorf("got error %v, want one of %s", err, setting(key))
			}
		}
	})
}

// hidden runs fn in a namespace, on a thread that finds nothing below /proc/sys/net.
func hidden(space *node.Namespace, fn func() error) error {
	return node.Apart(
		func() error { return unix.Mount("none", "/proc/sys/net", "tmpfs", 0, "") },
		func() error { return space.Do(fn) },
	)
}

// requireProc skips where a process may not have an instance of procfs.
func requireProc(t *testing.T) {
	t.Helper()
	fd, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err == nil {
		err = unix.FsconfigCreate(fd)
		_ = unix.Close(fd)
	}
	if err != nil {
		t.Skipf("no procfs of its own here: %v", err)
	}
}

// scan reads the first word of a setting.
func scan(key string, into *string) error {
	b, err := os.ReadFile(setting(key))
	*into = strings.TrimSpace(string(b))
	return err
}
