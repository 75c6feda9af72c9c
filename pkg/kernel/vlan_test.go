package kernel_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/test/node"
)

var (
	vlanBridge = func() plan.Bridge {
		b := bridge
		b.VLANs = true
		return b
	}()
	portVLANs = plan.PortVLANs{Link: "vh", PVID: 7, Tagged: []uint16{100, 200}}
	vlanLink  = plan.VLANInterface{Name: "br0.7", Bridge: "br0", VLAN: 7, Up: true}
)

// filtersVLANs asks the kernel whether its bridges filter VLANs, past the code that is tested. A kernel that cannot and
// should fails the test, so that what is skipped on others cannot rot: test/vm/run boots one that can, and says VETH_VM.
func filtersVLANs(t *testing.T) bool {
	t.Helper()
	able := true
	on(t, func(m *machine) {
		err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "probe"}, VlanFiltering: &able})
		able = err == nil
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			m.Fatal(err)
		}
	})
	if !able && (os.Getenv("VETH_VM") != "" || configured(t, "CONFIG_BRIDGE_VLAN_FILTERING=y")) {
		t.Fatal("this kernel should filter VLANs and does not")
	}
	return able
}

// configured reports whether the kernel says that it was built with a line of its configuration.
func configured(t *testing.T, line string) bool {
	t.Helper()
	file, err := os.Open("/proc/config.gz")
	if errors.Is(err, os.ErrNotExist) {
		return false // it does not say
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	text, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	config, err := io.ReadAll(text)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(config, []byte("\n"+line+"\n"))
}

// TestVLANsRefused: where the kernel cannot, everything of VLANs is refused in so many words, and nothing is left.
func TestVLANsRefused(t *testing.T) {
	t.Parallel()
	if filtersVLANs(t) {
		t.Skip("this kernel filters VLANs")
	}
	for _, test := range []struct {
		name  string
		given []plan.Object
		apply plan.Object
	}{
		{"a new bridge", nil, vlanBridge},
		{"a bridge that is there", []plan.Object{bridge}, vlanBridge},
		{"a port", []plan.Object{bridge, port}, portVLANs},
		{
			"a port that keeps the default VLAN",
			[]plan.Object{bridge, port},
			plan.PortVLANs{Link: "vh", PVID: 1, KeepDefault: true},
		},
		{"an interface of the VLAN", []plan.Object{bridge}, vlanLink},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			on(t, func(m *machine) {
				m.apply(test.given...)
				before := m.snapshot()
				created, err := m.kernel.Apply(test.apply)
				if created {
					m.Error("Apply says that it created what the kernel cannot")
				}
				m.refused(err, cnierr.FeatureMissing)
				if !errors.Is(err, unix.EOPNOTSUPP) {
					m.Errorf("%v: want the kernel's answer in it", err)
				}
				m.unchanged(before, "after a refused Apply")
				if len(m.findings(test.apply)) == 0 {
					m.Error("CHECK finds nothing wrong")
				}
			})
		})
	}
	t.Run("probe", func(t *testing.T) {
		t.Parallel()
		on(t, func(m *machine) {
			before := m.snapshot()
			err := m.kernel.ProbeBridge(plan.Bridge{Name: "br0", VLANs: true})
			m.refused(err, cnierr.FeatureMissing)
			if !strings.HasPrefix(err.Error(), "try bridges: vlan: ") {
				m.Errorf("%v: want it to begin with what was tried, no interface of the host", err)
			}
			m.unchanged(before, "after the probe")
			m.apply(bridge)
			m.refused(m.kernel.ProbeBridge(plan.Bridge{Name: "br0", VLANs: true}), cnierr.FeatureMissing)
		})
	})
}

// TestVLANInterfaceNameTaken: an interface that has the name must be the very one that is wanted.
func TestVLANInterfaceNameTaken(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(bridge)
		m.must(foreign(vlanLink.Name))
		before := m.snapshot()
		created, err := m.kernel.Apply(vlanLink)
		if created {
			m.Error("Apply says it created what was there")
		}
		m.refused(err, cnierr.Conflict)
		m.unchanged(before, "after a refused Apply")
	})
}

