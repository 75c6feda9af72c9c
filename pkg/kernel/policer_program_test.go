package kernel

import (
	"errors"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

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

// judge runs a policer over packets of a length, each with segments of gso bytes, and counts those that pass.
func judge(t *testing.T, program int, packets, length int, gso uint32) (passed int) {
	t.Helper()
	packet := make([]byte, length)
	packet[12] = 8 // IPv4: the kernel looks at the header before it runs the program
	packet[14] = 0x45
	context := make([]byte, 192)
	context[skbGSOSize], context[skbGSOSize+1] = byte(gso), byte(gso>>8)
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
		length          int
		gso             uint32
		burst           uint64
		packets, passed int
	}{
		{"as many as fit", frame, 0, 10 * frame, 25, 10},
		{"one that just fits", frame, 0, frame, 3, 1},
		{"one that does not", frame, 0, frame - 1, 3, 0},
		{"headers of segments count", 2554, 500, 2 * (2554 + 4*segmentHeaders), 5, 2},
		{"to the byte", 2554, 500, 2*(2554+4*segmentHeaders) - 1, 5, 1},
		{"of absurdly many too", 1000, 1, 1000 + 999*segmentHeaders, 2, 1},
		{"no segments in a short packet", 500, 1000, 500, 2, 1},
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
			if got := judge(t, program, tt.packets, tt.length, tt.gso); got != tt.passed {
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
