package kernel

import "github.com/veth-cni/veth/pkg/plan"

// What joins a bridge and what removes one, step by step, for a test that has others do theirs in between.

// Join makes a pair on its bridge.
func (n *Node) Join(p plan.Pair) error {
	bridge, err := n.host.indexOf(p.Master)
	if err == nil {
		err = n.createPair(p, bridge)
	}
	if err != nil {
		return n.explainPair(p, err)
	}
	return nil
}

// Label ends what Join has begun.
func (n *Node) Label(p plan.Pair) (bool, error) { return n.labelPair(p, n.host.known[p.Master].Index) }

// Removing is the removal of a bridge.
type Removing struct {
	node   *Node
	bridge int
	notice string
	joined bool
}

// Announce gives notice.
func (n *Node) Announce(bridge string) (*Removing, error) {
	index, err := n.host.indexOf(bridge)
	r := &Removing{node: n, bridge: index, notice: newNotice()}
	if err == nil {
		err = n.host.addAltNames(index, r.notice)
	}
	return r, err
}

// Look looks for ports.
func (r *Removing) Look() (err error) {
	r.joined, err = r.node.hasPorts(r.bridge)
	return err
}

// FollowUp removes the bridge if there were none.
func (r *Removing) FollowUp() error {
	return present(r.node.host.followUp(r.bridge, r.notice, r.joined))
}

// RemoveUnused is all of it at once.
func (n *Node) RemoveUnused(bridge string) error {
	index, err := n.host.indexOf(bridge)
	if err == nil {
		err = n.removeUnused(index)
	}
	return err
}
