package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Attributes of netlink (struct nlattr, include/uapi/linux/netlink.h) are written and read here, and not by a library:
// a process that lives for one ADD pays for each page of code that it is the first to use.

const (
	attributeHeader = unix.SizeofNlAttr
	alignment       = unix.NLA_ALIGNTO // of attributes and of messages
)

// align rounds a length up to where the next attribute begins (NLA_ALIGN).
func align(n int) int { return (n + alignment - 1) &^ (alignment - 1) }

// encoder writes attributes, numbers in network byte order.
type encoder struct {
	bytes []byte
	err   error // the first thing that could not be written
}

// text writes a text, closed by NUL.
func (e *encoder) text(kind uint16, s string) {
	at := e.begin(kind)
	e.bytes = append(append(e.bytes, s...), 0)
	e.end(at)
}

// value writes a value as it is.
func (e *encoder) value(kind uint16, b []byte) {
	at := e.begin(kind)
	e.bytes = append(e.bytes, b...)
	e.end(at)
}

func (e *encoder) uint32(kind uint16, n uint32) {
	at := e.begin(kind)
	e.bytes = binary.BigEndian.AppendUint32(e.bytes, n)
	e.end(at)
}

func (e *encoder) int32(kind uint16, n int32) { e.uint32(kind, uint32(n)) }

func (e *encoder) uint64(kind uint16, n uint64) {
	at := e.begin(kind)
	e.bytes = binary.BigEndian.AppendUint64(e.bytes, n)
	e.end(at)
}

// nested writes what fill writes as one attribute.
func (e *encoder) nested(kind uint16, fill func(*encoder)) {
	at := e.begin(kind | unix.NLA_F_NESTED)
	fill(e)
	e.end(at)
}

func (e *encoder) begin(kind uint16) (at int) {
	at = len(e.bytes)
	e.bytes = append(e.bytes, 0, 0)
	e.bytes = binary.NativeEndian.AppendUint16(e.bytes, kind)
	return at
}

// end sets the length of the attribute that begins at an offset.
func (e *encoder) end(at int) {
	size := len(e.bytes) - at
	if size > math.MaxUint16 && e.err == nil {
		e.err = fmt.Errorf("an attribute of %d bytes: netlink has at most %d", size, math.MaxUint16)
	}
	binary.NativeEndian.PutUint16(e.bytes[at:], uint16(size))
	e.bytes = append(e.bytes, make([]byte, align(size)-size)...)
}

// attribute is one that was read. Numbers are in network byte order, and 0 where the value is no such number.
type attribute struct {
	kind   uint16
	nested bool // it is said to hold attributes; the kernel does not say it of its own
	value  []byte
}

func (a attribute) uint32() uint32 {
	if len(a.value) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(a.value)
}

func (a attribute) int32() int32 { return int32(a.uint32()) }

func (a attribute) uint64() uint64 {
	if len(a.value) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(a.value)
}

func (a attribute) text() string { return unix.ByteSliceToString(a.value) }

// attributes reads what is in a value, as far as it is one attribute after another.
func (a attribute) attributes(visit func(attribute)) error {
	b := a.value
	for len(b) > 0 {
		size := 0
		if len(b) >= attributeHeader {
			size = int(binary.NativeEndian.Uint16(b))
		}
		if size < attributeHeader || size > len(b) {
			return errors.New("the kernel sent an attribute that is cut off")
		}
		const flags = unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER
		kind := binary.NativeEndian.Uint16(b[2:])
		visit(attribute{kind &^ flags, kind&unix.NLA_F_NESTED != 0, b[attributeHeader:size]})
		b = b[min(align(size), len(b)):]
	}
	return nil
}
