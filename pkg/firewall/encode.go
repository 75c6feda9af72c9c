package firewall

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// message is one nftables message (include/uapi/linux/netfilter/nf_tables.h).
type message struct {
	netlink.Message
	what  string // what it does to what, for errors
	needs string // the kernel option it depends on, "" if any kernel with nf_tables can do it
	err   error  // it could not be encoded

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

// encode returns the attributes that fill writes, numbers in network byte order.
func encode(fill func(*netlink.AttributeEncoder)) ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	fill(ae)
	return ae.Encode()
}

// build makes a message of the table's family.
func build(kind int, flags netlink.HeaderFlags, fill func(*netlink.AttributeEncoder)) message {
	attributes, err := encode(fill)
	return message{
		Message: netlink.Message{
			Header: netlink.Header{
				Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
				Flags: netlink.Request | flags,
			},
			Data: append([]byte{tableFamily, unix.NFNETLINK_V0, 0, 0}, attributes...), // struct nfgenmsg
		},
		err: err,
	}
}

// change makes a message of a batch. Each is acknowledged.
func change(what string, kind int, flags netlink.HeaderFlags, fill func(*netlink.AttributeEncoder)) message {
	m := build(kind, netlink.Acknowledge|flags, fill)
	m.what = what
	return m
}

func addTable(p part) message {
	m := change("add the table", unix.NFT_MSG_NEWTABLE, netlink.Create, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_TABLE_NAME, tableName)
		ae.Uint32(unix.NFTA_TABLE_FLAGS, 0)
	})
	m.needs = needsInet
	if p.bridges {
		m.needs = needsBridge
	}
	return m
}

func deleteTable() message {
	return change("delete the table", unix.NFT_MSG_DELTABLE, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_TABLE_NAME, tableName)
	})
}

// addSet makes a message for a new set; id is any number that no other set of the batch has.
func addSet(s set, id uint32) message {
	const flags = netlink.Create | netlink.Excl
	return change("add set "+s.name, unix.NFT_MSG_NEWSET, flags, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_TABLE, tableName)
		ae.String(unix.NFTA_SET_NAME, s.name)
		ae.Uint32(unix.NFTA_SET_FLAGS, s.allFlags())
		ae.Uint32(unix.NFTA_SET_KEY_TYPE, s.key.GetNFTMagic())
		ae.Uint32(unix.NFTA_SET_KEY_LEN, s.key.Bytes)
		ae.Uint32(unix.NFTA_SET_ID, id)
		// For nft, which otherwise lists keys and data in the wrong byte order. A name or a group alone counts as a number of the host's.
		const host, network = 1, 2 // enum byteorder of nft
		order := userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, network)
		if s.key.Name == nftables.TypeIFName.Name || s.key.Name == nftables.TypeDevGroup.Name {
			order = userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, host)
		}
		if s.isMap() {
			ae.Uint32(unix.NFTA_SET_DATA_TYPE, s.dataType())
			ae.Uint32(unix.NFTA_SET_DATA_LEN, s.data.Bytes)
			order = userdata.AppendUint32(order, userdata.NFTNL_UDATA_SET_DATABYTEORDER, network)
		}
		ae.Bytes(unix.NFTA_SET_USERDATA, order)
		if s.timeout != 0 {
			ae.Uint64(unix.NFTA_SET_TIMEOUT, uint64(s.timeout.Milliseconds()))
		}
		if s.size != 0 {
			ae.Nested(unix.NFTA_SET_DESC, func(ae *netlink.AttributeEncoder) error {
				ae.Uint32(unix.NFTA_SET_DESC_SIZE, s.size)
				return nil
			})
		}
	})
}

func deleteSet(s set) message {
	return change("delete set "+s.name, unix.NFT_MSG_DELSET, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_TABLE, tableName)
		ae.String(unix.NFTA_SET_NAME, s.name)
	})
}

func addChain(c chain) message {
	const flags = netlink.Create | netlink.Excl
	m := change("add chain "+c.name, unix.NFT_MSG_NEWCHAIN, flags, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_CHAIN_TABLE, tableName)
		ae.String(unix.NFTA_CHAIN_NAME, c.name)
		if !c.isBase() {
			return
		}
		ae.Nested(unix.NFTA_CHAIN_HOOK, func(ae *netlink.AttributeEncoder) error {
			ae.Uint32(unix.NFTA_HOOK_HOOKNUM, c.hook)
			ae.Int32(unix.NFTA_HOOK_PRIORITY, c.priority)
			return nil
		})
		ae.Uint32(unix.NFTA_CHAIN_POLICY, acceptPolicy)
		ae.String(unix.NFTA_CHAIN_TYPE, c.kind)
	})
	if c.kind == "nat" {
		m.needs = needsNAT
	}
	return m
}

func deleteChain(c chain) message {
	return change("delete chain "+c.name, unix.NFT_MSG_DELCHAIN, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_CHAIN_TABLE, tableName)
		ae.String(unix.NFTA_CHAIN_NAME, c.name)
	})
}

// flushChain deletes all rules of a chain: the message names none.
func flushChain(c chain) message {
	return change("empty chain "+c.name, unix.NFT_MSG_DELRULE, 0, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_RULE_TABLE, tableName)
		ae.String(unix.NFTA_RULE_CHAIN, c.name)
	})
}

func addRule(c chain, r rule) message {
	what := fmt.Sprintf("add the rule for %s to chain %s", r.what, c.name)
	m := change(what, unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_RULE_TABLE, tableName)
		ae.String(unix.NFTA_RULE_CHAIN, c.name)
		ae.Nested(unix.NFTA_RULE_EXPRESSIONS, func(ae *netlink.AttributeEncoder) error {
			for _, e := range r.exprs {
				ae.Do(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, func() ([]byte, error) { return expr.Marshal(tableFamily, e) })
			}
			return nil
		})
	})
	m.needs = r.needs
	return m
}

func addElements(name string, spans []span) message {
	what := fmt.Sprintf("add %v to set %s", spans, name)
	return change(what, unix.NFT_MSG_NEWSETELEM, netlink.Create|netlink.Excl, elementList(name, spans))
}

func deleteElements(name string, spans []span) message {
	what := fmt.Sprintf("delete %v from set %s", spans, name)
	return change(what, unix.NFT_MSG_DELSETELEM, 0, elementList(name, spans))
}

func elementList(name string, spans []span) func(*netlink.AttributeEncoder) {
	return func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		ae.String(unix.NFTA_SET_ELEM_LIST_SET, name)
		ae.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(ae *netlink.AttributeEncoder) error {
			for _, s := range spans {
				for _, e := range s.elements() {
					ae.Nested(unix.NFTA_LIST_ELEM, e.encode)
				}
			}
			return nil
		})
	}
}

func (e element) encode(ae *netlink.AttributeEncoder) error {
	ae.Nested(unix.NFTA_SET_ELEM_KEY, func(ae *netlink.AttributeEncoder) error {
		ae.Bytes(unix.NFTA_DATA_VALUE, e.key.AsSlice())
		return nil
	})
	if e.end {
		ae.Uint32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	if e.owner != "" {
		comment := userdata.AppendString(nil, userdata.NFTNL_UDATA_SET_ELEM_COMMENT, e.owner)
		ae.Bytes(unix.NFTA_SET_ELEM_USERDATA, comment)
	}
	return nil
}
