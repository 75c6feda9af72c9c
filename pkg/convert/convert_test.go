package convert_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/convert"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/test/golden"
)

// scenarios are the inputs of testdata by name. Beside each lie what it becomes and what is said about it.
func scenarios(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.in")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	all := map[string][]byte{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(path), ".in")] = text
	}
	return all
}

func remarks(r convert.Result) string {
	var b strings.Builder
	for _, m := range r.Remarks {
		b.WriteString(m.String() + "\n")
	}
	return b.String()
}

func TestConvert(t *testing.T) {
	for name, input := range scenarios(t) {
		t.Run(name, func(t *testing.T) {
			r, err := convert.Convert(input)
			if err != nil {
				t.Fatal(err)
			}
			golden.Compare(t, filepath.Join("testdata", name+".conflist"), string(r.List))
			golden.Compare(t, filepath.Join("testdata", name+".remarks"), remarks(r))
			if strings.Contains(remarks(r), "lost: ") == r.Complete() {
				t.Errorf("complete is %v, and the remarks are\n%s", r.Complete(), remarks(r))
			}
			accepted(t, r.List)
			unchanged(t, r.List)
		})
	}
}

// The example of the documentation is what the program says.
func TestDocumentedExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/convert.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(text), "## 1. An example")
	blocks := strings.Split(example, "```")
	if len(blocks) < 6 {
		t.Fatal("docs/convert.md has no input, output and remarks")
	}
	r, err := convert.Convert([]byte(strings.TrimPrefix(blocks[1], "json")))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(r.List), strings.TrimPrefix(blocks[3], "json\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := remarks(r), strings.TrimPrefix(blocks[5], "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// accepted hands the veth plugin of a list to the plugin's own parser, as a runtime would.
func accepted(t *testing.T, list []byte) {
	t.Helper()
	var l struct {
		CNIVersion string
		Name       string
		Plugins    []map[string]any
	}
	if err := json.Unmarshal(list, &l); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, p := range l.Plugins {
		if p["type"] != "veth" {
			continue
		}
		found++
		p["cniVersion"], p["name"] = l.CNIVersion, l.Name
		config, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := netconf.Parse(netconf.Request{Config: config}); err != nil {
			t.Errorf("the plugin refuses the result: %v", err)
		}
	}
	if found != 1 {
		t.Errorf("%d plugins of type veth, want 1", found)
	}
}

// unchanged converts a list again, which must do nothing and say so.
func unchanged(t *testing.T, list []byte) {
	t.Helper()
	again, err := convert.Convert(list)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.List, list) {
		t.Errorf("converted again it becomes\n%s", again.List)
	}
	if len(again.Remarks) != 1 || !again.Complete() || !strings.HasPrefix(remarks(again), "note: nothing to convert") {
		t.Errorf("converted again it says\n%s", remarks(again))
	}
}

func TestConvertErrors(t *testing.T) {
	list := func(plugins string) string {
		return `{"cniVersion": "1.0.0", "name": "n", "plugins": [` + plugins + `]}`
	}
	const bridge = `{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.88.0.0/24"}}`
	for _, tt := range []struct{ name, input, want string }{
		{"nothing", ``, `not JSON: unexpected end of JSON input`},
		{"not JSON", `{"name": }`, `not JSON: invalid character '}' looking for beginning of value`},
		{"no object", `[1]`, `the configuration: [1] is not valid: want an object`},
		{"no list", `{"name": "x"}`, `plugins: missing: want a configuration list, or a single configuration with a type`},
		{"plugins of another type", `{"plugins": {}}`, `plugins: {} is not valid: want a list`},
		{"plugin of another type", list(`7`), `plugins[0]: 7 is not valid: want an object`},
		{"no type", list(`{"bridge": "x"}`), `plugins[0].type: missing: want the name of a plugin`},
		{"no interface", list(`{"type": "macvlan"}, {"type": "tuning"}`), `plugins: [macvlan tuning]: want one of type bridge or ptp, whose work veth could do`},
		{"no plugins", list(``), `plugins: []: want one of type bridge or ptp, whose work veth could do`},
		{"two interfaces", list(bridge + `, {"type": "ptp"}`), `plugins[1].type: "ptp" makes an interface, as plugins[0] does: want one that does`},
		{"key twice", list(`{"type": "bridge", "mtu": 1, "MTU": 2}`), `plugins[0].MTU: given twice: want it once`},
		{"capabilities", list(bridge + `, {"type": "portmap", "capabilities": []}`), `plugins[1]: capabilities: [] is not valid: want an object`},
		{"ipam", list(`{"type": "ptp", "ipam": "host-local"}`), `plugins[0].ipam: "host-local" is not valid: want an object`},
		{"no name", `{"plugins": [` + bridge + `]}`, `veth would refuse what this becomes: name: missing: want the network's name`},
		{
			"value", list(`{"type": "bridge", "mtu": "1500"}`),
			`veth would refuse what this becomes: mtu: "1500" is not valid: want an integer`,
		},
		{
			"no ranges", list(`{"type": "bridge", "ipam": {"type": "host-local"}}`),
			`veth would refuse what this becomes: ipam.ranges: missing: want at least one range set for the built-in IPAM, such as [[{"subnet": "10.88.0.0/16"}]]`,
		},
		{
			"contradiction", list(`{"type": "bridge", "hairpinMode": true, "promiscMode": true}`),
			`veth would refuse what this becomes: hairpinMode: contradicts promiscMode, want at most one of them: a promiscuous bridge ` +
				`already hands frames back to the host, and they would arrive twice`,
		},
		{
			"policy", list(bridge + `, {"type": "firewall", "ingressPolicy": "closed"}`),
			`veth would refuse what this becomes: ingressPolicy: "closed" is not valid: want "open", "same-network" (or "same-bridge", ` +
				`which means the same) or "isolated"`,
		},
		{"sysctl", list(bridge + `, {"type": "tuning", "sysctl": ["x"]}`), `veth would refuse what this becomes: sysctl: ["x"] is not valid: want an object`},
		{"rate", list(bridge + `, {"type": "bandwidth", "ingressRate": -1}`), `veth would refuse what this becomes: ingressRate: -1 is not valid: want an integer that is not negative`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := convert.Convert([]byte(tt.input))
			if err == nil {
				t.Fatalf("got\n%s\nwant an error: %s", r.List, tt.want)
			}
			if err.Error() != tt.want {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
		})
	}
}

// FuzzConvert holds whatever comes in to an error, or a list that the plugin takes and that converts into itself.
func FuzzConvert(f *testing.F) {
	for _, input := range scenarios(f) {
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		r, err := convert.Convert(input)
		if err != nil {
			return
		}
		if !json.Valid(r.List) {
			t.Fatalf("not JSON: %s", r.List)
		}
		if strings.HasPrefix(remarks(r), "note: nothing to convert") {
			return
		}
		accepted(t, r.List)
		unchanged(t, r.List)
	})
}
