// Command data measures what passes between two containers of a node: streams, packets, requests and connections, over
// the plugin's networks in both modes, over the reference bridge plugin's, and over loopback in one container. All of it
// happens in namespaces of its own, as root or as a plain user, and no other program is needed.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/veth-cni/veth/test/bench/upstream"
	"github.com/veth-cni/veth/test/node"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == trafficCommand {
		if err := traffic(os.Args[2:]); err != nil {
			fail(err)
		}
		return
	}
	o := parse()
	if err := o.build(); err != nil {
		fail(err)
	}
	if err := node.Enter(); err != nil {
		fail(fmt.Errorf("measuring needs namespaces of its own: %w", err))
	}
	if err := o.run(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench/data:", err)
	os.Exit(1)
}

// options are what the command line says.
type options struct {
	only      *regexp.Regexp
	rounds    int
	sample    time.Duration
	out       string
	veth      string
	reference string // the directory of the reference plugins, empty where there are none
	masked    bool
	keys      []object // further configurations to measure, by the keys in which they differ from the default
}

func parse() *options {
	o := &options{}
	short := flag.Bool("short", false, "one round of short samples, to see that all of it works")
	only := flag.String("only", "", "measure only lines whose name this regular expression matches, such as 'stream.*IPv4'")
	flag.IntVar(&o.rounds, "rounds", 0, "rounds (20, -short 1)")
	flag.DurationVar(&o.sample, "sample", 0, "how long one measurement takes (200ms, -short 20ms)")
	flag.StringVar(&o.out, "o", "", "write data.md and its charts into this directory")
	flag.StringVar(&o.veth, "plugin", "bin/veth", "the plugin")
	flag.BoolVar(&o.masked, "masquerade", false, "measure networks with ipMasq as well")
	flag.Func("with", `measure networks with more keys as well, such as '{"gro": true}'; may be given again`, func(text string) error {
		var keys object
		err := json.Unmarshal([]byte(text), &keys)
		o.keys = append(o.keys, keys)
		return err
	})
	flag.Parse()
	if flag.NArg() > 0 {
		fail(fmt.Errorf("%q is not an option", flag.Arg(0)))
	}
	rounds, sample := 20, 200*time.Millisecond
	if *short {
		rounds, sample = 1, 20*time.Millisecond
	}
	if o.rounds == 0 {
		o.rounds = rounds
	}
	if o.sample == 0 {
		o.sample = sample
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		fail(fmt.Errorf("-only: %w", err))
	}
	return o
}

// build makes the reference plugins; make build has made the plugin. The inner run, which reaches no network, finds both.
func (o *options) build() error {
	if _, err := os.Stat(o.veth); err != nil {
		return fmt.Errorf("the plugin is not there, run make build: %w", err)
	}
	var err error
	if o.reference, err = upstream.Install("main/bridge", "ipam/host-local"); err != nil {
		fmt.Fprintf(os.Stderr, "bench/data: without the reference plugins, which cannot be installed: %v\n", err)
		o.reference = ""
	}
	return nil
}
