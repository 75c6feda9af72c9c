// Package attach conducts the verbs of CNI: it builds a plan and has it applied, compared, or undone.
package attach

import (
	"errors"
	"slices"

	"github.com/veth-cni/veth/pkg/firewall"
	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// machine is the one seam through which a plan reaches the kernel: every object passes here, in the plan's order.
type machine struct {
	node     *kernel.Node
	firewall *firewall.Firewall
	made     []plan.Object // what this call created, in order
}

func open() (*machine, error) {
	node, err := kernel.Open()
	if err != nil {
		return nil, err
	}
	return &machine{node: node, firewall: firewall.Open()}, nil
}

// inherits lets others keep what the network of a configuration leaves and they count on.
func (m *machine) inherits(cfg *netconf.Config) {
	link, _ := plan.HostSide(cfg)
	m.firewall.Survey = func() (firewall.Heirs, error) { return m.node.Neighbours(cfg.Network, link.Name) }
}

func (m *machine) close() {
	m.node.Close()
	m.firewall.Close()
}

// apply makes the kernel hold objects in order and remembers those that were not there before.
func (m *machine) apply(objects ...plan.Object) error {
	for len(objects) > 0 {
		n := slices.IndexFunc(objects, m.isWall)
		if n == 0 {
			if err := m.build(objects[0]); err != nil {
				return err
			}
			objects = objects[1:]
			continue
		}
		if n < 0 {
			n = len(objects)
		}
		created, err := m.node.ApplyAll(objects[:n])
		m.made = append(m.made, created...)
		if err != nil {
			return err
		}
		objects = objects[n:]
	}
	return nil
}

// undo takes back what this call did, the last first, and goes on after a failure. What the network or the host shares
// stays as soon as somebody else is attached: an ADD that ran beside this one may count on it. One that attached itself
// while it was being taken back gets it again; one that does so later finds it missing and makes it, because an ADD makes
// its pair before it looks for what is shared.
func (m *machine) undo(network string) error {
	made := m.made
	m.made = nil
	var failed []error
	var shared []plan.Object
	for i := len(made) - 1; i >= 0; i-- {
		switch o := made[i]; {
		case own(o):
			failed = append(failed, m.undoOne(o))
		case outlives(o):
			shared = append(shared, o)
		}
	}
	for _, o := range shared {
		failed = append(failed, m.undoShared(o, network))
	}
	return errors.Join(failed...)
}

func (m *machine) undoShared(o plan.Object, network string) error {
	if needed, err := m.needed(o, network); needed || err != nil {
		return err
	}
	if err := m.undoOne(o); err != nil {
		return err
	}
	needed, err := m.needed(o, network)
	if needed {
		err = m.apply(o)
	}
	return err
}

// needed reports whether somebody else may count on an object that outlives the pair: of a host's setting and of what
// routed mode has for all networks everyone who is attached to any network, of a bridge and what is on it everyone who
// is on the bridge.
func (m *machine) needed(o plan.Object, network string) (bool, error) {
	switch o := o.(type) {
	case plan.Sysctl, plan.SourceCheck, plan.PortIngress:
		network = ""
	case plan.Bridge:
		if !m.node.Changed(o) {
			return m.node.Joined(o.Name)
		}
	case plan.VLANInterface:
		return m.node.Joined(o.Bridge)
	case plan.Address:
		if o.Label != plan.GatewayLabel {
			return m.node.Joined(o.Link)
		}
		network = ""
	}
	return m.node.Attached(network)
}

// own reports whether an object is the attachment's and has to be undone: others of its own die with the pair.
func own(o plan.Object) bool {
	switch o := o.(type) {
	case plan.Pair, plan.Rule, plan.HostPorts:
		return true
	case plan.Masquerade:
		return o.Holder != ""
	}
	return false
}

// outlives reports whether an object that others may share stays when the pair is deleted.
func outlives(o plan.Object) bool {
	switch o := o.(type) {
	case plan.Masquerade, plan.Bridge, plan.LongPackets, plan.VLANInterface, plan.SourceCheck, plan.Ingress,
		plan.PortIngress, plan.ForwardAccept:
		return true
	case plan.Address:
		return o.Place == plan.Host
	case plan.Sysctl:
		return o.Place == plan.Host
	}
	return false
}

func (m *machine) undoOne(o plan.Object) error {
	if w, ok := m.wall(o); ok {
		return w.undo()
	}
	return m.node.Undo(o)
}

// observe shows the objects that are there.
func (m *machine) observe(objects []plan.Object) ([]plan.Object, error) {
	var seen []plan.Object
	for _, o := range objects {
		if w, ok := m.wall(o); ok {
			got, err := w.observe()
			if err != nil {
				return nil, err
			}
			seen = append(seen, got)
			continue
		}
		got, err := m.node.Observe(o)
		if err != nil {
			return nil, err
		}
		if got != nil {
			seen = append(seen, got)
		}
	}
	return seen, nil
}
