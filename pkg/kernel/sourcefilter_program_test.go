package kernel

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	classic "golang.org/x/net/bpf"

	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/test/frames"
)

func frameHost(n byte) frames.Host {
	return frames.Host{
		MAC: net.HardwareAddr{0x0a, 0x58, 10, 88, 0, n}, IPv4: netip.AddrFrom4([4]byte{10, 88, 0, n}),
		IPv6:      netip.MustParseAddr(fmt.Sprintf("2001:db8:88::%x", n)),
		LinkLocal: netip.MustParseAddr(fmt.Sprintf("fe80::858:aff:fe58:%x", n)),
	}
}

func filterOf(h frames.Host, more ...netip.Addr) plan.SourceFilter {
	return plan.SourceFilter{Link: "vh", MAC: h.MAC, Sources: append(more, h.IPv4, h.IPv6, h.LinkLocal)}
}

func run(t testing.TB, f plan.SourceFilter, frame []byte) uint32 {
	t.Helper()
	vm, err := classic.NewVM(sourceFilterProgram(f))
	if err != nil {
		t.Fatal(err)
	}
	verdict, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(verdict)
}

func TestSourceFilterProgram(t *testing.T) {
	me, victim, receiver := frameHost(5), frameHost(6), frameHost(7)
	var many []netip.Addr // more than a conditional jump reaches over
	for n := range byte(60) {
		many = append(many, frameHost(100+n).IPv4, frameHost(100+n).IPv6)
	}
	for _, f := range frames.OnBridge(me, victim, receiver) {
		// The kernel takes the outer tag off before the program sees the frame.
		if kind := uint16(f.Bytes[12])<<8 | uint16(f.Bytes[13]); kind == 0x8100 || kind == 0x88a8 {
			f.Bytes = append(f.Bytes[:12:12], f.Bytes[16:]...)
		}
		want := uint32(filterDrop)
		if f.Honest {
			want = filterNext
		}
		for _, filter := range []plan.SourceFilter{filterOf(me), filterOf(me, many...)} {
			if got := run(t, filter, f.Bytes); got != want {
				t.Errorf("%s, %d addresses: %#x, want %#x", f.Name, len(filter.Sources), got, want)
			}
		}
	}
}

// A frame that ends early is dropped, never let pass by reading beyond its end: 0 would do so.
func TestSourceFilterOfShortFrames(t *testing.T) {
	me, victim, receiver := frameHost(5), frameHost(6), frameHost(7)
	for _, f := range frames.OnBridge(me, victim, receiver) {
		for n := range len(f.Bytes) {
			switch got := run(t, filterOf(me), f.Bytes[:n]); {
			case got != filterDrop && got != filterNext:
				t.Errorf("%s, %d bytes: %#x", f.Name, n, got)
			case got == filterNext && !f.Honest && f.Bytes[12] != 0x81:
				t.Errorf("%s passes when cut to %d bytes", f.Name, n)
			}
		}
	}
}

// Whatever passes has the container's MAC and, of IP, one of its addresses.
func FuzzSourceFilter(f *testing.F) {
	me, victim, receiver := frameHost(5), frameHost(6), frameHost(7)
	for _, x := range frames.OnBridge(me, victim, receiver) {
		f.Add(x.Bytes)
	}
	filter := filterOf(me)
	own := map[netip.Addr]bool{netip.IPv6Unspecified(): true}
	for _, a := range filter.Sources {
		own[a] = true
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		switch verdict := run(t, filter, b); verdict {
		case filterDrop:
			return
		case filterNext:
		default:
			t.Fatalf("verdict %#x", verdict)
		}
		source := netip.Addr{}
		switch {
		case net.HardwareAddr(b[6:12]).String() != me.MAC.String():
			t.Errorf("passes with MAC %x", b[6:12])
		case b[12] == 0x08 && b[13] == 0x00:
			source = netip.AddrFrom4([4]byte(b[26:]))
		case b[12] == 0x86 && b[13] == 0xdd:
			source = netip.AddrFrom16([16]byte(b[22:]))
		}
		if source.IsValid() && !own[source] {
			t.Errorf("passes from %s", source)
		}
	})
}
