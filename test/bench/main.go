// Command bench measures what an ADD and a DEL cost, as a runtime sees them: from before the fork to the exit. It takes
// turns between the plugin, the reference plugins, which it installs, and a program that does the least the kernel
// demands. All of it happens in namespaces of its own, as root or as a plain user.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/veth-cni/veth/test/bench/report"
	"github.com/veth-cni/veth/test/node"
)

func main() {
	o := parse()
	if err := build(o.veth, o.beside); err != nil {
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
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// options are what the command line says.
type options struct {
	short        bool
	only         []string
	rounds       int
	out          string
	veth, beside string
}

// parts are what there is to measure.
var parts = []string{"start", "plain", "masquerade", "full", "dual", "present", "bridge-present", "bursts", "cost"}

func parse() options {
	var o options
	var only string
	flag.BoolVar(&o.short, "short", false, "few rounds and small sizes, to see that all of it works")
	flag.StringVar(&only, "only", "", "measure these parts, with commas between: "+strings.Join(parts, ","))
	flag.IntVar(&o.rounds, "rounds", 0, "rounds of an experiment; quick ones have a multiple of it, slow ones a part (default 40, with -short 3)")
	flag.StringVar(&o.out, "o", "", "write control.md and its charts into this directory")
	flag.StringVar(&o.veth, "plugin", "bin/veth", "the plugin")
	flag.StringVar(&o.beside, "beside", "", "another build of the plugin, measured in the same rounds")
	flag.Parse()
	if o.rounds == 0 {
		o.rounds = 40
		if o.short {
			o.rounds = 3
		}
	}
	if o.only = parts; only != "" {
		o.only = strings.Split(only, ",")
	}
	for _, name := range o.only {
		if !slices.Contains(parts, name) {
			fail(fmt.Errorf("-only: %q is not a part: want %s", name, strings.Join(parts, ", ")))
		}
	}
	if flag.NArg() > 0 {
		fail(fmt.Errorf("%q is not an option", flag.Arg(0)))
	}
	return o
}

// times is how often an experiment of this share is repeated.
func (o options) times(share float64) int { return max(1, int(math.Round(float64(o.rounds)*share))) }

func (o options) run() error {
	if err := adopt(); err != nil {
		return err
	}
	debug.SetGCPercent(-1) // garbage is collected between rounds
	start := time.Now()
	r := &results{options: o, samples: map[string]samples{}, load: load()}
	fmt.Fprintf(os.Stderr, "bench: the load is %s; whatever else runs here is measured, too\n", r.load)
	for _, part := range parts {
		if !slices.Contains(o.only, part) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s, after %.0f s\n", part, time.Since(start).Seconds())
		section, err := r.measure(part)
		if err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
		fmt.Println(section.Markdown())
		r.sections = append(r.sections, section)
	}
	r.took = time.Since(start)
	goals := r.goals()
	fmt.Println(goals.Markdown())
	if o.out == "" {
		return nil
	}
	return r.write(goals)
}

// measure does one part.
func (r *results) measure(part string) (report.Section, error) {
	sizes, ports, burst, workers := []int{0, 100, 1000, 4000}, []int{0, 100, 900}, 200, []int{1, 8, 16}
	if r.options.short {
		sizes, ports, burst, workers = []int{0, 20}, []int{0, 20}, 10, []int{1, 8}
	}
	switch part {
	case "start":
		return r.starts()
	case "plain":
		return r.experiment(plain())
	case "masquerade":
		return r.experiment(masquerade())
	case "full":
		return r.experiment(full())
	case "dual":
		return r.experiment(dualStack())
	case "present":
		return r.experiment(presentRouted(sizes))
	case "bridge-present":
		return r.experiment(presentBridge(ports))
	case "bursts":
		return r.bursts(newBursts(burst, workers))
	}
	return r.costs()
}

// choose drops what cannot be measured here, and adds the other build of the plugin.
func choose(all []*contender) []*contender {
	var chosen []*contender
	for _, c := range all {
		if !c.possible() {
			continue
		}
		chosen = append(chosen, c)
		if c.stages[0].program == binaries.Veth && binaries.Beside != "" {
			other := *c
			other.label += otherBuild
			other.stages = []stage{{binaries.Beside, c.stages[0].conf}}
			chosen = append(chosen, &other)
		}
	}
	return chosen
}

const otherBuild = ", the other build"

// possible is false, and standard error says why, where a program is missing.
func (c *contender) possible() bool {
	if c.reference && binaries.Reference == "" {
		return false // which has been said
	}
	for _, name := range c.needs {
		if _, err := exec.LookPath(name); err != nil {
			fmt.Fprintf(os.Stderr, "bench: without %s: %v\n", c.label, err)
			return false
		}
	}
	return true
}
