package firewall

import (
	"bytes"
	"slices"

	"golang.org/x/sys/unix"
)

// expression is one expression of a rule: its kind as the kernel names it, and the kind's attributes (linux/netfilter/
// nf_tables.h), as they are sent and as the kernel lists them.
type expression struct {
	name string
	data []byte
}

// expressions are a rule or a part of one, in the order in which a packet meets them. Those that load do so into
// register 1 and its successors, and the others work on what begins there; a word counts those 32 bit registers from 0.
type expressions []expression

// then is what came before and what comes next, in a list of its own.
func (e expressions) then(next ...expressions) expressions {
	return slices.Concat(e, slices.Concat(next...))
}

func express(name string, fill func(*encoder)) expressions {
	var w encoder
	fill(&w)
	return expressions{{name, w.bytes}}
}

// register is the number of a word, as the kernel lists it: where a register of 128 bit begins, by that one's number
// (nft_dump_register in net/netfilter/nf_tables_api.c).
func register(word uint32) uint32 {
	const words = 4
	if word%words == 0 {
		return unix.NFT_REG_1 + word/words
	}
	return unix.NFT_REG32_00 + word
}

// load loads what the kernel knows about a packet (NFT_META_*).
func load(key uint32) expressions { return loadAt(0, key) }

func loadAt(word, key uint32) expressions {
	return express("meta", func(w *encoder) {
		w.uint32(unix.NFTA_META_KEY, key)
		w.uint32(unix.NFTA_META_DREG, register(word))
	})
}

// store is the reverse of load.
func store(key uint32) expressions {
	return express("meta", func(w *encoder) {
		w.uint32(unix.NFTA_META_KEY, key)
		w.uint32(unix.NFTA_META_SREG, unix.NFT_REG_1)
	})
}

// loadConnection loads what connection tracking knows (NFT_CT_*).
func loadConnection(key uint32) expressions {
	return express("ct", func(w *encoder) {
		w.uint32(unix.NFTA_CT_KEY, key)
		w.uint32(unix.NFTA_CT_DREG, unix.NFT_REG_1)
	})
}

// loadRoute loads what the routes say (NFT_FIB_RESULT_*) about what flags name (NFTA_FIB_F_*).
func loadRoute(result, flags uint32) expressions {
	return express("fib", func(w *encoder) {
		w.uint32(unix.NFTA_FIB_DREG, unix.NFT_REG_1)
		w.uint32(unix.NFTA_FIB_RESULT, result)
		w.uint32(unix.NFTA_FIB_FLAGS, flags)
	})
}

// loadHeader loads a part of a header of the packet (NFT_PAYLOAD_*).
func loadHeader(word, header, offset, size uint32) expressions {
	return express("payload", func(w *encoder) {
		w.uint32(unix.NFTA_PAYLOAD_DREG, register(word))
		w.uint32(unix.NFTA_PAYLOAD_BASE, header)
		w.uint32(unix.NFTA_PAYLOAD_OFFSET, offset)
		w.uint32(unix.NFTA_PAYLOAD_LEN, size)
	})
}

// keep clears all bits but those of a mask.
func keep(word uint32, mask []byte) expressions {
	return keepAndFlip(word, mask, make([]byte, len(mask)))
}

// keepAndFlip is keep, and then inverts other bits.
func keepAndFlip(word uint32, mask, flip []byte) expressions {
	return express("bitwise", func(w *encoder) {
		w.uint32(unix.NFTA_BITWISE_SREG, register(word))
		w.uint32(unix.NFTA_BITWISE_DREG, register(word))
		w.uint32(unix.NFTA_BITWISE_LEN, uint32(len(mask)))
		w.datum(unix.NFTA_BITWISE_MASK, mask)
		w.datum(unix.NFTA_BITWISE_XOR, flip)
	})
}

func equal(data []byte) expressions { return compare(unix.NFT_CMP_EQ, data) }

func unequal(data []byte) expressions { return compare(unix.NFT_CMP_NEQ, data) }

// compare ends the rule unless NFT_CMP_* holds between what is loaded and data.
func compare(op uint32, data []byte) expressions {
	return express("cmp", func(w *encoder) {
		w.uint32(unix.NFTA_CMP_SREG, unix.NFT_REG_1)
		w.uint32(unix.NFTA_CMP_OP, op)
		w.datum(unix.NFTA_CMP_DATA, data)
	})
}

// in ends the rule unless what is loaded is in a set, and notIn if it is.
func in(set string) expressions { return lookup(set, func(*encoder) {}) }

func notIn(set string) expressions {
	return lookup(set, func(w *encoder) { w.uint32(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV) })
}

// mapped loads what a map has for what is loaded, and obeyed does what a verdict map has. If it has nothing, the rule ends.
func mapped(by string) expressions {
	return lookup(by, func(w *encoder) { w.uint32(unix.NFTA_LOOKUP_DREG, unix.NFT_REG_1) })
}

func obeyed(verdicts string) expressions {
	return lookup(verdicts, func(w *encoder) { w.uint32(unix.NFTA_LOOKUP_DREG, unix.NFT_REG_VERDICT) })
}

func lookup(set string, more func(*encoder)) expressions {
	return express("lookup", func(w *encoder) {
		w.text(unix.NFTA_LOOKUP_SET, set)
		w.uint32(unix.NFTA_LOOKUP_SREG, unix.NFT_REG_1)
		more(w)
	})
}

// remember adds what is loaded to a set.
func remember(set string) expressions {
	return express("dynset", func(w *encoder) {
		w.text(unix.NFTA_DYNSET_SET_NAME, set)
		w.uint32(unix.NFTA_DYNSET_SREG_KEY, unix.NFT_REG_1)
		w.uint32(unix.NFTA_DYNSET_OP, unix.NFT_DYNSET_OP_ADD)
	})
}

