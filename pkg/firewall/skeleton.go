package firewall

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	tableName   = "veth"
	tableFamily = unix.NFPROTO_INET // NAT in it needs Linux 5.2
)

// tableTitle is the table as nft would name it.
func tableTitle(family byte) string {
	if family == unix.NFPROTO_BRIDGE {
		return "nftables table bridge " + tableName
	}
	return "nftables table inet " + tableName
}

// part is what one feature keeps in the table, without the elements of its sets: what is there as soon as any of them
// is. Parts share no set and no chain, so each comes, is repaired and goes by itself.
//
// Its sets and the rules of its chains are made when they are asked for: an ADD that finds everything in place asks for
// neither.
type part struct {
	sets    func() []set // nil: none
	chains  []chain      // those that others jump to first
	bridges bool         // it is in the table of family bridge, which is of the same name
}

func (p part) allSets() []set {
	if p.sets == nil {
		return nil
	}
	return p.sets()
}

// family is that of the part's table.
func (p part) family() byte {
	if p.bridges {
		return unix.NFPROTO_BRIDGE
	}
	return tableFamily
}

// addressed sends messages to the part's table, but for those about tables of somebody else.
func (p part) addressed(msgs []message) []message {
	for i := range msgs {
		if !msgs[i].others {
			msgs[i].data[0] = p.family() // struct nfgenmsg begins with it
		}
	}
	return msgs
}

// set is a set or, with data, a map.
type set struct {
	name   string
	key    datatype
	data   datatype // the zero value: none
	flags  uint32   // NFT_SET_*, but for NFT_SET_MAP, which follows from data
	family *family  // whose packets are looked up in it; nil: both
	keeps  bool     // the part stays as long as it has elements
	// One that rules fill keeps an element for a time, whole milliseconds, and has at most so many.
	timeout time.Duration
	size    uint32
}

func (s set) isMap() bool { return s.data != datatype{} }

func (s set) allFlags() uint32 {
	if s.isMap() {
		return s.flags | unix.NFT_SET_MAP
	}
	return s.flags
}

// dataType is the type of a map's data as the kernel knows it: only a verdict means something to it.
func (s set) dataType() uint32 {
	if s.data == typeVerdict {
		return unix.NFT_DATA_VERDICT
	}
	return s.data.number
}

func (s set) kind() string {
	if s.isMap() {
		return "map"
	}
	return "set"
}

// String is how nft would say what it is.
func (s set) String() string {
	switch {
	case s.isMap():
		return "a map of " + s.key.name + " to " + s.data.name
	case s.flags&unix.NFT_SET_INTERVAL != 0:
		return "an interval set of " + s.key.name
	}
	return "a set of " + s.key.name
}

// chain is a base chain with policy accept or, without a kind, one that rules and elements jump to. It holds its rules
// and no others.
type chain struct {
	name     string
	kind     string // filter, nat or route
	hook     uint32
	priority int32
	// uses is what the kernel counts: rules of the chain, and jumps to it from rules of the part. It is anyNumber where
	// elements jump to it. Where rules change from one version of the plugin to the next, so must their number or the
	// chain's name: an ADD that finds as many as it wants leaves them.
	uses  int
	rules func() []rule // nil: none
}

const anyNumber = -1

func (c chain) allRules() []rule {
	if c.rules == nil {
		return nil
	}
	return c.rules()
}

func (c chain) isBase() bool { return c.kind != "" }

type rule struct {
	what   string  // what it is for, for messages
	family *family // whose packets it is for; nil: both
	exprs  expressions
	needs  string // the kernel option it depends on
}
