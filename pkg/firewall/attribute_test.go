package firewall

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAttributes(t *testing.T) {
	var e encoder
	e.text(1, "veth")
	e.nested(2, func(w *encoder) {
		w.uint32(3, 0x01020304)
		w.int32(4, -300)
	})
	e.uint64(5, 1<<40)
	e.value(6, []byte{7, 8, 9})
	var got []string
	show := func(a attribute) { got = append(got, fmt.Sprintf("%d %x", a.kind, a.value)) }
	var inner attribute
	err := attribute{value: e.bytes}.attributes(func(a attribute) {
		if a.kind == 2 {
			inner = a
			return
		}
		show(a)
	})
	if err != nil || e.err != nil {
		t.Fatal(err, e.err)
	}
	must(t, inner.attributes(func(a attribute) {
		show(a)
		if a.kind == 4 && a.int32() != -300 {
			t.Errorf("got %d, want -300", a.int32())
		}
	}))
	want := []string{"1 7665746800", "5 0000010000000000", "6 070809", "3 01020304", "4 fffffed4"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

// Whoever reads what is cut off says so, wherever the cut is.
func TestAttributesCutOff(t *testing.T) {
	var e encoder
	e.text(1, "veth") // 9 bytes, filled up to 12
	e.uint32(2, 3)
	for n := range e.bytes {
		err := attribute{value: e.bytes[:n]}.attributes(func(attribute) {})
		if whole := n == 0 || n >= 9 && n <= 12; whole != (err == nil) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestAttributeTooLong(t *testing.T) {
	var e encoder
	e.nested(1, func(w *encoder) { w.value(2, make([]byte, math.MaxUint16)) })
	if e.err == nil {
		t.Error("no error")
	}
}

func TestVerdict(t *testing.T) {
	var words encoder
	words.uint32(unix.NLMSGERR_ATTR_OFFS, 20)
	words.text(unix.NLMSGERR_ATTR_MSG, "not like this")
	errno := uint32(unix.EINVAL)
	refused := append(native(-errno), make([]byte, unix.SizeofNlMsghdr)...)
	const tlvs, capped = unix.NLM_F_ACK_TLVS, unix.NLM_F_CAPPED
	for _, c := range []struct {
		name string
		a    answer
		is   error
		text string
	}{
		{"an object", answer{kind: 0x0a00, data: refused}, nil, ""},
		{"done", answer{kind: unix.NLMSG_DONE, data: []byte{0, 0, 0, 0}}, nil, ""},
		{"a list that failed", answer{kind: unix.NLMSG_DONE, data: refused[:4]}, unix.EINVAL, "invalid argument"},
		{"acknowledged", answer{kind: unix.NLMSG_ERROR, flags: capped, data: make([]byte, 20)}, nil, ""},
		{"refused", answer{kind: unix.NLMSG_ERROR, flags: capped, data: refused}, unix.EINVAL, "invalid argument"},
		{
			"refused with words",
			answer{kind: unix.NLMSG_ERROR, flags: capped | tlvs, data: append(refused, words.bytes...)},
			unix.EINVAL, "invalid argument (not like this)",
		},
	} {
		err := c.a.verdict()
		if !errors.Is(err, c.is) || err != nil && err.Error() != c.text {
			t.Errorf("%s: got %v, want %q", c.name, err, c.text)
		}
	}
	if (answer{kind: unix.NLMSG_ERROR, data: []byte{1}}).verdict() == nil {
		t.Error("cut off: no error")
	}
}
