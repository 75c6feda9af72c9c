package kernel

import (
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// ProbeBridge reports whether the kernel makes bridges, and bridges that filter VLANs when vlans is set. It fails with
// FeatureMissing. A bridge of that name that is there already is the proof. Otherwise the kernel is asked to make one in
// a namespace that is thrown away at once: it says what it can do by doing it only.
func (n *Node) ProbeBridge(name string, vlans bool) error {
	if l, err := n.host.linkByName(name); err == nil {
		br, ok := l.(*netlink.Bridge)
		// Every kernel tells the setting, also one that cannot switch it on (br_fill_info).
		if ok && (!vlans || br.VlanFiltering != nil && *br.VlanFiltering) {
			return nil
		}
		if !ok {
			return fits(plan.Bridge{Name: name}, l)
		}
	}
	return try("bridges", plan.Bridge{Name: "probe", Kind: "bridge", Up: true, VLANs: vlans, MAC: []byte{2, 0, 0, 0, 0, 1}})
}

// try applies objects, which are called what, in a namespace that is thrown away at once.
func try(what string, objects ...plan.Object) error {
	answer := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here, and its namespace with it
		answer <- tryHere(what, objects)
	}()
	return <-answer
}

func tryHere(what string, objects []plan.Object) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return cnierr.Wrap(cnierr.KernelRefused, err, "make a network namespace to try %s in", what)
	}
	scratch, err := Open()
	if err != nil {
		return err
	}
	defer scratch.Close()
	for _, o := range objects {
		if _, err := scratch.Apply(o); err != nil {
			return err
		}
	}
	return nil
}
