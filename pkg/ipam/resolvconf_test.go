package ipam

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/veth-cni/veth/pkg/cnierr"
)

func TestResolvConf(t *testing.T) {
	tests := []struct {
		name, text string
		want       types.DNS
	}{
		{"empty", "", types.DNS{}},
		{
			"as most are",
			"# by a tool\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n" +
				"search example.com example.org\noptions edns0 trust-ad\n",
			types.DNS{
				Nameservers: []string{"192.0.2.53", "2001:db8::53"}, Search: []string{"example.com", "example.org"},
				Options: []string{"edns0", "trust-ad"},
			},
		},
		{"the last search counts", "search a b\nsearch c\n", types.DNS{Search: []string{"c"}}},
		{"search after domain", "domain a\nsearch b c\n", types.DNS{Search: []string{"b", "c"}}},
		{"domain after search", "search b c\ndomain a\n", types.DNS{Domain: "a"}},
		{"options add up", "options ndots:2\noptions rotate\n", types.DNS{Options: []string{"ndots:2", "rotate"}}},
		{
			"white space and line ends",
			"nameserver\t192.0.2.53 \r\n\n  \nnameserver   192.0.2.54",
			types.DNS{Nameservers: []string{"192.0.2.53", "192.0.2.54"}},
		},
		{"comments", ";nameserver 192.0.2.1\n#search a\n; domain b\n", types.DNS{}},
		{"a remark behind a value", "nameserver 192.0.2.53 # ours\n", types.DNS{Nameservers: []string{"192.0.2.53"}}},
		{"keys without a value", "nameserver\nsearch\ndomain\noptions\n", types.DNS{}},
		{"unknown keys", "sortlist 192.0.2.0\nlookup file bind\nNameserver 192.0.2.1\n", types.DNS{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "resolv.conf")
			if err := os.WriteFile(path, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := ResolvConf(path)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestResolvConfNotGiven(t *testing.T) {
	if got, err := ResolvConf(""); err != nil || !got.IsEmpty() {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestResolvConfAbsent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	_, err := ResolvConf(path)
	e := cnierr.Of(err, 0)
	want := `ipam.resolvConf: "` + path + `" cannot be read: `
	if !errors.Is(err, fs.ErrNotExist) || e.Code != cnierr.InvalidConfig || !strings.HasPrefix(e.Msg, want) {
		t.Errorf("got %+v", e)
	}
}
