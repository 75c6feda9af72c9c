package firewall

import "strings"

// With each object the kernel keeps bytes for whoever made it. What nft keeps there is a list of type, length and value,
// a byte each for the first two (include/libnftnl/udata.h of libnftnl).
const (
	udataComment     = 0 // NFTNL_UDATA_RULE_COMMENT and NFTNL_UDATA_SET_ELEM_COMMENT
	udataOrderOfKeys = 0 // NFTNL_UDATA_SET_KEYBYTEORDER
	udataOrderOfData = 1 // NFTNL_UDATA_SET_DATABYTEORDER
)

// Byte orders, in that of the host (enum byteorder in include/datatype.h of nftables).
const hostOrder, networkOrder = 1, 2

func udata(kind byte, value []byte) []byte {
	return append([]byte{kind, byte(len(value))}, value...)
}

// comment writes the comment of a rule or of an element. It is closed by NUL.
func (e *encoder) comment(kind uint16, text string) {
	e.value(kind, udata(udataComment, append([]byte(text), 0)))
}

// comment finds the comment of a rule or of an element. Whoever wrote it, it may be cut short anywhere.
func comment(b []byte) string {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if b[0] == udataComment {
			return strings.TrimSuffix(string(b[2:2+int(b[1])]), "\x00")
		}
		b = b[2+int(b[1]):]
	}
	return ""
}
