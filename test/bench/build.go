package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/veth-cni/veth/test/bench/upstream"
)

// built is the environment variable that hands the inner run, which reaches no network, what the outer one has built.
const built = "VETH_BENCH_BINARIES"

// programs are what is measured, by their absolute paths.
type programs struct {
	Veth, Beside  string // Beside is a second build of the plugin, or empty
	Floor, Launch string
	Reference     string // the directory, empty where there is none
	Version       string // of this repository
}

var binaries programs

// build makes all but the plugin itself, which make build has made.
func build(veth, beside string) (err error) {
	if b, ok := os.LookupEnv(built); ok {
		return json.Unmarshal([]byte(b), &binaries)
	}
	p := programs{Veth: veth, Beside: beside, Floor: "bin/bench/floor", Launch: "bin/bench/launch", Version: "unknown"}
	for _, path := range []*string{&p.Veth, &p.Beside, &p.Floor, &p.Launch} {
		if *path != "" {
			if *path, err = filepath.Abs(*path); err != nil {
				return err
			}
		}
	}
	for _, path := range []string{p.Veth, p.Beside} {
		if _, err := os.Stat(path); path != "" && err != nil {
			return fmt.Errorf("the plugin is not there, run make build: %w", err)
		}
	}
	if out, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		p.Version = strings.TrimSpace(string(out))
	}
	own := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Dir(p.Floor) + "/"}
	if err := goCommand("", append(own, "./test/bench/floor", "./test/bench/launch")...); err != nil {
		return err
	}
	if p.Reference, err = upstream.Install(referencePlugins...); err != nil {
		fmt.Fprintf(os.Stderr, "bench: without the reference plugins, which cannot be installed: %v\n", err)
	}
	if err := p.install("bin/bench/installed"); err != nil {
		return err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.Setenv(built, string(text))
}

// install copies all that is measured into directories below a fresh one, as whoever installs it does. How a file came to
// be decides how the kernel keeps its pages, and with that a tenth and more of the time a program takes to start: a linker's
// output lies there page by page.
func (p *programs) install(dir string) (err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for name, path := range map[string]*string{"veth": &p.Veth, "beside": &p.Beside, "floor": &p.Floor} {
		if *path == "" {
			continue
		}
		to := filepath.Join(dir, name)
		if err := copyTo(to, *path); err != nil {
			return err
		}
		*path = filepath.Join(to, filepath.Base(*path))
	}
	if p.Reference == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(p.Reference, "*"))
	if err != nil {
		return err
	}
	p.Reference = filepath.Join(dir, "reference")
	return copyTo(p.Reference, files...)
}

func copyTo(dir string, files ...string) error {
	out, err := exec.Command("install", append([]string{"-D", "-m", "755", "-t", dir}, files...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy to %s: %w: %s", dir, err, out)
	}
	return nil
}

// referencePlugins are those that are measured.
var referencePlugins = []string{
	"main/bridge", "main/ptp", "ipam/host-local", "meta/portmap", "meta/bandwidth", "meta/firewall", "meta/tuning",
}

// goCommand runs the go command; what it installs is put into a directory.
func goCommand(dir string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", args[0], err)
	}
	return nil
}
