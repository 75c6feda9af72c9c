package firewall

import (
	"fmt"

	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// feature is what an attachment, or its network, has of a part of the table, with the verbs that are for it.
type feature struct {
	name    string
	part    part
	probe   func(f *Firewall) error
	apply   func(f *Firewall) error
	observe func(f *Firewall) (state string, err error) // "ok", of masquerading ""
	undo    func(f *Firewall) error
	collect func(f *Firewall) error // what GC does when the network has no attachment any more
}

func (x feature) family() string {
	if x.part.bridges {
		return "bridge"
	}
	return "inet"
}

// owned reports whether the feature has something in the part: otherwise all have the part together.
func (x feature) owned() bool {
	for _, s := range x.part.allSets() {
		if s.keeps {
			return true
		}
	}
	return false
}

// features are all that an attachment may have. Those of two numbers do not stand against one another.
func features(owner lease.Owner, number int) []feature {
	one := fmt.Sprintf("tcp 0.0.0.0:%d 10.88.%d.5:80", 8080+number, number)
	list := []feature{
		{
			name: "source check", part: sourceChecking(), probe: (*Firewall).ProbeSourceCheck,
			apply:   func(f *Firewall) error { _, err := f.ApplySourceCheck(); return err },
			observe: func(f *Firewall) (string, error) { got, err := f.ObserveSourceCheck(); return got.State, err },
			undo:    (*Firewall).UndoSourceCheck, collect: (*Firewall).UndoSourceCheck,
		},
		{
			name: "ingress of ports", part: portIngress(), probe: (*Firewall).ProbePortIngress,
			apply:   func(f *Firewall) error { _, err := f.ApplyPortIngress(); return err },
			observe: func(f *Firewall) (string, error) { got, err := f.ObservePortIngress(); return got.State, err },
			undo:    (*Firewall).UndoPortIngress, collect: (*Firewall).UndoPortIngress,
		},
		ingressFeature(policy(owner.Network, plan.Link{Name: fmt.Sprint("br", number)}, netconf.IngressSameNetwork)),
		portsFeature("host ports", bridged(owner, one)),
		portsFeature("host ports of some", restricted(routed(owner, one), "192.0.2.0/24")),
	}
	subnet, single := subnet(fmt.Sprintf("10.88.%d.0/24", number), owner.Network), subnet(fmt.Sprintf("198.18.0.%d/32", number), owner.Network)
	single.Holder = owner.HostName()
	return append(list, masqueradeFeature("subnet", subnet), masqueradeFeature("single address", single))
}

func masqueradeFeature(name string, m plan.Masquerade) feature {
	x := feature{
		name: name, part: masquerading(), probe: (*Firewall).Probe,
		apply:   func(f *Firewall) error { _, err := f.Apply(m); return err },
		observe: func(f *Firewall) (string, error) { return f.Missing(m) },
		undo:    func(f *Firewall) error { return f.Undo(m) },
		collect: func(f *Firewall) error { return f.RetireMasquerade(m.Network) },
	}
	if m.Holder != "" {
		x.undo = func(f *Firewall) error { return f.Unmask(m.Network, m.Holder) }
		x.collect = func(f *Firewall) error { return f.CollectMasquerade(m.Network, living()) }
	}
	return x
}

func ingressFeature(i plan.Ingress) feature {
	retire := func(f *Firewall) error { return f.RetireIngress(i.Network) }
	return feature{
		name: "ingress", part: ingress(), probe: (*Firewall).ProbeIngress,
		apply: func(f *Firewall) error { _, err := f.ApplyIngress(i); return err },
		observe: func(f *Firewall) (string, error) {
			got, err := f.ObserveIngress(i)
			if err == nil && got.State == "ok" && got.Policy != i.Policy {
				return "the policy is gone", nil
			}
			return got.State, err
		},
		undo: retire, collect: retire,
	}
}

func portsFeature(name string, h plan.HostPorts) feature {
	return feature{
		name: name, part: partOf(h), probe: (*Firewall).ProbeHostPorts,
		apply: func(f *Firewall) error { _, _, err := f.ApplyHostPorts(h, everybody); return err },
		observe: func(f *Firewall) (string, error) {
			got, err := f.ObserveHostPorts(h, everybody)
			if err == nil && got.State == "ok" && len(got.Ports) != len(h.Ports) {
				return "a port is gone", nil
			}
			return got.State, err
		},
		undo:    func(f *Firewall) error { _, err := f.ReleaseHostPorts(h.Owner, keys(h)); return err },
		collect: func(f *Firewall) error { _, err := f.CollectHostPorts(h.Owner.Network, living()); return err },
	}
}
