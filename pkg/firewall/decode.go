package firewall

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"reflect"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// expression is one expression of a rule as the kernel lists it.
type expression struct {
	name string
	data []byte
}

// decodeState reads the answers to look's requests, each nil or of the kind that says what it is about.
func decodeState(answers []*netlink.Message) (*state, error) {
	s := &state{sets: map[string]*setState{}, chains: map[string]*chainState{}}
	for _, m := range answers {
		if m == nil {
			continue
		}
		var err error
		switch m.Header.Type & 0xff { // the rest is the subsystem
		case unix.NFT_MSG_NEWGEN:
			err = attributes(*m, func(ad *netlink.AttributeDecoder) {
				if ad.Type() == unix.NFTA_GEN_ID {
					s.generation = ad.Uint32()
				}
			})
		case unix.NFT_MSG_NEWTABLE:
			s.table, err = decodeTable(*m)
		case unix.NFT_MSG_NEWSET:
			err = s.decodeSet(*m)
		case unix.NFT_MSG_NEWCHAIN:
			var c listedChain
			c, err = decodeChain(*m)
			s.chains[c.name] = &c.chainState
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// attributes calls visit for each attribute of a message.
func attributes(m netlink.Message, visit func(*netlink.AttributeDecoder)) error {
	const header = 4 // sizeof(struct nfgenmsg)
	if len(m.Data) < header {
		return errors.New("the kernel sent a message without a header")
	}
	ad, err := netlink.NewAttributeDecoder(m.Data[header:])
	if err != nil {
		return err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		visit(ad)
	}
	return ad.Err()
}

// nested calls visit for each attribute inside the current one.
func nested(ad *netlink.AttributeDecoder, visit func(*netlink.AttributeDecoder)) {
	ad.Nested(func(ad *netlink.AttributeDecoder) error {
		for ad.Next() {
			visit(ad)
		}
		return nil // Nested returns ad's error
	})
}

func decodeTable(m netlink.Message) (*tableState, error) {
	var t tableState
	return &t, attributes(m, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_TABLE_FLAGS:
			t.dormant = ad.Uint32()&unix.NFT_TABLE_F_DORMANT != 0
		case unix.NFTA_TABLE_USE:
			t.objects = ad.Uint32()
		}
	})
}

func (s *state) decodeSet(m netlink.Message) error {
	var set setState
	return attributes(m, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_SET_NAME:
			s.sets[ad.String()] = &set
		case unix.NFTA_SET_FLAGS:
			set.flags = ad.Uint32()
		case unix.NFTA_SET_KEY_TYPE:
			set.keyType = ad.Uint32()
		case unix.NFTA_SET_KEY_LEN:
			set.keyLen = ad.Uint32()
		case unix.NFTA_SET_DATA_TYPE:
			set.dataType = ad.Uint32()
		case unix.NFTA_SET_DATA_LEN:
			set.dataLen = ad.Uint32()
		}
	})
}

// listedChain is a chain as the kernel lists it.
type listedChain struct {
	family      byte // NFPROTO_*
	table, name string
	chainState
}

func decodeChain(m netlink.Message) (c listedChain, err error) {
	err = attributes(m, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_CHAIN_TABLE:
			c.table = ad.String()
		case unix.NFTA_CHAIN_NAME:
			c.name = ad.String()
		case unix.NFTA_CHAIN_TYPE:
			c.kind = ad.String()
		case unix.NFTA_CHAIN_POLICY:
			c.policy = ad.Uint32()
		case unix.NFTA_CHAIN_USE:
			c.uses = ad.Uint32()
		case unix.NFTA_CHAIN_HOOK:
			nested(ad, func(ad *netlink.AttributeDecoder) {
				switch ad.Type() {
				case unix.NFTA_HOOK_HOOKNUM:
					c.hook = ad.Uint32()
				case unix.NFTA_HOOK_PRIORITY:
					c.priority = ad.Int32()
				}
			})
		}
	})
	if err == nil {
		c.family = m.Data[0] // struct nfgenmsg begins with it
	}
	return c, err
}

// listedRule is a rule as the kernel lists it.
type listedRule struct {
	chain  string
	handle uint64
	exprs  []expression
	note   string
}

func decodeRule(m netlink.Message) (r listedRule, err error) {
	err = attributes(m, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_RULE_CHAIN:
			r.chain = ad.String()
		case unix.NFTA_RULE_HANDLE:
			r.handle = ad.Uint64()
		case unix.NFTA_RULE_EXPRESSIONS:
			nested(ad, func(ad *netlink.AttributeDecoder) {
				r.exprs = append(r.exprs, decodeExpression(ad))
			})
		case unix.NFTA_RULE_USERDATA:
			r.note = comment(ad.Bytes())
		}
	})
	return r, err
}

func decodeExpression(ad *netlink.AttributeDecoder) (e expression) {
	nested(ad, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_EXPR_NAME:
			e.name = ad.String()
		case unix.NFTA_EXPR_DATA:
			e.data = ad.Bytes()
		}
	})
	return e
}

// sameExpressions compares a rule that is wanted with one that the kernel lists. An expression that is not wanted makes
// a difference even if its kind is unknown.
func sameExpressions(want []expr.Any, have []expression) bool {
	if len(want) != len(have) {
		return false
	}
	for i, w := range want {
		kind := reflect.TypeOf(w).Elem()
		if have[i].name != kernelName(kind.Name()) {
			return false
		}
		h, ok := reflect.New(kind).Interface().(expr.Any)
		if !ok || expr.Unmarshal(tableFamily, have[i].data, h) != nil || !reflect.DeepEqual(w, h) {
			return false
		}
	}
	return true
}

// kernelName is what the kernel calls an expression that the library has under another name.
func kernelName(kind string) string {
	if kind == "Verdict" {
		return "immediate" // into the register of verdicts
	}
	return strings.ToLower(kind)
}

// decodeElements reads one message of a set's elements.
func decodeElements(m netlink.Message) (list []element, err error) {
	err = attributes(m, func(ad *netlink.AttributeDecoder) {
		if ad.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return
		}
		nested(ad, func(ad *netlink.AttributeDecoder) {
			list = append(list, decodeElement(ad))
		})
	})
	return list, err
}

func decodeElement(ad *netlink.AttributeDecoder) (e element) {
	nested(ad, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_SET_ELEM_KEY:
			nested(ad, func(ad *netlink.AttributeDecoder) {
				e.key, _ = netip.AddrFromSlice(ad.Bytes())
			})
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = ad.Uint32()&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_USERDATA:
			e.owner = comment(ad.Bytes())
		}
	})
	return e
}

// comment finds the comment among what nft keeps with an element: type, length, value, and the value closed by NUL.
// Whoever wrote it, it may be cut short anywhere.
func comment(b []byte) string {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if b[0] == byte(userdata.NFTNL_UDATA_SET_ELEM_COMMENT) {
			return strings.TrimSuffix(string(b[2:2+int(b[1])]), "\x00")
		}
		b = b[2+int(b[1]):]
	}
	return ""
}
