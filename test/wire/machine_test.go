// Package wire tests how pairs carry packets, with attachments made by the plugin's own verbs and real packets.
package wire

import (
	"context"
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"strings"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/veth-cni/veth/pkg/attach"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/test/node"
)

func TestMain(m *testing.M) { node.Main(m) }

// object is JSON.
type object = map[string]any

// modes are the keys that make the difference.
var modes = map[string]object{
	"routed": {},
	"bridge": {"bridge": "br0", "isGateway": true, "isDefaultGateway": true},
}

// machine is a node and the configuration of its one network.
type machine struct {
	*node.Node
	t    testing.TB
	conf object
}

// newMachine makes a node with a network of a mode, and whatever is different about it.
func newMachine(t testing.TB, changes ...object) *machine {
	t.Helper()
	conf := object{
		"cniVersion": "1.1.0", "name": "net", "type": "veth",
		"ipam": object{"type": "veth", "ranges": [][]object{{{"subnet": "10.88.0.0/24"}}, {{"subnet": "2001:db8:88::/64"}}}},
	}
	for _, c := range changes {
		maps.Copy(conf, c)
	}
	return &machine{Node: node.New(t), t: t, conf: conf}
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// pod is a container that is attached.
type pod struct {
	*node.Namespace
	machine *machine
	result  *current.Result
}

func (m *machine) pod() *pod {
	m.t.Helper()
	p := &pod{Namespace: m.Container(), machine: m}
	m.must(p.add())
	return p
}

func (p *pod) request(extra object) netconf.Request {
	conf := maps.Clone(p.machine.conf)
	maps.Copy(conf, extra)
	raw, err := json.Marshal(conf)
	p.machine.must(err)
	return netconf.Request{ContainerID: p.Name, Netns: p.Path, IfName: "eth0", Config: raw}
}

func (p *pod) add() error {
	cfg, err := netconf.Parse(p.request(nil))
	if err != nil {
		return err
	}
	return p.machine.Do(func() error {
		return attach.Add(context.Background(), cfg, func(r *current.Result) error {
			p.result = r
			return nil
		})
	})
}

func (p *pod) check() error {
	cfg, err := netconf.Parse(p.request(object{"prevResult": p.result}))
	if err != nil {
		return err
	}
	return p.machine.Do(func() error { return attach.Check(context.Background(), cfg) })
}

func (p *pod) del() error {
	return p.machine.Do(func() error { return attach.Del(context.Background(), netconf.ParseLenient(p.request(nil))) })
}

// addresses are the pod's, IPv4 first.
func (p *pod) addresses() []netip.Addr {
	var list []netip.Addr
	for _, x := range p.result.IPs {
		a, _ := netip.AddrFromSlice(x.Address.IP)
		list = append(list, a.Unmap())
	}
	return list
}

// hostEnd is the name of the pod's end on the host.
func (p *pod) hostEnd() string {
	for _, i := range p.result.Interfaces {
		if i.Sandbox == "" && i.Name != "br0" {
			return i.Name
		}
	}
	p.machine.t.Fatalf("no host end among %v", p.result.Interfaces)
	return ""
}

// end is an end of a pod's pair: where it is and its name.
type end struct {
	*node.Namespace
	name string
}

func (p *pod) ends() map[string]end {
	return map[string]end{"host": {p.machine.Namespace, p.hostEnd()}, "inside": {p.Namespace, "eth0"}}
}

// machinesRoot reports whether the process is in the user namespace in which the machine began: in no other may anybody
// steer packets to processors.
func machinesRoot() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(b)), " ") == "0 0 4294967295"
}
