package attach_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/test/node"
)

// A runtime that never got the result does not know of the attachment, so there is none.
func TestUndeliveredResult(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]network{
		"routed": routed, "bridge": on(bridge, "a", network{"isDefaultGateway": true, "ipMasq": true}),
	} {
		n := node.New(t)
		c := n.Container()
		before, inside := n.Snapshot(), c.Snapshot()
		eth0 := &call{node: n, inside: c, ifName: "eth0", conf: dual("a", "1", mode), lost: syscall.ENOSPC}
		if err := eth0.add(); !errors.Is(err, syscall.ENOSPC) || cnierr.Of(err, 0).Code != cnierr.IOFailure {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "undo") {
			t.Errorf("%s: nothing has gone wrong but the delivery: %v", name, err)
		}
		if d := node.Diff(before, n.Snapshot()) + node.Diff(inside, c.Snapshot()); d != "" {
			t.Errorf("%s: the failed ADD has left:\n%s", name, d)
		}
	}
}

// What a failed ADD has switched on stays while others, of whatever network, count on it.
func TestFailedAddLeavesForwardingToOthers(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	first, second := n.Container(), n.Container()
	var other *call
	eth0 := &call{node: n, inside: first, ifName: "eth0", conf: dual("a", "1", routed), lost: syscall.ENOSPC}
	eth0.beforeLoss = func() { other = attachTo(t, n, second, "eth0", dual("b", "2", routed)) }
	if err := eth0.add(); err == nil {
		t.Fatal("the ADD has not failed")
	}
	if err := other.check(); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if got := get(t, n.Namespace, key); got != "1" {
			t.Errorf("%s is %s", key, got)
		}
	}
}

// A bridge that others made is theirs again after a failed ADD: its flags, and the addresses that forceAddress replaced.
func TestFailedAddRestoresABridge(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		keys  network
		given []string
	}{
		"down":        {network{"isGateway": false}, nil},
		"promiscMode": {network{"isGateway": false, "promiscMode": true}, []string{"link set br-a up"}},
		"forceAddress": {network{"isGateway": true, "forceAddress": true}, []string{
			"link set br-a up", "address add 10.88.1.9/24 dev br-a", "address add 10.88.1.8/24 dev br-a",
			"address add 2001:db8:88:1::9/64 dev br-a nodad",
		}},
	} {
		n := node.New(t)
		ip(t, n.Namespace, "link", "add", "br-a", "type", "bridge")
		for _, command := range tt.given {
			ip(t, n.Namespace, strings.Fields(command)...)
		}
		before := withoutAnycast(n.Snapshot())
		eth0 := &call{
			node: n, inside: n.Container(), ifName: "eth0", lost: syscall.ENOSPC,
			conf: dual("a", "1", on(bridge, "a", network{"isDefaultGateway": false}).with(tt.keys)),
		}
		if err := eth0.add(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", name, err)
		}
		if d := node.Diff(before, withoutAnycast(n.Snapshot())); d != "" {
			t.Errorf("%s: the failed ADD has left:\n%s", name, d)
		}
	}
}

// withoutAnycast drops the subnet-router anycast routes (RFC 4291): the kernel counts who has joined one twice when an
// address becomes usable while forwarding is switched on, and keeps it afterwards.
func withoutAnycast(snapshot string) string {
	var kept []string
	for line := range strings.Lines(snapshot) {
		if !strings.Contains(line, " type 4 ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// An administrator may write an alias of their own. DEL still knows the host end.
func TestDelWithAForeignAlias(t *testing.T) {
	t.Parallel()
	n := node.New(t)
	eth0 := attachTo(t, n, n.Container(), "eth0", dual("a", "1", routed))
	host := eth0.result.Interfaces[0].Name
	ip(t, n.Namespace, "link", "set", host, "alias", "my web")
	if err := eth0.del(); err != nil {
		t.Fatal(err)
	}
	if err := n.Do(func() error { _, err := netlink.LinkByName(host); return err }); err == nil {
		t.Errorf("%s is still there", host)
	}
}
