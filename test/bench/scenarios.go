package main

import "strconv"

// The contenders' labels. Goals find what was measured by them.
const (
	vethRouted  = "veth, routed"
	vethBridge  = "veth, bridge"
	vethFull    = "veth, bridge, all of it"
	refIptables = "reference, bridge, iptables"
	refNftables = "reference, bridge, nftables"
	leastRouted = "floor, routed"
	leastBridge = "floor, bridge"
	refPtp      = "reference, ptp"

	refFullIptables = "reference chain, iptables"
	refFullNftables = "reference chain, nftables"
	refBridged      = "reference, bridge"
)

// ours is a contender with the plugin under test.
func ours(label string, conf object) *contender {
	return &contender{label: label, beside: label, stages: []stage{plugin(binaries.Veth, conf)}}
}

// theirs is a contender with a chain of reference plugins. Its times are divided by those of the one beside it.
func theirs(label, beside string, confs ...object) *contender {
	c := &contender{label: label, beside: beside, reference: true}
	for _, conf := range confs {
		c.stages = append(c.stages, reference(conf))
		for _, key := range []string{"backend", "ipMasqBackend"} {
			switch conf[key] {
			case "iptables":
				c.needs = append(c.needs, "iptables")
			case "nftables":
				c.needs = append(c.needs, "nft")
			}
		}
	}
	return c
}

// least is a contender with the floor program.
func least(label, beside string, bridge, six bool) *contender {
	prepare := shareRouted
	if bridge {
		prepare = shareBridge
	}
	return &contender{label: label, beside: beside, stages: []stage{floor(bridge, six)}, prepare: prepare}
}

// among gives a contender company.
func among(n int, c *contender) *contender {
	c.present, c.label, c.beside = n, amongLabel(c.label, n), amongLabel(c.beside, n)
	return c
}

func amongLabel(label string, n int) string { return label + ", " + thousands(n) + " present" }

// thousands writes 4000 as 4,000.
func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return thousands(n/1000) + "," + strconv.Itoa(1000 + n%1000)[1:]
}

// plain is one container at a time on an empty node.
func plain() *experiment {
	return &experiment{
		name: "plain", title: "One container, IPv4", rounds: 2,
		text: "One container at a time, on a node without others. The reference is with host-local.",
		contenders: []*contender{
			ours(vethRouted, routed),
			theirs(refPtp, vethRouted, refPTP),
			least(leastRouted, vethRouted, false, false),
			ours(vethBridge, bridged),
			theirs(refBridged, vethBridge, refBridge),
			least(leastBridge, vethBridge, true, false),
		},
	}
}

// masquerade adds what lets containers out into the world.
func masquerade() *experiment {
	ipt, _ := backend("iptables")
	nft, _ := backend("nftables")
	return &experiment{
		name: "masquerade", title: "With masquerading", rounds: .75,
		text: "`ipMasq` on. The reference executes `iptables` or `nft`, by `ipMasqBackend`. The floor does not masquerade.",
		contenders: []*contender{
			ours(vethRouted, with(routed, masked)),
			theirs("reference, ptp, iptables", vethRouted, with(refPTP, ipt)),
			theirs("reference, ptp, nftables", vethRouted, with(refPTP, nft)),
			ours(vethBridge, with(bridged, masked)),
			theirs(refIptables, vethBridge, with(refBridge, ipt)),
			theirs(refNftables, vethBridge, with(refBridge, nft)),
			least(leastBridge, vethBridge, true, false),
		},
	}
}

// chain is everything a pod may want, of the reference: five plugins, six with host-local.
func chain(name string) []object {
	masq, portmap := backend(name)
	return []object{with(refBridge, masq), with(refPortmap, portmap), refBandwidth, refFirewall, refTuning}
}

// full is everything a pod may want.
func full() *experiment {
	e := &experiment{
		name: "full", title: "The full job", rounds: .6,
		text: "Masquerading, two hostPorts, a rate limit each way, isolation from other networks, two sysctls. For the\n" +
			"reference this is the chain bridge (with host-local), portmap, bandwidth, firewall, tuning; its time is the sum of\n" +
			"the programs', without the runtime's between them. Its firewall plugin knows only iptables. The floor does the\n" +
			"plain attachment and nothing of all this.",
		contenders: []*contender{
			ours(vethFull, with(bridged, complete)),
			ours("veth, routed, all of it", with(routed, complete)),
			ours(vethBridge, bridged),
			theirs(refFullIptables, vethFull, chain("iptables")...),
			theirs(refFullNftables, vethFull, chain("nftables")...),
			least(leastBridge, vethFull, true, false),
		},
	}
	if !initialUser() {
		e.text += " No limit on what\nthe container sends: this was not run as root."
	}
	return e
}

// dualStack is an address of each family.
func dualStack() *experiment {
	return &experiment{
		name: "dual", title: "IPv4 and IPv6", rounds: .3,
		text: "An address of each family. The reference's ptp waits until IPv6 duplicate address detection is over, its bridge\n" +
			"and the others switch it off for the container's address.",
		contenders: []*contender{
			ours(vethRouted, with(routed, dual)),
			theirs(refPtp, vethRouted, with(refPTP, refPTPDual)),
			least(leastRouted, vethRouted, false, true),
			ours(vethBridge, with(bridged, dual)),
			theirs(refBridged, vethBridge, with(refBridge, refBridgeDual)),
			least(leastBridge, vethBridge, true, true),
		},
	}
}

// presentRouted is one more container on a node with many.
func presentRouted(sizes []int) *experiment {
	e := &experiment{
		name: "present", title: "With containers present, routed", rounds: 1, lines: true,
		text: "One more container on a node that has so many already, each attached by the same program, each in a namespace of\n" +
			"its own. Every size has its node, and all nodes are there at once, so that sizes are compared in turns, too.",
	}
	for _, n := range sizes {
		e.contenders = append(e.contenders, among(n, ours(vethRouted, routed)), among(n, least(leastRouted, vethRouted, false, false)))
		if n <= 1000 {
			e.contenders = append(e.contenders, among(n, theirs(refPtp, vethRouted, refPTP)))
		}
	}
	return e
}

// presentBridge is the same on a bridge, which takes 1,023 ports.
func presentBridge(sizes []int) *experiment {
	e := &experiment{
		name: "bridge-present", title: "With containers present, bridge", rounds: 1, lines: true,
		text: "The same on a bridge. A Linux bridge takes 1,023 ports.",
	}
	for _, n := range sizes {
		e.contenders = append(e.contenders,
			among(n, ours(vethBridge, bridged)), among(n, least(leastBridge, vethBridge, true, false)),
			among(n, theirs(refBridged, vethBridge, refBridge)))
	}
	return e
}
