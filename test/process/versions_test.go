package process

import (
	"encoding/json"
	"slices"
	"testing"

	specversion "github.com/containernetworking/cni/pkg/version"
)

// What each version of the specification has, and the shape of its results.
var versions = []struct {
	version          string
	check, gc        bool
	address, ifNames bool // of results: "ips" instead of "ip4" and "ip6"; "interfaces"
}{
	{"0.1.0", false, false, false, false},
	{"0.2.0", false, false, false, false},
	{"0.3.0", false, false, true, true},
	{"0.3.1", false, false, true, true},
	{"0.4.0", true, false, true, true},
	{"1.0.0", true, false, true, true},
	{"1.1.0", true, true, true, true},
}

func TestEveryVerbInEveryVersion(t *testing.T) {
	t.Parallel()
	if all := specversion.All.SupportedVersions(); len(all) != len(versions) {
		t.Errorf("the library knows %q: want this table to as well", all)
	}
	for _, v := range versions {
		t.Run(v.version, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			config := with(routed, `{"cniVersion": "`+v.version+`"}`)

			added := h.add(config, c)
			var result map[string]json.RawMessage
			if err := json.Unmarshal([]byte(added.stdout), &result); err != nil {
				t.Fatal(err)
			}
			if got := string(result["cniVersion"]); got != `"`+v.version+`"` {
				t.Errorf("the result is of cniVersion %s, want %q", got, v.version)
			}
			for key, want := range map[string]bool{
				"ips": v.address, "interfaces": v.ifNames, "ip4": !v.address, "ip6": !v.address,
			} {
				if _, got := result[key]; got != want {
					t.Errorf("%q in the result: %v, want %v: %s", key, got, want, added.stdout)
				}
			}

			check := h.call("CHECK", added.before(config), c)
			gc := h.call("GC", with(config, `{"cni.dev/valid-attachments": []}`), nil)
			status := h.call("STATUS", config, nil)
			for _, o := range []struct {
				outcome
				has bool
			}{{check, v.check}, {gc, v.gc}, {status, v.gc}} {
				if o.has {
					o.succeeds()
				} else {
					o.refused(1)
					o.answersIn(v.version)
				}
			}
			h.del(added.before(config), c)
		})
	}
}

// answersIn expects a version in what was printed.
func (o outcome) answersIn(version string) {
	o.t.Helper()
	var answer struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal([]byte(o.stdout), &answer); err != nil || answer.CNIVersion != version {
		o.t.Errorf("want an answer of cniVersion %s (%v): %s", version, err, o)
	}
}

func TestUnknownVersionIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	for _, version := range []string{"9.9.9", "x"} {
		for _, verb := range []string{"ADD", "CHECK", "DEL", "GC", "STATUS"} {
			o := h.call(verb, with(routed, `{"cniVersion": "`+version+`"}`), c)
			o.refused(1, "cniVersion", `"`+version+`"`, "0.1.0", "1.1.0")
			o.answersIn(version)
		}
	}
}

// A result before 0.3.0 cannot be without an address. What cannot be added can still be cleaned up after.
func TestLayer2NeedsAResultWithoutAddresses(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	old := with(layer2, `{"cniVersion": "0.2.0"}`)
	h.leaves(func() {
		h.call("ADD", old, c).refused(7, "cniVersion", `"0.2.0"`, "layer 2", "0.3.0")
		h.del(old, c)
	}, c)
	first := with(layer2, `{"cniVersion": "0.3.0"}`)
	h.add(first, c)
	h.del(first, c)
}

func TestVersionAnswersInTheVersionOfItsStdin(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for stdin, want := range map[string]string{
		`{"cniVersion": "0.1.0"}`: "0.1.0", `{"cniVersion": "0.4.0"}`: "0.4.0", `{"cniVersion": "1.1.0"}`: "1.1.0",
		``: specversion.Current(), `{}`: specversion.Current(),
	} {
		o := h.call("VERSION", stdin, nil, "CNI_PATH").succeeds()
		o.answersIn(want)
		var answer struct {
			Supported []string `json:"supportedVersions"`
		}
		if err := json.Unmarshal([]byte(o.stdout), &answer); err != nil {
			t.Fatal(err)
		}
		for _, v := range versions {
			if !slices.Contains(answer.Supported, v.version) {
				t.Errorf("VERSION does not list %s: %s", v.version, o.stdout)
			}
		}
	}
}
