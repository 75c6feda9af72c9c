// Package attach conducts the verbs of CNI: it builds a plan and has it applied, compared, or undone.
package attach

import (
	"errors"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/firewall"
	"github.com/veth-cni/veth/pkg/kernel"
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

func (m *machine) close() {
	m.node.Close()
	m.firewall.Close()
}

// apply makes the kernel hold objects in order and remembers those that were not there before.
func (m *machine) apply(objects ...plan.Object) error {
	for _, o := range objects {
		created, err := m.applyOne(o)
		if created {
			m.made = append(m.made, o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) applyOne(o plan.Object) (bool, error) {
	if masq, ok := o.(plan.Masquerade); ok {
		created, err := m.firewall.Apply(masq)
		return created, cnierr.Wrap(cnierr.KernelRefused, err, "%s", o.ID())
	}
	return m.node.Apply(o)
}

// undo removes what this call created, the last first, and goes on after a failure.
func (m *machine) undo() error {
	var failed []error
	for i := len(m.made) - 1; i >= 0; i-- {
		failed = append(failed, m.undoOne(m.made[i]))
	}
	m.made = nil
	return errors.Join(failed...)
}

func (m *machine) undoOne(o plan.Object) error {
	switch o := o.(type) {
	case plan.Masquerade:
		return m.firewall.Undo(o)
	case plan.Bridge, plan.Pair, plan.VLANInterface, plan.Rule:
		return m.node.Undo(o)
	case plan.Address:
		if o.Place == plan.Host {
			return m.node.Undo(o)
		}
	}
	return nil // it dies with the pair
}

// observe shows the objects that are there.
func (m *machine) observe(objects []plan.Object) ([]plan.Object, error) {
	var seen []plan.Object
	for _, o := range objects {
		if masq, ok := o.(plan.Masquerade); ok {
			found, err := m.firewall.Observe(masq)
			if err != nil {
				return nil, err
			}
			if found {
				seen = append(seen, masq)
			}
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
