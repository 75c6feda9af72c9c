package firewall

import (
	"errors"
	"slices"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// ApplyHostPorts makes ports of the host lead to a container. What is missing of the chains is added in the same
// transaction. A port that another attachment has is refused with Conflict, which names the holder; so is one that is
// on every address of the host beside one that is on a single address. What an attachment has left behind whose host
// end is gone is taken over; evicted are those ports, with where they led. It costs the same however many ports are
// mapped, but for a port on every address that others have on single ones.
func (f *Firewall) ApplyHostPorts(h plan.HostPorts, living Living) (created bool, evicted []plan.HostPort, err error) {
	created, evicted, err = f.applyHostPorts(query{part: partOf(h), brief: true, keys: claimed(h)}, h, living)
	if errors.Is(err, errIncomplete) || err != nil && cnierr.Of(err, 0).Code == cnierr.KernelRefused {
		return f.applyHostPorts(query{part: partOf(h)}, h, living)
	}
	return created, evicted, err
}

func (f *Firewall) applyHostPorts(q query, h plan.HostPorts, living Living) (created bool, evicted []plan.HostPort, err error) {
	err = f.settle(q, func(s *state) ([]message, error) {
		c := claim{edit: edit{conn: &f.conn, state: s}, ports: h, living: living}
		if err := c.decide(); err != nil {
			return nil, err
		}
		created, evicted = len(c.put) > 0, portsOf(c.drop)
		var msgs []message
		if len(s.defects()) > 0 {
			if s.brief {
				if len(s.chains) > 0 {
					return nil, errIncomplete
				}
				s.wanted = s.part.allSets() // that none is there is a guess: the kernel makes none anew
			}
			msgs = s.repair()
		}
		changes, err := c.messages()
		return append(msgs, changes...), err
	})
	return created && err == nil, evicted, err
}

// errIncomplete says that a brief look does not do.
var errIncomplete = errors.New("nftables table inet " + tableName + " is not whole")

// partOf is the part that an attachment needs: what all share and, where not everybody may use its ports, the chain that
// knows who may.
func partOf(h plan.HostPorts) part {
	if len(h.Sources) > 0 {
		return hostPortsWith(permitChain(h.Owner.Network, h.Sources))
	}
	return hostPorts()
}

// claim is ApplyHostPorts deciding.
type claim struct {
	edit
	ports  plan.HostPorts
	living Living
}

func (c *claim) decide() error {
	own := ownEntries(c.ports)
	found, err := c.found(claimed(c.ports))
	if err != nil {
		return err
	}
	if index := own[len(own)-1]; found[index.id()].set != "" && !all(found, own) {
		// An ADD of this attachment was cut short, or something of what it has was deleted: it begins anew.
		if err := c.forget(c.ports.Owner.HostName(), found); err != nil {
			return err
		}
	}
	for _, p := range c.ports.Ports {
		if err := c.vacate(p, found); err != nil {
			return err
		}
	}
	for _, e := range own {
		c.replace(found, e)
	}
	c.links(found)
	return nil
}

// claimed are the keys of what an attachment wants, and of what may stand against it.
func claimed(h plan.HostPorts) []entry {
	keys := append(ownEntries(h), linkEntries(h)...)
	for _, p := range h.Ports {
		if p.Open {
			keys = append(keys, permitEntry(p)) // of whoever had the port
		}
		if p.Wildcard() {
			keys = append(keys, sharedEntry(p))
		} else {
			keys = append(keys, everyEntry(p))
		}
	}
	return keys
}

// forget removes all that an attachment has.
func (c *claim) forget(hostEnd string, found map[string]entry) error {
	left, err := c.ownedBy(hostEnd)
	for _, e := range left {
		c.remove(e)
		delete(found, e.id())
	}
	return err
}

// vacate sees to it that nobody else has a port.
func (c *claim) vacate(p plan.HostPort, found map[string]entry) error {
	rivals := []entry{found[portEntry(p).id()], found[everyEntry(p).id()]}
	if shared := found[sharedEntry(p).id()]; p.Wildcard() && shared.set != "" {
		others, err := c.conn.entries(portNames(p).on)
		if err != nil {
			return err
		}
		for _, e := range others {
			if string(sharedKey(e)) == string(shared.key) {
				rivals = append(rivals, e)
			}
		}
	}
	for _, e := range rivals {
		if e.set == "" || e.holder() == c.ports.Owner.HostName() {
			continue
		}
		who, err := c.living(e.holder())
		if err != nil {
			return err
		}
		if who != "" || e.holder() == "" {
			return cnierr.New(cnierr.Conflict, "hostPort %s is taken: it leads to %s of %s", p, podOf(e), orUnknown(who))
		}
		if err := c.evict(e, found); err != nil {
			return err
		}
	}
	if permit, there := found[permitEntry(p).id()]; there && p.Open {
		c.remove(permit)
	}
	return nil
}

// evict removes a port, and who may use it.
func (c *claim) evict(e entry, found map[string]entry) error {
	with, err := c.lookUp([]entry{{set: e.set + "_for", key: e.key}})
	if err != nil {
		return err
	}
	with[e.id()] = e
	for id, x := range with {
		c.remove(x)
		delete(found, id)
	}
	return nil
}

func orUnknown(who string) string {
	if who == "" {
		return "nobody who has left a name (nftables table inet " + tableName + ")"
	}
	return who
}

// replace puts an entry in the place of whatever is there.
func (c *claim) replace(found map[string]entry, e entry) {
	have, there := found[e.id()]
	if there && have.same(e) {
		return
	}
	if there {
		c.remove(have)
	}
	c.add(e)
}

// links puts what belongs to the bridge, whoever wanted it first, and takes back what this network wants no more.
func (c *claim) links(found map[string]entry) {
	if c.ports.Link == c.ports.Owner.HostName() {
		return // among the attachment's own
	}
	for _, e := range linkEntries(c.ports) {
		have, there := found[e.id()]
		want := (e.set == hairpinSet && c.ports.Hairpin) || (e.set == masqueradeSet && c.ports.Masquerade)
		switch {
		case want && !there:
			c.add(e)
		case !want && there && have.belongsTo(e.note):
			c.remove(have)
		}
	}
}

func all(found map[string]entry, want []entry) bool {
	return !slices.ContainsFunc(want, func(e entry) bool { return !found[e.id()].same(e) })
}

// ObserveHostPorts shows what the kernel has of ports that are wanted.
func (f *Firewall) ObserveHostPorts(want plan.HostPorts, living Living) (plan.HostPorts, error) {
	got := want
	err := retry(func() error {
		s, err := f.conn.examine(query{part: partOf(want)})
		if err != nil {
			return err
		}
		got.State, got.Ports = "ok", nil
		if d := s.defects(); len(d) > 0 {
			got.State = d[0].what
		}
		e := edit{conn: &f.conn, state: s}
		found, err := e.lookUp(append(ownEntries(want), linkEntries(want)...))
		if err != nil {
			return err
		}
		for _, p := range want.Ports {
			have, there := found[portEntry(p).id()]
			if !there {
				continue
			}
			p.Pod, p.Open, p.Holder = podOf(have), found[permitEntry(p).id()].set == "", ""
			if have.holder() != want.Owner.HostName() {
				if p.Holder, err = living(have.holder()); err != nil {
					return err
				}
				p.Holder = orUnknown(p.Holder)
			}
			got.Ports = append(got.Ports, p)
		}
		links := linkEntries(want)
		got.Hairpin = want.Hairpin && found[links[0].id()].set != ""
		got.Masquerade = want.Masquerade && found[links[1].id()].set != ""
		return nil
	})
	return got, err
}
