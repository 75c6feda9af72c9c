package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/veth-cni/veth/test/node"
)

// object is JSON.
type object = map[string]any

// stage is one plugin of a chain.
type stage struct {
	program string
	conf    func(attachment) object
}

// contender is what attaches containers to a node of its own: a chain of plugins and their configurations.
type contender struct {
	label     string
	beside    string // the label of the one whose times this one's are divided by; its own: of none
	reference bool
	needs     []string // programs that its plugins execute, besides plugins
	present   int      // containers that are on the node already
	stages    []stage
	prepare   func() error // gives the node what others have from their first ADD; nil: nothing

	host     *host
	attached int // attachments so far, whether they are still there or not
	crowd    []*node.Namespace
}

// attachment is one container of a contender.
type attachment struct {
	id     string
	number int // of the contender's attachments
	others int // that are there already
	netns  *node.Namespace
	result json.RawMessage
}

const ifname = "eth0"

func (c *contender) attachment(netns *node.Namespace) *attachment {
	c.attached++
	return &attachment{
		id: fmt.Sprintf("container-%d", c.attached), number: c.attached, others: c.present, netns: netns,
	}
}

// network is the configuration's name. Files of the reference are found by it, and contenders share a file system.
func (c *contender) network() string { return c.host.Name }

// add executes ADD of every plugin in order, each with the result of the one before, and adds up their times. The
// calling goroutine is on the contender's node.
func (c *contender) add(a *attachment) (time.Duration, error) {
	a.result = nil
	return c.each("ADD", a, c.stages)
}

// del executes DEL of every plugin, backwards, with the result of the ADD.
func (c *contender) del(a *attachment) (time.Duration, error) {
	backwards := slices.Clone(c.stages)
	slices.Reverse(backwards)
	return c.each("DEL", a, backwards)
}

func (c *contender) each(verb string, a *attachment, stages []stage) (time.Duration, error) {
	var took time.Duration
	for _, s := range stages {
		prepared, err := c.call(verb, a, s)
		if err != nil {
			return 0, err
		}
		out, err := prepared.run()
		if err != nil {
			return 0, fmt.Errorf("%s: %s of %s: %w", c.label, verb, a.id, err)
		}
		took += out.took
		if verb == "ADD" {
			a.result = out.stdout
		}
	}
	return took, nil
}

// call is how a runtime calls a plugin of a list.
func (c *contender) call(verb string, a *attachment, s stage) (call, error) {
	conf := s.conf(*a)
	if _, isFloor := conf["host"]; !isFloor {
		conf = maps.Clone(conf)
		conf["cniVersion"], conf["name"] = "1.0.0", c.network()
		if a.result != nil {
			conf["prevResult"] = a.result
		}
	}
	stdin, err := json.Marshal(conf)
	return call{
		argv: []string{s.program},
		env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "CNI_PATH=" + binaries.Reference,
			"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + a.id, "CNI_NETNS=" + a.netns.Path, "CNI_IFNAME=" + ifname,
			"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=" + a.id,
		},
		stdin: stdin,
	}, err
}

// try attaches and detaches one container without measuring, and sends packets meanwhile, so that nobody is fast by
// leaving something out. It also makes what a network's first ADD makes for all that follow.
func (c *contender) try() error {
	netns, err := node.Create(c.host.Name + "-try")
	if err != nil {
		return err
	}
	defer netns.Close()
	a := c.attachment(netns)
	if err := c.host.Do(func() error { _, err := c.add(a); return err }); err != nil {
		return err
	}
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	if err := json.Unmarshal(a.result, &result); err != nil || len(result.IPs) == 0 {
		return fmt.Errorf("%s: ADD printed %q, want addresses (%w)", c.label, a.result, err)
	}
	for _, ip := range result.IPs {
		addr := ip.Address.Addr()
		outside := host4
		if addr.Is6() {
			outside = host6
		}
		if err := errors.Join(answers(c.host.Namespace, addr), answers(netns, outside)); err != nil {
			return fmt.Errorf("%s: %w", c.label, err)
		}
	}
	if err := c.host.Do(func() error { _, err := c.del(a); return err }); err != nil {
		return err
	}
	if c.host.PingWith(result.IPs[0].Address.Addr(), node.PingOptions{Timeout: 50 * time.Millisecond}) == nil {
		return fmt.Errorf("%s: %s still answers after DEL", c.label, result.IPs[0].Address)
	}
	return reap()
}

// answers tries for some seconds: a new bridge has no IPv6 address at first that it may ask for neighbours from.
func answers(from *node.Namespace, to netip.Addr) (err error) {
	for range 5 {
		if err = from.PingWith(to, node.PingOptions{Timeout: time.Second}); err == nil {
			return nil
		}
	}
	return err
}