// Verdicts (include/uapi/linux/netfilter.h). Those of nftables alone, which are negative, have names in x/sys.
const dropVerdict, acceptVerdict = 0, 1 // NF_DROP, NF_ACCEPT

func accept() expressions { return decide(acceptVerdict, "") }

func drop() expressions { return decide(dropVerdict, "") }

func back() expressions { return decide(unix.NFT_RETURN, "") }

func jump(chain string) expressions { return decide(unix.NFT_JUMP, chain) }

// proceed is jump without return.
func proceed(chain string) expressions { return decide(unix.NFT_GOTO, chain) }

func decide(code int32, chain string) expressions {
	return express("immediate", func(w *encoder) {
		w.uint32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		w.verdict(unix.NFTA_IMMEDIATE_DATA, code, chain)
	})
}

// masquerades gives a packet the address of the interface it leaves by.
func masquerades() expressions { return express("masq", func(*encoder) {}) }

// sourceIs gives a packet the source that is loaded, an address.
func sourceIs(f *family) expressions {
	return express("nat", func(w *encoder) { f.nat(w, unix.NFT_NAT_SNAT, unix.NF_NAT_RANGE_MAP_IPS) })
}

// destinationIs gives a packet the destination that is loaded, an address and a port.
func destinationIs(f *family) expressions {
	return express("nat", func(w *encoder) {
		f.nat(w, unix.NFT_NAT_DNAT, unix.NF_NAT_RANGE_MAP_IPS|unix.NF_NAT_RANGE_PROTO_SPECIFIED)
		w.uint32(unix.NFTA_NAT_REG_PROTO_MIN, register(f.size/4))
		w.uint32(unix.NFTA_NAT_REG_PROTO_MAX, register(f.size/4))
	})
}

// nat writes what both have, with the flags that follow from the rest, because the kernel lists them.
func (f *family) nat(w *encoder, kind, flags uint32) {
	w.uint32(unix.NFTA_NAT_TYPE, kind)
	w.uint32(unix.NFTA_NAT_FAMILY, uint32(f.proto))
	w.uint32(unix.NFTA_NAT_REG_ADDR_MIN, unix.NFT_REG_1)
	w.uint32(unix.NFTA_NAT_REG_ADDR_MAX, unix.NFT_REG_1)
	w.uint32(unix.NFTA_NAT_FLAGS, flags)
}

// expressions writes a rule's.
func (e *encoder) expressions(list expressions) {
	e.nested(unix.NFTA_RULE_EXPRESSIONS, func(w *encoder) {
		for _, x := range list {
			w.nested(unix.NFTA_LIST_ELEM, func(w *encoder) {
				w.text(unix.NFTA_EXPR_NAME, x.name)
				w.value(unix.NFTA_EXPR_DATA|unix.NLA_F_NESTED, x.data)
			})
		}
	})
}

// datum writes what a register holds.
func (e *encoder) datum(kind uint16, value []byte) {
	e.nested(kind, func(w *encoder) { w.value(unix.NFTA_DATA_VALUE, value) })
}

// verdict writes what the register of verdicts holds, with the chain it leads to.
func (e *encoder) verdict(kind uint16, code int32, chain string) {
	e.nested(kind, func(w *encoder) {
		w.nested(unix.NFTA_DATA_VERDICT, func(w *encoder) {
			w.int32(unix.NFTA_VERDICT_CODE, code)
			if chain != "" {
				w.text(unix.NFTA_VERDICT_CHAIN, chain)
			}
		})
	})
}

// at is the attribute at the end of a path of nested ones, the zero value if there is none.
func (e expression) at(path ...uint16) attribute {
	found := attribute{value: e.data}
	for _, kind := range path {
		var next attribute
		nested(found, func(a attribute) {
			if a.kind == kind {
				next = a
			}
		})
		found = next
	}
	return found
}

// sameExpressions compares a rule that is wanted with one that the kernel lists, whatever kinds of expressions that has.
func sameExpressions(want, have expressions) bool {
	return slices.EqualFunc(want, have, func(w, h expression) bool {
		same := bytes.Equal
		if w.name == "match" {
			same = sameButFill
		}
		return w.name == h.name && sameAttributes(attribute{value: w.data}, attribute{value: h.data}, same)
	})
}

// sameButFill is for what a match of iptables goes by, which the kernel lists filled up with zeros to where it aligns
// structures (XT_ALIGN; nft_extension_dump_info in net/netfilter/nft_compat.c).
func sameButFill(want, have []byte) bool {
	const longest = 8
	fill, same := bytes.CutPrefix(have, want)
	return same && len(fill) < longest && len(bytes.Trim(fill, "\x00")) == 0
}

// sameAttributes reports whether all that is wanted is listed, and nothing else but what nobody has said, which the kernel
// lists as 0. Whatever else it lists is a difference, even if only a newer kernel knows what it means.
func sameAttributes(want, have attribute, values func(want, have []byte) bool) bool {
	listed := map[uint16]attribute{}
	same := have.attributes(func(a attribute) { listed[a.kind] = a }) == nil
	nested(want, func(w attribute) {
		h := listed[w.kind]
		delete(listed, w.kind)
		if w.nested {
			same = same && sameAttributes(w, h, values)
		} else {
			same = same && values(w.value, h.value)
		}
	})
	for _, h := range listed {
		same = same && len(bytes.Trim(h.value, "\x00")) == 0
	}
	return same
}
