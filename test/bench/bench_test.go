package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/veth-cni/veth/test/node"
)

func shell(script string) call {
	return call{argv: []string{"/bin/sh", "-c", script}, env: []string{"PATH=/usr/bin:/bin"}, stdin: []byte("in")}
}

// A runtime waits until nobody has the outputs any more, not only for the process it has started.
func TestCallEndsWithItsOutput(t *testing.T) {
	out, err := shell(`cat; (sleep .1; echo late) & echo oops >&2`).run()
	if err != nil {
		t.Fatal(err)
	}
	if string(out.stdout) != "inlate\n" || string(out.stderr) != "oops\n" {
		t.Errorf("got %q and %q on standard error", out.stdout, out.stderr)
	}
	if ms := milliseconds(out.took); ms < 100 {
		t.Errorf("the call took %v ms, want those of the last who writes, too", ms)
	}
}

func TestCallReadsLongOutput(t *testing.T) {
	out, err := shell(`head -c 300000 /dev/zero`).run()
	if err != nil || len(out.stdout) != 300000 {
		t.Errorf("got %d bytes of 300000: %v", len(out.stdout), err)
	}
}

func TestFailedCallIsToldOf(t *testing.T) {
	_, err := shell(`echo '{"msg":"no"}'; exit 1`).run()
	if err == nil || !strings.Contains(err.Error(), `{"msg":"no"}`) {
		t.Errorf("got %v, want what the program has printed", err)
	}
	if _, err := (call{argv: []string{"/nowhere"}}).run(); err == nil {
		t.Error("a program that is not there has run")
	}
}

func TestReapWaitsForOrphans(t *testing.T) {
	if err := adopt(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "orphan")
	if _, err := shell(`(sleep .1; echo >` + file + `) >/dev/null 2>&1 &`).run(); err != nil {
		t.Fatal(err)
	}
	if err := reap(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the orphan has not come to its end: %v", err)
	}
}

// Of an interrupted system call strace prints two lines.
func TestTraceIsCounted(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, make([]byte, 1000), 0o755); err != nil {
		t.Fatal(err)
	}
	trace := `10    execve("PROGRAM", ["PROGRAM"], 0x7ffd /* 4 vars */) = 0
10    execve("/missing/program", ["x"], 0x7ffd /* 4 vars */) = -1 ENOENT (No such file or directory)
10    read(0,  <unfinished ...>
11    futex(0xc000, FUTEX_WAIT_PRIVATE, 0, NULL <unfinished ...>
10    <... read resumed>"{}", 4096) = 2
10    +++ exited with 0 +++
11    <... futex resumed>) = ?
11    execve("PROGRAM", ["PROGRAM"], 0x7ffd /* 4 vars */ <unfinished ...>
11    <... execve resumed>) = 0
11    --- SIGURG {si_signo=SIGURG} ---
`
	var k cost
	sizes := map[string]int64{}
	if err := k.count([]byte(strings.ReplaceAll(trace, "PROGRAM", program)), sizes); err != nil {
		t.Fatal(err)
	}
	if k.calls != 5 || k.processes != 2 {
		t.Errorf("got %d system calls and %d programs, want 5 and 2", k.calls, k.processes)
	}
	if diff := cmp.Diff(map[string]int64{program: 1000}, sizes); diff != "" {
		t.Error(diff)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1023: "1,023", 40007: "40,007", 1000000: "1,000,000"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %s, want %s", n, got, want)
		}
	}
}

// The floor program chooses nothing itself.
func TestFloorIsToldDistinctAddresses(t *testing.T) {
	seen := map[string]int{}
	for n := 1; n < 10000; n++ {
		conf := floorConf(n, true, true)
		for _, key := range []string{"host", "lease", "cidr", "address", "cidr6", "address6"} {
			if other, ok := seen[key+conf[key].(string)]; ok {
				t.Fatalf("%s is %s for %d and for %d", key, conf[key], other, n)
			}
			seen[key+conf[key].(string)] = n
		}
		for key, gateway := range map[string]string{"address": gateway4.String(), "address6": gateway6.String()} {
			if strings.HasPrefix(conf[strings.Replace(key, "address", "cidr", 1)].(string), gateway+"/") {
				t.Fatalf("%d has the gateway's %s", n, key)
			}
		}
	}
}

