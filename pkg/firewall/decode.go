package firewall

import (
	"errors"

	"golang.org/x/sys/unix"
)

// decodeState reads the answers to look's requests. Their kind says what they are about.
func decodeState(answers []answer) (*state, error) {
	s := &state{sets: map[string]*setState{}, chains: map[string]*chainState{}}
	for _, m := range answers {
		if !m.exists() {
			continue
		}
		var err error
		switch m.kind & 0xff { // the rest is the subsystem
		case unix.NFT_MSG_NEWGEN:
			err = attributes(m, func(a attribute) {
				if a.kind == unix.NFTA_GEN_ID {
					s.generation = a.uint32()
				}
			})
		case unix.NFT_MSG_NEWTABLE:
			s.table, err = decodeTable(m)
		case unix.NFT_MSG_NEWSET:
			err = s.decodeSet(m)
		case unix.NFT_MSG_NEWCHAIN:
			var c listedChain
			c, err = decodeChain(m)
			s.chains[c.name] = &c.chainState
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// attributes calls visit for each attribute of a message.
func attributes(m answer, visit func(attribute)) error {
	const header = 4 // sizeof(struct nfgenmsg)
	if len(m.data) < header {
		return errors.New("the kernel sent a message without a header")
	}
	return attribute{value: m.data[header:]}.attributes(visit)
}

// nested calls visit for each attribute inside another. What the kernel nests is never cut off.
func nested(a attribute, visit func(attribute)) { _ = a.attributes(visit) }

// tableOwner is NFT_TABLE_F_OWNER (Linux 5.12), of a program that runs: one that goes leaves no table, or one without it.
const tableOwner = 1 << 1

func decodeTable(m answer) (*tableState, error) {
	var t tableState
	return &t, attributes(m, func(a attribute) {
		switch a.kind {
		case unix.NFTA_TABLE_FLAGS:
			t.dormant = a.uint32()&unix.NFT_TABLE_F_DORMANT != 0
			t.owned = a.uint32()&tableOwner != 0
		case unix.NFTA_TABLE_USE:
			t.objects = a.uint32()
		}
	})
}

func (s *state) decodeSet(m answer) error {
	var set setState
	return attributes(m, func(a attribute) {
		switch a.kind {
		case unix.NFTA_SET_NAME:
			s.sets[a.text()] = &set
		case unix.NFTA_SET_FLAGS:
			set.flags = a.uint32()
		case unix.NFTA_SET_KEY_TYPE:
			set.keyType = a.uint32()
		case unix.NFTA_SET_KEY_LEN:
			set.keyLen = a.uint32()
		case unix.NFTA_SET_DATA_TYPE:
			set.dataType = a.uint32()
		case unix.NFTA_SET_DATA_LEN:
			set.dataLen = a.uint32()
		}
	})
}

// listedChain is a chain as the kernel lists it.
type listedChain struct {
	family      byte // NFPROTO_*
	table, name string
	chainState
}

func decodeChain(m answer) (c listedChain, err error) {
	err = attributes(m, func(a attribute) {
		switch a.kind {
		case unix.NFTA_CHAIN_TABLE:
			c.table = a.text()
		case unix.NFTA_CHAIN_NAME:
			c.name = a.text()
		case unix.NFTA_CHAIN_TYPE:
			c.kind = a.text()
		case unix.NFTA_CHAIN_POLICY:
			c.policy = a.uint32()
		case unix.NFTA_CHAIN_USE:
			c.uses = a.uint32()
		case unix.NFTA_CHAIN_HOOK:
			nested(a, func(a attribute) {
				switch a.kind {
				case unix.NFTA_HOOK_HOOKNUM:
					c.hook = a.uint32()
				case unix.NFTA_HOOK_PRIORITY:
					c.priority = a.int32()
				}
			})
		}
	})
	if err == nil {
		c.family = m.data[0] // struct nfgenmsg begins with it
	}
	return c, err
}

// listedRule is a rule as the kernel lists it.
type listedRule struct {
	chain  string
	handle uint64
	exprs  expressions
	note   string
}

func decodeRule(m answer) (r listedRule, err error) {
	err = attributes(m, func(a attribute) {
		switch a.kind {
		case unix.NFTA_RULE_CHAIN:
			r.chain = a.text()
		case unix.NFTA_RULE_HANDLE:
			r.handle = a.uint64()
		case unix.NFTA_RULE_EXPRESSIONS:
			nested(a, func(a attribute) {
				r.exprs = append(r.exprs, decodeExpression(a))
			})
		case unix.NFTA_RULE_USERDATA:
			r.note = comment(a.value)
		}
	})
	return r, err
}

func decodeExpression(a attribute) (e expression) {
	nested(a, func(a attribute) {
		switch a.kind {
		case unix.NFTA_EXPR_NAME:
			e.name = a.text()
		case unix.NFTA_EXPR_DATA:
			e.data = a.value
		}
	})
	return e
}
