package result

import (
	"bytes"
	"encoding/json"
	"net"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"
)

// full is a result with a value in each member there is.
func full(t *testing.T) *current.Result {
	t.Helper()
	_, dst, err := net.ParseCIDR("198.18.0.0/15")
	if err != nil {
		t.Fatal(err)
	}
	return &current.Result{
		CNIVersion: "1.1.0",
		Interfaces: []*current.Interface{
			{Name: "veth1"},
			{Mac: "\u2028", SocketPath: "&", PciID: "\xff"},
			{Name: "eth0", Mac: "0a:58:0a:58:00:05", Mtu: 1500, Sandbox: "/run/netns/<&>", SocketPath: "/s", PciID: "0000:00:01.0"},
		},
		IPs: []*current.IPConfig{
			{Address: net.IPNet{IP: net.IPv4(10, 88, 0, 5), Mask: net.CIDRMask(24, 32)}},
			{
				Interface: current.Int(0), Address: net.IPNet{IP: net.ParseIP("2001:db8::5"), Mask: net.CIDRMask(64, 128)},
				Gateway: net.ParseIP("2001:db8::1"),
			},
		},
		Routes: []*types.Route{
			{Dst: *dst},
			{
				Dst: *dst, GW: net.IPv4(10, 88, 0, 1), MTU: 1400, AdvMSS: 1360, Priority: 5, Table: current.Int(0),
				Scope: current.Int(253),
			},
		},
		DNS: types.DNS{Nameservers: []string{"192.0.2.1"}, Domain: "example.com", Search: []string{"a"}, Options: []string{"b"}},
	}
}

// What is printed has the meaning of what the library prints, of each version.
func TestPrintAgreesWithTheLibrary(t *testing.T) {
	empty := func(t *testing.T) *current.Result { t.Helper(); return &current.Result{CNIVersion: "1.1.0"} }
	for name, make := range map[string]func(*testing.T) *current.Result{"full": full, "empty": empty} {
		for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
			t.Run(name+" "+version, func(t *testing.T) {
				var got, want bytes.Buffer
				if err := Print(&got, make(t), version); err != nil {
					t.Fatal(err)
				}
				converted, err := make(t).GetAsVersion(version)
				if err != nil {
					t.Fatal(err)
				}
				if err := converted.PrintTo(&want); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(decoded(t, want.Bytes()), decoded(t, got.Bytes())); diff != "" {
					t.Errorf("the library's and ours:\n%s", diff)
				}
			})
		}
	}
}

func decoded(t *testing.T, b []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return v
}

// What encoding/json prints of maps.
func TestPrintIsOneLine(t *testing.T) {
	const want = `{"cniVersion":"1.1.0",` +
		`"dns":{"nameservers":["192.0.2.1"],"domain":"example.com","search":["a"],"options":["b"]},` +
		`"interfaces":[{"name":"veth1"},{"mac":"\u2028","name":"","pciID":"\ufffd","socketPath":"\u0026"},{"mac":"0a:58:0a:58:00:05","mtu":1500,"name":"eth0",` +
		`"pciID":"0000:00:01.0","sandbox":"/run/netns/\u003c\u0026\u003e","socketPath":"/s"}],` +
		`"ips":[{"address":"10.88.0.5/24"},{"address":"2001:db8::5/64","gateway":"2001:db8::1","interface":0}],` +
		`"routes":[{"dst":"198.18.0.0/15"},{"advmss":1360,"dst":"198.18.0.0/15","gw":"10.88.0.1","mtu":1400,` +
		`"priority":5,"scope":253,"table":0}]}` + "\n"
	var got bytes.Buffer
	if err := Print(&got, full(t), "1.1.0"); err != nil || got.String() != want {
		t.Errorf("%v: got\n%swant\n%s", err, &got, want)
	}
}

func TestPrintRefusesAVersion(t *testing.T) {
	if err := Print(&bytes.Buffer{}, full(t), "9.9.9"); err == nil {
		t.Error("printed a result of version 9.9.9")
	}
}
