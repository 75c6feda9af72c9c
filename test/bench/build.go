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
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.Setenv(built, string(text))
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
