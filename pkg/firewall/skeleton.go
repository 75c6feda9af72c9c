package firewall

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	tableName   = "veth"
	tableFamily = unix.NFPROTO_INET // NAT in it needs Linux 5.2
)

// skeleton is the whole table without the elements of its sets: what is there as soon as anything is.
var skeleton = table{
	sets: []set{
		{name: ipv4.set, key: nftables.TypeIPAddr, family: ipv4},
		{name: ipv6.set, key: nftables.TypeIP6Addr, family: ipv6},
	},
	chains: []chain{{
		name:     "postrouting",
		kind:     "nat",
		hook:     unix.NF_INET_POST_ROUTING,
		priority: 100, // NF_IP_PRI_NAT_SRC, "srcnat"
		rules: []rule{
			{family: ipv4, exprs: masquerade(ipv4)},
			{family: ipv6, exprs: masquerade(ipv6)},
		},
	}},
}

type table struct {
	sets   []set
	chains []chain
}

// set is a set of intervals.
type set struct {
	name   string
	key    nftables.SetDatatype
	family *family // whose packets are looked up in it
}

// chain is a base chain with policy accept. It holds its rules and no others.
type chain struct {
	name     string
	kind     string // filter, nat or route
	hook     uint32
	priority int32
	rules    []rule
}

type rule struct {
	family *family // whose packets it is for
	exprs  []expr.Any
}
