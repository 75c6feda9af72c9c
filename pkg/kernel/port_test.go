package kernel_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/plan"
	"github.com/veth-cni/veth/test/node"
)

// setPort changes a setting of a bridge port by hand: IFLA_BRPORT_* of linux/if_link.h.
func setPort(attribute int, value byte) func(m *machine) error {
	return by(plan.Host, "vh", func(l netlink.Link) error {
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
		msg.Index = int32(l.Attrs().Index)
		req.AddData(msg)
		settings := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
		settings.AddRtAttr(attribute, []byte{value})
		req.AddData(settings)
		_, err := req.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
}

func TestPort(t *testing.T) {
	t.Parallel()
	given := []plan.Object{bridge, port, inside}
	gone := change{"gone", by(plan.Host, "vh", netlink.LinkDel), missing}
	hairpin := change{"hairpin", setPort(unix.IFLA_BRPORT_MODE, 0), wants("hairpin", "on", "off")}
	isolated := change{"isolated", setPort(unix.IFLA_BRPORT_ISOLATED, 0), wants("isolated", "on", "off")}
	locked := change{"locked", setPort(unix.IFLA_BRPORT_LOCKED, 0), wants("locked", "on", "off")}
	off := func(field string, attribute int) change {
		return change{"with " + field, setPort(attribute, 1), wants(field, "off", "on")}
	}
	notHairpin, notIsolated := off("hairpin", unix.IFLA_BRPORT_MODE), off("isolated", unix.IFLA_BRPORT_ISOLATED)
	notLocked := off("locked", unix.IFLA_BRPORT_LOCKED)
	runScenarios(t, []scenario{
		{
			name: "hairpin", given: given, object: plan.Port{Link: "vh", Hairpin: true}, again: rewrote, sticks: true,
			breaks: []change{gone, hairpin, notIsolated, notLocked},
		},
		{
			name: "isolated", given: given, object: plan.Port{Link: "vh", Isolated: true}, again: rewrote, sticks: true,
			breaks: []change{gone, notHairpin, isolated, notLocked},
		},
		{
			name: "locked", given: given, object: plan.Port{Link: "vh", Locked: true}, again: rewrote, sticks: true,
			breaks: []change{gone, notHairpin, notIsolated, locked},
		},
		{
			name: "all", given: given, object: plan.Port{Link: "vh", Hairpin: true, Isolated: true, Locked: true},
			again: rewrote, sticks: true, breaks: []change{gone, hairpin, isolated, locked},
		},
	})
	t.Run("the kernel's own settings", func(t *testing.T) {
		t.Parallel()
		on(t, func(m *machine) {
			m.apply(given...)
			before := m.snapshot()
			plain := plan.Port{Link: "vh"}
			if created, err := m.kernel.Apply(plain); created || err != nil {
				m.Errorf("created %v, %v, want nothing to do", created, err)
			}
			m.asPlanned(plain)
			m.unchanged(before, "after an Apply that has nothing to do")
			m.must(notHairpin.by(m))
			if got := m.findings(plain); len(got) != 1 || got[0].Field != "hairpin" || got[0].Got != "on" {
				m.Errorf("CHECK finds %s, want hairpin on", got)
			}
		})
	})
}

// TestLockedPortLearnsNothing: a port that learns would unlock itself for any address a container sends from.
func TestLockedPortLearnsNothing(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(bridge, port, plan.Port{Link: "vh", Locked: true})
		for line := range strings.Lines(m.node.Snapshot()) {
			if strings.HasPrefix(line, "port vh") && (strings.Contains(line, "learning") || !strings.Contains(line, "locked")) {
				m.Errorf("the port is %q, want it locked and not learning", line)
			}
		}
	})
}

// TestLockedPortPassesItsOwnAddressOnly sends packets through it.
func TestLockedPortPassesItsOwnAddressOnly(t *testing.T) {
	t.Parallel()
	on(t, func(m *machine) {
		m.apply(bridge, port, inside,
			plan.Address{Link: "br0", Prefix: prefix("198.18.0.1/24")},
			plan.Address{Place: plan.Container, Link: "eth0", Prefix: prefix("198.18.0.5/24")},
			plan.Port{Link: "vh", Locked: true}, plan.Forwarding{Link: "vh", MAC: inside.MAC},
		)
		m.must(m.container.Ping(addr("198.18.0.1")))
		m.must(by(plan.Container, "eth0", setMAC)(m))
		if err := m.container.PingWith(addr("198.18.0.1"), node.PingOptions{Timeout: 300 * time.Millisecond}); err == nil {
			m.Error("a forged hardware address passes a locked port")
		}
	})
}

func TestForwarding(t *testing.T) {
	t.Parallel()
	f := plan.Forwarding{Link: "vh", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 5}}
	set := func(link string, state int) func(m *machine) error {
		return by(plan.Host, link, func(l netlink.Link) error {
			return netlink.NeighSet(&netlink.Neigh{
				LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, HardwareAddr: f.MAC, State: state, Flags: netlink.NTF_MASTER,
			})
		})
	}
	other := second
	other.Master = "br0"
	runScenarios(t, []scenario{{
		name: "static", given: []plan.Object{bridge, port, inside, other}, object: f, again: rewrote, sticks: true,
		fixed: []string{"dev"}, // the same address behind another port is another entry
		breaks: []change{
			{"removed", by(plan.Host, "vh", func(l netlink.Link) error {
				return netlink.NeighDel(&netlink.Neigh{
					LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, HardwareAddr: f.MAC, Flags: netlink.NTF_MASTER,
				})
			}), missing},
			{"behind another port", set("vh2", netlink.NUD_NOARP), missing},
			{"learnt", set("vh", netlink.NUD_REACHABLE), missing},
			{"gone with its port", by(plan.Host, "vh", netlink.LinkDel), missing},
		},
	}})
}
