package process

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// delegate is an IPAM plugin of the test's own, which does what files beside it say and remembers its calls.
type delegate struct {
	t    testing.TB
	file string
}

const delegateScript = `#!/bin/sh
echo "$CNI_COMMAND" >>"$0.calls"
cat >"$0.$CNI_COMMAND.stdin"
[ ! -e "$0.$CNI_COMMAND.says" ] || cat "$0.$CNI_COMMAND.says"
[ ! -e "$0.$CNI_COMMAND.fails" ]
`

// newDelegate puts an IPAM plugin named "delegate" that gives out 10.88.0.7 first into the host's CNI_PATH.
func newDelegate(h *host) delegate {
	dir := h.t.(interface{ TempDir() string }).TempDir()
	d := delegate{h.t, filepath.Join(dir, "delegate")}
	d.write("", delegateScript)
	if err := os.Chmod(d.file, 0o755); err != nil {
		h.t.Fatal(err)
	}
	h.path = dir + ":" + h.path
	d.says("ADD", `{"cniVersion": "1.1.0", "ips": [{"address": "10.88.0.7/24", "gateway": "10.88.0.1"}]}`)
	return d
}

func (d delegate) write(suffix, text string) {
	d.t.Helper()
	if err := os.WriteFile(d.file+suffix, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// says sets what a verb prints.
func (d delegate) says(verb, text string) { d.write("."+verb+".says", text) }

// fails makes a verb fail with a CNI error.
func (d delegate) fails(verb, text string) {
	d.says(verb, text)
	d.write("."+verb+".fails", "")
}

// called expects the verbs that were called since the last look, in order.
func (d delegate) called(want ...string) {
	d.t.Helper()
	text, err := os.ReadFile(d.file + ".calls")
	if err != nil && !os.IsNotExist(err) {
		d.t.Fatal(err)
	}
	if got := strings.Fields(string(text)); !slices.Equal(got, want) {
		d.t.Errorf("the delegate was called with %q, want %q", got, want)
	}
	d.write(".calls", "")
}

// stdin is the configuration a verb was called with last.
func (d delegate) stdin(verb string) string {
	d.t.Helper()
	text, err := os.ReadFile(d.file + "." + verb + ".stdin")
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

const delegatedIPAM = `{"ipam": {"type": "delegate", "ranges": null, "key of its own": 1}}`

// The reference's static compares the gateway that it gave with the result's, in routed mode too, where the container has
// another next hop.
func TestStaticFindsItsGatewayAgain(t *testing.T) {
	t.Parallel()
	const static = `{"ipam": {"type": "static", "ranges": null, "addresses": [
		{"address": "10.88.0.7/24", "gateway": "10.88.0.1"}, {"address": "2001:db8:88::7/64", "gateway": "2001:db8:88::1"}],
		"routes": [{"dst": "192.0.2.0/24"}, {"dst": "198.18.0.0/15", "gw": "10.88.0.1"}]}}`
	for _, m := range []mode{{"routed", routed}, {"bridge", bridged}, {"ptp", ptp}} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			if m.name == "ptp" {
				h = h.as("ptp")
			}
			c, config := h.Container(), with(m.config, static)
			added := h.add(config, c)
			for i, want := range []string{"10.88.0.1", "2001:db8:88::1"} {
				if got := added.result().IPs[i].Gateway.String(); got != want {
					t.Errorf("ips[%d].gateway is %s, want %s", i, got, want)
				}
			}
			h.check(config, c, added)
			h.del(config, c)
		})
	}
}
