package process

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/test/node"
)

// What CNI spec 1.1.0 and the project's CONVENTIONS.md ask for and is easily got wrong. Cleaning up after failures, DEL,
// GC and STATUS have files of their own.

func TestFailingDelegateAddIsFollowedByItsDel(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := newDelegate(h)
	config := with(routed, delegatedIPAM)
	d.fails("ADD", `{"cniVersion": "1.1.0", "code": 11, "msg": "no address today"}`)
	h.call("ADD", config, h.Container()).refused(11, "no address today")
	d.called("ADD", "DEL")
}

func TestDelegateGetsEveryVerbAndTheWholeConfiguration(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			d := newDelegate(h)
			c := h.Container()
			config := with(mode.config, delegatedIPAM)
			gc := with(config, `{"cni.dev/valid-attachments": []}`)
			added := h.add(config, c)
			if got, want := added.addresses(), []netip.Addr{netip.MustParseAddr("10.88.0.7")}; !slices.Equal(got, want) {
				t.Errorf("the result reports %s, the delegate gave %s", got, want)
			}
			h.check(config, c, added)
			h.call("STATUS", config, nil).succeeds()
			h.del(added.before(config), c)
			h.call("GC", gc, nil).succeeds()
			d.called("ADD", "CHECK", "STATUS", "DEL", "GC")
			for verb, want := range map[string]string{
				"ADD": config, "CHECK": added.before(config), "STATUS": config, "DEL": added.before(config), "GC": gc,
			} {
				if got := d.stdin(verb); got != want {
					t.Errorf("%s of the delegate got\n%s\nwant\n%s", verb, got, want)
				}
			}
		})
	}
}

func TestNetworkWithoutIPAMDelegatesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	added := h.add(layer2, c)
	if ips := added.result().IPs; len(ips) != 0 {
		t.Errorf("a layer 2 network gave the addresses %v", ips)
	}
	h.check(layer2, c, added)
	h.call("STATUS", layer2, nil).succeeds()
	h.call("GC", with(layer2, `{"cni.dev/valid-attachments": []}`), nil).succeeds()
	h.del(layer2, c)
}

func TestInterfaceNameThatIsTakenStaysUntouched(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		h := newHost(t)
		c := h.Container()
		h.add(mode.config, c)
		h.leaves(func() {
			h.call("ADD", mode.config, c, "CNI_CONTAINERID=another").refused(102, "CNI_IFNAME", `"eth0"`)
			h.del(mode.config, c, "CNI_CONTAINERID=another")
		}, c)
	}
}

func TestCheckToleratesWhatLaterPluginsAdd(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			added := h.add(mode.config, c)
			if err := c.Do(func() error {
				eth0, err := netlink.LinkByName("eth0")
				if err != nil {
					return err
				}
				a, err := netlink.ParseAddr("198.18.0.1/24")
				if err != nil {
					return err
				}
				if err := netlink.AddrAdd(eth0, a); err != nil {
					return err
				}
				if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "more0"}, PeerName: "more1"}); err != nil {
					return err
				}
				return netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: netlink.NewIPNet(net.IPv4(192, 0, 2, 1)), Gw: net.IPv4(198, 18, 0, 2)})
			}); err != nil {
				t.Fatal(err)
			}
			h.check(mode.config, c, added)

			var result map[string]any
			if err := json.Unmarshal([]byte(added.stdout), &result); err != nil {
				t.Fatal(err)
			}
			interfaces, _ := result["interfaces"].([]any)
			ips, _ := result["ips"].([]any)
			result["interfaces"] = append(interfaces, map[string]any{"name": "more0", "sandbox": c.Path, "mac": "02:00:00:00:00:05"})
			result["ips"] = append(ips, map[string]any{"address": "198.18.0.1/24", "interface": len(interfaces)})
			more, err := json.Marshal(result)
			if err != nil {
				t.Fatal(err)
			}
			h.call("CHECK", with(mode.config, `{"prevResult": `+string(more)+`}`), c).succeeds()
		})
	}
}

func TestCheckConsultsPrevResult(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	added := h.add(routed, c)
	for name, prev := range map[string]string{
		"another address": `{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "` + c.Path + `"}],
			"ips": [{"address": "10.88.0.200/32", "interface": 0}]}`,
		"no address":      `{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "` + c.Path + `"}]}`,
		"another sandbox": `{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/another"}]}`,
		"nothing":         `{"cniVersion": "1.1.0"}`,
	} {
		t.Run(name, func(t *testing.T) {
			asked := *h
			asked.t = t
			asked.call("CHECK", with(routed, `{"prevResult": `+prev+`}`), c).refused(105)
		})
	}
	h.check(routed, c, added)
}

