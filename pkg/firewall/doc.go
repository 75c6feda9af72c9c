// Package firewall is the nftables part of a plan. It speaks to the kernel over netlink; it runs no nft program and
// needs none on the node.
//
// # What it keeps
//
// Everything but what only a bridge can tell lives in one table, "inet veth": one name to list, one to delete, and
// nothing of anyone else's beside it. The table is inet, so one chain serves both address families. Its chains do not
// grow: a packet passes one rule per address family whatever the number of networks and containers. What there is per
// network is an element of an interval set, found in O(log n), and the element's comment names the owner, so that `nft
// list table inet veth` answers "whose is this?" and cleaning up is a set difference. For masquerading nothing is kept
// per container.
//
// # Ports of the host
//
// A port is an element of a map, found in O(1) by protocol and port, or by address, protocol and port. It leads to a
// container and names the container's host end in its comment; where that interface is gone, nobody has the port. What
// one attachment has is counted in one more element, whose key is the host end: DEL finds out with one look that a
// container has no ports, and with a second that it has found all it has. Nothing is ever looked for in a list but by a
// DEL that was not told the ports, by GC, and by who wants a port on every address that others have on single ones.
//
// A connection that comes by a port is marked while the kernel takes it from one chain to the next, so that the source
// is replaced for it and for no other that somebody translated: not for the Services of Kubernetes.
//
// The table is described once, in parts; look reads what the kernel has of one, state.defects tells the difference
// and state.repair makes the messages that remove it. The table is the plugin's own: a rule that someone else puts into
// one of its chains is reported by Missing and removed by the next Apply. Rules of your own belong into a table of your
// own.
//
// An Apply first looks in brief, one question and answers that all fit a page: whether the chains are there, hooked where
// they should be, with as many rules as they should have, and the elements it is for. The kernel keeps a set while a rule
// names it. So whatever is flushed, deleted or added is found. A rule that somebody has put into the place of another is
// found by Missing and the Observes alone, which compare the words.
//
// # Policies of pods
//
// A pod that is stricter than its network says so in the group of its host end, of which there is nothing in the table.
// A packet that the host forwards to a bridge does not show which port it is for, so what comes from another container is
// marked there, and a second table, "bridge veth", compares the mark with the port's group. It is there as soon as a pod on
// a bridge has asked, and goes with the last attachment of the node.
//
// # What is not masqueraded
//
// Packets to another pod subnet keep their source. So do packets that no router would forward: multicast, the limited
// broadcast address and, in IPv6, link-local addresses. They reach the chain nevertheless, from the host itself and,
// with br_netfilter, from one bridge port to another, where a translated source would break discovery protocols. IPv4
// link-local addresses are masqueraded: clouds put their metadata service there, behind the host.
//
// # What concurrent calls see
//
// The kernel commits a batch of nftables messages as a whole or not at all, and packets see the ruleset from before or
// from after. Each batch here names the ruleset generation (NFNL_BATCH_GENID) that its decision was made on; when
// anyone has committed since, the kernel answers ERESTART before it looks at the batch, and the decision is made anew.
// So what was looked at is what gets changed: of 16 processes that find no table one creates it, and the others look
// again and find theirs made or add only an element; a table is deleted only while it is still without elements. While a
// batch is being committed a look may find the old under the new generation, or some of both: see sweep and examine.
//
// # Subnets that overlap
//
// Intervals of a set may not overlap. A subnet that an element covers already, its own or a wider one of any network,
// counts as present: a packet cannot tell the difference. Should the network that owns that element go first, another
// with an address in it becomes its owner (see Heirs). A subnet that contains smaller ones of
// its own network (an operator has widened it) takes their place in one transaction. One that contains or cuts an
// element of another network is refused: the two networks would hand out the same addresses.
//
// # Why not github.com/google/nftables
//
// To link it costs every call of the plugin about 0.1 ms before main, and most calls write no rule. Besides, of version
// 0.3.0, readers drop the errno, expressions it does not know are left out of a rule that is read, interrupted dumps go
// unnoticed, batches carry no generation, and a batch refused as a whole leaves acknowledgements in a lasting socket. The
// tests read with it what is written here.
package firewall
