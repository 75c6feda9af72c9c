package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

const (
	v4    = `"ranges": [[{"subnet": "10.88.0.0/24"}]]`
	dual  = `"ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "2001:db8::/64"}]]`
	small = `"ranges": [[{"subnet": "10.88.0.0/29"}]]` // 10.88.0.2 to 10.88.0.6
)

// network parses a configuration of the built-in IPAM.
func network(t *testing.T, ipam string) *netconf.Config {
	t.Helper()
	cfg, err := netconf.Parse(netconf.Request{
		ContainerID: "c0ffee", IfName: "eth0",
		Config: []byte(`{"cniVersion": "1.1.0", "name": "net", "type": "veth", "ipam": {"type": "veth", ` + ipam + `}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// asking is a network of which an attachment asks for addresses.
func asking(t *testing.T, ipam string, addrs ...string) *netconf.Config {
	t.Helper()
	cfg := network(t, ipam)
	for _, a := range addrs {
		cfg.IPAM.Requested = append(cfg.IPAM.Requested, netip.MustParseAddr(a))
	}
	return cfg
}

func named(cfg *netconf.Config, network string) *netconf.Config {
	cfg.Network = network
	return cfg
}

// from lists n addresses, a and those after it.
func from(a string, n int) []netip.Addr {
	all := make([]netip.Addr, n)
	next := netip.MustParseAddr(a)
	for i := range all {
		all[i], next = next, next.Next()
	}
	return all
}

func TestLease(t *testing.T) {
	tests := []struct {
		name    string
		cfg     *netconf.Config
		cursor  uint64
		taken   []netip.Addr
		kept    []netip.Addr // by the host for itself
		want    string       // addresses, or the error
		code    uint
		claims  int
		dumps   int
		network string
	}{
		{name: "first", cfg: network(t, v4), want: "10.88.0.2/24", claims: 1},
		{name: "at the cursor", cfg: network(t, v4), cursor: 7, want: "10.88.0.9/24", claims: 1},
		{name: "cursor beyond the range", cfg: network(t, small), cursor: 5*1000 + 2, want: "10.88.0.4/29", claims: 1},
		{name: "one of each set", cfg: network(t, dual), cursor: 7, want: "10.88.0.9/24 2001:db8::9/64", claims: 2},
		{
			name: "skips what is taken", cfg: network(t, v4), cursor: 7, taken: from("10.88.0.9", 3),
			want: "10.88.0.12/24", claims: 4,
		},
		{
			name: "begins anew at the end", cfg: network(t, v4), cursor: 252, taken: from("10.88.0.254", 1),
			want: "10.88.0.2/24", claims: 2,
		},
		{
			name: "the last of the probes", cfg: network(t, v4), cursor: 10, taken: from("10.88.0.12", 47),
			want: "10.88.0.59/24", claims: 48,
		},
		{
			name: "the first gap when all probes failed", cfg: network(t, v4), cursor: 10,
			taken: append(from("10.88.0.2", 3), from("10.88.0.12", 48)...),
			want:  "10.88.0.5/24", claims: 49, dumps: 1,
		},
		{
			name: "exhausted", cfg: network(t, small), taken: from("10.88.0.2", 5), claims: 5,
			code: cnierr.PoolExhausted,
			want: "network net: all 5 addresses of range set 1 (10.88.0.0/29) are leased or the host's own: want a larger range",
		},
		{
			name: "exhausted beyond the probes", cfg: network(t, v4), taken: from("10.88.0.2", 253), claims: 48, dumps: 1,
			code: cnierr.PoolExhausted,
			want: "network net: all 253 addresses of range set 1 (10.88.0.0/24) are leased or the host's own: want a larger range",
		},
		{
			name:  "the second set exhausted",
			cfg:   network(t, `"ranges": [[{"subnet": "2001:db8::/64"}], [{"subnet": "10.88.0.0/30"}]]`),
			taken: from("10.88.0.2", 1), claims: 2, code: cnierr.PoolExhausted,
			want: "network net: all 1 addresses of range set 2 (10.88.0.0/30) are leased or the host's own: want a larger range",
		},
		{
			name: "asked for", cfg: asking(t, dual, "10.88.0.99"), cursor: 7,
			want: "10.88.0.99/24 2001:db8::9/64", claims: 2,
		},
		{
			name: "asked for of both sets", cfg: asking(t, dual, "2001:db8::99", "10.88.0.99"), cursor: 7,
			want: "10.88.0.99/24 2001:db8::99/64", claims: 2,
		},
		{
			name: "asked for and taken", cfg: asking(t, v4, "10.88.0.99"), taken: from("10.88.0.99", 1), claims: 1,
			code: cnierr.AddressTaken, want: "the requested address 10.88.0.99 is held by other: want one that is free",
		},
		{
			name: "skips what the host keeps", cfg: network(t, v4), cursor: 7, kept: from("10.88.0.9", 3),
			want: "10.88.0.12/24", claims: 4,
		},
		{
			name: "asked for and the host's", cfg: asking(t, v4, "10.88.0.99"), kept: from("10.88.0.99", 1), claims: 1,
			code: cnierr.AddressTaken, want: "the requested address 10.88.0.99 is held by the host: want one that is free",
		},
		{
			name: "another network's address is no lease of this one", cfg: network(t, v4), network: "net2",
			taken: from("10.88.0.2", 3), want: "10.88.0.2/24", claims: 1,
		},
		{
			name: "a name beyond the kernel's limit", cfg: named(network(t, dual), strings.Repeat("n", 300)),
			taken: from("10.88.0.2", 1), want: "10.88.0.3/24 2001:db8::2/64", claims: 3,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(tt.cfg, tt.cursor)
			if tt.network != "" {
				f.network = tt.network
			}
			f.take(t, tt.taken...)
			f.kept = tt.kept
			f.network = tt.cfg.Network
			got, err := Lease(tt.cfg, f)
			if tt.code != 0 {
				if e := cnierr.Of(err, 0); err == nil || e.Code != tt.code || e.Msg != tt.want {
					t.Errorf("got %v, %+v, want %d %s", got.List, e, tt.code, tt.want)
				}
				if !reflect.DeepEqual(got, plan.Addresses{}) {
					t.Errorf("gave %+v and failed", got)
				}
			} else if err != nil || prefixes(got) != tt.want || !got.Leased {
				t.Errorf("got %+v, %v, want %s", got, err, tt.want)
			}
			if f.claims != tt.claims || f.dumps != tt.dumps {
				t.Errorf("%d claims and %d dumps, want %d and %d", f.claims, f.dumps, tt.claims, tt.dumps)
			}
		})
	}
}

func prefixes(a plan.Addresses) string {
	var s []string
	for _, x := range a.List {
		s = append(s, x.Prefix.String())
	}
	return strings.Join(s, " ")
}

// The range says prefix length and gateway; routes are the configuration's.
func TestLeaseFillsIn(t *testing.T) {
	cfg := network(t, `"ranges": [[{"subnet": "10.88.0.0/30"}, {"subnet": "10.89.0.0/16", "gateway": "10.89.0.9"}]],
		"routes": [{"dst": "198.18.0.0/15"}]`)
	got, err := Lease(cfg, newFake(cfg, 1))
	want := plan.Addresses{
		List: []plan.Assigned{
			{Prefix: netip.MustParsePrefix("10.89.0.1/16"), Gateway: netip.MustParseAddr("10.89.0.9")},
		},
		Routes: []netconf.Route{{Dst: netip.MustParsePrefix("198.18.0.0/15")}},
		Leased: true,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
}

// The search ends although another process takes each gap just before this one does.
func TestLeaseContention(t *testing.T) {
	cfg := network(t, v4)
	f := newFake(cfg, 0)
	f.outrun = func(a netip.Addr) { _ = f.names.add(fmt.Sprintf("%s@net", a), "other") }
	if _, err := Lease(cfg, f); cnierr.Of(err, 0) == nil || cnierr.Of(err, 0).Code != cnierr.PoolExhausted {
		t.Errorf("got %v, want the pool exhausted", err)
	}
	if f.claims != 253 || f.dumps != 1 {
		t.Errorf("%d claims and %d dumps, want one claim for each of 253 addresses and 1 dump", f.claims, f.dumps)
	}
}

// As many attachments as addresses: each gets one, none gets another's, and whoever comes later is told.
func TestLeaseRace(t *testing.T) {
	cfg := network(t, v4)
	shared := newFake(cfg, 0)
	got := make([]netip.Addr, 253)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			f := &fake{names: shared.names, network: cfg.Network, link: fmt.Sprint("veth", i), cursor: uint64(i / 4)}
			a, err := Lease(cfg, f)
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = a.List[0].Prefix.Addr()
			if holder := f.Holder(got[i]); holder != f.link {
				t.Errorf("%s was given %s, which %s holds", f.link, got[i], holder)
			}
		})
	}
	wg.Wait()
	slices.SortFunc(got, netip.Addr.Compare)
	if !slices.Equal(got, from("10.88.0.2", 253)) {
		t.Errorf("given: %v", got)
	}
	if _, err := Lease(cfg, shared); err == nil {
		t.Error("one more than there are")
	}
}

func TestLeaseFailures(t *testing.T) {
	tests := []struct {
		name string
		cfg  *netconf.Config
		with func(*fake)
	}{
		{"a claim", network(t, v4), func(f *fake) { f.broken = syscall.EPERM }},
		{"a claim of what was asked for", asking(t, v4, "10.88.0.9"), func(f *fake) { f.broken = syscall.EPERM }},
		{"the dump", network(t, v4), func(f *fake) {
			f.take(t, from("10.88.0.2", 48)...)
			f.dumping = syscall.EPERM
		}},
		{"a claim of a gap", network(t, v4), func(f *fake) {
			f.take(t, from("10.88.0.2", 48)...)
			f.outrun = func(netip.Addr) {
				if f.dumps > 0 {
					f.broken = syscall.EPERM
				}
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(tt.cfg, 0)
			tt.with(f)
			got, err := Lease(tt.cfg, f)
			if !errors.Is(err, syscall.EPERM) || !reflect.DeepEqual(got, plan.Addresses{}) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// Package netconf cannot ask package plan which address the gateway has.
func TestRoutedGatewayIsNotLeased(t *testing.T) {
	pool := network(t, `"subnet": "169.254.0.0/16"`).IPAM.Pool
	if err := pool.Usable(plan.RoutedGateway4); err == nil {
		t.Errorf("%s may be leased", plan.RoutedGateway4)
	}
}

func TestRelet(t *testing.T) {
	cfg := network(t, `"ranges": [[{"subnet": "10.88.0.0/24", "gateway": "10.88.0.9"}]],
		"routes": [{"dst": "198.18.0.0/15"}]`)
	reported := plan.Addresses{
		List: []plan.Assigned{
			{Prefix: netip.MustParsePrefix("10.88.0.5/32"), Gateway: netip.MustParseAddr("169.254.1.1")},
			{Prefix: netip.MustParsePrefix("192.0.2.5/28"), Gateway: netip.MustParseAddr("192.0.2.1")},
		},
		Routes: []netconf.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0")}},
		DNS:    types.DNS{Domain: "example.com"},
	}
	want := plan.Addresses{
		List: []plan.Assigned{
			{Prefix: netip.MustParsePrefix("10.88.0.5/24"), Gateway: netip.MustParseAddr("10.88.0.9")},
			{Prefix: netip.MustParsePrefix("192.0.2.5/28"), Gateway: netip.MustParseAddr("192.0.2.1")},
		},
		Routes: []netconf.Route{{Dst: netip.MustParsePrefix("198.18.0.0/15")}},
		DNS:    types.DNS{Domain: "example.com"},
		Leased: true,
	}
	if got := Relet(cfg, reported); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestOffer(t *testing.T) {
	tests := []struct {
		name         string
		ipam         string
		taken, kept  []netip.Addr // leased, and the host's own
		want         string       // the addresses, or the error
		looks, dumps int
	}{
		{name: "empty", ipam: dual, looks: 2, want: "10.88.0.2/24 2001:db8::2/64"},
		{name: "some taken", ipam: v4, taken: from("10.88.0.2", 5), looks: 6, want: "10.88.0.7/24"},
		{name: "some the host's", ipam: v4, kept: from("10.88.0.2", 5), looks: 6, want: "10.88.0.7/24"},
		{name: "one left", ipam: small, taken: from("10.88.0.2", 4), looks: 5, want: "10.88.0.6/29"},
		{name: "one left beyond the probes", ipam: v4, taken: from("10.88.0.2", 252), looks: 49, dumps: 1, want: "10.88.0.254/24"},
		{
			name: "one left beyond the probes and the host's", ipam: v4, taken: from("10.88.0.2", 250), kept: from("10.88.0.252", 2),
			looks: 51, dumps: 1, want: "10.88.0.254/24",
		},
		{
			name: "exhausted", ipam: small, taken: from("10.88.0.2", 4), kept: from("10.88.0.6", 1), looks: 5,
			want: "network net: all 5 addresses of range set 1 (10.88.0.0/29) are leased or the host's own: want a larger range",
		},
		{
			name: "exhausted beyond the probes", ipam: v4, taken: from("10.88.0.2", 252), kept: from("10.88.0.254", 1),
			looks: 49, dumps: 1,
			want: "network net: all 253 addresses of range set 1 (10.88.0.0/24) are leased or the host's own: want a larger range",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := network(t, tt.ipam)
			f := newFake(cfg, 0)
			f.take(t, tt.taken...)
			f.kept = tt.kept
			offered, err := Offer(cfg, ledger{f})
			got := prefixes(offered)
			if err := cnierr.Of(err, 0); err != nil && err.Code == cnierr.NotAvailable {
				got = err.Msg
			}
			if got != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
			if f.looks != tt.looks || f.dumps != tt.dumps {
				t.Errorf("%d look-ups and %d dumps, want %d and %d", f.looks, f.dumps, tt.looks, tt.dumps)
			}
		})
	}
}

func TestOfferFailures(t *testing.T) {
	cfg := network(t, v4)
	looking, dumping := newFake(cfg, 0), newFake(cfg, 0)
	looking.broken = syscall.EPERM
	dumping.take(t, from("10.88.0.2", 48)...)
	dumping.dumping = syscall.EPERM
	for name, f := range map[string]*fake{"a look-up": looking, "the dump": dumping} {
		if _, err := Offer(cfg, ledger{f}); !errors.Is(err, syscall.EPERM) {
			t.Errorf("%s fails: got %v", name, err)
		}
	}
}
