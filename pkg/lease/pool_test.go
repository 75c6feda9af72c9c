package lease

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// addr reads an address; the empty text is no address.
func addr(t testing.TB, text string) netip.Addr {
	t.Helper()
	if text == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// newRange calls NewRange with "subnet first-last gateway". What is missing or cannot be read was not given.
func newRange(text string) (Range, error) {
	keys := append(strings.Fields(text), "", "", "")
	subnet, _ := netip.ParsePrefix(keys[0])
	firstText, lastText, _ := strings.Cut(keys[1], "-")
	first, _ := netip.ParseAddr(firstText)
	last, _ := netip.ParseAddr(lastText)
	gateway, _ := netip.ParseAddr(keys[2])
	return NewRange(subnet, first, last, gateway)
}

func rangeOf(t testing.TB, text string) Range {
	t.Helper()
	r, err := newRange(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// poolOf reads sets separated by ";" of ranges separated by ",", each as newRange reads it, and excluded prefixes.
func poolOf(t testing.TB, sets string, exclude ...string) Pool {
	t.Helper()
	var p Pool
	for set := range strings.SplitSeq(sets, ";") {
		p.Sets = append(p.Sets, nil)
		for text := range strings.SplitSeq(set, ",") {
			p.Sets[len(p.Sets)-1] = append(p.Sets[len(p.Sets)-1], rangeOf(t, text))
		}
	}
	for _, e := range exclude {
		p.Exclude = append(p.Exclude, netip.MustParsePrefix(e))
	}
	return p
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestNewRange(t *testing.T) {
	const ends = "ffff:ffff:ffff:ffff"
	tests := []struct{ name, keys, want, gateway string }{
		{"IPv4 defaults", "10.0.0.0/24", "10.0.0.1-10.0.0.254", "10.0.0.1"},
		{"IPv6 defaults", "2001:db8::/64", "2001:db8::1-2001:db8::" + ends, "2001:db8::1"},
		{"smallest IPv4", "10.0.0.4/30", "10.0.0.5-10.0.0.6", "10.0.0.5"},
		{"smallest IPv6", "2001:db8::4/126", "2001:db8::5-2001:db8::7", "2001:db8::5"},
		{"IPv4 not on a byte", "10.0.64.0/18", "10.0.64.1-10.0.127.254", "10.0.64.1"},
		{"IPv6 before its middle", "2001:db8::/33", "2001:db8::1-2001:db8:7fff:ffff:" + ends, "2001:db8::1"},
		{"IPv6 /63", "2001:db8::/63", "2001:db8::1-2001:db8:0:1:" + ends, "2001:db8::1"},
		{"the largest of IPv4", "128.0.0.0/2", "128.0.0.1-191.255.255.254", "128.0.0.1"},
		{"the largest of IPv6", "8000::/2", "8000::1-bfff:ffff:ffff:ffff:" + ends, "8000::1"},
		{"class E", "240.0.0.0/5", "240.0.0.1-247.255.255.254", "240.0.0.1"},
		{"gateway at the end of IPv6", "2001:db8::/126 - 2001:db8::3", "2001:db8::1-2001:db8::3", "2001:db8::3"},
		{"all given", "10.0.0.0/24 10.0.0.10-10.0.0.20 10.0.0.254", "10.0.0.10-10.0.0.20", "10.0.0.254"},
		{"one address", "10.0.0.0/24 10.0.0.10-10.0.0.10", "10.0.0.10-10.0.0.10", "10.0.0.1"},
		{"start only", "10.0.0.0/24 10.0.0.10-", "10.0.0.10-10.0.0.254", "10.0.0.1"},
		{"end only", "10.0.0.0/24 -10.0.0.9", "10.0.0.1-10.0.0.9", "10.0.0.1"},
		{"network and broadcast given", "10.0.0.0/24 10.0.0.0-10.0.0.255", "10.0.0.0-10.0.0.255", "10.0.0.1"},
		{
			"IPv4 in IPv6 form", "10.0.0.0/24 ::ffff:10.0.0.2-::ffff:10.0.0.9 ::ffff:10.0.0.3",
			"10.0.0.2-10.0.0.9", "10.0.0.3",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := rangeOf(t, tt.keys)
			if r.String() != tt.want || r.Gateway != addr(t, tt.gateway) {
				t.Errorf("got %s with gateway %s, want %s with %s", r, r.Gateway, tt.want, tt.gateway)
			}
			if subnet := strings.Fields(tt.keys)[0]; r.Subnet.String() != subnet {
				t.Errorf("got subnet %s, want %s", r.Subnet, subnet)
			}
		})
	}
}

func TestNewRangeRefuses(t *testing.T) {
	const holds = " has addresses that no container can have: "
	tests := []struct{ name, keys, want string }{
		{"no subnet", "", "subnet is missing or not a network"},
		{"IPv4 too small", "10.0.0.0/31", "subnet 10.0.0.0/31 is too small to lease from: want /30 or larger"},
		{"IPv6 too small", "2001:db8::/127", "subnet 2001:db8::/127 is too small to lease from: want /126 or larger"},
		{"host bits", "10.0.0.7/24", "subnet 10.0.0.7/24 has host bits set: the network address is 10.0.0.0"},
		{"IPv6 form", "::ffff:10.0.0.0/120", "subnet ::ffff:10.0.0.0/120 is IPv4 in IPv6 form: write it as IPv4"},
		{"gateway outside", "10.0.0.0/24 - 10.1.0.1", "gateway 10.1.0.1 is outside subnet 10.0.0.0/24"},
		{"gateway IPv6", "10.0.0.0/24 - 2001:db8::1", "gateway 2001:db8::1 is outside subnet 10.0.0.0/24"},
		{"gateway with zone", "2001:db8::/64 - 2001:db8::1%eth0", "gateway 2001:db8::1%eth0 is outside subnet 2001:db8::/64"},
		{"gateway at the network address", "10.0.0.0/24 - 10.0.0.0", "gateway 10.0.0.0 is the network address of subnet 10.0.0.0/24"},
		{
			"gateway at the network address of IPv6", "2001:db8::/64 - 2001:db8::",
			"gateway 2001:db8:: is the network address of subnet 2001:db8::/64",
		},
		{"gateway at the broadcast address", "10.0.0.0/24 - 10.0.0.255", "gateway 10.0.0.255 is the broadcast address of subnet 10.0.0.0/24"},
		{"start outside", "10.0.0.0/24 10.1.0.1-", "rangeStart 10.1.0.1 is outside subnet 10.0.0.0/24"},
		{"end outside", "10.0.0.0/24 -10.0.1.0", "rangeEnd 10.0.1.0 is outside subnet 10.0.0.0/24"},
		{"start after end", "10.0.0.0/24 10.0.0.9-10.0.0.8", "rangeStart 10.0.0.9 is after rangeEnd 10.0.0.8"},
		{"end before default start", "10.0.0.0/24 -10.0.0.0", "rangeStart 10.0.0.1 is after rangeEnd 10.0.0.0"},
		{"the whole of IPv4", "0.0.0.0/0", "subnet 0.0.0.0/0" + holds + "0.0.0.0/8 is this network (RFC 1122)"},
		{"this network", "0.5.0.0/16", "subnet 0.5.0.0/16" + holds + "0.0.0.0/8 is this network (RFC 1122)"},
		{"loopback", "127.0.0.0/8", "subnet 127.0.0.0/8" + holds + "127.0.0.0/8 is loopback"},
		{"with loopback", "126.0.0.0/7 126.0.0.5-126.0.0.9", "subnet 126.0.0.0/7" + holds + "127.0.0.0/8 is loopback"},
		{"multicast", "224.0.0.0/4", "subnet 224.0.0.0/4" + holds + "224.0.0.0/4 is multicast"},
		{"class E to its end", "240.0.0.0/4", "subnet 240.0.0.0/4" + holds + "255.255.255.255/32 is broadcast"},
		{"the whole of IPv6", "::/0", "subnet ::/0" + holds + "::/127 is unspecified and loopback"},
		{"loopback of IPv6", "::/64", "subnet ::/64" + holds + "::/127 is unspecified and loopback"},
		{"IPv4 in a subnet of IPv6", "::fffe:0:0/95", "subnet ::fffe:0:0/95" + holds + "::ffff:0.0.0.0/96 is IPv4 in IPv6 form"},
		{"link-local", "fe80::/64", "subnet fe80::/64" + holds + "fe80::/10 is link-local"},
		{"multicast of IPv6", "ff00::/8", "subnet ff00::/8" + holds + "ff00::/8 is multicast"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if r, err := newRange(tt.keys); text(err) != tt.want {
				t.Errorf("got %v, %q\nwant %q", r, text(err), tt.want)
			}
		})
	}
}

func TestRangeContains(t *testing.T) {
	v4, v6 := rangeOf(t, "10.0.0.0/24 10.0.0.10-10.0.0.20"), rangeOf(t, "2001:db8::/64 2001:db8::10-2001:db8::20")
	tests := []struct {
		name  string
		r     Range
		addrs string
		want  bool
	}{
		{"ends and middle of IPv4", v4, "10.0.0.10 10.0.0.15 10.0.0.20", true},
		{"ends and middle of IPv6", v6, "2001:db8::10 2001:db8::15 2001:db8::20", true},
		{"beside IPv4", v4, "10.0.0.9 10.0.0.21 10.0.1.15 2001:db8::15 ::ffff:10.0.0.15", false},
		{"beside IPv6", v6, "2001:db8::f 2001:db8::21 2001:db8::15%eth0 10.0.0.15", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, a := range strings.Fields(tt.addrs) {
				if got := tt.r.Contains(addr(t, a)); got != tt.want {
					t.Errorf("%s in %s: got %v, want %v", a, tt.r, got, tt.want)
				}
			}
			if tt.r.Contains(netip.Addr{}) {
				t.Error("no address is in the range")
			}
		})
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		pool Pool
		want string
	}{
		{"one range", poolOf(t, "10.0.0.0/24"), ""},
		{"dual stack", poolOf(t, "10.0.0.0/24;2001:db8::/64"), ""},
		{"neighbours in one subnet", poolOf(t, "10.0.0.0/24 10.0.0.2-10.0.0.9,10.0.0.0/24 10.0.0.10-10.0.0.19"), ""},
		{"smallest", poolOf(t, "10.0.0.0/30"), ""},
		{"no sets", Pool{}, "there is no range set to lease from"},
		{"empty set", Pool{Sets: []Set{{rangeOf(t, "10.0.0.0/24")}, {}}}, "range set 2 has no range"},
		{
			"families mixed", poolOf(t, "10.0.0.0/24,2001:db8::/64"),
			"range set 1 mixes IPv4 and IPv6, 10.0.0.0/24 and 2001:db8::/64: want one set for each family",
		},
		{
			"overlap in a set", poolOf(t, "10.0.0.0/24,10.0.0.0/24 10.0.0.254-10.0.0.255"),
			"ranges 10.0.0.1-10.0.0.254 and 10.0.0.254-10.0.0.255 overlap",
		},
		{
			"overlap between sets", poolOf(t, "10.0.0.0/24 10.0.0.9-10.0.0.20;10.0.0.0/25 10.0.0.2-10.0.0.9"),
			"ranges 10.0.0.9-10.0.0.20 and 10.0.0.2-10.0.0.9 overlap",
		},
		{
			"overlap with the larger first", poolOf(t, "2001:db8::/64;2001:db8::/120 2001:db8::10-2001:db8::20"),
			"ranges 2001:db8::1-2001:db8::ffff:ffff:ffff:ffff and 2001:db8::10-2001:db8::20 overlap",
		},
		{
			"overlap with the smaller first", poolOf(t, "2001:db8::/120 2001:db8::10-2001:db8::20;2001:db8::/64"),
			"ranges 2001:db8::10-2001:db8::20 and 2001:db8::1-2001:db8::ffff:ffff:ffff:ffff overlap",
		},
		{
			"all excluded", poolOf(t, "10.0.0.0/24;2001:db8::/126", "2001:db8::/64"),
			"range set 2 (2001:db8::1-2001:db8::3) has nothing to lease: " +
				"every address is excluded, a gateway, a network address or a broadcast address",
		},
		{
			"only gateway, network and broadcast",
			poolOf(t, "10.0.0.0/30 10.0.0.0-10.0.0.1,10.0.0.0/30 10.0.0.3-10.0.0.3"),
			"range set 1 (10.0.0.0-10.0.0.1, 10.0.0.3-10.0.0.3) has nothing to lease: " +
				"every address is excluded, a gateway, a network address or a broadcast address",
		},
		{
			"exclusion with host bits",
			Pool{Sets: []Set{{rangeOf(t, "10.0.0.0/24")}}, Exclude: []netip.Prefix{netip.MustParsePrefix("10.0.0.9/29")}},
			"exclude 10.0.0.9/29 has host bits set: the network address is 10.0.0.8",
		},
		{
			"exclusion that would exclude nothing", poolOf(t, "10.0.0.0/24", "::ffff:10.0.0.8/125"),
			"exclude ::ffff:10.0.0.8/125 is IPv4 in IPv6 form: write it as IPv4",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := text(tt.pool.Validate()); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestUsable(t *testing.T) {
	p := poolOf(t, "10.0.0.0/24 10.0.0.0-10.0.0.255,10.0.1.0/24 10.0.1.10-10.0.1.20 10.0.1.15;2001:db8::/64",
		"10.0.0.8/29", "2001:db8::f0/124")
	ranges := "10.0.0.0-10.0.0.255, 10.0.1.10-10.0.1.20, 2001:db8::1-2001:db8::ffff:ffff:ffff:ffff"
	tests := []struct {
		name, addr, want string
		set              int    // -1: in none
		first            string // of its range
	}{
		{"IPv4", "10.0.0.2", "", 0, "10.0.0.0"},
		{"second range", "10.0.1.20", "", 0, "10.0.1.10"},
		{"IPv6", "2001:db8::2", "", 1, "2001:db8::1"},
		{"last of IPv6", "2001:db8::ffff:ffff:ffff:ffff", "", 1, "2001:db8::1"},
		{"excluded", "10.0.0.15", "10.0.0.15 is excluded by 10.0.0.8/29", 0, "10.0.0.0"},
		{"IPv6 excluded", "2001:db8::ff", "2001:db8::ff is excluded by 2001:db8::f0/124", 1, "2001:db8::1"},
		{"gateway", "10.0.1.15", "10.0.1.15 is the gateway of subnet 10.0.1.0/24", 0, "10.0.1.10"},
		{"network address", "10.0.0.0", "10.0.0.0 is the network address of subnet 10.0.0.0/24", 0, "10.0.0.0"},
		{"broadcast address", "10.0.0.255", "10.0.0.255 is the broadcast address of subnet 10.0.0.0/24", 0, "10.0.0.0"},
		{"IPv6 network address", "2001:db8::", "2001:db8:: is the network address of subnet 2001:db8::/64", -1, ""},
		{"beside the ranges", "10.0.1.9", "10.0.1.9 is outside every range: " + ranges, -1, ""},
		{"in no subnet", "192.0.2.1", "192.0.2.1 is outside every range: " + ranges, -1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := addr(t, tt.addr)
			if got := text(p.Usable(a)); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if got := p.SetOf(a); got != tt.set {
				t.Errorf("set %d, want %d", got, tt.set)
			}
			if r, ok := p.RangeOf(a); ok != (tt.first != "") || r.First != addr(t, tt.first) {
				t.Errorf("range %s %v, want the one from %q", r, ok, tt.first)
			}
		})
	}
}

func TestSize(t *testing.T) {
	tests := []struct {
		name string
		pool Pool
		want uint64
	}{
		{"/24 without gateway", poolOf(t, "10.0.0.0/24"), 253},
		{"gateway outside the range", poolOf(t, "10.0.0.0/24 10.0.0.10-10.0.0.19"), 10},
		{"network and broadcast in the range", poolOf(t, "10.0.0.0/24 10.0.0.0-10.0.0.255"), 253},
		{"two exclusions that overlap", poolOf(t, "10.0.0.0/24", "10.0.0.0/25", "10.0.0.64/26"), 127},
		{"exclusions at both ends", poolOf(t, "10.0.0.0/24", "10.0.0.0/28", "10.0.0.240/28"), 224},
		{"exclusion of the other family", poolOf(t, "10.0.0.0/24", "::/0"), 253},
		{"all excluded", poolOf(t, "10.0.0.0/24", "0.0.0.0/0"), 0},
		{"an exclusion to the end", poolOf(t, "10.0.0.0/24", "10.0.0.128/25"), 126},
		{"gateway of a later set", poolOf(t, "10.0.0.0/24 10.0.0.10-10.0.0.19;10.0.0.0/24 10.0.0.30-10.0.0.39 10.0.0.15"), 9},
		{"a quarter of IPv4", poolOf(t, "128.0.0.0/2"), 1<<30 - 3},
		{"IPv6 /64", poolOf(t, "2001:db8::/64"), math.MaxUint64 - 1},
		{"as many as a uint64 counts", poolOf(t, "2001:db8::/63 2001:db8::2-2001:db8:0:1::"), math.MaxUint64},
		{"IPv6 /48", poolOf(t, "2001:db8::/48"), math.MaxUint64},
		{"two times a /64", poolOf(t, "2001:db8::/64,2001:db8:1::/64"), math.MaxUint64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.pool.Size(0); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestAt(t *testing.T) {
	huge := poolOf(t, "2001:db8::/48", "2001:db8::/120")
	two := poolOf(t, "10.0.1.0/24 10.0.1.10-10.0.1.19,10.0.0.0/24 10.0.0.0-10.0.0.9", "10.0.1.12/31")
	tests := []struct {
		name string
		pool Pool
		i    uint64
		want string
	}{
		{"first", two, 0, "10.0.1.10"},
		{"before the exclusion", two, 1, "10.0.1.11"},
		{"behind the exclusion", two, 2, "10.0.1.14"},
		{"last of the first range", two, 7, "10.0.1.19"},
		{"first of the second range", two, 8, "10.0.0.2"},
		{"last", two, 15, "10.0.0.9"},
		{"IPv6 behind the exclusion", huge, 0, "2001:db8::100"},
		{"IPv6 across 64 bits", huge, math.MaxUint64 - 1, "2001:db8:0:1::fe"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.pool.At(0, tt.i); got != addr(t, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestWalkWraps(t *testing.T) {
	p := poolOf(t, "10.0.0.0/24 10.0.0.4-10.0.0.6,10.0.0.0/24 10.0.0.2-10.0.0.3", "10.0.0.5/32")
	var got []string
	for a := range p.Walk(0, 4*1000+2) {
		got = append(got, a.String())
	}
	if want := "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.6"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	for a := range poolOf(t, "10.0.0.0/24", "10.0.0.0/8").Walk(0, 7) {
		t.Errorf("a set with nothing to lease gives %s", a)
	}
}

func TestGap(t *testing.T) {
	huge := poolOf(t, "2001:db8::/32")
	small := poolOf(t, "10.0.0.0/29")
	tests := []struct {
		name  string
		pool  Pool
		taken string
		want  string
	}{
		{"nothing taken", huge, "", "2001:db8::2"},
		{"first taken", huge, "2001:db8::2 2001:db8::3 2001:db8::5", "2001:db8::4"},
		{"strangers taken", small, "192.0.2.1 10.0.0.1", "10.0.0.2"},
		{"only the last free", small, "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5", "10.0.0.6"},
		{"full", small, "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			taken := map[netip.Addr]struct{}{}
			for _, a := range strings.Fields(tt.taken) {
				taken[addr(t, a)] = struct{}{}
			}
			if got, ok := tt.pool.Gap(0, taken); got != addr(t, tt.want) || ok != (tt.want != "") {
				t.Errorf("got %v %v, want %q", got, ok, tt.want)
			}
		})
	}
}

func TestSubnets(t *testing.T) {
	p := poolOf(t, "10.0.1.0/24 10.0.1.2-10.0.1.9,10.0.0.0/24,10.0.1.0/24 10.0.1.20-10.0.1.29;2001:db8::/64")
	want := []netip.Prefix{
		netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8::/64"),
	}
	if got := p.Subnets(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// leasable lists what may be leased of a set by trying every address of its ranges against the rules.
func leasable(p Pool, set int) []netip.Addr {
	var all []netip.Addr
	for _, r := range p.Sets[set] {
		for a := r.First; a.IsValid() && a.Compare(r.Last) <= 0; a = a.Next() {
			if !reserved(p, a) {
				all = append(all, a)
			}
		}
	}
	return all
}

func reserved(p Pool, a netip.Addr) bool {
	for _, r := range slices.Concat(p.Sets...) {
		s := r.Subnet
		broadcast := s.Contains(a) && a.Is4() && !s.Contains(a.Next())
		if a == r.Gateway || a == s.Addr() || broadcast {
			return true
		}
	}
	return slices.ContainsFunc(p.Exclude, func(e netip.Prefix) bool { return e.Contains(a) })
}

// checkSet compares everything the pool says about a set with the enumeration of its addresses.
func checkSet(t *testing.T, p Pool, set int, cursor uint64) {
	t.Helper()
	want := leasable(p, set)
	if got := p.Size(set); got != uint64(len(want)) {
		t.Fatalf("set %d of %v: size %d, want %d", set, p, got, len(want))
	}
	start := 0
	if len(want) > 0 {
		start = int(cursor % uint64(len(want)))
	}
	rotated := slices.Concat(want[start:], want[:start])
	if got := slices.Collect(p.Walk(set, cursor)); !slices.Equal(got, rotated) {
		t.Fatalf("set %d of %v: walk from %d gives %v, want %v", set, p, cursor, got, rotated)
	}
	taken := map[netip.Addr]struct{}{}
	for i, a := range want {
		if got := p.At(set, uint64(i)); got != a {
			t.Fatalf("set %d of %v: address %d is %s, want %s", set, p, i, got, a)
		}
		if got, ok := p.Gap(set, taken); !ok || got != a {
			t.Fatalf("set %d of %v: gap %v %v with %d taken, want %s", set, p, got, ok, i, a)
		}
		taken[a] = struct{}{}
	}
	if got, ok := p.Gap(set, taken); ok {
		t.Fatalf("set %d of %v: gap %s with all taken", set, p, got)
	}
	for _, s := range p.Subnets() {
		for a := s.Addr(); s.Contains(a); a = a.Next() {
			inside := slices.ContainsFunc(p.Sets[set], func(r Range) bool { return r.Contains(a) })
			if err := p.Usable(a); inside && (err == nil) != slices.Contains(want, a) {
				t.Fatalf("set %d of %v: %s is usable: %v", set, p, a, err)
			}
		}
	}
}

func TestPoolAgainstEnumeration(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var valid int
	for range 1000 {
		p := randomPool(rng)
		if p.Validate() != nil {
			continue
		}
		valid++
		for set := range p.Sets {
			checkSet(t, p, set, rng.Uint64())
		}
	}
	if valid < 200 {
		t.Errorf("only %d of 1000 random pools were valid", valid)
	}
}

// randomPool makes one or two sets of one or two ranges in some /26 to /29 (or /122 to /125) of a small space, so that
// exclusions, gateways and ends often touch.
func randomPool(rng *rand.Rand) Pool {
	at := func(v6 bool, n int) netip.Addr {
		if v6 {
			return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(n)})
		}
		return netip.AddrFrom4([4]byte{10, 255, 255, byte(n)})
	}
	prefix := func(v6 bool, host int) netip.Prefix {
		a := at(v6, 128+rng.IntN(128))
		p, _ := a.Prefix(a.BitLen() - host)
		return p
	}
	var p Pool
	for range 1 + rng.IntN(2) {
		v6 := rng.IntN(2) == 0
		var set Set
		for len(set) < 1+rng.IntN(2) {
			subnet := prefix(v6, 3+rng.IntN(4))
			some := func() netip.Addr {
				if rng.IntN(2) == 0 {
					return netip.Addr{}
				}
				return at(v6, int(subnet.Addr().AsSlice()[len(subnet.Addr().AsSlice())-1])+rng.IntN(64))
			}
			if r, err := NewRange(subnet, some(), some(), some()); err == nil {
				set = append(set, r)
			}
		}
		p.Sets = append(p.Sets, set)
	}
	for range rng.IntN(4) {
		p.Exclude = append(p.Exclude, prefix(rng.IntN(2) == 0, rng.IntN(5)))
	}
	return p
}

// readPool is poolOf for what a person may type: it is false for what NewRange or Validate refuse.
func readPool(sets, exclude string) (Pool, bool) {
	var p Pool
	for list := range strings.SplitSeq(sets, ";") {
		var set Set
		for text := range strings.SplitSeq(list, ",") {
			r, err := newRange(text)
			if err != nil {
				return Pool{}, false
			}
			set = append(set, r)
		}
		p.Sets = append(p.Sets, set)
	}
	for text := range strings.FieldsSeq(exclude) {
		if e, err := netip.ParsePrefix(text); err == nil {
			p.Exclude = append(p.Exclude, e)
		}
	}
	return p, p.Validate() == nil
}

func FuzzPool(f *testing.F) {
	f.Add("10.0.0.0/24", "", uint64(0))
	f.Add("10.0.0.0/24 10.0.0.0-10.0.0.255 10.0.0.7,10.0.1.0/24;2001:db8::/64", "10.0.0.8/29 2001:db8::/96", uint64(300))
	f.Add("10.0.0.0/28 -10.0.0.9,10.0.0.0/28 10.0.0.10-", "10.0.0.15/32 10.0.0.0/31", uint64(math.MaxUint64))
	f.Add("255.255.254.248/29 255.255.254.250-255.255.254.255", "255.255.254.254/31", uint64(5))
	f.Add("feff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", uint64(9))
	f.Add("128.0.0.0/2;8000::/2 8000::8000:0:0:0-", "128.0.0.0/8 8000::/128 ::/0", uint64(1<<40))
	f.Fuzz(func(t *testing.T, sets, exclude string, cursor uint64) {
		p, ok := readPool(sets, exclude)
		if !ok {
			return
		}
		for set := range p.Sets {
			checkSpans(t, p, set)
			if small(p, set) {
				checkSet(t, p, set, cursor)
				continue
			}
			checkSample(t, p, set, cursor)
		}
	})
}

// small reports whether the set and the pool's subnets can be enumerated in a moment.
func small(p Pool, set int) bool {
	for _, s := range p.Subnets() {
		if s.Addr().BitLen()-s.Bits() > 10 {
			return false
		}
	}
	return p.Size(set) <= 1<<10
}

// checkSpans holds that the spans are not empty, lie each in one range, ascend within it and do not touch or overlap.
func checkSpans(t *testing.T, p Pool, set int) {
	t.Helper()
	spans := p.spans(set)
	for i, s := range spans {
		r, ok := p.RangeOf(s.first)
		if !ok || s.last.Less(s.first) || !r.Contains(s.last) {
			t.Fatalf("%v: span %v is not in one range", p, s)
		}
		for _, edge := range []netip.Addr{s.first, s.last} {
			if err := p.Usable(edge); err != nil || reserved(p, edge) {
				t.Fatalf("%v: span %v ends with an address that is not usable: %v", p, s, err)
			}
		}
		for _, beside := range []netip.Addr{s.first.Prev(), s.last.Next()} {
			if r.Contains(beside) && !reserved(p, beside) {
				t.Fatalf("%v: span %v leaves out %s", p, s, beside)
			}
		}
		for _, before := range spans[:i] {
			if before.has(s.first) || s.has(before.first) || r.Contains(before.first) && s.first.Less(before.last) {
				t.Fatalf("%v: span %v comes before %v", p, before, s)
			}
		}
	}
}

// checkSample follows a walk for some addresses and compares it with At and the rules.
func checkSample(t *testing.T, p Pool, set int, cursor uint64) {
	t.Helper()
	n, i := p.Size(set), cursor%p.Size(set)
	seen := map[netip.Addr]bool{}
	for a := range p.Walk(set, cursor) {
		if want := p.At(set, i); a != want {
			t.Fatalf("%v: the walk from %d gives %s at place %d, want %s", p, cursor, a, i, want)
		}
		if err := p.Usable(a); err != nil || reserved(p, a) || p.SetOf(a) != set || seen[a] {
			t.Fatalf("%v: the walk gives %s of set %d, seen %v: %v", p, a, p.SetOf(a), seen[a], err)
		}
		seen[a] = true
		if i++; i == n {
			i = 0
		}
		if len(seen) == 64 {
			return
		}
	}
	if uint64(len(seen)) != n {
		t.Fatalf("%v: the walk ended after %d of %d", p, len(seen), n)
	}
}

func BenchmarkWalk(b *testing.B) {
	p := poolOf(b, "10.0.0.0/16;2001:db8::/64", "10.0.0.0/24", "10.0.9.0/28", "2001:db8::/96")
	b.ReportAllocs()
	for i := range uint64(b.N) {
		for set := range p.Sets {
			for range p.Walk(set, i) {
				break
			}
		}
	}
}
