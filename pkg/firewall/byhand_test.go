package firewall

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/plan"
)

// chainsOf are the names of the chains that drop.
func chainsOf(list []Obstacle, err error) (names []string, _ error) {
	for _, o := range list {
		names = append(names, o.Chain)
	}
	return names, err
}

func TestByHand(t *testing.T) {
	routed := plan.Link{Group: 0x70000001}
	for _, tt := range []struct {
		chain         foreignChain
		link          plan.Link
		reason, wants string
	}{
		{
			foreignChain{family: unix.NFPROTO_IPV4, table: "filter", name: "FORWARD", legacy: "iptables-legacy"},
			br0,
			"it is not of nftables", "iptables-legacy -I FORWARD -i br0 -j ACCEPT, the same with -o",
		},
		{
			foreignChain{family: unix.NFPROTO_IPV6, table: "filter", name: "FORWARD", legacy: "ip6tables-legacy"},
			routed,
			"it is not of nftables", "ip6tables-legacy -I FORWARD -i veth+ -j ACCEPT, the same with -o",
		},
		{
			foreignChain{family: unix.NFPROTO_INET, table: "firewalld", name: "filter_FORWARD"},
			br0,
			"firewalld would write it anew", "firewall-cmd --permanent --zone=trusted --add-interface=br0, firewall-cmd --reload",
		},
		{
			foreignChain{family: unix.NFPROTO_INET, table: "firewalld", name: "filter_FORWARD"},
			routed,
			"firewalld would write it anew", "firewall-cmd --permanent --zone=trusted --add-source=SUBNET for each subnet, firewall-cmd --reload",
		},
		{
			foreignChain{family: unix.NFPROTO_BRIDGE, table: "mine", name: "forward"},
			br0,
			"forwardAccept writes rules for IP alone", "nft insert rule bridge mine forward iifname veth* accept, the same with oifname",
		},
		{foreignChain{family: unix.NFPROTO_INET, table: "mine", name: "forward", owned: true}, br0, "its table belongs to a running program", "that program to let the network pass"},
		{foreignChain{family: unix.NFPROTO_INET, table: "mine", name: "fw"}, routed, "", "nft insert rule inet mine fw iifname veth* accept, the same with oifname"},
		{foreignChain{family: unix.NFPROTO_IPV4, table: "mine", name: "fw"}, br0, "", "nft insert rule ip mine fw iifname br0 accept, the same with oifname"},
		{foreignChain{family: unix.NFPROTO_IPV4, table: "filter", name: "FORWARD"}, routed, "", "iptables -I FORWARD -i veth+ -j ACCEPT, the same with -o"},
		{foreignChain{family: unix.NFPROTO_IPV6, table: "mangle", name: "FORWARD"}, br0, "", "ip6tables -t mangle -I FORWARD -i br0 -j ACCEPT, the same with -o"},
	} {
		o := tt.chain.obstacle(tt.link)
		if o.Reason != tt.reason || o.ByHand != tt.wants {
			t.Errorf("%s: got %q, %q; want %q, %q", tt.chain, o.Reason, o.ByHand, tt.reason, tt.wants)
		}
	}
}

// What is said to help is what the programs take, and what lets a chain be that drops by its last rule.
func TestByHandCommands(t *testing.T) {
	fresh(t)
	for _, family := range []string{"inet", "bridge"} {
		legacy(t, "nft add table "+family+" mine")
		legacy(t, "nft add chain "+family+" mine forward { type filter hook forward priority -200 ; policy drop ; }")
	}
	for _, l := range []plan.Link{br0, {Group: 0x70000001}} {
		for _, c := range []foreignChain{
			{family: unix.NFPROTO_INET, table: "mine", name: "forward"},
			{family: unix.NFPROTO_BRIDGE, table: "mine", name: "forward"},
			{family: unix.NFPROTO_IPV4, table: "filter", name: "FORWARD"},
			{family: unix.NFPROTO_IPV6, table: "mangle", name: "FORWARD"},
			{family: unix.NFPROTO_IPV4, table: "filter", name: "FORWARD", legacy: "iptables-legacy"},
		} {
			if c.family == unix.NFPROTO_BRIDGE && l.Name == "" {
				continue // routed networks do not pass it
			}
			first, again, twice := strings.Cut(c.byHand(l), ", the same with ")
			legacy(t, first)
			if twice {
				in := map[bool]string{true: "iifname", false: "-i"}[again == "oifname"]
				legacy(t, strings.Replace(first, in+" ", again+" ", 1))
			}
		}
	}
}
