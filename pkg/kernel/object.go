package kernel

import (
	"fmt"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// Apply makes the kernel hold an object. created is false when it was there already, so that there is nothing to undo. A
// shared object that was there but is not what the plan wants is a Conflict, unless it can be changed without harm to
// others.
func (n *Node) Apply(o plan.Object) (created bool, err error) {
	made, err := n.ApplyAll([]plan.Object{o})
	return len(made) > 0, err
}

// applyAlone is Apply for what is no errand.
func (n *Node) applyAlone(o plan.Object) (created bool, err error) {
	switch o := o.(type) {
	case plan.Bridge:
		created, err = n.applyBridge(o)
	case plan.Pair:
		created, err = n.applyPair(o)
	case plan.Address:
		created, err = n.applyAddress(o)
	case plan.Route: // nothing to do: an address implies it
	case plan.Sysctl:
		created, err = n.applySysctl(o)
	case plan.Port:
		created, err = n.applyPort(o)
	case plan.Forwarding:
		created, err = n.applyForwarding(o)
	case plan.PortVLANs:
		created, err = n.applyPortVLANs(o)
	case plan.VLANInterface:
		created, err = n.applyVLANInterface(o)
	case plan.Lease:
		created, err = n.applyLease(o)
	case plan.Knobs:
		created, err = n.applyKnobs(o)
	case plan.Rule:
		created, err = n.applyRule(o)
	case plan.Shaper:
		created, err = n.applyShaper(o)
	case plan.Policer:
		created, err = n.applyPolicer(o)
	case plan.SourceFilter:
		created, err = n.applySourceFilter(o)
	case plan.WireSettings:
		created, err = n.applyWireSettings(o)
	case plan.LongPackets:
		created, err = n.applyLongPackets(o)
	default:
		err = fmt.Errorf("no kernel operation for %T", o)
	}
	return created, cnierr.Wrap(cnierr.KernelRefused, err, "%s", o.ID())
}

// Observe returns the object as the kernel shows it, or nil when it is not there.
func (n *Node) Observe(o plan.Object) (got plan.Object, err error) {
	switch o := o.(type) {
	case plan.Bridge:
		got, err = n.observeBridge(o)
	case plan.Pair:
		got, err = n.observePair(o)
	case plan.Interface:
		got, err = n.observeInterface(o)
	case plan.Address:
		got, err = n.observeAddress(o)
	case plan.Route:
		got, err = n.observeRoute(o)
	case plan.Neighbour:
		got, err = n.observeNeighbour(o)
	case plan.Sysctl:
		got, err = n.observeSysctl(o)
	case plan.Port:
		got, err = n.observePort(o)
	case plan.Forwarding:
		got, err = n.observeForwarding(o)
	case plan.PortVLANs:
		got, err = n.observePortVLANs(o)
	case plan.VLANInterface:
		got, err = n.observeVLANInterface(o)
	case plan.Lease:
		got, err = n.observeLease(o)
	case plan.Knobs:
		got, err = n.observeKnobs(o)
	case plan.Rule:
		got, err = n.observeRule(o)
	case plan.SourceFilter:
		got, err = n.observeSourceFilter(o)
	default:
		got, err = n.observeTraffic(o)
	}
	if missing(err) {
		return nil, nil //nolint:nilnil // absence is an answer, not a failure
	}
	return got, cnierr.Wrap(cnierr.KernelRefused, err, "look at %s", o.ID())
}

// observeTraffic is Observe for what becomes of packets on their way.
func (n *Node) observeTraffic(o plan.Object) (plan.Object, error) {
	switch o := o.(type) {
	case plan.Shaper:
		return n.observeShaper(o)
	case plan.Policer:
		return n.observePolicer(o)
	case plan.WireSettings:
		return n.observeWireSettings(o)
	case plan.LongPackets:
		return n.observeLongPackets(o)
	}
	return nil, fmt.Errorf("no kernel observation for %T", o)
}

// differences lists how an object that is there differs from what is wanted. One that cannot be observed is missing.
func (n *Node) differences(o plan.Object) plan.Findings {
	got, err := n.Observe(o)
	if err != nil || got == nil {
		return plan.Diff([]plan.Object{o}, nil)
	}
	return plan.Diff([]plan.Object{o}, []plan.Object{got})
}

// Undo removes an object that Apply created. What is gone already is no error. Objects that live on a pair need no
// Undo: they die with it.
func (n *Node) Undo(o plan.Object) error {
	var err error
	switch o := o.(type) {
	case plan.Bridge:
		err = n.undoBridge(o)
	case plan.Pair:
		err = n.undoPair(o)
	case plan.Address:
		err = n.undoAddress(o)
	case plan.VLANInterface:
		err = n.undoVLANInterface(o)
	case plan.Sysctl:
		err = n.undoSysctl(o)
	case plan.Rule:
		err = n.undoRule(o)
	case plan.LongPackets:
		err = n.undoLongPackets(o)
	}
	if missing(err) {
		return nil
	}
	return cnierr.Wrap(cnierr.KernelRefused, err, "undo %s", o.ID())
}
