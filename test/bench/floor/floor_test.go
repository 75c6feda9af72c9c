package main

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

func TestConfig(t *testing.T) {
	c := config{"address": "0a58ff09", "host": "floor1"}
	if got := c.text("host"); got != "floor1" {
		t.Errorf("host is %q", got)
	}
	if got := c.bytes("address"); !bytes.Equal(got, []byte{10, 88, 255, 9}) {
		t.Errorf("address is %v", got)
	}
	if got := c.text("bridge") + string(c.bytes("address6")); got != "" {
		t.Errorf("what is absent is %q", got)
	}
}

// A batch is messages that the kernel can take apart: lengths are right, and everything is aligned to four bytes.
func TestBatch(t *testing.T) {
	c := config{"host": "floor1", "lease": "10.88.0.9@bench", "address": "0a580009"}
	var b batch
	c.pair(&b, "eth0", 7, 0)
	c.lease(&b)
	c.outside(&b, 3)
	want := []uint16{unix.RTM_NEWLINK, unix.RTM_NEWLINKPROP, unix.RTM_NEWROUTE}
	var got []message
	for m := range messages(b.buf) {
		got = append(got, m)
	}
	if len(got) != len(want) {
		t.Fatalf("got %d messages, want %d: %x", len(got), len(want), b.buf)
	}
	for i, m := range got {
		if m.kind != want[i] {
			t.Errorf("message %d is of kind %d, want %d", i, m.kind, want[i])
		}
	}
	if name := got[1].attr(unix.IFLA_IFNAME); string(name) != "floor1\x00" {
		t.Errorf("the lease is of %q", name)
	}
	if list := got[1].attr(unix.IFLA_PROP_LIST | unix.NLA_F_NESTED); string(list[4:]) != "10.88.0.9@bench\x00" {
		t.Errorf("the lease is %q", list)
	}
}

// The kernel's answers are not trusted to be whole.
func TestMessagesStopAtWhatIsCut(t *testing.T) {
	var b batch
	b.link(unix.RTM_NEWLINK, 0, 0)
	b.attr(unix.IFLA_IFNAME, zero("eth0"))
	b.end()
	for n := range len(b.buf) {
		for m := range messages(b.buf[:n]) {
			t.Errorf("%d bytes of %d are a message: %v", n, len(b.buf), m)
		}
	}
	for m := range messages(b.buf) {
		binary.NativeEndian.PutUint16(m.body[unix.SizeofIfInfomsg:], 99)
		if got := m.attr(unix.IFLA_IFNAME); got != nil {
			t.Errorf("an attribute longer than its message is %q", got)
		}
	}
}
