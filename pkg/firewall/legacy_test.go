package firewall

import (
	"encoding/binary"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/test/node"
)

// legacy runs iptables-legacy or ip6tables-legacy in the thread's namespace. Without it, or without the kernel's part,
// the test is skipped.
func legacy(t *testing.T, command string) {
	t.Helper()
	words := strings.Fields(command)
	cmd := exec.Command(node.Program(t, words[0]), words[1:]...)
	cmd.Env = append(cmd.Environ(), "XTABLES_LOCKFILE="+t.TempDir()+"/lock")
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), "can't initialize") {
		t.Skipf("this kernel has no iptables-legacy: %s", out)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

func TestLegacyForward(t *testing.T) {
	const v4, v6 = "iptables-legacy chain filter FORWARD", "ip6tables-legacy chain filter FORWARD"
	both := plan.ForwardAccept{Network: "podnet", Link: br0, IPv4: true, IPv6: true}
	for _, tt := range []struct {
		name  string
		rules []string
		want  []string
	}{
		{"none", nil, nil},
		{"open", []string{"iptables-legacy -P FORWARD ACCEPT", "iptables-legacy -P INPUT DROP"}, nil},
		{"policy", []string{"iptables-legacy -P FORWARD DROP"}, []string{v4}},
		{"IPv6", []string{"ip6tables-legacy -P FORWARD DROP"}, []string{v6}},
		{"both", []string{"iptables-legacy -P FORWARD DROP", "ip6tables-legacy -P FORWARD DROP"}, []string{v4, v6}},
		{"last rule", []string{"iptables-legacy -A FORWARD -i lo -j ACCEPT", "iptables-legacy -A FORWARD -j REJECT"}, []string{v4}},
		{"last rule of IPv6", []string{"ip6tables-legacy -A FORWARD -j DROP"}, []string{v6}},
		{
			"conditions", []string{
				"iptables-legacy -A FORWARD -i eth9 -j DROP", "iptables-legacy -A FORWARD ! -s 192.0.2.0/24 -j DROP",
				"ip6tables-legacy -A FORWARD -d 2001:db8::/32 -j DROP",
			}, nil,
		},
		{"accepted before", []string{"iptables-legacy -P FORWARD DROP", "iptables-legacy -A FORWARD -j ACCEPT"}, nil},
		{
			"Docker",
			[]string{
				"iptables-legacy -N DOCKER-USER", "iptables-legacy -P FORWARD DROP", "iptables-legacy -A FORWARD -j DOCKER-USER",
				"iptables-legacy -A FORWARD -o docker0 -j ACCEPT",
			},
			[]string{v4},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := fresh(t)
			for _, r := range tt.rules {
				legacy(t, r)
			}
			if got, err := chainsOf(f.Dropping(both)); err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
			if len(tt.want) == 0 {
				must(t, f.ProbeForwardAccept(both))
				return
			}
			if got, err := f.Dropping(plan.ForwardAccept{Network: "podnet", Link: br0}); err != nil || got != nil {
				t.Errorf("of no family: %q, %v", got, err)
			}
			err := f.ProbeForwardAccept(both)
			if cnierr.Of(err, 0).Code != cnierr.Conflict || !strings.Contains(err.Error(), "legacy -I FORWARD -i "+br0.Name+" -j ACCEPT, the same with -o, and forwardAccept false") {
				t.Errorf("to open it: %v, want a conflict that says how", err)
			}
		})
	}
}

// To look makes no table.
func TestLegacyForwardOnlyLooks(t *testing.T) {
	fresh(t)
	for range 2 {
		if got, err := legacyChains(); err != nil || got != nil {
			t.Errorf("got %v, %v", got, err)
		}
	}
}

// What is not a table decides nothing, and is no reason to crash.
func TestLegacyEntriesThatAreNone(t *testing.T) {
	f := legacyFamilies[0]
	good := make([]byte, f.entry+targetHeader+8)
	binary.NativeEndian.PutUint16(good[f.offsets:], uint16(f.entry))
	binary.NativeEndian.PutUint16(good[f.offsets+2:], uint16(len(good)))
	binary.NativeEndian.PutUint32(good[f.entry+targetHeader:], ^uint32(0)) // -1: drop
	if !f.drops(legacyTable{}, good) {
		t.Fatal("a table with nothing but a policy that drops does not drop")
	}
	for name, spoil := range map[string]func(b []byte) []byte{
		"no length":        func(b []byte) []byte { binary.NativeEndian.PutUint16(b[f.offsets+2:], 0); return b },
		"too long":         func(b []byte) []byte { binary.NativeEndian.PutUint16(b[f.offsets+2:], 0xffff); return b },
		"no target":        func(b []byte) []byte { binary.NativeEndian.PutUint16(b[f.offsets:], 0xfff0); return b },
		"target too early": func(b []byte) []byte { binary.NativeEndian.PutUint16(b[f.offsets:], 8); return b },
		"a piece":          func(b []byte) []byte { return b[:f.entry+4] },
		"nothing":          func([]byte) []byte { return nil },
		"another verdict":  func(b []byte) []byte { binary.NativeEndian.PutUint32(b[f.entry+targetHeader:], 8); return b },
		"a condition":      func(b []byte) []byte { b[0] = 10; return b },
	} {
		if f.drops(legacyTable{}, spoil(slices.Clone(good))) {
			t.Errorf("%s: drops", name)
		}
	}
}
