package netconf

import (
	"bytes"
	"slices"
	"testing"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// FuzzParse holds Parse to what Config promises, and ParseLenient to agreeing with it.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"name": "net", "type": "veth"}`,
		pooled(), pooled(`"mtu": 1280`, `"runtimeConfig": {"ips": ["10.88.0.5"], "mac": "02:00:00:00:00:01",
			"ipRanges": [[{"subnet": "10.90.0.0/24", "rangeStart": "10.90.0.5", "gateway": "10.90.0.2"}]]}`),
		pooled(`"args": {"cni": {"ips": ["2001:db8::5/64", "::ffff:10.88.0.7"], "mac": "02:00:00:00:00:02"}}`),
		builtin(`"subnet": "10.88.0.0/30", "rangeEnd": "10.88.0.2",
			"routes": [{"dst": "::/0", "gw": "fe80::1", "scope": 0}]`),
		bridged(`"vlan": 5, "vlanTrunk": [{"minID": 1, "maxID": 9, "id": 4}], "isDefaultGateway": true, "ipMasq": false`),
		bridged(`"ipam": {"type": "host-local"}, "ipMasq": true, "x/y": {}`),
		`{"name": "n", "type": "ptp", "dns": {"search": ["a"]}, "prevResult": {"ip4": {"ip": "10.0.0.5/8"}}}`,
		veth(`"prevResult": {"ips": [{"address": "10.0.0.5/8", "interface": 0}], "interfaces": [{"name": "eth0"}]}`),
		`{"cniVersion": "0.4.0", "name": "n", "type": "veth", "prevResult": {"ips": [{"version": "4", "address": "::1/8"}]}}`,
		veth(`"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}], "cni.dev/attachments": null`),
		pooled(`"sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1", "net/ipv6/conf/eth0.5/hop_limit": " 13 "}`,
			`"promisc": true, "allmulti": false, "txQLen": 9, "mac": "02:00:00:00:00:04", "table": "auto"`),
		builtin(`"subnet": "169.254.0.0/16"`),
		bridged(`"ipam": {"type": "dhcp"}, "table": 100, "defaultRouteMetric": 9, "mtuOverhead": 50`),
	} {
		f.Add("c1", "eth0", "IgnoreUnknown=1;IP=10.88.0.6;MAC=02:00:00:00:00:03;K8S_POD_NAME=p", []byte(seed))
		f.Add("", "", "", []byte(seed))
	}
	f.Fuzz(func(t *testing.T, id, ifName, args string, config []byte) {
		r := Request{ContainerID: id, IfName: ifName, Netns: "/n", Args: args, Config: config}
		lenient := ParseLenient(r)
		c, err := Parse(r)
		if err != nil {
			if cnierr.Of(err, 0).Code == 0 || err.Error() == "" {
				t.Errorf("the error has no code or says nothing: %q", err)
			}
			return
		}
		checkLink(t, c)
		checkPool(t, c)
		checkTuning(t, c)
		checkPrev(t, c)
		if !bytes.Equal(c.Raw, config) {
			t.Error("Raw is not what came in")
		}
		equal(t, "lenient", *lenient, Config{
			CNIVersion: c.CNIVersion, Network: c.Network, Type: c.Type, Mode: c.Mode, Attachment: c.Attachment,
			Bridge: Bridge{Name: c.Bridge.Name}, IPMasq: c.IPMasq, IPAM: IPAM{Type: c.IPAM.Type},
			Routing: Routing{
				Table: c.Routing.Table, AutoTable: c.Routing.AutoTable, DefaultGateway: c.Routing.DefaultGateway,
			},
			Prev: c.Prev, Valid: c.Valid, ValidGiven: c.ValidGiven, Raw: c.Raw,
		})
	})
}

func must(t *testing.T, ok bool, what string, value any) {
	t.Helper()
	if !ok {
		t.Errorf("%s: %+v", what, value)
	}
}

func checkLink(t *testing.T, c *Config) {
	t.Helper()
	must(t, c.Network != "" && c.CNIVersion != "", "unnamed", c)
	must(t, c.IPAM.Type != "" || !beforeLists(c.CNIVersion) || c.Prev != nil && len(c.Prev.IPs) > 0,
		"a result that must have an address and has none", c)
	must(t, slices.Contains([]string{TypeVeth, TypeBridge, TypePTP}, c.Type), "type", c.Type)
	must(t, c.MTU == 0 || c.MTU >= 68 && c.MTU <= 65535, "MTU", c.MTU)
	must(t, c.MAC == nil || len(c.MAC) == 6 && c.MAC[0]&1 == 0, "MAC", c.MAC)
	must(t, c.IPAM.Type != "" || !c.IPMasq, "masquerade without addresses", c)
	must(t, c.IPAM.Type == "" || !c.DisableContainerInterface, "addresses on an interface that stays down", c)
	if c.Mode == Routed {
		equal(t, "bridge of a routed network", c.Bridge, Bridge{})
		must(t, !c.DisableContainerInterface, "down in a routed network", c)
		return
	}
	b := c.Bridge
	must(t, c.Type != TypePTP && len(b.Name) > 0 && len(b.Name) < 16, "bridge", b.Name)
	must(t, !c.DefaultGateway || b.Gateway, "default gateway without a gateway", b)
	must(t, !b.Hairpin || !b.Promisc, "hairpin and promiscuous", b)
	must(t, b.VLAN <= 4094, "VLAN", b.VLAN)
	for i, id := range b.Trunk {
		must(t, id >= 1 && id <= 4094 && (i == 0 || b.Trunk[i-1] < id), "trunk", b.Trunk)
	}
}

func checkPool(t *testing.T, c *Config) {
	t.Helper()
	i := c.IPAM
	if !i.Builtin() {
		must(t, len(i.Pool.Sets)+len(i.Pool.Exclude)+len(i.Requested)+len(i.Routes) == 0, "not the built-in's", i)
		return
	}
	if err := i.Pool.Validate(); err != nil {
		t.Error(err)
	}
	must(t, c.Mode != Routed || c.Type != TypeVeth || i.Pool.Usable(routedGateway()) != nil, "leases the gateway", i.Pool)
	sets := map[int]bool{}
	for _, a := range i.Requested {
		must(t, i.Pool.Usable(a) == nil && !a.Is4In6() && a.Zone() == "", "requested", a)
		must(t, !sets[i.Pool.SetOf(a)], "two of one set", i.Requested)
		sets[i.Pool.SetOf(a)] = true
	}
	for _, s := range i.Pool.Sets {
		must(t, !s[0].Subnet.Addr().Is6() || c.MTU == 0 || c.MTU >= 1280, "MTU for IPv6", c.MTU)
	}
	for _, r := range i.Routes {
		must(t, r.Dst.IsValid() && r.Dst == r.Dst.Masked() && !r.Dst.Addr().Is4In6(), "route", r)
		must(t, !r.Via.IsValid() || r.Via.Is4() == r.Dst.Addr().Is4(), "route", r)
	}
}

func checkPrev(t *testing.T, c *Config) {
	t.Helper()
	if c.Prev == nil {
		return
	}
	for _, ip := range c.Prev.IPs {
		must(t, len(ip.Address.IP) > 0 && len(ip.Address.Mask) > 0, "address in prevResult", ip)
		must(t, ip.Interface == nil || c.Prev.Interfaces[*ip.Interface] != nil, "interface in prevResult", ip)
	}
	for _, r := range c.Prev.Routes {
		must(t, len(r.Dst.IP) > 0, "route in prevResult", r)
	}
}
