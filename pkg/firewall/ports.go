package firewall

import (
	"cmp"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/plan"
)

// Hooks and priority of the family bridge (include/uapi/linux/netfilter_bridge.h).
const (
	bridgeForward  = 2    // NF_BR_FORWARD: from port to port
	bridgeOutput   = 3    // NF_BR_LOCAL_OUT: from the host to a port
	bridgeFiltered = -200 // NF_BR_PRI_FILTER_BRIDGED, "filter"
)

// portIngress is the table of family bridge, which keeps containers from ports whose pods have a policy of their own. It
// does not grow: the port's group says what the pod asked for. What comes from the host was marked where it was
// forwarded, if it came from a container. Frames between ports are not weighed one by one: an isolated pod and the other
// containers of its bridge exchange none at all, as isolated ports do.
func portIngress() part {
	return part{bridges: true, chains: []chain{
		{name: "forward", kind: "filter", hook: bridgeForward, priority: bridgeFiltered, uses: 2, rules: betweenPorts},
		{name: "output", kind: "filter", hook: bridgeOutput, priority: bridgeFiltered, uses: 3, rules: fromHost},
	}}
}

func betweenPorts() []rule {
	return []rule{
		{what: "frames to isolated pods", exprs: apart(unix.NFT_META_OIFGROUP, unix.NFT_META_IIFGROUP)},
		{what: "frames of isolated pods", exprs: apart(unix.NFT_META_IIFGROUP, unix.NFT_META_OIFGROUP)},
	}
}

func fromHost() []rule {
	return []rule{
		{what: "others to closed pods", exprs: kept(fromOthers, plan.GroupClosed)},
		{what: "others to isolated pods", exprs: kept(fromOthers, plan.GroupIsolated)},
		{what: "the same network to isolated pods", exprs: kept(fromSame, plan.GroupIsolated)},
	}
}

// apart drops frames between an isolated pod and any container of the plugin.
func apart(pod, container uint32) expressions {
	return hasTrait(pod, plan.GroupIsolated).then(groupIs(container, plan.GroupsMask, plan.Groups), drop())
}

// kept drops what has a mark and is for a pod of a kind.
func kept(mark, trait uint32) expressions {
	return hasMark(mark).then(hasTrait(unix.NFT_META_OIFGROUP, trait), drop())
}

// ProbePortIngress is Probe for policies of pods on bridges.
func (f *Firewall) ProbePortIngress() error { return f.probe(portIngress()) }

// ApplyPortIngress makes bridges heed the policies of pods. created tells that nothing was there.
func (f *Firewall) ApplyPortIngress() (created bool, err error) { return f.applyPart(portIngress()) }

// ObservePortIngress shows whether bridges heed the policies of pods.
func (f *Firewall) ObservePortIngress() (plan.PortIngress, error) {
	s, err := f.observe(query{part: portIngress()})
	if err != nil {
		return plan.PortIngress{}, err
	}
	return plan.PortIngress{State: cmp.Or(firstDefect(s), "ok")}, nil
}

// UndoPortIngress removes the table. All networks count on it, so it is for when nothing is attached any more.
func (f *Firewall) UndoPortIngress() error { return f.sweep(portIngress()) }
