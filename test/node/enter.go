// Package node gives tests a machine of their own: network namespaces that stand for a node and its containers, a way
// to run code and processes in them, packets to send through them, and a text of everything the kernel holds there.
//
// A test binary that calls Main from TestMain runs in a user, mount and network namespace of its own. Nothing it does
// reaches the machine's network, /run or /var/lib/cni, and everything vanishes with the process, however it ends.
package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// marker is the environment variable that tells the inner run which process started it and what namespaces that is in.
// The inner run takes itself for one only when its parent is that process and its namespaces are others, so a marker
// that leaked into the environment cannot make tests run in the machine's own namespaces.
const marker = "VETH_NODE_OUTSIDE"

// entered is true in the inner run; unavailable is why there is none.
var (
	entered     bool
	unavailable error
)

// Main runs a package's tests in namespaces of their own; call it from TestMain. Where the kernel forbids namespaces
// the tests still run, and those that need one end in Require.
func Main(m *testing.M) {
	unavailable = Enter()
	os.Exit(m.Run())
}

// Require skips a test that needs namespaces where they are forbidden. With CI=true it fails the test instead, so that
// a skip cannot rot.
func Require(t testing.TB) {
	t.Helper()
	switch {
	case entered:
	case unavailable == nil:
		t.Fatal("this package's TestMain must call node.Main")
	case os.Getenv("CI") == "true":
		t.Fatalf("CI must be able to make namespaces: %v", unavailable)
	default:
		t.Skipf("needs namespaces (root, or unprivileged user namespaces): %v", unavailable)
	}
}

// Program finds a program that a test cannot do without. Where it is missing the test is skipped, and in CI fails.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("CI must have %s: %v", name, err)
	default:
		t.Skipf("needs %s: %v", name, err)
	}
	return path
}

// Enter makes the process root of a mount and a network namespace of its own, and of a user namespace where it is not
// root already. A Go process cannot change its user namespace (the kernel wants a single thread), so Enter starts the
// same executable with the same arguments again, inside, waits for it and exits with its status: it returns only in
// the inner process, or with an error when namespaces cannot be made. Call it before anything else.
func Enter() error {
	here, err := whereabouts()
	if err != nil {
		return fmt.Errorf("/proc must be mounted: %w", err)
	}
	outside := strings.Fields(os.Getenv(marker))
	inside := len(outside) == 3 && outside[0] == strconv.Itoa(os.Getppid()) &&
		outside[1] != here[1] && outside[2] != here[2]
	if !inside {
		return again(here)
	}
	// A process started from here would otherwise take itself for the inner run.
	if err := os.Unsetenv(marker); err != nil {
		return err
	}
	if err := furnish(); err != nil {
		return err
	}
	entered = true
	return nil
}

// whereabouts is the process's id, its network namespace and its mount namespace.
func whereabouts() ([]string, error) {
	network, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	mounts, err := os.Readlink("/proc/self/ns/mnt")
	return []string{strconv.Itoa(os.Getpid()), network, mounts}, err
}

// again starts the executable in new namespaces and ends this process with its status.
func again(here []string) error {
	// The death signal is sent when the thread that started the child ends, not the process: hold on to the thread.
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), marker+"="+strings.Join(here, " "))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	if !privileged() {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	// The go command asks a test that hangs for its goroutines with SIGQUIT: the inner run has them.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	if err := cmd.Start(); err != nil {
		signal.Stop(signals)
		runtime.UnlockOSThread()
		return fmt.Errorf("making namespaces: %w%s", err, hint(err))
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	os.Exit(status(cmd.Wait()))
	return nil
}

// hint says what the kernel's words hide: too many user namespaces is ENOSPC (kernel/user_namespace.c), even where the
// limit is none at all, and EPERM comes from what a distribution adds.
func hint(err error) string {
	if privileged() || !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EPERM) {
		return ""
	}
	return " (this user may not create user namespaces: run as root, or see sysctl user.max_user_namespaces)"
}

// status is the exit status to end with, as a shell would give it: 128 and the signal's number for a killed process.
func status(err error) int {
	var exit *exec.ExitError
	if err == nil {
		return 0
	}
	if !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "node:", err)
		return 1
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return exit.ExitCode()
}

// privileged reports whether the process can make mount and network namespaces without a user namespace.
func privileged() bool {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return false
	}
	const need = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_SYS_ADMIN
	return os.Geteuid() == 0 && data[0].Effective&need == need
}

// furnish gives the inner run what programs expect of a machine: a /run of its own for named namespaces and lock files,
// an empty /var/lib/cni for libcni's result cache, and a loopback interface that is up.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	cache := "/var/lib/cni"
	if _, err := os.Stat(cache); err != nil {
		cache = "/var/lib" // only root could make the directory, and it would outlive the run
	}
	for _, dir := range []string{"/run", cache} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
			return fmt.Errorf("mounting a tmpfs on %s: %w", dir, err)
		}
	}
	if err := os.Mkdir(namespaces, 0o755); err != nil {
		return err
	}
	// /sys shows the network of the namespace it was mounted in. A kernel may refuse a new one in a user namespace;
	// nothing here depends on it.
	_ = unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	return loopbackUp()
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("looking up lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("setting lo up: %w", err)
	}
	return nil
}
