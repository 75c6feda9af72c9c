package wire

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/test/node"
)

// everything asks for every setting at once.
func everything() object {
	conf := object{
		"numTxQueues": 2, "numRxQueues": 2, "gro": true, "qdisc": "pfifo", "txQLen": 500,
		"offloads":   object{"tx-udp-segmentation": false, "tx-vlan-offload": false},
		"gsoMaxSize": 196608, "groMaxSize": 196608, "gsoIPv4MaxSize": 131072, "groIPv4MaxSize": 131072,
	}
	if machinesRoot() {
		conf["rpsCPUs"], conf["xpsCPUs"] = "0", []string{"0", "0"}
	}
	return conf
}

// TestEverySetting: containers reach each other, CHECK agrees and sees what is changed, and DEL leaves what it found.
func TestEverySetting(t *testing.T) {
	t.Parallel()
	for mode, keys := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, keys)
			for k, v := range everything() {
				m.conf[k] = v
			}
			a := m.pod()
			before := m.Snapshot()
			b := m.pod()
			for _, addr := range b.addresses() {
				m.must(a.PingWith(addr, node.PingOptions{Size: 1400}))
			}
			m.must(a.check())
			m.must(b.check())
			m.must(m.Do(func() error {
				l, err := netlink.LinkByName(b.hostEnd())
				if err != nil {
					return err
				}
				return netlink.LinkSetGSOMaxSize(l, 65536)
			}))
			const want = ": gso_max_size: want 196608, found 65536"
			if err := b.check(); err == nil || !strings.Contains(err.Error(), b.hostEnd()+want) {
				t.Errorf("CHECK says %v, want %s", err, want)
			}
			m.must(b.del())
			if diff := node.Diff(before, m.Snapshot()); diff != "" {
				t.Errorf("after DEL this differs:\n%s", diff)
			}
		})
	}
}

// TestARefusedSettingLeavesNothing: no machine has so many processors, and it is known late.
func TestARefusedSettingLeavesNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t, modes["bridge"], object{"rpsCPUs": "8191", "gsoMaxSize": 100000})
	p := &pod{Namespace: m.Container(), machine: m}
	before := m.Snapshot()
	err := p.add()
	if err == nil || !strings.Contains(err.Error(), "rpsCPUs") {
		t.Errorf("ADD says %v, want it to name rpsCPUs", err)
	}
	if diff := node.Diff(before, m.Snapshot()); diff != "" {
		t.Errorf("after the failed ADD this differs:\n%s", diff)
	}
}