func TestCNIPathIsOptional(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	added := h.add(routed, c, "CNI_PATH")
	h.check(routed, c, added, "CNI_PATH")
	h.call("STATUS", routed, nil, "CNI_PATH").succeeds()
	h.del(routed, c, "CNI_PATH")
}

// A plugin finds its delegate in the directory it is in itself, too.
func TestDelegateIsFoundWithoutCNIPath(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	config := with(routed, `{"ipam": {"type": "static", "ranges": null, "addresses": [{"address": "10.88.0.7/24"}]}}`)
	h.add(config, c, "CNI_PATH")
	h.del(config, c, "CNI_PATH")
}

func TestArgumentIPIsIgnoredWhereArgsHaveIPs(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := netip.MustParseAddr("10.88.0.9")
	for args, config := range map[string]string{
		"IP=10.88.0.9":  routed,
		"IP=10.88.0.10": with(routed, `{"args": {"cni": {"ips": ["10.88.0.9"]}}}`),
	} {
		c := h.Container()
		if got := h.add(config, c, "CNI_ARGS="+args).addresses(); !slices.Contains(got, want) {
			t.Errorf("with CNI_ARGS %s got %s, want %s", args, got, want)
		}
		h.del(config, c)
	}
}

func TestArgumentsWithUnknownKeysAndEqualSigns(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := h.Container()
	h.call("ADD", routed, c, "CNI_ARGS=LABELS=a=b=c").refused(4, `"LABELS"`, `"a=b=c"`)
	h.call("ADD", routed, c, "CNI_ARGS=IgnoreUnknown=0;LABELS=a=b=c").refused(4, `"LABELS"`)
	added := h.add(routed, c, "CNI_ARGS=LABELS=a=b=c;IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=till-0;IP=10.88.0.9")
	if got := added.addresses()[0].String(); got != "10.88.0.9" {
		t.Errorf("got %s, want the address that stands beside the unknown key", got)
	}
	alias := ""
	if err := h.Do(func() error {
		l, err := netlink.LinkByName(added.hostEnd())
		if err == nil {
			alias = l.Attrs().Alias
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if want := "podnet/" + c.Name + "/eth0 shop/till-0"; alias != want {
		t.Errorf("the host end's alias is %q, want %q", alias, want)
	}
}

func TestMACPrecedence(t *testing.T) {
	t.Parallel()
	args, cni, runtime := "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
	for _, mode := range modes {
		for _, tt := range []struct{ patch, args, want string }{
			{`{}`, "MAC=" + args, args},
			{`{"args": {"cni": {"mac": "` + cni + `"}}}`, "MAC=" + args, cni},
			{`{"runtimeConfig": {"mac": "` + runtime + `"}, "args": {"cni": {"mac": "` + cni + `"}}}`, "MAC=" + args, runtime},
		} {
			t.Run(mode.name+" "+tt.want, func(t *testing.T) {
				t.Parallel()
				h := newHost(t)
				c := h.Container()
				config := with(mode.config, tt.patch)
				added := h.add(config, c, "CNI_ARGS="+tt.args)
				if got, _ := link(t, c, "eth0"); got != tt.want {
					t.Errorf("eth0 has %s, want %s", got, tt.want)
				}
				h.check(config, c, added, "CNI_ARGS="+tt.args)
			})
		}
	}
}

// The sandbox is CNI_NETNS letter by letter, host interfaces are listed without one, and an address names its interface
// by its place in the list.
func TestResultDescribesTheAttachment(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			sandbox := "/run/./netns/../netns//" + c.Name
			added := h.add(mode.config, c, "CNI_NETNS="+sandbox)
			r := added.result()
			inside := 0
			for _, i := range r.Interfaces {
				if i.Sandbox != "" && i.Sandbox != sandbox {
					t.Errorf("%s has the sandbox %q, want %q", i.Name, i.Sandbox, sandbox)
				}
				where := h.Namespace
				if i.Sandbox != "" {
					inside++
					where = c
				}
				mac, mtu := link(t, where, i.Name)
				if i.Mac != mac || i.Mtu != mtu {
					t.Errorf("the result says %s has mac %s and mtu %d, the kernel %s and %d", i.Name, i.Mac, i.Mtu, mac, mtu)
				}
			}
			if inside != 1 {
				t.Errorf("%d interfaces are in the container, want 1: %s", inside, added)
			}
			if len(r.IPs) != 2 {
				t.Fatalf("got %d addresses, want one of each family: %s", len(r.IPs), added)
			}
			for _, ip := range r.IPs {
				if ip.Interface == nil || r.Interfaces[*ip.Interface].Name != "eth0" {
					t.Errorf("address %s is not on eth0: %s", ip.Address.String(), added)
				}
			}
			h.check(mode.config, c, added, "CNI_NETNS="+sandbox)
		})
	}
}

