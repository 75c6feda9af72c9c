package ipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// The test binary under another name is an IPAM plugin, whose answers a test lays down beside it.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == pluginName {
		os.Exit(pluginMain())
	}
	os.Exit(m.Run())
}

const (
	pluginName = "fakeipam"
	journal    = "calls" // what the plugin was asked, a line of JSON for each call
)

// call is what a plugin sees of one call.
type call struct {
	Verb, ContainerID, Netns, Args, Config string
}

// answer is what a plugin prints and returns.
type answer struct {
	Stdout string
	Exit   int
}

func pluginMain() int {
	dir := os.Getenv("CNI_PATH")
	config, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 90
	}
	c := call{
		Verb: os.Getenv("CNI_COMMAND"), ContainerID: os.Getenv("CNI_CONTAINERID"), Netns: os.Getenv("CNI_NETNS"),
		Args: os.Getenv("CNI_ARGS"), Config: string(config),
	}
	f, err := os.OpenFile(filepath.Join(dir, journal), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil || json.NewEncoder(f).Encode(c) != nil || f.Close() != nil {
		return 91
	}
	b, err := os.ReadFile(filepath.Join(dir, c.Verb))
	if err != nil {
		return 0
	}
	var a answer
	if json.Unmarshal(b, &a) != nil {
		return 92
	}
	fmt.Print(a.Stdout)
	return a.Exit
}

const delegatedConfig = `{
	"cniVersion": "1.0.0", "name": "net", "type": "veth", "ipam": {"type": "fakeipam", "own": [1, "key"]}
}`

// delegate installs the plugin with its answers by verb; a verb without one succeeds silently.
func delegate(t *testing.T, answers map[string]answer) Delegate {
	t.Helper()
	d := absent(t)
	dir := os.Getenv("CNI_PATH")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, pluginName)); err != nil {
		t.Fatal(err)
	}
	for verb, a := range answers {
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, verb), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// absent is a delegate whose plugin is not installed.
func absent(t *testing.T) Delegate {
	t.Helper()
	t.Setenv("CNI_PATH", t.TempDir())
	t.Setenv("GORACE", "atexit_sleep_ms=0") // or each call of the plugin would take a second under the race detector
	t.Setenv("CNI_COMMAND", "ADD")          // ours, which the plugin must not see for another verb
	t.Setenv("CNI_CONTAINERID", "c0ffee")
	t.Setenv("CNI_NETNS", "/run/netns/c1")
	t.Setenv("CNI_IFNAME", "eth0")
	t.Setenv("CNI_ARGS", "IgnoreUnknown=1;IP=192.0.2.1")
	cfg, err := netconf.Parse(netconf.Request{ContainerID: "c0ffee", IfName: "eth0", Config: []byte(delegatedConfig)})
	if err != nil {
		t.Fatal(err)
	}
	return NewDelegate(cfg)
}

