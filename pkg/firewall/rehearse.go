package firewall

import "github.com/veth-cni/veth/pkg/plan"

// ProbeMasquerade reports whether Apply would refuse a subnet, and changes nothing.
func (f *Firewall) ProbeMasquerade(m plan.Masquerade) error {
	fam := familyOf(m.Subnet)
	s, err := f.observe(query{part: masquerading(), brief: true, whole: true, spans: []string{fam.set}})
	if err == nil {
		_, _, err = place(s.spans(fam.set), spanOf(m.Subnet, ownerOf(m)))
	}
	return err
}

// ProbePolicy reports whether ApplyIngress would refuse a network's policy, and changes nothing.
func (f *Firewall) ProbePolicy(i plan.Ingress) error {
	n := ingressOf(i)
	s, err := f.observe(query{part: ingress(), brief: true, keys: n.keys()})
	if err != nil {
		return err
	}
	return n.decide(i, n.among(s.found), &edit{conn: &f.conn, state: s})
}
