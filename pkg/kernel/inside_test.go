package kernel

import (
	"errors"
	"os"
	"testing"

	"github.com/veth-cni/veth/test/node"
)

// TestInsideComesHome: the thread belongs to the host's namespace again, however fn ends.
func TestInsideComesHome(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	entered(t, func(n *Node) error {
		home := where(t)
		for name, end := range map[string]func() error{
			"returns": func() error { return nil },
			"fails":   func() error { return boom },
			"panics":  func() error { panic(boom) },
		} {
			var met string
			err := caught(func() error {
				return n.Inside(func() error {
					met = where(t)
					return end()
				})
			})
			if (name == "returns") != (err == nil) || err != nil && !errors.Is(err, boom) {
				t.Errorf("fn %s: inside ends with %v", name, err)
			}
			if met == home {
				t.Errorf("fn %s: it ran in the host's namespace", name)
			}
			if now := where(t); now != home {
				t.Errorf("fn %s: the thread is in %s, want %s", name, now, home)
			}
		}
		return nil
	})
}

// entered runs fn with the view of a call that has entered a container.
func entered(t *testing.T, fn func(*Node) error) {
	t.Helper()
	machine := node.New(t)
	container := machine.Container()
	if err := machine.Do(func() error {
		n, err := Open()
		if err != nil {
			return err
		}
		defer n.Close()
		if err := n.Enter(container.Path); err != nil {
			return err
		}
		return fn(n)
	}); err != nil {
		t.Fatal(err)
	}
}

// caught turns a panic into an error.
func caught(fn func() error) (err error) {
	defer func() {
		if p, ok := recover().(error); ok {
			err = p
		}
	}()
	return fn()
}

func where(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}