// Routes carry mtu, advmss, priority, table and scope since 1.1.0, and all of them reach the kernel.
func TestRoutesWithAllTheirFields(t *testing.T) {
	t.Parallel()
	fields := `"mtu": 1400, "advmss": 1300, "priority": 7, "table": 100`
	for _, tt := range []struct{ name, config, gw4, gw6 string }{
		{"routed", routed, "169.254.1.1", "fe80::1"}, {"bridge", bridged, "10.88.0.1", "2001:db8:88::1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.Container()
			config := with(tt.config, `{"ipam": {"routes": [{"dst": "192.0.2.0/24", "gw": "`+tt.gw4+`", "scope": 0, `+fields+`},
				{"dst": "2001:db8:ffff::/48", "gw": "`+tt.gw6+`", `+fields+`}]}}`)
			added := h.add(config, c)
			table, universe := 100, 0
			for dst, want := range map[string]types.Route{
				"192.0.2.0/24":       {GW: net.ParseIP(tt.gw4), MTU: 1400, AdvMSS: 1300, Priority: 7, Table: &table, Scope: &universe},
				"2001:db8:ffff::/48": {GW: net.ParseIP(tt.gw6), MTU: 1400, AdvMSS: 1300, Priority: 7, Table: &table},
			} {
				i := slices.IndexFunc(added.result().Routes, func(r *types.Route) bool { return r.Dst.String() == dst })
				if i < 0 {
					t.Fatalf("no route to %s in %s", dst, added)
				}
				got := *added.result().Routes[i]
				got.Dst, want.Dst = net.IPNet{}, net.IPNet{}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("the result's route to %s (-want +got):\n%s", dst, diff)
				}
				if err := c.Do(func() error {
					family := netlink.FAMILY_V4
					if want.GW.To4() == nil {
						family = netlink.FAMILY_V6
					}
					list, err := netlink.RouteListFiltered(family, &netlink.Route{Table: 100}, netlink.RT_FILTER_TABLE)
					if err != nil {
						return err
					}
					if len(list) != 1 || list[0].Dst.String() != dst || !list[0].Gw.Equal(want.GW) ||
						list[0].MTU != 1400 || list[0].AdvMSS != 1300 || list[0].Priority != 7 {
						t.Errorf("table 100 of the kernel holds %v, want %s with all of %s", list, dst, fields)
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			h.check(config, c, added)
			added.stdout = strings.Replace(added.stdout, `"scope":0`, `"scope":256`, 1) // 0 in the kernel's eight bits
			h.call("CHECK", added.before(config), c).refused(6, "prevResult", "routes[0].scope: 256", "want 0 to 255")
		})
	}
}

// containerd before 2 and podman 4 stop at version 1.0.0: they must be given results they read.
func TestVersionOneZeroResultHasNothingNewer(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var result struct {
		Interfaces []map[string]any `json:"interfaces"`
	}
	added := h.add(with(routed, `{"cniVersion": "1.0.0"}`), h.Container())
	if err := json.Unmarshal([]byte(added.stdout), &result); err != nil {
		t.Fatal(err)
	}
	added.answersIn("1.0.0")
	for _, i := range result.Interfaces {
		for key := range i {
			if !slices.Contains([]string{"name", "mac", "sandbox"}, key) {
				t.Errorf("an interface has %q, which 1.0.0 does not know: %s", key, added)
			}
		}
	}
}

// link is the hardware address and the MTU of an interface.
func link(t *testing.T, ns *node.Namespace, name string) (mac string, mtu int) {
	t.Helper()
	if err := ns.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err == nil {
			mac, mtu = l.Attrs().HardwareAddr.String(), l.Attrs().MTU
		}
		return err
	}); err != nil {
		t.Fatalf("%s in %s: %v", name, ns.Name, err)
	}
	return mac, mtu
}