// calls reads what the plugin was asked.
func calls(t *testing.T) []call {
	t.Helper()
	f, err := os.Open(filepath.Join(os.Getenv("CNI_PATH"), journal))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []call
	for d := json.NewDecoder(f); d.More(); {
		var c call
		if err := d.Decode(&c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func verbs(t *testing.T) string {
	t.Helper()
	var all []string
	for _, c := range calls(t) {
		all = append(all, c.Verb)
	}
	return strings.Join(all, " ")
}

func TestDelegateAdd(t *testing.T) {
	d := delegate(t, map[string]answer{"ADD": {Stdout: `{
		"cniVersion": "0.4.0",
		"ips": [
			{"version": "4", "address": "10.88.0.5/24", "gateway": "10.88.0.1"},
			{"version": "6", "address": "2001:db8::5/64", "interface": 3}
		],
		"routes": [{"dst": "0.0.0.0/0"}, {"dst": "198.18.0.0/15", "gw": "10.88.0.9"}],
		"dns": {"domain": "example.com"}
	}`}})
	got, err := d.Add(t.Context())
	want := plan.Addresses{
		List: []plan.Assigned{
			{Prefix: netip.MustParsePrefix("10.88.0.5/24"), Gateway: netip.MustParseAddr("10.88.0.1")},
			{Prefix: netip.MustParsePrefix("2001:db8::5/64")},
		},
		Routes: []netconf.Route{
			{Dst: netip.MustParsePrefix("0.0.0.0/0")},
			{Dst: netip.MustParsePrefix("198.18.0.0/15"), Via: netip.MustParseAddr("10.88.0.9")},
		},
		DNS: types.DNS{Domain: "example.com"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	seen := calls(t)
	asked := call{"ADD", "c0ffee", "/run/netns/c1", "IgnoreUnknown=1;IP=192.0.2.1", delegatedConfig}
	if len(seen) != 1 || seen[0] != asked {
		t.Errorf("the plugin was asked\n%+v, want\n%+v", seen, asked)
	}
}

type failingAdd struct {
	name     string
	add, del answer
	code     uint
	text     string
}

// unusable is an answer of an address and, if it has a key, a route.
func unusable(name, address, routeKey, text string) failingAdd {
	result := `{"cniVersion": "1.1.0", "ips": [{"address": "` + address + `"}]`
	if routeKey != "" {
		result += `, "routes": [{"dst": "198.18.0.0/15", ` + routeKey + `}]`
	}
	return failingAdd{name: name, add: answer{result + "}", 0}, code: cnierr.DelegateFailed, text: text}
}

// Whatever is wrong with the answer, the plugin hears DEL before the error is returned: it may have reserved an address.
func TestDelegateAddFails(t *testing.T) {
	const onRoute = "its route to 198.18.0.0/15: routes[0]."
	// What the library's numbers have no room for is no result.
	word, tooLarge := "4294967295", onRoute+`table: 4294967296 is not valid: want 0 to 4294967295`
	if strconv.IntSize == 32 {
		word, tooLarge = "2147483647", "json: cannot unmarshal number 4294967296"
	}
	tests := []failingAdd{
		{
			name: "the plugin's own error", add: answer{`{"code": 11, "msg": "busy", "details": "later"}`, 1},
			code: 11, text: `busy; later`,
		},
		{
			name: "no word", add: answer{"", 3},
			code: cnierr.DelegateFailed, text: `it failed without a word: exit status 3`,
		},
		{
			name: "no JSON", add: answer{"oops", 0},
			code: cnierr.DelegateFailed, text: `its answer is no CNI result`,
		},
		{
			name: "an unknown version", add: answer{`{"cniVersion": "9.9.9"}`, 0},
			code: cnierr.DelegateFailed, text: `unsupported CNI result version "9.9.9"`,
		},
		{
			name: "no address", add: answer{`{"cniVersion": "1.0.0", "routes": [{"dst": "0.0.0.0/0"}]}`, 0},
			code: cnierr.DelegateFailed, text: `it gave no address`,
		},
		{
			name: "nothing", code: cnierr.DelegateFailed, text: `its answer is no CNI result`,
		},
		{
			name: "an address of nothing", add: answer{`{"cniVersion": "1.0.0", "ips": [{}]}`, 0},
			code: cnierr.DelegateFailed, text: `ips[0].address: `,
		},
		{
			name: "a gateway of the other family",
			add:  answer{`{"cniVersion": "1.0.0", "ips": [{"address": "10.88.0.5/24", "gateway": "2001:db8::1"}]}`, 0},
			code: cnierr.DelegateFailed,
			text: `its gateway 2001:db8::1 is not of the family of its address 10.88.0.5`,
		},
		{
			name: "a route by the other family",
			add: answer{`{"cniVersion": "1.0.0", "ips": [{"address": "10.88.0.5/24"}],
				"routes": [{"dst": "::/0", "gw": "10.88.0.1"}]}`, 0},
			code: cnierr.DelegateFailed,
			text: `its route to ::/0 is by a gateway of the other family, 10.88.0.1`,
		},
		unusable("an address of nobody", "0.0.0.0/24", "", "its address 0.0.0.0/24 is one that no interface can have"),
		unusable("a multicast address", "ff02::5/64", "", "its address ff02::5/64 is one that no interface can have"),
		unusable("a loopback address", "127.0.0.5/8", "", "its address 127.0.0.5/8 is one that no interface can have"),
		{
			name: "a gateway of nobody",
			add:  answer{`{"cniVersion": "1.0.0", "ips": [{"address": "10.88.0.5/24", "gateway": "224.0.0.1"}]}`, 0},
			code: cnierr.DelegateFailed, text: `its gateway 224.0.0.1 of 10.88.0.5/24 is one that no router can have`,
		},
		unusable("a route by nobody", "10.88.0.5/24", `"gw": "0.0.0.0"`,
			"its route to 198.18.0.0/15 is by 0.0.0.0, an address that no router can have"),
		unusable("a negative scope", "10.88.0.5/24", `"scope": -1`, onRoute+`scope: -1 is not valid: want 0 to 255`),
		unusable("a scope of nine bits", "10.88.0.5/24", `"scope": 256`, onRoute+`scope: 256 is not valid: want 0 to 255`),
		unusable("a negative table", "10.88.0.5/24", `"table": -1`, onRoute+`table: -1 is not valid: want 0 to `+word),
		unusable("a table of 33 bits", "10.88.0.5/24", `"table": 4294967296`, tooLarge),
		unusable("a mtu of 17 bits", "10.88.0.5/24", `"mtu": 65536`, onRoute+`mtu: 65536 is not valid: want 0 to 65535`),
		unusable("a negative advmss", "10.88.0.5/24", `"advmss": -9`, onRoute+`advmss: -9 is not valid: want 0 to 65535`),
		unusable("a negative priority", "10.88.0.5/24", `"priority": -1`,
			onRoute+`priority: -1 is not valid: want 0 to `+word),
		{
			name: "DEL fails too",
			add:  answer{`{"code": 101, "msg": "full"}`, 1}, del: answer{`{"code": 5, "msg": "disk"}`, 1},
			code: 101, text: `full; DEL of IPAM plugin "fakeipam": disk`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := delegate(t, map[string]answer{"ADD": tt.add, "DEL": tt.del})
			got, err := d.Add(t.Context())
			if e := cnierr.Of(err, 0); err == nil || e.Code != tt.code || !strings.HasPrefix(e.Msg, `ADD of IPAM plugin "fakeipam": `+tt.text) {
				t.Errorf("got %+v\nwant %d %s", e, tt.code, tt.text)
			}
			if !reflect.DeepEqual(got, plan.Addresses{}) {
				t.Errorf("gave %+v and failed", got)
			}
			if said := verbs(t); said != "ADD DEL" {
				t.Errorf("the plugin was asked to %s, want ADD DEL", said)
			}
		})
	}
}

// The other verbs are handed on as they are, and the plugin's error codes kept.
func TestDelegateVerbs(t *testing.T) {
	tests := []struct {
		verb        string
		run         func(Delegate, context.Context) error
		fails       answer
		code        uint
		codeMissing uint
	}{
		{
			"CHECK", Delegate.Check,
			answer{`{"code": 105, "msg": "x"}`, 1},
			105, cnierr.DelegateFailed,
		},
		{
			"DEL", Delegate.Del,
			answer{`{"code": 11, "msg": "x"}`, 1},
			11, cnierr.DelegateFailed,
		},
		{
			"GC", Delegate.GC,
			answer{`x`, 1},
			cnierr.DelegateFailed, cnierr.DelegateFailed,
		},
		{
			"STATUS", Delegate.Status,
			answer{`{"code": 51, "msg": "x"}`, 1},
			cnierr.LimitedConnectivity, cnierr.NotAvailable,
		},
	}
	for _, tt := range tests {
		t.Run(tt.verb, func(t *testing.T) {
			d := delegate(t, nil)
			if err := tt.run(d, t.Context()); err != nil {
				t.Error(err)
			}
			if said := calls(t); len(said) != 1 || said[0].Verb != tt.verb || said[0].Config != delegatedConfig {
				t.Errorf("the plugin was asked %+v", said)
			}
		})
		t.Run(tt.verb+" fails", func(t *testing.T) {
			err := tt.run(delegate(t, map[string]answer{tt.verb: tt.fails}), t.Context())
			want := tt.verb + ` of IPAM plugin "fakeipam": `
			if e := cnierr.Of(err, 0); err == nil || e.Code != tt.code || !strings.HasPrefix(e.Msg, want) {
				t.Errorf("got %+v, want %d %s", e, tt.code, want)
			}
		})
		t.Run(tt.verb+" without the plugin", func(t *testing.T) {
			e := cnierr.Of(tt.run(absent(t), t.Context()), 0)
			want := `there is no plugin "fakeipam" in CNI_PATH, /`
			if e == nil || e.Code != tt.codeMissing || !strings.Contains(e.Msg, want) {
				t.Errorf("got %+v, want %d", e, tt.codeMissing)
			}
		})
	}
}

// A plugin that is not there has reserved nothing: its absence is said once.
func TestDelegateAddWithoutPlugin(t *testing.T) {
	_, err := absent(t).Add(t.Context())
	e := cnierr.Of(err, 0)
	want := `ipam.type: there is no plugin "fakeipam" in CNI_PATH, ` + os.Getenv("CNI_PATH")
	if e == nil || e.Code != cnierr.DelegateFailed || e.Msg != want {
		t.Errorf("got  %+v\nwant %s", e, want)
	}
}
