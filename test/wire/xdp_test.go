package wire

import (
	"errors"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/test/node"
)

// Verdicts of an XDP program (enum xdp_action of include/uapi/linux/bpf.h).
const (
	xdpDrop = 1
	xdpPass = 2
)

// verdict loads an XDP program that has one opinion of all packets.
func verdict(t *testing.T, action int32) int {
	t.Helper()
	type instruction struct {
		op, _     uint8 // and registers
		_         int16 // offset
		immediate int32
	}
	program := [2]instruction{
		{op: unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K, immediate: action}, // r0 = action
		{op: unix.BPF_JMP | unix.BPF_EXIT},
	}
	licence := [...]byte{'A', 0}
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&program)
	pins.Pin(&licence)
	attribute := struct {
		kind, count       uint32
		program, licence  uint64 // pointers
		logLevel, logSize uint32
		log               uint64
		version, flags    uint32
	}{
		kind: unix.BPF_PROG_TYPE_XDP, count: uint32(len(program)),
		program: uint64(uintptr(unsafe.Pointer(&program))), licence: uint64(uintptr(unsafe.Pointer(&licence))),
	}
	for range 20 { // the verifier gives up with EAGAIN when a signal comes
		fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attribute)), unsafe.Sizeof(attribute))
		switch errno {
		case 0:
			t.Cleanup(func() { _ = unix.Close(int(fd)) })
			return int(fd)
		case syscall.EPERM:
			t.Skip("needs the machine's root")
		case syscall.EAGAIN:
		default:
			t.Fatalf("load an XDP program: %v", errno)
		}
	}
	t.Fatal("the verifier is always interrupted")
	return -1
}

// attachXDP has the driver run a program, none with -1.
func (e end) attachXDP(program int) error {
	return e.Do(func() error {
		l, err := netlink.LinkByName(e.name)
		if err != nil {
			return err
		}
		return netlink.LinkSetXdpFdWithFlags(l, program, unix.XDP_FLAGS_DRV_MODE)
	})
}

// natively reports whether the driver runs a program.
func (e end) natively(t *testing.T) (is bool) {
	t.Helper()
	err := e.Do(func() error {
		l, err := netlink.LinkByName(e.name)
		if err == nil {
			x := l.Attrs().Xdp
			is = x != nil && x.Attached && x.AttachMode == nl.XDP_ATTACHED_DRV
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return is
}

// TestXDP: on either end a program of the driver's sees every packet: one that passes them changes nothing, one that
// drops them cuts the container off, in both families, and its end gives everything back.
func TestXDP(t *testing.T) {
	t.Parallel()
	for mode, keys := range modes {
		for _, at := range []string{"host", "inside"} {
			for name, settings := range map[string]object{"by default": {}, "with queues and GRO": {"numTxQueues": 2, "numRxQueues": 2, "gro": true}} {
				t.Run(mode+" "+at+" "+name, func(t *testing.T) {
					t.Parallel()
					pass, drop := verdict(t, xdpPass), verdict(t, xdpDrop)
					m := newMachine(t, keys, settings)
					a, b := m.pod(), m.pod()
					e := b.ends()[at]
					m.must(e.attachXDP(pass))
					if !e.natively(t) {
						t.Fatal("the driver does not run the program")
					}
					for _, to := range b.addresses() {
						m.must(a.Ping(to))
					}
					m.must(b.check())
					m.must(e.attachXDP(drop))
					for _, to := range b.addresses() {
						if m.answers(a, to) {
							t.Errorf("%s answers through a program that drops everything", to)
						}
					}
					m.must(e.attachXDP(-1))
					for _, to := range b.addresses() {
						m.must(a.Ping(to))
					}
					m.must(b.del())
				})
			}
		}
	}
}

func (m *machine) answers(from *pod, to netip.Addr) bool {
	return from.PingWith(to, node.PingOptions{Timeout: 100 * time.Millisecond}) == nil
}

// TestXDPNeeds: what the documentation says a program needs is what the kernel insists on.
func TestXDPNeeds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		settings object
		want     error
	}{
		{"fewer queues to receive from than to send to", object{"numTxQueues": 2}, syscall.ENOSPC},
		{"packets longer than a page", object{"mtu": 3600}, syscall.ERANGE},
		{"the longest packets", object{"mtu": 3400}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pass := verdict(t, xdpPass)
			m := newMachine(t, tt.settings)
			for at, e := range m.pod().ends() {
				if err := e.attachXDP(pass); !errors.Is(err, tt.want) {
					t.Errorf("%s: %v, want %v", at, err, tt.want)
				}
			}
		})
	}
}
