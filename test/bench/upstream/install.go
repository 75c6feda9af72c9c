// Package upstream installs the reference plugins, to compare with.
package upstream

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Version is the release of github.com/containernetworking/plugins.
const Version = "v1.9.1"

// Install builds plugins, named as "main/bridge", as their releases are built, without cgo, and returns the directory they
// are in. One that is there already is not built again.
func Install(names ...string) (string, error) {
	dir, err := filepath.Abs("bin/reference-" + Version)
	if err != nil {
		return "", err
	}
	args := []string{"install", "-trimpath", "-ldflags=-s -w"}
	missing := false
	for _, name := range names {
		args = append(args, "github.com/containernetworking/plugins/plugins/"+name+"@"+Version)
		_, err := os.Stat(filepath.Join(dir, filepath.Base(name)))
		missing = missing || err != nil
	}
	if !missing {
		return dir, nil
	}
	fmt.Fprintf(os.Stderr, "installing the reference plugins %s in %s\n", Version, dir)
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go install: %w", err)
	}
	return dir, nil
}
