package process

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/test/node"
)

// The examples in the reference plugins' documentation, unchanged, under the reference plugins' names.
func TestReferenceExamples(t *testing.T) {
	t.Parallel()
	const data = "/var/lib/cni/networks/mynet" // host-local's default
	for _, tt := range []struct {
		name, plugin, config string
		subnet, gateway      string
		up                   bool
	}{
		{"bridge", "bridge", `{"cniVersion": "0.3.1", "name": "mynet", "type": "bridge", "bridge": "mynet0",
			"isDefaultGateway": true, "forceAddress": false, "ipMasq": true, "hairpinMode": true,
			"ipam": {"type": "host-local", "subnet": "10.10.0.0/16"}}`, "10.10.0.0/16", "10.10.0.1", true},
		{"bridge without addresses", "bridge", `{"cniVersion": "0.3.1", "name": "mynet", "type": "bridge", "bridge": "mynet0",
			"ipam": {}}`, "", "", true},
		{"bridge with a disabled interface", "bridge", `{"cniVersion": "0.3.1", "name": "mynet", "type": "bridge", "bridge": "mynet0",
			"disableContainerInterface": true}`, "", "", false},
		{"ptp", "ptp", `{"name": "mynet", "type": "ptp", "ipam": {"type": "host-local", "subnet": "10.1.1.0/24"},
			"dns": {"nameservers": ["10.1.1.1", "8.8.8.8"]}}`, "10.1.1.0/24", "10.1.1.1", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t).as(tt.plugin)
			h.add(tt.config, h.Container("other"))
			c1, c2 := h.Container(), h.Container()
			h.leaves(func() {
				a1, a2 := h.add(tt.config, c1), h.add(tt.config, c2)
				for _, ip := range a2.addresses() {
					if !netip.MustParsePrefix(tt.subnet).Contains(ip) {
						t.Errorf("got %s, want an address of %s", ip, tt.subnet)
					}
					for _, to := range []netip.Addr{ip, netip.MustParseAddr(tt.gateway)} {
						if err := c1.Ping(to); err != nil {
							t.Error(err)
						}
					}
					if _, err := os.Stat(filepath.Join(data, ip.String())); err != nil {
						t.Errorf("host-local does not know of %s: %v", ip, err)
					}
				}
				if got := up(t, c1, "eth0"); got != tt.up {
					t.Errorf("eth0 is up: %v, want %v", got, tt.up)
				}
				h.del(tt.config, c2)
				h.del(tt.config, c1)
				for _, ip := range append(a1.addresses(), a2.addresses()...) {
					if _, err := os.Stat(filepath.Join(data, ip.String())); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("host-local still holds %s: %v", ip, err)
					}
				}
			}, c1, c2)
		})
	}
}

// In a chain the reference's own plugins work on what this one has made: portmap forwards a port to the container,
// bandwidth shapes its host end, tuning changes its address, MTU and sysctls. CHECK sees through all of it.
func TestReferenceChain(t *testing.T) {
	t.Parallel()
	const (
		portmap   = `{"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}`
		bandwidth = `{"type": "bandwidth", "ingressRate": 100000000, "ingressBurst": 1000000, "egressRate": 100000000, "egressBurst": 1000000}`
		tuning    = `{"type": "tuning", "mac": "02:00:00:00:00:42", "mtu": 1400, "promisc": true, "sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1"}}`
		notified  = `{"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_notify": "0", "net.ipv6.conf.IFNAME.accept_ra": "2"}}`
		firewall  = `{"type": "firewall", "backend": "iptables"}`
		subnet    = `"ipam": {"type": "host-local", "subnet": "10.88.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}`
		bridge    = `{"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, ` + subnet + `}`
		ptp       = `{"type": "ptp", "ipMasq": true, ` + subnet + `}`
	)
	own := func(config string) string { return with(config, `{"cniVersion": null, "name": null}`) }
	for _, tt := range []struct {
		name     string
		programs []string
		plugins  []string
	}{
		{"bridge-portmap-bandwidth-tuning", []string{"nft"}, []string{bridge, portmap, bandwidth, tuning}},
		{"ptp-portmap-bandwidth-tuning", []string{"nft"}, []string{ptp, portmap, bandwidth, tuning}},
		{"bridge-portmap-bandwidth-sysctl-firewall", []string{"nft", "iptables"}, []string{bridge, portmap, bandwidth, notified, firewall}},
		{"veth-routed-portmap-bandwidth", []string{"nft"}, []string{own(routed), portmap, bandwidth}},
		{"veth-bridge-portmap-bandwidth-tuning", []string{"nft"}, []string{own(bridged), portmap, bandwidth, tuning}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, p := range tt.programs {
				node.Program(t, p)
			}
			h := newHost(t)
			dir := writeConflist(t, tt.name, tt.plugins...)
			world := h.Container("world")
			if err := h.connect(world, "192.0.2.1/24", "192.0.2.2/24"); err != nil {
				t.Fatal(err)
			}
			other, c := h.Container("other"), h.Container()
			port := func(n string) string {
				return `CAP_ARGS={"portMappings": [{"hostPort": ` + n + `, "containerPort": 80, "protocol": "tcp"}]}`
			}
			h.cnitool(dir, "add", tt.name, other, port("8081")).succeeds()
			h.leaves(func() {
				added := h.cnitool(dir, "add", tt.name, c, port("8080")).succeeds()
				if mac, mtu := link(t, c, "eth0"); strings.Contains(tt.name, "tuning") && (mac != "02:00:00:00:00:42" || mtu != 1400) {
					t.Errorf("eth0 has mac %s and mtu %d: tuning has not worked", mac, mtu)
				}
				h.cnitool(dir, "check", tt.name, c, port("8080")).succeeds()
				c.Mirror(t, "tcp", netip.AddrPortFrom(added.addresses()[0], 80))
				if _, err := world.SeenAs("tcp", netip.MustParseAddrPort("192.0.2.1:8080")); err != nil {
					t.Errorf("the port of the host does not lead into the container: %v", err)
				}
				h.cnitool(dir, "check", tt.name, c, port("8080")).succeeds()
				if err := c.Do(func() error {
					return byName("eth0", func(l netlink.Link) error {
						return netlink.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 0x43})
					})
				}); err != nil {
					t.Fatal(err)
				}
				if o := h.cnitool(dir, "check", tt.name, c, port("8080")); o.status == 0 || !strings.Contains(o.stderr, "02:00:00:00:00:43") {
					t.Errorf("want CHECK to see the address that no plugin of the chain has given: %s", o)
				}
				h.cnitool(dir, "del", tt.name, c, port("8080")).succeeds()
			}, c)
			h.cnitool(dir, "del", tt.name, other, port("8081")).succeeds()
		})
	}
}

func up(t *testing.T, ns *node.Namespace, name string) (is bool) {
	t.Helper()
	if err := ns.Do(func() error {
		return byName(name, func(l netlink.Link) error {
			is = l.Attrs().Flags&net.FlagUp != 0
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	return is
}
