package kernel

import (
	"errors"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// ProbeBridge reports whether Apply would make or accept a bridge. It fails with Conflict when an interface of that name
// cannot serve as the bridge, and with FeatureMissing when the kernel has no bridges, or none that filter VLANs where
// that is wanted. A bridge that is there already is the proof. Otherwise the kernel is asked to make one in a namespace
// that is thrown away at once: it says what it can do by doing it only.
func (n *Node) ProbeBridge(b plan.Bridge) error {
	if l, err := n.host.linkByName(b.Name); err == nil {
		if err := fits(b, l); err != nil {
			return err
		}
		// Every kernel tells the setting, also one that cannot switch it on (br_fill_info).
		if !b.VLANs || filtersVLANs(l) {
			return nil
		}
	}
	return try("bridges", b)
}

// ProbeSysctl reports whether a setting of the host is there and can be written: where one cannot, none can, a container's
// neither. It fails with FeatureMissing when that is one of IPv6 and the kernel has none, and else with IOFailure.
func (n *Node) ProbeSysctl(key string) error {
	err := lacksIPv6(key, unix.Access(filepath.Join(sysctls, key), unix.W_OK))
	return cnierr.Wrap(cnierr.IOFailure, err, "%s: cannot be written", plan.Sysctl{Key: key}.ID())
}

// try applies objects, which are called what, in a namespace that is thrown away at once.
func try(what string, objects ...plan.Object) error {
	return elsewhere(what, func(scratch *Node) error {
		for _, o := range objects {
			if _, err := scratch.Apply(o); err != nil {
				// Apply's sentence begins with the object, which in this namespace is nobody's.
				return cnierr.Wrap(cnierr.KernelRefused, errors.Unwrap(err), "try %s", what)
			}
		}
		return nil
	})
}

// elsewhere runs fn, which tries what, with a namespace that is thrown away at once.
func elsewhere(what string, fn func(scratch *Node) error) error {
	answer := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here, and its namespace with it
		answer <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return cnierr.Wrap(cnierr.KernelRefused, err, "make a network namespace to try %s in", what)
			}
			scratch, err := Open()
			if err != nil {
				return err
			}
			defer scratch.Close()
			return fn(scratch)
		}()
	}()
	return <-answer
}
