package ipam

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
)

// The CNI library's own package for this links a tracing library, and with it an HTTP client and TLS, whose start costs
// every call of the plugin half a millisecond, delegating or not.

// find looks for a plugin's binary in the directories of CNI_PATH. The specification lets a runtime leave that out when
// there is nothing to delegate; then it is where this plugin is.
func find(plugin string) (string, error) {
	if filepath.Base(plugin) != plugin {
		return "", fmt.Errorf("%q is no name of a plugin: want one without a slash", plugin)
	}
	dirs, err := directories()
	if err != nil {
		return "", err
	}
	for _, dir := range filepath.SplitList(dirs) {
		path := filepath.Join(dir, plugin)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no plugin %q in CNI_PATH, %s", plugin, dirs)
}

func directories() (string, error) {
	if path := os.Getenv("CNI_PATH"); path != "" {
		return path, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the plugin's own directory for CNI_PATH: %w", err)
	}
	return filepath.Dir(self), nil
}

// run executes a verb of a plugin and returns what it prints. A binary that is being written is waited for.
func run(ctx context.Context, plugin, verb string, config []byte) ([]byte, error) {
	path, err := find(plugin)
	if err != nil {
		return nil, err
	}
	const tries, pause = 6, time.Second
	for range tries {
		var out, complaint bytes.Buffer
		c := exec.CommandContext(ctx, path)
		c.Env = environment(verb, filepath.Dir(path))
		c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(config), &out, &complaint
		err = c.Run()
		if err == nil {
			_, _ = complaint.WriteTo(os.Stderr) // words for people, which no runtime waits for
			return out.Bytes(), nil
		}
		if !errors.Is(err, syscall.ETXTBSY) {
			return nil, failure(err, out.Bytes(), complaint.Bytes())
		}
		time.Sleep(pause)
	}
	return nil, err
}

// environment is the plugin's own with another verb.
func environment(verb, found string) []string {
	env := []string{"CNI_COMMAND=" + verb}
	if os.Getenv("CNI_PATH") == "" {
		env = append(env, "CNI_PATH="+found)
	}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "CNI_COMMAND=") && e != "CNI_PATH=" {
			env = append(env, e)
		}
	}
	return env
}

// failure is what a plugin says of why it failed: an error as JSON on standard output (CNI spec 1.1.0, section
// "Error"), or whatever else there is.
func failure(err error, out, complaint []byte) error {
	var e types.Error
	switch {
	case len(out) == 0 && len(complaint) == 0:
		return fmt.Errorf("it failed without a word: %w", err)
	case len(out) == 0:
		return fmt.Errorf("it failed: %w: %s", err, bytes.TrimSpace(complaint))
	case json.Unmarshal(out, &e) != nil:
		return fmt.Errorf("it failed, and what it printed is no CNI error: %w: %s", err, bytes.TrimSpace(out))
	}
	return &e
}

// decode reads a result of any version. One that names none has the configuration's.
func decode(out []byte, configured string) (types.Result, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(out, &members); err != nil {
		return nil, fmt.Errorf("its answer is no CNI result: %w", err)
	}
	var version string
	if json.Unmarshal(members["cniVersion"], &version) == nil && version != "" {
		return create.Create(version, out)
	}
	if members == nil {
		return nil, errors.New("its answer is null: want a CNI result")
	}
	named, err := json.Marshal(configured)
	if err != nil {
		return nil, err
	}
	members["cniVersion"] = named
	if out, err = json.Marshal(members); err != nil {
		return nil, err
	}
	return create.Create(configured, out)
}
