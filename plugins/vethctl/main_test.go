package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	whole = `{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bridge", "mtu": 1500}]}`
	lossy = `{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bridge", "comment": "x"}]}`
)

func TestRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.conflist")
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args, in string
		status   int
		out, err string // begin with
	}{
		{"convert " + file, "", 0, "{\n  \"cniVersion\": \"1.0.0\"", "note: plugins[0].bridge"},
		{"convert -", whole, 0, "{\n  \"cniVersion\": \"1.0.0\"", "note: plugins[0].bridge"},
		{"convert", lossy, 2, "{\n  \"cniVersion\": \"1.0.0\"", "lost: plugins[0].comment"},
		{"convert", "{", 1, "", "vethctl convert: not JSON"},
		{"convert /does/not/exist", whole, 1, "", "vethctl convert: open /does/not/exist: no such file"},
		{"convert a b", whole, 1, "", "vethctl convert: 2 files: want one FILE\n\nvethctl convert [FILE]"},
		{"version 2", "", 1, "", "vethctl version: \"2\": want no argument\n\nvethctl convert [FILE]"},
		{"version", "", 0, "vethctl development\n", ""},
		{"help", "", 0, "vethctl convert [FILE]", ""},
		{"--help", "", 0, "vethctl convert [FILE]", ""},
		{"", "", 1, "", "vethctl convert [FILE]"},
		{"covnert", "", 1, "", "vethctl: unknown command \"covnert\": want one of these\n\nvethctl convert [FILE]"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var out, err bytes.Buffer
			status := run(strings.Fields(tt.args), streams{strings.NewReader(tt.in), &out, &err})
			if status != tt.status {
				t.Errorf("exit status %d, want %d", status, tt.status)
			}
			for _, s := range []struct{ name, got, want string }{{"output", out.String(), tt.out}, {"error", err.String(), tt.err}} {
				if !strings.HasPrefix(s.got, s.want) || s.want == "" && s.got != "" {
					t.Errorf("standard %s:\n%s\nwant it to begin with\n%s", s.name, s.got, s.want)
				}
			}
		})
	}
}

// A list that could not be written is no list: the shell's redirection may have met a full disk.
func TestConvertFailsWhereItCannotWrite(t *testing.T) {
	var err bytes.Buffer
	if status := run([]string{"convert"}, streams{strings.NewReader(whole), full{}, &err}); status != 1 {
		t.Errorf("exit status %d, want 1; it said %s", status, &err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
