package firewall

import (
	"cmp"
	"fmt"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// message is one nftables message (include/uapi/linux/netfilter/nf_tables.h).
type message struct {
	kind, flags uint16
	data        []byte // from struct nfgenmsg on
	what        string // what it does to what, for errors
	needs       string // the kernel option it depends on, "" if any kernel with nf_tables can do it
	err         error  // it could not be encoded

	others bool // it is about tables of somebody else
}

const acceptPolicy = 1 // NF_ACCEPT, include/uapi/linux/netfilter.h

// The options of the kernel's configuration that the messages need, with the modules they build.
const (
	needsNetlink    = "nfnetlink (CONFIG_NETFILTER_NETLINK)"
	needsTables     = "nf_tables (CONFIG_NF_TABLES)"
	needsInet       = "nf_tables for inet tables (CONFIG_NF_TABLES_INET)"
	needsBridge     = "nf_tables for bridge tables (CONFIG_NF_TABLES_BRIDGE)"
	needsNAT        = "nft_chain_nat (CONFIG_NFT_NAT)"
	needsFib        = "nft_fib (CONFIG_NFT_FIB_INET)"
	needsMasquerade = "nft_masq (CONFIG_NFT_MASQ)"
)

// build makes a message of the table's family, with the attributes that fill writes.
func build(kind, flags uint16, fill func(*encoder)) message {
	const usual = 128                                                                         // of one that only reads
	e := encoder{bytes: append(make([]byte, 0, usual), tableFamily, unix.NFNETLINK_V0, 0, 0)} // struct nfgenmsg
	fill(&e)
	return message{kind: unix.NFNL_SUBSYS_NFTABLES<<8 | kind, flags: flags, data: e.bytes, err: e.err}
}

// expression writes an expression of a rule.
func (e *encoder) expression(family byte, x expr.Any) {
	b, err := expr.Marshal(family, x)
	e.err = cmp.Or(e.err, err)
	e.value(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
}

// change makes a message of a batch. Each is acknowledged.
func change(what string, kind, flags uint16, fill func(*encoder)) message {
	m := build(kind, unix.NLM_F_ACK|flags, fill)
	m.what = what
	return m
}

func addTable(p part) message {
	m := change("add the table", unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, func(w *encoder) {
		w.text(unix.NFTA_TABLE_NAME, tableName)
		w.uint32(unix.NFTA_TABLE_FLAGS, 0)
	})
	m.needs = needsInet
	if p.bridges {
		m.needs = needsBridge
	}
	return m
}

func deleteTable() message {
	return change("delete the table", unix.NFT_MSG_DELTABLE, 0, func(w *encoder) {
		w.text(unix.NFTA_TABLE_NAME, tableName)
	})
}

// addSet makes a message for a new set; id is any number that no other set of the batch has.
func addSet(s set, id uint32) message {
	const flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	return change("add set "+s.name, unix.NFT_MSG_NEWSET, flags, func(w *encoder) {
		w.text(unix.NFTA_SET_TABLE, tableName)
		w.text(unix.NFTA_SET_NAME, s.name)
		w.uint32(unix.NFTA_SET_FLAGS, s.allFlags())
		w.uint32(unix.NFTA_SET_KEY_TYPE, s.key.number)
		w.uint32(unix.NFTA_SET_KEY_LEN, s.key.size)
		w.uint32(unix.NFTA_SET_ID, id)
		// For nft, which otherwise lists keys and data in the wrong byte order. A name or a group alone counts as a number of the host's.
		const host, network = 1, 2 // enum byteorder of nft
		order := userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, network)
		if s.key == typeIFName || s.key == typeDevGroup {
			order = userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, host)
		}
		if s.isMap() {
			w.uint32(unix.NFTA_SET_DATA_TYPE, s.dataType())
			w.uint32(unix.NFTA_SET_DATA_LEN, s.data.size)
			order = userdata.AppendUint32(order, userdata.NFTNL_UDATA_SET_DATABYTEORDER, network)
		}
		w.value(unix.NFTA_SET_USERDATA, order)
		if s.timeout != 0 {
			w.uint64(unix.NFTA_SET_TIMEOUT, uint64(s.timeout.Milliseconds()))
		}
		if s.size != 0 {
			w.nested(unix.NFTA_SET_DESC, func(w *encoder) {
				w.uint32(unix.NFTA_SET_DESC_SIZE, s.size)
			})
		}
	})
}

