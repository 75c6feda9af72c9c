package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/veth-cni/veth/test/bench/chart"
	"github.com/veth-cni/veth/test/node"
)

// object is JSON.
type object = map[string]any

// network is what lies between two containers, on a node of its own.
type network struct {
	label   string
	kind    chart.Kind
	program string // the plugin, empty for loopback and what is made by hand
	conf    object
	masked  bool
	loops   bool // both ends are in one container
	wide    bool // loopback takes long packets

	node           *node.Namespace
	client, server *node.Namespace
	addresses      []netip.Addr // the server's, IPv4 first
}

const (
	bridgeName = "bench0"
	bigTCP     = 196608 // bytes, three times what a packet has at most without BIG TCP
	referenced = "reference bridge"

	// Controls: what the kernel alone takes to route, and what the reference's network is against itself.
	byHandLabel = "routed by hand"
	againLabel  = "reference bridge, again"
)

var subnets = [][]object{{{"subnet": "10.88.0.0/24"}}, {{"subnet": "2001:db8:88::/64"}}}

// networks are all there are to choose from.
func (o *options) networks() ([]*network, error) {
	plugin, err := filepath.Abs(o.veth)
	if err != nil {
		return nil, err
	}
	with := func(conf object, more ...object) object {
		conf = maps.Clone(conf)
		for _, m := range more {
			maps.Copy(conf, m)
		}
		return conf
	}
	base := object{"cniVersion": "1.0.0", "name": "bench"}
	bridge := object{"bridge": bridgeName, "isDefaultGateway": true}
	big := object{"gsoMaxSize": bigTCP, "groMaxSize": bigTCP, "gsoIPv4MaxSize": bigTCP, "groIPv4MaxSize": bigTCP}
	masked := object{"ipMasq": true}
	routed := with(base, object{"type": "veth", "ipam": object{"type": "veth", "ranges": subnets}})
	theirs := with(base, bridge, object{"type": "bridge", "ipam": object{
		"type": "host-local", "ranges": subnets, "dataDir": "/run/bench",
	}})
	all := []*network{
		{label: "loopback", kind: chart.Least, loops: true},
		{label: "loopback, BIG TCP", kind: chart.Least, loops: true, wide: true},
		{label: byHandLabel, kind: chart.Least},
		{label: "veth routed", kind: chart.Ours, program: plugin, conf: routed},
		{label: "veth bridge", kind: chart.Ours, program: plugin, conf: with(routed, bridge)},
		{label: "veth routed, BIG TCP", kind: chart.Ours, program: plugin, conf: with(routed, big)},
		{label: "veth bridge, BIG TCP", kind: chart.Ours, program: plugin, conf: with(routed, bridge, big)},
		{label: "veth routed, ipMasq", kind: chart.Ours, program: plugin, conf: with(routed, masked), masked: true},
		{label: "veth bridge, ipMasq", kind: chart.Ours, program: plugin, conf: with(routed, bridge, masked), masked: true},
	}
	for _, keys := range o.keys {
		text, err := json.Marshal(keys)
		if err != nil {
			return nil, err
		}
		all = append(all,
			&network{label: "veth routed, " + string(text), kind: chart.Other, program: plugin, conf: with(routed, keys)},
			&network{label: "veth bridge, " + string(text), kind: chart.Other, program: plugin, conf: with(routed, bridge, keys)})
	}
	if o.reference != "" {
		program := filepath.Join(o.reference, "bridge")
		nft := object{"ipMasq": true, "ipMasqBackend": "nftables"}
		all = append(all,
			&network{label: referenced, kind: chart.Theirs, program: program, conf: theirs},
			&network{label: againLabel, kind: chart.Theirs, program: program, conf: theirs},
			&network{label: referenced + ", ipMasq", kind: chart.Theirs, program: program, conf: with(theirs, nft), masked: true})
	}
	var chosen []*network
	for _, n := range all {
		if o.masked || !n.masked {
			chosen = append(chosen, n)
		}
	}
	return chosen, nil
}

// build makes the node, its containers and their attachments.
func (n *network) build(number int) (err error) {
	name := fmt.Sprintf("data%d", number)
	if n.node, err = node.Create(name); err != nil {
		return err
	}
	if err := n.node.Do(noBridgeNetfilter); err != nil {
		return err
	}
	if n.server, err = node.Create(name + "-server"); err != nil {
		return err
	}
	n.client = n.server
	if n.loops {
		n.addresses = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
		if n.wide {
			return n.server.Do(widenLoopback)
		}
		return nil
	}
	if n.client, err = node.Create(name + "-client"); err != nil {
		return err
	}
	if n.program == "" {
		n.addresses, err = n.byHand()
		return err
	}
	if _, err := n.attach(n.client); err != nil {
		return err
	}
	n.addresses, err = n.attach(n.server)
	return err
}

// attach executes the plugin's ADD as a runtime does.
func (n *network) attach(container *node.Namespace) ([]netip.Addr, error) {
	conf, err := json.Marshal(n.conf)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	cmd := exec.Command(n.program)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(conf), &out, os.Stderr
	cmd.Env = append(os.Environ(), "CNI_COMMAND=ADD", "CNI_CONTAINERID="+container.Name, "CNI_NETNS="+container.Path,
		"CNI_IFNAME=eth0", "CNI_PATH="+filepath.Dir(n.program))
	if err := n.node.Run(cmd); err != nil {
		return nil, fmt.Errorf("%s: ADD: %w: %s", n.label, err, &out)
	}
	result, err := current.NewResult(out.Bytes())
	if err != nil {
		return nil, err
	}
	return addresses(result)
}

func addresses(result types.Result) ([]netip.Addr, error) {
	r, err := current.GetResult(result)
	if err != nil {
		return nil, err
	}
	var list []netip.Addr
	for _, ip := range r.IPs {
		a, _ := netip.AddrFromSlice(ip.Address.IP)
		list = append(list, a.Unmap())
	}
	return list, nil
}

func (n *network) close() error {
	var failed []error
	for _, ns := range []*node.Namespace{n.client, n.server, n.node} {
		if ns != nil {
			failed = append(failed, ns.Close())
		}
	}
	return errors.Join(failed...)
}

// noBridgeNetfilter keeps packets that cross a bridge from iptables and nftables, as on a node without br_netfilter.
// Where the kernel has it, it is on in every new namespace, and costs the bridges a tenth and more.
func noBridgeNetfilter() error {
	for _, key := range []string{"iptables", "ip6tables", "arptables"} {
		err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+key, []byte("0"), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// prepare gives a container's namespace what many short connections need: ports, and their return before a minute is over.
func prepare() error {
	for key, value := range map[string]string{"ip_local_port_range": "1024 65535", "tcp_tw_reuse": "1", "tcp_max_tw_buckets": "1000000"} {
		err := os.WriteFile("/proc/sys/net/ipv4/"+key, []byte(value), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
