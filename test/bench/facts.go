package main

import (
	_ "embed"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/bench/report"
	"github.com/veth-cni/veth/test/bench/upstream"
)

// introduction is the page's first section: how it came about, and on what machine.
func (r *results) introduction() report.Section {
	reference := "not there"
	if binaries.Reference != "" {
		reference = "containernetworking/plugins " + upstream.Version + ", built here without cgo"
	}
	return report.Section{
		Text: strings.TrimSpace(method),
		Table: report.Table{Head: []string{"", ""}, Rows: [][]string{
			{"date", time.Now().UTC().Format("2006-01-02")},
			{"plugin", "veth " + binaries.Version},
			{"reference", reference},
			{"machine", fmt.Sprintf("%s, %d CPUs, %s of memory", match("/proc/cpuinfo", `model name\s*: (.*)`, "unknown"), runtime.NumCPU(), memory())},
			{"kernel", kernel()},
			{"Go", runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH},
			{"load before the run", r.load},
			{"the run took", fmt.Sprintf("%.0f s", r.took.Seconds())},
		}},
	}
}

//go:embed method.md
var method string

func match(path, pattern, otherwise string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return otherwise
	}
	if m := regexp.MustCompile(pattern).FindSubmatch(text); m != nil {
		return strings.TrimSpace(string(m[1]))
	}
	return otherwise
}

// load is the machine's load average of the last minute.
func load() string { return match("/proc/loadavg", `^(\S+)`, "unknown") }

func memory() string {
	kib, err := strconv.ParseFloat(match("/proc/meminfo", `MemTotal:\s*(\d+) kB`, ""), 64)
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return "Linux " + unix.ByteSliceToString(name.Release[:])
}