func deleteSet(s set) message {
	return change("delete set "+s.name, unix.NFT_MSG_DELSET, 0, func(w *encoder) {
		w.text(unix.NFTA_SET_TABLE, tableName)
		w.text(unix.NFTA_SET_NAME, s.name)
	})
}

func addChain(c chain) message {
	const flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	m := change("add chain "+c.name, unix.NFT_MSG_NEWCHAIN, flags, func(w *encoder) {
		w.text(unix.NFTA_CHAIN_TABLE, tableName)
		w.text(unix.NFTA_CHAIN_NAME, c.name)
		if !c.isBase() {
			return
		}
		w.nested(unix.NFTA_CHAIN_HOOK, func(w *encoder) {
			w.uint32(unix.NFTA_HOOK_HOOKNUM, c.hook)
			w.int32(unix.NFTA_HOOK_PRIORITY, c.priority)
		})
		w.uint32(unix.NFTA_CHAIN_POLICY, acceptPolicy)
		w.text(unix.NFTA_CHAIN_TYPE, c.kind)
	})
	if c.kind == "nat" {
		m.needs = needsNAT
	}
	return m
}

func deleteChain(c chain) message {
	return change("delete chain "+c.name, unix.NFT_MSG_DELCHAIN, 0, func(w *encoder) {
		w.text(unix.NFTA_CHAIN_TABLE, tableName)
		w.text(unix.NFTA_CHAIN_NAME, c.name)
	})
}

// flushChain deletes all rules of a chain: the message names none.
func flushChain(c chain) message {
	return change("empty chain "+c.name, unix.NFT_MSG_DELRULE, 0, func(w *encoder) {
		w.text(unix.NFTA_RULE_TABLE, tableName)
		w.text(unix.NFTA_RULE_CHAIN, c.name)
	})
}

func addRule(c chain, r rule) message {
	what := fmt.Sprintf("add the rule for %s to chain %s", r.what, c.name)
	m := change(what, unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, func(w *encoder) {
		w.text(unix.NFTA_RULE_TABLE, tableName)
		w.text(unix.NFTA_RULE_CHAIN, c.name)
		w.nested(unix.NFTA_RULE_EXPRESSIONS, func(w *encoder) {
			for _, e := range r.exprs {
				w.expression(tableFamily, e)
			}
		})
	})
	m.needs = r.needs
	return m
}

func addElements(name string, spans []span) message {
	what := fmt.Sprintf("add %v to set %s", spans, name)
	return change(what, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, elementList(name, spans))
}

func deleteElements(name string, spans []span) message {
	what := fmt.Sprintf("delete %v from set %s", spans, name)
	return change(what, unix.NFT_MSG_DELSETELEM, 0, elementList(name, spans))
}

func elementList(name string, spans []span) func(*encoder) {
	return func(w *encoder) {
		w.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		w.text(unix.NFTA_SET_ELEM_LIST_SET, name)
		w.nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(w *encoder) {
			for _, s := range spans {
				for _, e := range s.elements() {
					w.nested(unix.NFTA_LIST_ELEM, e.encode)
				}
			}
		})
	}
}

func (e element) encode(w *encoder) {
	w.nested(unix.NFTA_SET_ELEM_KEY, func(w *encoder) {
		w.value(unix.NFTA_DATA_VALUE, e.key.AsSlice())
	})
	if e.end {
		w.uint32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	if e.owner != "" {
		comment := userdata.AppendString(nil, userdata.NFTNL_UDATA_SET_ELEM_COMMENT, e.owner)
		w.value(unix.NFTA_SET_ELEM_USERDATA, comment)
	}
}
