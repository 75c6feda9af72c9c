package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/test/node"
)

// experiment measures ADD and DEL of contenders in turns.
type experiment struct {
	name, title, text string
	contenders        []*contender
	rounds            float64 // in how many rounds for each that the command line wants
	lines             bool    // drawn as lines over the number of containers present
}

// series is one contender's times in milliseconds, one of each round.
type series struct{ add, del []float64 }

// samples are series by their contenders' labels.
type samples map[string]*series

// run gives each contender a node of its own, with its containers, tries it out, and measures round by round: each
// contender attaches one container to a fresh namespace and detaches it, forwards in one round, backwards in the next.
// The first round does not count.
func (e *experiment) run(rounds int) (samples, error) {
	defer e.close()
	if err := e.open(); err != nil {
		return nil, err
	}
	out := samples{}
	for _, c := range e.contenders {
		out[c.label] = &series{}
	}
	containers, err := create("container", (rounds+1)*len(e.contenders))
	defer closeAll(containers)
	if err != nil {
		return nil, err
	}
	order := slices.Clone(e.contenders)
	for round := range rounds + 1 {
		runtime.GC() // now rather than while something is measured
		for _, c := range order {
			add, del, err := c.once(containers[0])
			if err != nil {
				return nil, err
			}
			containers = containers[1:]
			if s := out[c.label]; round > 0 {
				s.add, s.del = append(s.add, milliseconds(add)), append(s.del, milliseconds(del))
			}
		}
		slices.Reverse(order)
	}
	return out, nil
}

// once attaches a container and detaches it.
func (c *contender) once(netns *node.Namespace) (add, del time.Duration, err error) {
	a := c.attachment(netns)
	err = c.host.Do(func() error {
		if add, err = c.add(a); err != nil {
			return err
		}
		if err := reap(); err != nil {
			return err
		}
		if del, err = c.del(a); err != nil {
			return err
		}
		return reap()
	})
	return add, del, err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// open makes the nodes and what is on them.
func (e *experiment) open() error {
	quiet := time.Duration(0)
	for _, c := range e.contenders {
		var err error
		if c.host, err = newHost(); err != nil {
			return err
		}
		if c.prepare != nil {
			if err := c.host.Do(c.prepare); err != nil {
				return err
			}
		}
		if err := c.try(); err != nil {
			return err
		}
		if err := c.populate(); err != nil {
			return err
		}
		if c.present >= 100 {
			quiet = 15 * time.Second
		}
	}
	// A new interface solicits IPv6 routers three times, four seconds apart (RFC 4861, section 10), and reports its
	// multicast groups: a thousand of them are not what a node is doing later on.
	time.Sleep(quiet)
	return nil
}

// populate attaches the containers that are there while others are measured, a few at a time.
func (c *contender) populate() (err error) {
	if c.present == 0 {
		return nil
	}
	start := time.Now()
	if c.crowd, err = create(c.host.Name+"-crowd", c.present); err != nil {
		return err
	}
	if _, err = c.all((*contender).add, c.attachments(c.crowd), 4); err != nil {
		return err
	}
	if err := reap(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "bench: %s: %d containers are there after %.1f s\n", c.label, c.present, time.Since(start).Seconds())
	return nil
}

func (c *contender) attachments(containers []*node.Namespace) []*attachment {
	list := make([]*attachment, len(containers))
	for i, netns := range containers {
		list[i] = c.attachment(netns)
	}
	return list
}

// verb is (*contender).add or (*contender).del.
type verb func(*contender, *attachment) (time.Duration, error)

// all calls a verb for all attachments, so many at a time, and returns how long that took from the first start to the
// last end.
func (c *contender) all(do verb, list []*attachment, workers int) (time.Duration, error) {
	next := make(chan *attachment, len(list))
	for _, a := range list {
		next <- a
	}
	close(next)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range workers {
		wg.Go(func() {
			errs[i] = c.host.Do(func() error {
				for a := range next {
					if _, err := do(c, a); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	wg.Wait()
	took := time.Since(start)
	return took, errors.Join(errs...)
}

// close removes the nodes and waits until they are gone.
func (e *experiment) close() {
	for _, c := range e.contenders {
		closeAll(c.crowd)
		if c.host != nil {
			c.host.close()
		}
	}
	settle()
}

// create makes namespaces for containers.
func create(name string, n int) ([]*node.Namespace, error) {
	var list []*node.Namespace
	for i := range n {
		ns, err := node.Create(fmt.Sprintf("%s-%d", name, i))
		if err != nil {
			return list, err
		}
		list = append(list, ns)
	}
	return list, nil
}

func closeAll(list []*node.Namespace) {
	for _, ns := range list {
		if err := ns.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
}

// settle waits until the kernel has taken apart all namespaces that were closed, so that it does not do so while
// something is measured. It takes them in the order they were closed in: the last is one with an interface whose other
// end can be watched.
func settle() {
	if err := awaitLast(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: waiting for namespaces to be gone:", err)
	}
}

func awaitLast() error {
	last, err := newHost()
	if err != nil {
		return err
	}
	defer last.world.Close()
	if err := last.Close(); err != nil {
		return err
	}
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		gone := false
		err := last.world.Do(func() error {
			_, err := netlink.LinkByName("uplink")
			gone = err != nil
			return nil
		})
		if err != nil || gone {
			return err
		}
	}
	return errors.New("they are there after two minutes")
}
