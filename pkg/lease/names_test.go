package lease

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// nameOf is what CNI allows as network name and container id (CNI spec 1.1.0).
var nameOf = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`)

func TestHostName(t *testing.T) {
	long := strings.Repeat("n", 200)
	tests := []struct {
		name                         string
		network, containerID, ifName string
		want                         string
	}{
		// printf 'podnet\0c1\0eth0' | sha256sum
		{"known value", "podnet", "c1", "eth0", "vethabff7fa7da3"},
		{"second interface", "podnet", "c1", "eth1", "vethcff3bbd30e3"},
		{"same letters, other parts", "podnetc", "1", "eth0", "vethcbaa1c072e5"},
		{"long network counts in its coded form", long, "c1", "eth0", HostName(short(long, maxNetwork), "c1", "eth0")},
		{"long id counts in its coded form", "podnet", long, "eth0", HostName("podnet", short(long, maxContainer), "eth0")},
	}
	seen := map[string]string{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := HostName(tt.network, tt.containerID, tt.ifName)
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if !regexp.MustCompile(`^veth[0-9a-f]{11}$`).MatchString(got) {
				t.Errorf("%s is not veth and 11 hexadecimal digits", got)
			}
			if other, clash := seen[got]; clash {
				t.Errorf("%s is also the name of %q", got, other)
			}
			seen[got] = tt.name
		})
	}
}

func TestName(t *testing.T) {
	fits := strings.Repeat("n", 87)
	longest := "2001:db80:1111:2222:3333:4444:5555:6666"
	tests := []struct {
		name, network, addr, want string
	}{
		{"IPv4", "podnet", "10.88.0.5", "10.88.0.5@podnet"},
		{"IPv6", "podnet", "2001:db8::5", "2001:db8::5@podnet"},
		{"IPv4 in IPv6 form", "podnet", "::ffff:10.88.0.5", "10.88.0.5@podnet"},
		{"zone", "podnet", "fe80::5%eth0", "fe80::5@podnet"},
		{"exactly 127 bytes", fits, longest, longest + "@" + fits},
		{"cut", fits + "n", longest, longest + "@" + fits[:70] + "~01dac192c9a863b9"},
		{"cut whatever the address", fits + "n", "10.0.0.1", "10.0.0.1@" + fits[:70] + "~01dac192c9a863b9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Name(tt.network, netip.MustParseAddr(tt.addr))
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if len(got) > 127 {
				t.Errorf("%d bytes are more than the kernel's 127", len(got))
			}
		})
	}
}

func TestParse(t *testing.T) {
	long := strings.Repeat("n", 100)
	tests := []struct {
		name, alt, network string
		want               string // empty: not a lease of that network
	}{
		{"IPv4", "10.88.0.5@podnet", "podnet", "10.88.0.5"},
		{"IPv6", "2001:db8::5@podnet", "podnet", "2001:db8::5"},
		{"cut network", Name(long, netip.MustParseAddr("2001:db8::5")), long, "2001:db8::5"},
		{"network that another cut network begins like", Name(long, netip.MustParseAddr("10.0.0.1")), long + "n", ""},
		{"other network", "10.88.0.5@podnet", "pod", ""},
		{"network with the same end", "10.88.0.5@my-podnet", "podnet", ""},
		{"no network", "10.88.0.5", "podnet", ""},
		{"empty", "", "podnet", ""},
		{"no address", "@podnet", "podnet", ""},
		{"not an address", "invalid IP@podnet", "podnet", ""},
		{"leading zero", "10.88.0.05@podnet", "podnet", ""},
		{"upper case", "2001:DB8::5@podnet", "podnet", ""},
		{"not compressed", "2001:db8:0:0:0:0:0:5@podnet", "podnet", ""},
		{"IPv4 in IPv6 form", "::ffff:10.88.0.5@podnet", "podnet", ""},
		{"zone", "fe80::5%eth0@podnet", "podnet", ""},
		{"prefix length", "10.88.0.5/24@podnet", "podnet", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Parse(tt.alt, tt.network)
			if ok != (tt.want != "") || (ok && got != netip.MustParseAddr(tt.want)) {
				t.Errorf("got %v %v, want %q", got, ok, tt.want)
			}
		})
	}
}

func TestPlain(t *testing.T) {
	tests := []struct{ name, addr, want string }{
		{"longest IPv4", "100.100.100.100", "100.100.100.100"},
		{"IPv4 in IPv6 form", "::ffff:10.88.0.5", "10.88.0.5"},
		{"IPv6", "2001:db8::5", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Plain(netip.MustParseAddr(tt.addr))
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("got %q %v, want %q", got, ok, tt.want)
			}
			if len(got) > maxIfName {
				t.Errorf("%q is longer than an interface name may be", got)
			}
		})
	}
}

func FuzzName(f *testing.F) {
	f.Add("podnet", "pod", []byte{10, 88, 0, 5})
	f.Add("a", "b", netip.MustParseAddr("2001:db8::5").AsSlice())
	f.Add("net", "net", netip.MustParseAddr("::ffff:10.0.0.1").AsSlice())
	f.Add(strings.Repeat("n", 87), strings.Repeat("n", 88), netip.MustParseAddr("2001:db8::").AsSlice())
	f.Add(strings.Repeat("n", 120)+"a", strings.Repeat("n", 120)+"b", []byte{192, 0, 2, 1})
	f.Fuzz(func(t *testing.T, network, other string, raw []byte) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok || !nameOf.MatchString(network) || !nameOf.MatchString(other) {
			t.Skip("not valid in CNI")
		}
		name := Name(network, addr)
		if len(name) > 127 {
			t.Errorf("%s has %d bytes", name, len(name))
		}
		if got, ok := Parse(name, network); !ok || got != addr.Unmap() {
			t.Errorf("%s reads back as %v %v, want %v", name, got, ok, addr.Unmap())
		}
		if got, ok := Parse(name, other); ok && other != network {
			t.Errorf("%s is a lease of %v on %s and on %s", name, got, network, other)
		}
		if got, ok := Parse(other, network); ok {
			t.Errorf("the name %s of a network reads as a lease of %v", other, got)
		}
	})
}
