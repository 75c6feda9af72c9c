package firewall

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// spans reads "10.88.0.0/16=a" as the span of a prefix or "10.88.0.0-10.88.0.9=a" as a range, with its owner.
func spans(texts ...string) []span {
	var list []span
	for _, text := range texts {
		bounds, owner, _ := strings.Cut(text, "=")
		if first, last, isRange := strings.Cut(bounds, "-"); isRange {
			list = append(list, span{netip.MustParseAddr(first), netip.MustParseAddr(last), owner})
			continue
		}
		list = append(list, spanOf(netip.MustParsePrefix(bounds), owner))
	}
	return list
}

func TestSpanOfPrefix(t *testing.T) {
	for _, c := range []struct{ prefix, first, last string }{
		{"10.88.0.0/16", "10.88.0.0", "10.88.255.255"},
		{"10.88.3.7/22", "10.88.0.0", "10.88.3.255"},
		{"192.0.2.1/32", "192.0.2.1", "192.0.2.1"},
		{"0.0.0.0/0", "0.0.0.0", "255.255.255.255"},
		{"2001:db8::/33", "2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"},
		{"2001:db8::1/128", "2001:db8::1", "2001:db8::1"},
	} {
		t.Run(c.prefix, func(t *testing.T) {
			p := netip.MustParsePrefix(c.prefix)
			got := spanOf(p, "a")
			want := span{netip.MustParseAddr(c.first), netip.MustParseAddr(c.last), "a"}
			if got != want {
				t.Fatalf("got %v, want %v", got, want)
			}
			if back, ok := got.prefix(); !ok || back != p.Masked() {
				t.Errorf("its prefix is %v %v, want %v", back, ok, p.Masked())
			}
		})
	}
}

func TestSpanThatIsNoPrefix(t *testing.T) {
	s := spans("10.88.0.0-10.88.0.99=a")[0]
	if p, ok := s.prefix(); ok {
		t.Errorf("prefix %v", p)
	}
	if got := s.String(); got != "10.88.0.0-10.88.0.99" {
		t.Errorf("listed as %s", got)
	}
}

func TestPlace(t *testing.T) {
	for _, c := range []struct {
		name     string
		have     []string
		want     string
		replaced []string
		present  bool
		conflict string // in the error
	}{
		{name: "empty set", want: "10.88.0.0/16=a"},
		{name: "the same subnet", have: []string{"10.88.0.0/16=a"}, want: "10.88.0.0/16=a", present: true},
		{name: "the same subnet of another", have: []string{"10.88.0.0/16=b"}, want: "10.88.0.0/16=a", present: true},
		{name: "a wider one of another", have: []string{"10.0.0.0/8=b"}, want: "10.88.0.0/16=a", present: true},
		{name: "everything", have: []string{"0.0.0.0/0=b"}, want: "10.88.0.0/16=a", present: true},
		{name: "the one below", have: []string{"10.87.0.0/16=b"}, want: "10.88.0.0/16=a"},
		{name: "the one above", have: []string{"10.89.0.0/16=b"}, want: "10.88.0.0/16=a"},
		{
			name: "smaller ones of its own", have: []string{"10.88.1.0/24=a", "10.88.2.0/24=a", "10.89.0.0/24=a"},
			want: "10.88.0.0/16=a", replaced: []string{"10.88.1.0/24=a", "10.88.2.0/24=a"},
		},
		{
			name: "a smaller one of another", have: []string{"10.88.1.0/24=a", "10.88.2.0/24=b"},
			want: "10.88.0.0/16=a", conflict: `subnet 10.88.0.0/16 of network "a" overlaps 10.88.2.0/24 of network "b"`,
		},
		{
			name: "one that cuts it", have: []string{"10.87.255.0-10.88.0.9=b"},
			want: "10.88.0.0/16=a", conflict: `overlaps 10.87.255.0-10.88.0.9 of network "b"`,
		},
		{
			name: "one of its own that cuts it", have: []string{"10.88.255.0-10.89.0.9=a"},
			want: "10.88.0.0/16=a", conflict: `overlaps 10.88.255.0-10.89.0.9 of network "a"`,
		},
		{
			name: "without an owner", have: []string{"10.88.2.0/24"},
			want: "10.88.0.0/16=a", conflict: `overlaps 10.88.2.0/24 of an unnamed owner`,
		},
		{name: "IPv6", have: []string{"2001:db8::/32=b"}, want: "2001:db8:1::/48=a", present: true},
		{
			name: "IPv6 of another", have: []string{"2001:db8:1::/48=b"},
			want: "2001:db8::/32=a", conflict: `overlaps 2001:db8:1::/48 of network "b"`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			replaced, present, err := place(spans(c.have...), spans(c.want)[0])
			if c.conflict != "" {
				if err == nil || cnierr.Of(err, 0).Code != cnierr.Conflict || !strings.Contains(err.Error(), c.conflict) {
					t.Fatalf("got error %v, want a conflict: %s", err, c.conflict)
				}
				return
			}
			if err != nil || present != c.present || !reflect.DeepEqual(replaced, spans(c.replaced...)) {
				t.Errorf("got %v %v %v, want %v %v", replaced, present, err, c.replaced, c.present)
			}
		})
	}
}

func TestElementsJoin(t *testing.T) {
	for _, c := range []struct {
		name  string
		spans []string
	}{
		{"none", nil},
		{"one", []string{"10.88.0.0/16=a"}},
		{"apart", []string{"10.88.0.0/16=a", "192.0.2.0/24=b"}},
		{"adjacent", []string{"10.88.0.0/24=a", "10.88.1.0/24=b", "10.88.2.0/24=a"}},
		{"the first addresses", []string{"0.0.0.0/8=a"}},
		{"the last addresses", []string{"10.88.0.0/16=a", "240.0.0.0/4=b"}},
		{"all addresses", []string{"::/0=a"}},
		{"a single address", []string{"2001:db8::1/128=a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := spans(c.spans...)
			var elements []element
			for _, s := range want {
				elements = append(elements, s.elements()...)
			}
			slices.Reverse(elements) // the kernel lists them in an order of its own
			if got := join(elements); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// nft puts an end without a start before the first interval.
func TestJoinIgnoresAnEndWithoutStart(t *testing.T) {
	elements := append(spans("10.88.0.0/16=a")[0].elements(), element{key: netip.IPv4Unspecified(), end: true})
	if got, want := join(elements), spans("10.88.0.0/16=a"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// nft takes no comment of more than 128 bytes.
func TestOwnersFitAComment(t *testing.T) {
	long, hostEnd := strings.Repeat("n", 200), "veth0123456789a"
	a, b := plan.Masquerade{Network: long + "a", Holder: hostEnd}, plan.Masquerade{Network: long + "b", Holder: hostEnd}
	if x, y := ownerOf(a), ownerOf(b); len(x) > 128 || x == y {
		t.Errorf("owners with long names are %q and %q", x, y)
	}
	if got := ownerOf(plan.Masquerade{Network: "podnet"}); got != "podnet" {
		t.Errorf("got %q", got)
	}
}

func TestComment(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"none":              {nil, ""},
		"a comment":         {[]byte{0, 4, 'n', 'e', 't', 0}, "net"},
		"after other data":  {[]byte{1, 1, 7, 0, 2, 'n', 0}, "n"},
		"cut in the header": {[]byte{0}, ""},
		"cut in the value":  {[]byte{0, 9, 'n', 0}, ""},
		"not closed":        {[]byte{0, 1, 'n'}, "n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := comment(c.data); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
