package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/veth-cni/veth/test/bench/report"
)

// cost is what an ADD takes besides time.
type cost struct {
	label     string
	size      int64     // bytes, of all programs executed
	peaks     []float64 // KiB, of the largest process, one of each try
	calls     int       // system calls of all processes; 0: not known
	processes int       // programs executed
}

// costs measures each contender several times, on a node without other containers.
func costs(tries int) ([]*cost, error) {
	chosen := choose([]*contender{
		least(leastRouted, vethRouted, false, false),
		ours(vethRouted, routed),
		theirs(refPtp, vethRouted, refPTP),
		ours(vethFull, with(bridged, complete)),
		theirs(refFullIptables, vethFull, chain("iptables")...),
		theirs(refFullNftables, vethFull, chain("nftables")...),
	})
	e := experiment{contenders: chosen}
	defer e.close()
	if err := e.open(); err != nil {
		return nil, err
	}
	var out []*cost
	for _, c := range chosen {
		k := &cost{label: c.label}
		for range tries {
			peak, err := c.peak()
			if err != nil {
				return nil, err
			}
			k.peaks = append(k.peaks, peak)
		}
		if err := c.trace(k); err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// instead does an ADD and a DEL with other command lines than the programs' own. See is called with what each of ADD's
// plugins has written to standard error.
func (c *contender) instead(prefix []string, see func(stage, []byte) error) error {
	containers, err := create("cost", 1)
	defer closeAll(containers)
	if err != nil {
		return err
	}
	a := c.attachment(containers[0])
	return c.host.Do(func() error {
		for _, s := range c.stages {
			prepared, err := c.call("ADD", a, s)
			if err != nil {
				return err
			}
			prepared.argv = append(append([]string{}, prefix...), prepared.argv...)
			out, err := prepared.run()
			if err != nil {
				return err
			}
			a.result = out.stdout
			if err := see(s, out.stderr); err != nil {
				return err
			}
		}
		_, err := c.del(a)
		return errors.Join(err, reap())
	})
}

// peak is the peak resident memory of an ADD's largest process, in KiB.
func (c *contender) peak() (float64, error) {
	most := 0.0
	err := c.instead([]string{binaries.Launch}, func(_ stage, stderr []byte) error {
		_, text, _ := bytes.Cut(stderr, []byte("\npeak "))
		peak, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
		most = max(most, peak)
		return err
	})
	return most, err
}

// trace counts system calls, where strace(1) is, and adds up the programs' sizes.
func (c *contender) trace(k *cost) error {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return nil
	}
	log := filepath.Join("/run", "strace")
	sizes := map[string]int64{}
	err = c.instead([]string{strace, "-f", "-qq", "-o", log, "-e", "signal=none"}, func(stage, []byte) error {
		text, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		return k.count(text, sizes)
	})
	for _, n := range sizes {
		k.size += n
	}
	return err
}

// count goes through the lines of a trace. A call that another one interrupts has two lines, of which the second says
// "resumed".
func (k *cost) count(trace []byte, sizes map[string]int64) error {
	lines := bufio.NewScanner(bytes.NewReader(trace))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		_, line, _ := strings.Cut(lines.Text(), " ")
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "<...") || strings.HasPrefix(line, "+++") || strings.HasPrefix(line, "---") {
			continue
		}
		k.calls++
		if rest, ok := strings.CutPrefix(line, `execve("`); ok && !strings.Contains(line, "= -1") {
			path, _, _ := strings.Cut(rest, `"`)
			k.processes++
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			sizes[path] = info.Size()
		}
	}
	return lines.Err()
}

func costTable(all []*cost) report.Table {
	t := report.Table{Head: []string{
		"one ADD", "programs executed", "their size, MB", "system calls", "peak RSS of the largest process, MB",
	}}
	for _, k := range all {
		calls, programs, size := "no strace", "no strace", "no strace"
		if k.calls > 0 {
			calls, programs, size = thousands(k.calls), fmt.Sprint(k.processes), report.Digits(float64(k.size)/1e6)
		}
		var peaks []float64
		for _, p := range k.peaks {
			peaks = append(peaks, p*1024/1e6)
		}
		t.Rows = append(t.Rows, []string{k.label, programs, size, calls, spread(peaks)})
	}
	return t
}