func TestFloorConfiguration(t *testing.T) {
	want := object{
		"host": "floor259", "lease": "10.88.2.3@bench", "cidr": "10.88.2.3/32", "address": "0a580203", "prefix": "20",
		"gateway": "a9fe0101", "cidr6": "2001:db8:88::203/128", "address6": "20010db8008800000000000000000203", "prefix6": "80",
		"gateway6": "fe800000000000000000000000000001",
	}
	if diff := cmp.Diff(want, floorConf(259, false, true)); diff != "" {
		t.Error(diff)
	}
}

// Among many the floor does what is faster there, and only there.
func TestFloorIsLevel(t *testing.T) {
	for _, tt := range []struct {
		others int
		six    bool
		quiet  bool
	}{{0, false, false}, {100, false, false}, {900, false, true}, {4000, false, true}, {4000, true, false}} {
		_, quiet := floor(false, tt.six).conf(attachment{number: 1, others: tt.others})["quiet"]
		if quiet != tt.quiet {
			t.Errorf("among %d, with IPv6 %v: quiet is %v", tt.others, tt.six, quiet)
		}
	}
	c := among(1000, least(leastRouted, vethRouted, false, false))
	if a := c.attachment(container("c1")); a.others != 1000 {
		t.Errorf("an attachment among 1000 knows of %d", a.others)
	}
}

// What is not there is left out, and the other build runs beside the plugin wherever that does.
func TestChoose(t *testing.T) {
	defer func(was programs) { binaries = was }(binaries)
	binaries = programs{Veth: "/veth", Beside: "/other"}
	labels := func() (list []string) {
		for _, c := range choose(plain().contenders) {
			list = append(list, c.stages[0].program+": "+c.label)
		}
		return list
	}
	want := []string{
		"/veth: veth, routed", "/other: veth, routed, the other build", ": floor, routed",
		"/veth: veth, bridge", "/other: veth, bridge, the other build", ": floor, bridge",
	}
	if diff := cmp.Diff(want, labels()); diff != "" {
		t.Errorf("without the reference: %s", diff)
	}
	binaries = programs{Veth: "/veth", Reference: "/reference"}
	t.Setenv("PATH", t.TempDir())
	want = []string{
		"/veth: veth, routed", "/reference/ptp: reference, ptp", ": floor, routed",
		"/veth: veth, bridge", "/reference/bridge: reference, bridge", ": floor, bridge",
	}
	if diff := cmp.Diff(want, labels()); diff != "" {
		t.Errorf("with the reference: %s", diff)
	}
	for _, c := range choose(masquerade().contenders) {
		if c.reference {
			t.Errorf("%s is to be measured without the programs it needs", c.label)
		}
	}
}

// What both do must be the same, or the comparison says nothing.
func TestChainDoesTheSameJob(t *testing.T) {
	merged := object{}
	for _, conf := range chain("nftables") {
		for key, value := range conf {
			merged[key] = value
		}
	}
	merged["ingressPolicy"] = "same-network" // veth's word for same-bridge
	own := with(bridged, complete)
	for key := range own {
		if key == "type" || key == "ipam" {
			continue
		}
		if diff := cmp.Diff(own[key], merged[key], cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
}

// A plugin of a chain gets what a runtime would give it.
func TestCallOfAStage(t *testing.T) {
	c := ours("veth", routed)
	c.host = &host{Namespace: container("bench7")}
	a := c.attachment(container("c1"))
	a.result = json.RawMessage(`{"ips":[]}`)
	got, err := c.call("DEL", a, c.stages[0])
	if err != nil {
		t.Fatal(err)
	}
	var conf struct {
		CNIVersion, Name, Type string
		PrevResult             json.RawMessage
	}
	if err := json.Unmarshal(got.stdin, &conf); err != nil {
		t.Fatal(err)
	}
	if conf.CNIVersion != "1.0.0" || conf.Name != "bench7" || conf.Type != "veth" || string(conf.PrevResult) != `{"ips":[]}` {
		t.Errorf("got %s", got.stdin)
	}
	for _, want := range []string{"CNI_COMMAND=DEL", "CNI_CONTAINERID=container-1", "CNI_NETNS=/run/netns/c1", "CNI_IFNAME=eth0"} {
		if !strings.Contains(strings.Join(got.env, "\n"), want) {
			t.Errorf("%s is not in %q", want, got.env)
		}
	}
	if _, ok := routed["prevResult"]; ok {
		t.Error("one call's result is in the configuration of all")
	}
}

func container(name string) *node.Namespace {
	return &node.Namespace{Name: name, Path: "/run/netns/" + name}
}
