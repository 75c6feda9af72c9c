package ipam

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An answer that names no version is one of the configuration's.
func TestDelegateAddUnversioned(t *testing.T) {
	d := delegate(t, map[string]answer{"ADD": {Stdout: `{"ips": [{"address": "10.88.0.5/24"}]}`}})
	got, err := d.Add(t.Context())
	if err != nil || len(got.List) != 1 || got.List[0].Prefix.String() != "10.88.0.5/24" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestFailure(t *testing.T) {
	d := delegate(t, map[string]answer{"ADD": {Stdout: "not JSON", Exit: 4}})
	_, err := d.Add(t.Context())
	want := `it failed, and what it printed is no CNI error: exit status 4: not JSON`
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// script is a plugin that prints what it sees of one variable.
func script(t *testing.T, variable string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "words")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nprintf %s \"$"+variable+"\"; echo aside >&2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRunPassesThePathOn(t *testing.T) {
	path := script(t, "CNI_PATH")
	dirs := "/nonexistent:" + filepath.Dir(path)
	t.Setenv("CNI_PATH", dirs)
	if out, err := run(t.Context(), "words", "ADD", nil); err != nil || string(out) != dirs {
		t.Errorf("got %q, %v, want %q", out, err, dirs)
	}
}

// Without CNI_PATH a plugin is looked for beside the running binary.
func TestFindWithoutPath(t *testing.T) {
	t.Setenv("CNI_PATH", "")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := find(filepath.Base(self)); err != nil || got != self {
		t.Errorf("got %s, %v, want %s", got, err, self)
	}
	env := strings.Join(environment("DEL", filepath.Dir(self)), "\n")
	if !strings.Contains(env, "CNI_PATH="+filepath.Dir(self)) || !strings.Contains(env, "CNI_COMMAND=DEL") {
		t.Errorf("the plugin would see\n%s", env)
	}
}

func TestFindRefusesPaths(t *testing.T) {
	path := script(t, "X")
	t.Setenv("CNI_PATH", filepath.Dir(path))
	_, err := find("../" + filepath.Base(filepath.Dir(path)) + "/words")
	if err == nil || !strings.Contains(err.Error(), "want one without a slash") {
		t.Errorf("got %v", err)
	}
}

// A binary that is being replaced cannot be executed for a moment (execve(2), ETXTBSY).
func TestRunWaitsForABusyBinary(t *testing.T) {
	path := script(t, "CNI_COMMAND")
	t.Setenv("CNI_PATH", filepath.Dir(path))
	writer, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(100*time.Millisecond, func() { _ = writer.Close() })
	defer timer.Stop()
	if out, err := run(t.Context(), "words", "CHECK", nil); err != nil || string(out) != "CHECK" {
		t.Errorf("got %q, %v", out, err)
	}
}
