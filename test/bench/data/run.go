package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/node"
)

// place is where the two ends run.
type place struct {
	name           string
	client, server int // processors
}

// line is what is measured over each network: a load, a family of addresses, and a place.
type line struct {
	load   *load
	family int // the index of the address: 0 IPv4, 1 IPv6
	place  place
}

func (l line) String() string {
	return fmt.Sprintf("%s, %s, %s", l.load.name, []string{"IPv4", "IPv6"}[l.family], l.place.name)
}

// places are two processors of those that this process may use.
func places() ([]place, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, err
	}
	var cpus []int
	for n := 0; len(cpus) < min(2, set.Count()); n++ {
		if set.IsSet(n) {
			cpus = append(cpus, n)
		}
	}
	all := []place{{"same CPU", cpus[0], cpus[0]}}
	if len(cpus) > 1 {
		all = append(all, place{"across CPUs", cpus[0], cpus[1]})
	}
	return all, nil
}

func (o *options) lines() ([]line, error) {
	places, err := places()
	if err != nil {
		return nil, err
	}
	var lines []line
	for i := range loads {
		for _, p := range places {
			for family := range 2 {
				if l := (line{&loads[i], family, p}); o.only.MatchString(l.String()) {
					lines = append(lines, l)
				}
			}
		}
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("-only: %s matches no line, such as %q", o.only, line{&loads[0], 0, places[0]})
	}
	return lines, nil
}

// samples are the results of a line over a network, one for each round.
type samples map[string]map[string][]float64

func (s samples) add(l line, n *network, value float64) {
	of, ok := s[l.String()]
	if !ok {
		of = map[string][]float64{}
		s[l.String()] = of
	}
	of[n.label] = append(of[n.label], value)
}

func (o *options) run() (err error) {
	lines, err := o.lines()
	if err != nil {
		return err
	}
	networks, err := o.networks()
	if err != nil {
		return err
	}
	defer func() {
		for _, n := range networks {
			err = errors.Join(err, n.close())
		}
	}()
	for i, n := range networks {
		if err := n.build(i); err != nil {
			return err
		}
		for _, ns := range []*node.Namespace{n.client, n.server} {
			if err := ns.Do(prepare); err != nil {
				return err
			}
		}
	}
	start := time.Now()
	all := samples{}
	for round := range o.rounds {
		fmt.Fprintf(os.Stderr, "bench/data: round %d of %d, after %.0f s\n", round+1, o.rounds, time.Since(start).Seconds())
		for _, l := range lines {
			for _, i := range rand.Perm(len(networks)) { // none always follows the same
				n := networks[i]
				value, err := o.measure(l, n)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", n.label, l, err)
				}
				all.add(l, n, value)
			}
		}
	}
	return o.report(report{lines: lines, networks: networks, samples: all, took: time.Since(start)})
}

// measure takes one sample. On one processor a second is one that the two ends had it, together: it makes no difference
// where nothing else runs, and where something does it takes nothing from the result.
func (o *options) measure(l line, n *network) (float64, error) {
	to := n.addresses[l.family]
	server, err := o.start(end{n.server, l.place.server, "server"}, l, to)
	if err != nil {
		return 0, err
	}
	defer server.kill()
	if text, err := server.out.ReadString('\n'); err != nil || text != ready+"\n" {
		return 0, fmt.Errorf("the server says %q: %w", text, errors.Join(err, server.wait()))
	}
	client, err := o.start(end{n.client, l.place.client, "client"}, l, to)
	if err != nil {
		return 0, err
	}
	defer client.kill()
	sent, err := client.result()
	if err != nil {
		return 0, fmt.Errorf("the client: %w", err)
	}
	if err := server.in.Close(); err != nil {
		return 0, err
	}
	received, err := server.result()
	if err != nil {
		return 0, fmt.Errorf("the server: %w", err)
	}
	c := sent
	if l.load.byServer {
		c = received
	}
	took := c.Took
	if l.place.client == l.place.server {
		took = sent.Busy + received.Busy
	}
	if c.N == 0 || took <= 0 {
		return 0, errors.New("nothing arrived")
	}
	return float64(c.N) / took.Seconds() * l.load.scale, nil
}

// process is an end under way.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	done bool
}

// end is where an end runs and what it does.
type end struct {
	in   *node.Namespace
	cpu  int
	role string // "server" or "client"
}

// start starts an end in a namespace and on a processor. A process has the namespace and the processors of the thread that
// forks it.
func (o *options) start(e end, l line, to netip.Addr) (*process, error) {
	cmd := exec.Command("/proc/self/exe", trafficCommand, e.role, l.load.name, to.String(), o.sample.String())
	// A signal every ten milliseconds, to a thread that has nothing else to run, would interrupt what is measured.
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, in: in, out: bufio.NewReader(out)}
	return p, e.in.Do(func() error { return pinned(e.cpu, cmd.Start) })
}

// pinned runs fn with the thread on one processor.
func pinned(cpu int, fn func() error) error {
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	return errors.Join(fn(), unix.SchedSetaffinity(0, &before))
}

// result waits for the end of a process and returns what it has counted.
func (p *process) result() (c count, err error) {
	err = json.NewDecoder(p.out).Decode(&c)
	return c, errors.Join(err, p.wait())
}

func (p *process) wait() error {
	p.done = true
	return p.cmd.Wait()
}

// kill ends a process that something has kept from its end.
func (p *process) kill() {
	if !p.done {
		_ = p.cmd.Process.Kill()
		_ = p.wait()
	}
}
