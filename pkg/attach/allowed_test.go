package attach

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
)

func TestAllowed(t *testing.T) {
	cfg, err := netconf.Parse(netconf.Request{IfName: "eth0", Config: []byte(`{"cniVersion": "1.1.0", "name": "net", "type": "veth",
		"sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1", "net/ipv4/tcp_rmem": "4096 4096 4096"}}`)})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, tt := range []struct {
		name, list string
		code       uint
		message    string
	}{
		{"both", "^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\r\n\n  tcp_rmem$\n", 0, ""},
		{"one", "^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\n", cnierr.InvalidConfig, `sysctl["net.ipv4.tcp_rmem"]: not allowed on this node`},
		{"by the interface's own name", "log_martians.\ntcp\n^net.ipv4.conf.eth0", cnierr.InvalidConfig, "IFNAME"},
		{"nothing", "\n", cnierr.InvalidConfig, "not allowed on this node"},
		{"broken", "net\n(", cnierr.InvalidConfig, `"(" is not a regular expression`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, tt.name)
			if err := os.WriteFile(path, []byte(tt.list), 0o600); err != nil {
				t.Fatal(err)
			}
			err := allowed(cfg, path)
			if tt.code == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || cnierr.Of(err, 0).Code != tt.code || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("allowed: %v, want code %d and %q", err, tt.code, tt.message)
			}
		})
	}
	if err := allowed(cfg, filepath.Join(dir, "absent")); err != nil {
		t.Errorf("without a list: %v", err)
	}
	if err := allowed(cfg, dir); err == nil || cnierr.Of(err, 0).Code != cnierr.IOFailure {
		t.Errorf("with a list that cannot be read: %v", err)
	}
}
