package firewall

import (
	"fmt"

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

// change makes a message of a batch.
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

// wakeTable hooks the chains of a dormant table.
func wakeTable(p part) message {
	m := addTable(p)
	m.what = "wake the table, which is dormant"
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
		// For nft, which otherwise lists keys and data in the wrong byte order. A name or a group alone counts as a
		// number of the host's.
		order := uint32(networkOrder)
		if s.key == typeIFName || s.key == typeDevGroup {
			order = hostOrder
		}
		orders := udata(udataOrderOfKeys, native(order))
		if s.isMap() {
			w.uint32(unix.NFTA_SET_DATA_TYPE, s.dataType())
			w.uint32(unix.NFTA_SET_DATA_LEN, s.data.size)
			orders = append(orders, udata(udataOrderOfData, native(networkOrder))...)
		}
		w.value(unix.NFTA_SET_USERDATA, orders)
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
		w.uint32(unix.NFTA_CHAIN_POLICY, acceptVerdict)
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
		w.expressions(r.exprs)
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
	var list []element
	for _, s := range spans {
		list = append(list, s.elements()...)
	}
	return endList(name, list)
}

func endList(name string, list []element) func(*encoder) {
	entries := make([]entry, len(list))
	for i, e := range list {
		entries[i] = entry{key: e.key.AsSlice(), end: e.end, note: e.owner}
	}
	return entryList(name, entries)
}

func deleteStrays(name string, strays []element) message {
	return change("delete lone ends from set "+name, unix.NFT_MSG_DELSETELEM, 0, endList(name, strays))
}
