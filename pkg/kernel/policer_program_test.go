package kernel

import (
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// testRun is the part of union bpf_attr that runs a program on a packet without any interface (BPF_PROG_TEST_RUN).
type testRun struct {
	Program, Verdict          uint32
	LengthIn, LengthOut       uint32
	PacketIn, PacketOut       uint64
	Repeat, Duration          uint32
	ContextIn, ContextOut     uint32
	ContextInAt, ContextOutAt uint64
}

// The beginnings of frames, of as many bytes as have to be right: the Ethernet header is all zeros but for the type.
var (
	ethernet4 = append(make([]byte, 12), 8, 0)
	ethernet6 = append(make([]byte, 12), 0x86, 0xdd)
	gre       = slices.Concat(ethernet4, []byte{0x45, 8: 64, 9: unix.IPPROTO_GRE, 19: 0})
	udp4      = slices.Concat(ethernet4, []byte{0x45, 8: 64, 9: unix.IPPROTO_UDP, 19: 0})
	tcp4      = slices.Concat(ethernet4, []byte{0x45, 8: 64, 9: unix.IPPROTO_TCP, 19: 0}, []byte{12: 5 << 4, 19: 0})
	// The longest headers of both, 60 bytes each.
	tcp4Options = slices.Concat(ethernet4, []byte{0x4f, 8: 64, 9: unix.IPPROTO_TCP, 59: 0}, []byte{12: 15 << 4, 59: 0})
	udp6        = slices.Concat(ethernet6, []byte{0x60, 6: unix.IPPROTO_UDP, 39: 0})
	tcp6        = slices.Concat(ethernet6, []byte{0x60, 6: unix.IPPROTO_TCP, 39: 0}, []byte{12: 8 << 4, 31: 0})
	options6    = slices.Concat(ethernet6, []byte{0x60, 6: unix.IPPROTO_DSTOPTS, 39: 0})
	tunnel6     = slices.Concat(ethernet6, []byte{0x60, 6: unix.IPPROTO_IPV6, 39: 0})
)

// judge runs a policer over packets of a length, each with segments of gso bytes, and counts those that pass.
func judge(t *testing.T, program int, head []byte, packets, length int, gso uint32) (passed int) {
	t.Helper()
	packet := make([]byte, length)
	copy(packet, head)
	context := make([]byte, 192)
	binary.NativeEndian.PutUint32(context[skbGSOSize:], gso)
	for range packets {
		var pins runtime.Pinner
		run := testRun{
			Program: uint32(program), LengthIn: uint32(length), PacketIn: address(&pins, &packet[0]),
			ContextIn: uint32(len(context)), ContextInAt: address(&pins, &context[0]),
		}
		_, err := bpf(unix.BPF_PROG_TEST_RUN, &run)
		pins.Unpin()
		if err != nil {
			t.Fatalf("run the program: %v", err)
		}
		if int32(run.Verdict) == verdictNext {
			passed++
		} else if run.Verdict != verdictDrop {
			t.Fatalf("verdict %d", int32(run.Verdict))
		}
	}
	return passed
}

// The bucket is so slow to fill that nothing flows in while the test runs: what passes is the burst, to the packet.
func TestPolicerCounts(t *testing.T) {
	const frame = 1000
	for _, tt := range []struct {
		name            string
		head            []byte
		length          int
		gso             uint32
		burst           uint64
		packets, passed int
	}{
		{"as many as fit", udp4, frame, 0, 10 * frame, 25, 10},
		{"one that just fits", udp4, frame, 0, frame, 3, 1},
		{"one that does not", udp4, frame, 0, frame - 1, 3, 0},
		{"headers of segments count", udp4, 42 + 2500, 500, 2 * (42 + 2500 + 4*42), 5, 2},
		{"to the byte", udp4, 42 + 2500, 500, 2*(42+2500+4*42) - 1, 5, 1},
		{"of a last one that is short too", udp4, 42 + 2501, 500, 42 + 2501 + 5*42, 2, 1},
		{"of absurdly many too", udp4, 42 + 958, 1, 42 + 958 + 957*42 - 1, 2, 0},
		{"no segments in a short packet", udp4, 500, 1000, 500, 2, 1},
		{"nor in one that is shorter than its header", udp4, 42, 1, 42, 2, 1},
		{"TCP", tcp4, 54 + 900, 100, 54 + 900 + 8*54, 2, 1},
		{"TCP, to the byte", tcp4, 54 + 900, 100, 54 + 900 + 8*54 - 1, 2, 0},
		{"TCP with all options", tcp4Options, 134 + 10, 1, 134 + 10 + 9*134, 2, 1},
		{"TCP with all options, to the byte", tcp4Options, 134 + 10, 1, 134 + 10 + 9*134 - 1, 2, 0},
		{"TCP over IPv6", tcp6, 86 + 900, 100, 86 + 900 + 8*86, 2, 1},
		{"TCP over IPv6, to the byte", tcp6, 86 + 900, 100, 86 + 900 + 8*86 - 1, 2, 0},
		{"UDP over IPv6", udp6, 62 + 900, 100, 62 + 900 + 8*62, 2, 1},
		{"UDP over IPv6, to the byte", udp6, 62 + 900, 100, 62 + 900 + 8*62 - 1, 2, 0},
		{"TCP without a header", tcp4[:34], 40, 1, 100 * frame, 2, 0},
		{"IPv6 extension headers", options6, frame, 100, 100 * frame, 2, 0},
		{"IPv6 extension headers without segments", options6, frame, 0, 2 * frame, 3, 2},
		{"a tunnel", gre, 1000, 100, 1000 + 9*42, 2, 1},
		{"a tunnel, to the byte", gre, 1000, 100, 1000 + 9*42 - 1, 2, 0},
		{"a tunnel over IPv6", tunnel6, 1000, 100, 1000 + 9*62, 2, 1},
		{"a tunnel over IPv6, to the byte", tunnel6, 1000, 100, 1000 + 9*62 - 1, 2, 0},
		{"a tunnel's short packet", gre, 500, 1000, 500, 2, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// A byte takes eight milliseconds; a whole packet more than the test.
			program, err := loadPolicer(bucketOf(plan.Policer{Rate: 125, Burst: tt.burst}))
			if errors.Is(err, syscall.EPERM) {
				t.Skip("needs the machine's root")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(program)
			if got := judge(t, program, tt.head, tt.packets, tt.length, tt.gso); got != tt.passed {
				t.Errorf("%d of %d packets passed, want %d", got, tt.packets, tt.passed)
			}
			m, err := firstMap(program)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(m)
			var b bucket
			if err := arrayElement(unix.BPF_MAP_LOOKUP_ELEM, m, &b); err != nil {
				t.Fatal(err)
			}
			if want := uint64(tt.packets - tt.passed); b.Dropped != want {
				t.Errorf("the bucket counts %d dropped packets, want %d", b.Dropped, want)
			}
		})
	}
}

func TestPolicerError(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.EPERM, unix.EINVAL, unix.ENOSYS, notCompiled} {
		if err := policerError(errno); cnierr.Of(err, 0).Code != cnierr.FeatureMissing || !errors.Is(err, errno) {
			t.Errorf("%v: %v, want a missing feature", errno, err)
		}
	}
	if err := policerError(unix.ENOMEM); cnierr.Of(err, 1).Code != 1 {
		t.Errorf("out of memory: %v, want no other code", err)
	}
}
