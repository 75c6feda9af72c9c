package attach

import (
	"strings"
	"testing"

	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/netconf"
)

// TestNarrow: an uplink that takes shorter packets than a network's containers send is worth a warning, which says
// whether its limit can be raised.
func TestNarrow(t *testing.T) {
	sizes := func(gso, gso4 uint32) netconf.Sizes { return netconf.Sizes{GSO: gso, GSO4: gso4} }
	for _, tt := range []struct {
		name   string
		want   netconf.Sizes
		uplink kernel.Uplink
		says   string
	}{
		{"as long", sizes(196608, 131072), kernel.Uplink{Sizes: sizes(196608, 131072), TSO: 262144}, ""},
		{
			"can be raised", sizes(196608, 0),
			kernel.Uplink{Name: "eth9", Sizes: sizes(65536, 65536), TSO: 262144},
			"gsoMaxSize: 196608 of network net is more than the 65536 of eth9, the way to the world, where such packets are taken " +
				"apart without the device's help: want `ip link set dev eth9 gso_max_size 196608`, or the key left out",
		},
		{
			"can be raised for IPv4", sizes(0, 131072),
			kernel.Uplink{Name: "eth9", Sizes: sizes(65536, 65536), TSO: 262144},
			"want `ip link set dev eth9 gso_ipv4_max_size 131072`",
		},
		{
			"cannot be raised", sizes(196608, 0),
			kernel.Uplink{Name: "eth9", Sizes: sizes(65536, 65536), TSO: 65536},
			"whose device takes no more than 65536: what leaves there is taken apart in software and slow",
		},
		{"no BIG TCP", sizes(65536, 65536), kernel.Uplink{Sizes: sizes(32768, 32768), TSO: 32768}, ""},
		{"a kernel that does not tell", sizes(196608, 131072), kernel.Uplink{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := narrow(&netconf.Config{Network: "net", Wire: netconf.Wire{Sizes: tt.want}}, tt.uplink)
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("says %v, want %q", err, tt.says)
			}
		})
	}
}
