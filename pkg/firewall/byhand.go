package firewall

import (
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// Obstacle is a chain of somebody else that drops what the host forwards for a network, and is not open to it.
type Obstacle struct {
	Chain  string // in words
	Reason string // why ApplyForwardAccept cannot open it; empty: it can
	ByHand string // what opens it instead, a command as a rule
}

func (c foreignChain) obstacle(l plan.Link) Obstacle {
	return Obstacle{Chain: c.String(), Reason: c.unopenable(), ByHand: c.byHand(l)}
}

// unopenable says why a rule in the chain would not do.
func (c foreignChain) unopenable() string {
	switch {
	case c.legacy != "":
		return "it is not of nftables"
	case c.family == unix.NFPROTO_BRIDGE:
		return "forwardAccept writes rules for IP alone"
	case c.table == "firewalld":
		return "firewalld would write it anew"
	case c.owned:
		return ownedReason
	}
	return ""
}

const ownedReason = "its table belongs to a running program"

// byHand is how an administrator opens the chain: by a rule at its beginning, because what drops may be a rule, too. No
// program takes a network's group; its host ends are known by their names there.
func (c foreignChain) byHand(l plan.Link) string {
	name, pattern := l.Name, l.Name
	if name == "" {
		name, pattern = "veth+", "veth*" // as iptables and nft have it
	}
	switch {
	case c.legacy != "":
		return c.insert(c.legacy, name)
	case c.table == "firewalld" && l.Name == "":
		return "firewall-cmd --permanent --zone=trusted --add-source=SUBNET for each subnet, firewall-cmd --reload"
	case c.table == "firewalld":
		return "firewall-cmd --permanent --zone=trusted --add-interface=" + l.Name + ", firewall-cmd --reload"
	case c.owned:
		return "that program to let the network pass"
	case c.family == unix.NFPROTO_BRIDGE: // frames have the bridge's ports for interfaces
		pattern = "veth*"
	case c.isXtables() && c.family == unix.NFPROTO_IPV6:
		return c.insert("ip6tables", name)
	case c.isXtables():
		return c.insert("iptables", name)
	}
	return "nft insert rule " + c.where() + " iifname " + pattern + " accept, the same with oifname"
}

// insert is the command of a program of iptables, whose usual table needs no option.
func (c foreignChain) insert(program, name string) string {
	if c.table != "filter" {
		program += " -t " + c.table
	}
	return program + " -I FORWARD -i " + name + " -j ACCEPT, the same with -o"
}

// refused is the error of a chain that ought to be opened and cannot be.
func (o Obstacle) refused() error {
	return cnierr.New(cnierr.Conflict, "forwardAccept: %s drops what the host forwards and cannot be opened, %s: want %s, and forwardAccept false",
		o.Chain, o.Reason, o.ByHand)
}