func TestVLANs(t *testing.T) {
	t.Parallel()
	if !filtersVLANs(t) {
		t.Skip("this kernel's bridges do not filter VLANs")
	}
	given := []plan.Object{vlanBridge, port, inside}
	gone := change{"gone", by(plan.Host, "vh", netlink.LinkDel), missing}
	onPort := func(fn func(l netlink.Link) error) func(m *machine) error { return by(plan.Host, "vh", fn) }
	keeps := portVLANs
	keeps.KeepDefault, keeps.Tagged = true, nil
	runScenarios(t, []scenario{
		{
			name: "bridge", object: vlanBridge, fixed: []string{"kind", "up", "mtu"},
			breaks: []change{
				{"gone", by(plan.Host, "br0", netlink.LinkDel), missing},
				{"filters no more", by(plan.Host, "br0", stopFiltering), wants("vlan_filtering", "yes", "")},
			},
		},
		{
			name: "port", given: given, object: portVLANs, again: rewrote, sticks: true,
			breaks: []change{
				gone,
				{"another PVID", onPort(func(l netlink.Link) error {
					return errors.Join(
						netlink.BridgeVlanDel(l, 7, true, true, false, true), netlink.BridgeVlanAdd(l, 8, true, true, false, true))
				}), wants("pvid", "7", "8")},
				{"one VLAN less", onPort(func(l netlink.Link) error {
					return netlink.BridgeVlanDel(l, 200, false, false, false, true)
				}), wants("tagged", "100,200", "100")},
				{"one VLAN more", onPort(func(l netlink.Link) error {
					return netlink.BridgeVlanAdd(l, 300, false, false, false, true)
				}), wants("tagged", "100,200", "100,200,300")},
				{"in the default VLAN again", onPort(func(l netlink.Link) error {
					return netlink.BridgeVlanAdd(l, 1, false, true, false, true)
				}), wants("tagged", "100,200", "1,100,200")},
			},
		},
		{
			name: "port that keeps the default VLAN", given: given, object: keeps, again: rewrote, sticks: true,
			fixed: []string{"tagged"}, // those of others are their own
			breaks: []change{
				gone,
				{"no PVID", onPort(func(l netlink.Link) error {
					return netlink.BridgeVlanDel(l, 7, true, true, false, true)
				}), wants("pvid", "7", "")},
			},
		},
		{
			name: "interface", given: []plan.Object{vlanBridge}, object: vlanLink,
			breaks: []change{
				{"gone", by(plan.Host, "br0.7", netlink.LinkDel), missing},
				{"down", by(plan.Host, "br0.7", netlink.LinkSetDown), wants("up", "yes", "")},
				{"another VLAN", func(m *machine) error { return replaceVLAN(m, "br0", 8) }, wants("vlan", "7", "8")},
				{"on another bridge", func(m *machine) error {
					m.must(newBridge("br1"), by(plan.Host, "br1", netlink.LinkSetUp)(m))
					return replaceVLAN(m, "br1", 7)
				}, wants("link", "br0", "")},
			},
		},
	})
	t.Run("a bridge of others begins to filter", func(t *testing.T) {
		t.Parallel()
		on(t, func(m *machine) {
			m.must(newBridge("br0"))
			want := vlanBridge
			want.MTU = 0
			m.apply(want)
			m.asPlanned(want)
		})
	})
	t.Run("probe", func(t *testing.T) {
		t.Parallel()
		on(t, func(m *machine) {
			before := m.snapshot()
			m.must(m.kernel.ProbeBridge(plan.Bridge{Name: "br0", VLANs: true}))
			m.unchanged(before, "after the probe")
			m.apply(bridge)
			m.must(m.kernel.ProbeBridge(plan.Bridge{Name: "br0", VLANs: true}))
			m.apply(vlanBridge)
			m.must(m.kernel.ProbeBridge(plan.Bridge{Name: "br0", VLANs: true}))
		})
	})
	t.Run("packets", func(t *testing.T) {
		t.Parallel()
		on(t, vlansSeparate)
	})
}

func stopFiltering(l netlink.Link) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(l.Attrs().Index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.IFLA_BR_VLAN_FILTERING, []byte{0})
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// replaceVLAN puts another VLAN interface in the place of the planned one.
func replaceVLAN(m *machine, parent string, id int) error {
	m.must(by(plan.Host, "br0.7", netlink.LinkDel)(m))
	return by(plan.Host, parent, func(l netlink.Link) error {
		return netlink.LinkAdd(&netlink.Vlan{
			LinkAttrs: netlink.LinkAttrs{Name: "br0.7", ParentIndex: l.Attrs().Index, Flags: net.FlagUp, TxQLen: -1}, VlanId: id,
		})
	})(m)
}

// vlansSeparate: a container in the VLAN reaches the host's foot in it, and one in another VLAN does not.
func vlansSeparate(m *machine) {
	m.apply(vlanBridge, port, inside, portVLANs, vlanLink,
		plan.Address{Link: "br0.7", Prefix: prefix("198.18.0.1/24"), Sole: true},
		plan.Address{Place: plan.Container, Link: "eth0", Prefix: prefix("198.18.0.5/24")})
	m.must(m.container.Ping(addr("198.18.0.1")))
	m.apply(plan.PortVLANs{Link: "vh", PVID: 8})
	if err := m.container.PingWith(addr("198.18.0.1"), node.PingOptions{Timeout: 300 * time.Millisecond}); err == nil {
		m.Error("a packet of VLAN 8 reaches VLAN 7")
	}
}
