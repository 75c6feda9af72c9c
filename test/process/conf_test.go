package process

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/test/node"
)

// Every file of conf/ does what a runtime asks of it, through cnitool: two containers join, reach each other, pass
// CHECK, leave, and leave nothing.
func TestConfigurationsOfTheRepository(t *testing.T) {
	t.Parallel()
	const dir = "../../conf"
	files, err := filepath.Glob(dir + "/*.conflist")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("conf/ holds no conflist")
	}
	names := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var list conflist
		if err := json.Unmarshal(text, &list); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if other := names[list.Name]; other != "" {
			t.Errorf("%s and %s both have the network %s", file, other, list.Name)
		}
		names[list.Name] = file
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			list.exercise(t, dir)
		})
	}
}

type conflist struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Plugins    []struct {
		PortIsolation bool            `json:"portIsolation"`
		IngressPolicy string          `json:"ingressPolicy"`
		Table         json.RawMessage `json:"table"`
	} `json:"plugins"`
}

func (list conflist) exercise(t *testing.T, dir string) {
	h := newHost(t)
	untouched := h.Snapshot()
	other := h.Container("other")
	h.cnitool(dir, "status", list.Name, other).succeeds()
	h.cnitool(dir, "add", list.Name, other).succeeds()

	c1, c2 := h.Container(), h.Container()
	h.leaves(func() {
		a1 := h.cnitool(dir, "add", list.Name, c1).succeeds()
		a2 := h.cnitool(dir, "add", list.Name, c2).succeeds()
		a1.answersIn(list.CNIVersion)
		for _, c := range []*node.Namespace{c1, c2} {
			h.cnitool(dir, "check", list.Name, c).succeeds()
		}
		list.packets(t, [2]*node.Namespace{c1, c2}, [2]outcome{a1, a2})
		for _, c := range []*node.Namespace{c1, c2, c2} {
			h.cnitool(dir, "del", list.Name, c).succeeds()
		}
	}, c1, c2)

	h.cnitool(dir, "status", list.Name, other).succeeds()
	h.cnitool(dir, "del", list.Name, other).succeeds()
	h.cnitool(dir, "gc", list.Name, other).succeeds()
	if list.CNIVersion < "1.1.0" {
		return // GC came with 1.1.0: what the network shares stays
	}
	if diff := butForwarding(node.Diff(untouched, h.Snapshot())); diff != "" {
		t.Errorf("after GC the node still has\n%s", diff)
	}
}

// packets sends pings between two containers, each way, in each family; a network without addresses gets some first.
// Isolation keeps them from each other and let them reach the gateway.
func (list conflist) packets(t *testing.T, c [2]*node.Namespace, added [2]outcome) {
	t.Helper()
	addresses := [2][]netip.Addr{added[0].addresses(), added[1].addresses()}
	for i, text := range []string{"198.18.0.1/24", "198.18.0.2/24"} {
		if len(addresses[i]) > 0 {
			continue
		}
		addresses[i] = []netip.Addr{netip.MustParsePrefix(text).Addr()}
		if err := c[i].Do(func() error {
			a, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			return byName("eth0", func(l netlink.Link) error { return netlink.AddrAdd(l, a) })
		}); err != nil {
			t.Fatal(err)
		}
	}
	isolated, table := false, false
	for _, p := range list.Plugins {
		isolated = isolated || p.PortIsolation || p.IngressPolicy == "isolated"
		table = table || p.Table != nil
	}
	patience := node.PingOptions{}
	if isolated {
		patience.Timeout = 200 * time.Millisecond
	}
	for i := range c {
		for _, a := range addresses[1-i] {
			patience.Source = source(table, addresses[i], a)
			err := c[i].PingWith(a, patience)
			if isolated && err == nil {
				t.Errorf("%s reaches %s although it is isolated", c[i].Name, a)
			} else if !isolated && err != nil {
				t.Error(err)
			}
		}
		for _, ip := range added[i].result().IPs {
			gateway, ok := netip.AddrFromSlice(ip.Gateway)
			if !ok {
				continue
			}
			if gateway.IsLinkLocalUnicast() && gateway.Is6() {
				gateway = gateway.WithZone("eth0")
			}
			gateway = gateway.Unmap()
			if err := c[i].PingWith(gateway, node.PingOptions{Source: source(table, addresses[i], gateway)}); err != nil {
				t.Errorf("its gateway: %v", err)
			}
		}
	}
}

// source is the address to ping from: of a network with a table of its own, the one whose rule leads there.
func source(table bool, own []netip.Addr, to netip.Addr) netip.Addr {
	for _, a := range own {
		if table && a.Is4() == to.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// writeConflist puts a configuration list into a directory for cnitool.
func writeConflist(t *testing.T, name string, plugins ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	text := `{"cniVersion": "1.1.0", "name": "` + name + `", "plugins": [` + strings.Join(plugins, ",\n") + `]}`
	if err := os.WriteFile(filepath.Join(dir, name+".conflist"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
