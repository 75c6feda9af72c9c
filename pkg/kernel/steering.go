package kernel

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// Which processors have to do with a queue is told in sysfs alone (Documentation/networking/scaling.rst). A sysfs shows
// the network namespace in which it was mounted, so /sys would be the wrong one for a container, and may be for the host.
// Each use has one of its own, which is mounted nowhere and goes when its descriptor is closed.

// steer writes which processors have to do with the queues of an interface.
func (n *Node) steer(w plan.WireSettings) error {
	return n.queues(w, func(q queueDirectory) error {
		for i := 0; len(w.RPS) > 0; i++ {
			err := q.write(rpsFile(i), w.RPS)
			if errors.Is(err, syscall.ENOENT) && i > 0 {
				break
			}
			if err != nil {
				return explainCPUs("rpsCPUs", err)
			}
		}
		for i, cpus := range w.XPS {
			if err := q.write(xpsFile(i), cpus); err != nil {
				return explainCPUs("xpsCPUs", err)
			}
		}
		return nil
	})
}

// steered reads them again. Receive queues that differ among themselves show the first that is not as wanted.
func (n *Node) steered(w plan.WireSettings) (rps netconf.CPUs, xps []netconf.CPUs, err error) {
	err = n.queues(w, func(q queueDirectory) error {
		for i := 0; len(w.RPS) > 0; i++ {
			cpus, err := q.read(rpsFile(i))
			if errors.Is(err, syscall.ENOENT) && i > 0 {
				break
			}
			if err != nil {
				return err
			}
			if rps = cpus; !slices.Equal(rps, w.RPS) {
				break
			}
		}
		for i := range w.XPS {
			cpus, err := q.read(xpsFile(i))
			if err != nil {
				return err
			}
			xps = append(xps, cpus)
		}
		return nil
	})
	return rps, xps, err
}

func rpsFile(queue int) string { return "rx-" + strconv.Itoa(queue) + "/rps_cpus" }
func xpsFile(queue int) string { return "tx-" + strconv.Itoa(queue) + "/xps_cpus" }

// explainCPUs says what the kernel means by a number that is too large, and by a refusal: in a user namespace nobody may.
func explainCPUs(key string, err error) error {
	switch {
	case errors.Is(err, syscall.EOVERFLOW):
		return cnierr.Wrap(cnierr.InvalidConfig, err, "%s: this machine has fewer processors", key)
	case errors.Is(err, syscall.EPERM):
		return cnierr.Wrap(cnierr.FeatureMissing, err, "%s: want CAP_NET_ADMIN in the initial user namespace", key)
	}
	return fmt.Errorf("%s: %w", key, err)
}

// queueDirectory is an interface's directory queues in sysfs.
type queueDirectory int

// queues runs fn with the queues of an interface.
func (n *Node) queues(w plan.WireSettings, fn func(queueDirectory) error) error {
	return n.in(w.Place, func() error {
		root, err := mountSysfs()
		if err != nil {
			return cnierr.Wrap(cnierr.FeatureMissing, err, "rpsCPUs and xpsCPUs need a sysfs of the %s's namespace: "+
				"want Linux 5.2 or later, and CAP_SYS_ADMIN", w.Place)
		}
		defer unix.Close(root)
		fd, err := unix.Openat(root, "class/net/"+w.Link+"/queues", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if errors.Is(err, syscall.ENOENT) {
			return syscall.ENODEV
		}
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return fn(queueDirectory(fd))
	})
}

// mountSysfs makes a sysfs that shows the thread's network namespace, and is mounted nowhere.
func mountSysfs() (int, error) {
	fs, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("fsconfig: %w", err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsmount: %w", err)
	}
	return root, nil
}

func (q queueDirectory) write(name string, cpus netconf.CPUs) error {
	return writeAt(int(q), name, mask(cpus))
}

func (q queueDirectory) read(name string) (netconf.CPUs, error) {
	fd, err := openAt(int(q), name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	b, err := readOpen(fd, name)
	if errors.Is(err, syscall.ENOENT) {
		return nil, nil // what one queue may not have is none (xps_cpus_show, net/core/net-sysfs.c)
	}
	if err != nil {
		return nil, err
	}
	return unmask(strings.TrimSpace(string(b)))
}

// mask is processors as the kernel reads a bitmap: words of 32 bits in hexadecimal, the highest first, with commas between
// them (bitmap_parse, lib/bitmap-str.c).
func mask(cpus netconf.CPUs) string {
	const bits = 32
	highest := 0
	if len(cpus) > 0 {
		highest = cpus[len(cpus)-1] / bits
	}
	blocks := make([]uint32, highest+1)
	for _, n := range cpus {
		blocks[highest-n/bits] |= 1 << (n % bits)
	}
	text := make([]string, len(blocks))
	for i, b := range blocks {
		text[i] = fmt.Sprintf("%08x", b)
	}
	return strings.Join(text, ",")
}

func unmask(text string) (netconf.CPUs, error) {
	const bits = 32
	var cpus netconf.CPUs
	words := strings.Split(text, ",")
	for i := range words {
		word, err := strconv.ParseUint(words[len(words)-1-i], 16, bits)
		if err != nil {
			return nil, fmt.Errorf("%q is no set of processors: %w", text, err)
		}
		for n := range bits {
			if word&(1<<n) != 0 {
				cpus = append(cpus, i*bits+n)
			}
		}
	}
	return cpus, nil
}
