// Package process tests the plugin as a runtime meets it: a binary that is executed with CNI_* variables and a
// configuration on standard input, and answers on standard output. Its tests read as scenarios; what a plugin is called
// with and how it is judged is in host_test.go, the configurations are in config_test.go.
package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/veth-cni/veth/test/node"
)

// built is the environment variable that tells the inner run of the tests where the outer one has put the binaries.
const built = "VETH_PROCESS_BINARIES"

// programs are built into one directory, which is CNI_PATH: the plugin, the reference implementation's client of
// plugins, and those of its plugins that stand beside this one in a chain or give it addresses.
var programs = []string{
	"github.com/veth-cni/veth/plugins/veth",
	"github.com/containernetworking/cni/cnitool",
	"github.com/containernetworking/plugins/plugins/ipam/host-local",
	"github.com/containernetworking/plugins/plugins/ipam/static",
	"github.com/containernetworking/plugins/plugins/meta/bandwidth",
	"github.com/containernetworking/plugins/plugins/meta/firewall",
	"github.com/containernetworking/plugins/plugins/meta/portmap",
	"github.com/containernetworking/plugins/plugins/meta/tuning",
}

// opened has the go command know what the programs are built from. It takes an earlier pass for good while the test's own
// binary is the same, from which the linker leaves out what is merely imported, and the files and directories that were
// opened while tests ran: of a directory, the names, sizes and times of what is in it.
var opened = sync.OnceValue(func() error {
	_, err := os.Stat("../../go.sum")
	for _, sources := range []string{"../../pkg", "../../plugins/veth"} {
		err = errors.Join(err, filepath.WalkDir(sources, func(_ string, _ fs.DirEntry, err error) error { return err }))
	}
	return err
})

// binaries is the directory they are in.
var binaries string

// TestMain builds before it enters a namespace of its own, in which the go command could download nothing, and removes
// what it built after the tests have run inside.
func TestMain(m *testing.M) {
	binaries = os.Getenv(built)
	if binaries == "" {
		if err := build(); err != nil {
			fmt.Fprintln(os.Stderr, "building what the tests execute:", err)
			os.Exit(1)
		}
	}
	status := 0
	if err := node.Enter(); err != nil {
		removeBinaries()
		node.Main(m) // fails again, and tells each test why
	}
	status = m.Run()
	removeBinaries()
	os.Exit(status)
}

// build makes the plugin as it is released: static, without symbols.
func build() error {
	dir, err := os.MkdirTemp("", "veth-process")
	if err != nil {
		return err
	}
	binaries = dir
	cmd := exec.Command("go", append([]string{
		"build", "-trimpath", "-ldflags", "-s -w", "-o", dir + "/",
	}, programs...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		removeBinaries()
		return err
	}
	for _, name := range []string{"bridge", "ptp"} {
		if err := os.Symlink("veth", filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return os.Setenv(built, dir)
}

func removeBinaries() {
	if err := os.RemoveAll(binaries); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
