package attach

import (
	"cmp"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// wall is an object of nftables: what applies, shows and removes it.
type wall struct {
	apply   func() (bool, error)
	observe func() (plan.Object, error)
	undo    func() error
}

// wall says how an object is dealt with, if it is such a one.
func (m *machine) wall(o plan.Object) (wall, bool) {
	named := func(created bool, err error) (bool, error) {
		return created, cnierr.Wrap(cnierr.KernelRefused, err, "%s", o.ID())
	}
	switch o := o.(type) {
	case plan.Masquerade:
		return wall{
			apply:   func() (bool, error) { return named(m.firewall.Apply(o)) },
			observe: func() (plan.Object, error) { return m.observeMasquerade(o) },
			undo:    func() error { return m.firewall.Undo(o) },
		}, true
	case plan.HostPorts:
		return wall{
			apply:   func() (bool, error) { return m.publish(o) },
			observe: func() (plan.Object, error) { return m.firewall.ObserveHostPorts(o, m.node.Tenant) },
			undo:    func() error { return m.withdraw(o.Owner, o.Ports) },
		}, true
	case plan.SourceCheck:
		return wall{
			apply:   func() (bool, error) { return named(m.firewall.ApplySourceCheck()) },
			observe: func() (plan.Object, error) { return m.firewall.ObserveSourceCheck() },
			undo:    m.firewall.UndoSourceCheck,
		}, true
	case plan.Ingress:
		return wall{
			apply:   func() (bool, error) { return named(m.firewall.ApplyIngress(o)) },
			observe: func() (plan.Object, error) { return m.firewall.ObserveIngress(o) },
			undo:    func() error { return m.firewall.RetireIngress(o.Network) },
		}, true
	case plan.PortIngress:
		return wall{
			apply:   func() (bool, error) { return named(m.firewall.ApplyPortIngress()) },
			observe: func() (plan.Object, error) { return m.firewall.ObservePortIngress() },
			undo:    m.firewall.UndoPortIngress,
		}, true
	case plan.ForwardAccept:
		return wall{
			apply:   func() (bool, error) { return named(m.openForward(o)) },
			observe: func() (plan.Object, error) { return m.firewall.ObserveForwardAccept(o) },
			undo:    func() error { return m.firewall.RetireForwardAccept(o) },
		}, true
	}
	return wall{}, false
}

// isWall reports whether an object is one of nftables.
func (m *machine) isWall(o plan.Object) bool {
	_, ok := m.wall(o)
	return ok
}

// build applies an object of nftables.
func (m *machine) build(o plan.Object) error {
	w, _ := m.wall(o)
	created, err := w.apply()
	if created {
		m.made = append(m.made, o)
	}
	return err
}

func (m *machine) observeMasquerade(o plan.Masquerade) (plan.Object, error) {
	reason, err := m.firewall.Missing(o)
	o.State = cmp.Or(reason, "ok")
	return o, err
}
