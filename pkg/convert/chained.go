package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/veth-cni/veth/pkg/netconf"
)

// chained are the plugins that act on another's interface and that veth stands for: their keys, and what becomes of them.
// It is filled below, for what it holds refers to it.
var chained map[string]*acting

type acting struct {
	known  keys
	become func(*converter, plugin)
}

func init() {
	chained = map[string]*acting{
		"portmap": {
			keys{
				"backend": nil, "snat": nil, "masqAll": nil, "markMasqBit": nil, "externalSetMarkChain": nil,
				"conditionsV4": nil, "conditionsV6": nil,
			}, (*converter).portmap,
		},
		"bandwidth": {keys{"ingressRate": nil, "ingressBurst": nil, "egressRate": nil, "egressBurst": nil}, (*converter).bandwidth},
		"firewall": {
			keys{"backend": nil, "iptablesAdminChainName": nil, "firewalldZone": nil, "ingressPolicy": nil},
			(*converter).firewall,
		},
		"tuning": {
			keys{"sysctl": nil, "mac": nil, "mtu": nil, "promisc": nil, "allmulti": nil, "txQLen": nil, "dataDir": nil},
			(*converter).tuning,
		},
		"sbr": {keys{"table": nil}, (*converter).sbr},
	}
}

// merge makes a plugin that acts on the interface a part of veth.
func (c *converter) merge(p plugin) error {
	how := chained[p.kind]
	if how == nil {
		return nil
	}
	p.keys = c.tidy(p.path, p.kind, p.keys, common, how.known)
	for _, key := range []string{"args", "runtimeConfig", "ipam", "dns"} {
		if p.keys.get(key) != nil {
			c.lose(p, key, fmt.Sprintf("has no counterpart in veth where it stands, with %s", p.kind))
		}
	}
	if err := c.capabilities(p); err != nil {
		return err
	}
	how.become(c, p)
	return nil
}

// capabilities lets the runtime hand to veth what it handed to the plugin.
func (c *converter) capabilities(p plugin) error {
	raw := p.keys.get("capabilities")
	if raw == nil {
		return nil
	}
	add, err := parseObject("capabilities", raw)
	if err != nil {
		return err
	}
	all := object{}
	if have := c.out.get("capabilities"); have != nil {
		if all, err = parseObject("capabilities", have); err != nil {
			return err
		}
	}
	for _, m := range add {
		if add.isTrue(m.key) {
			all.set(m.key, true)
		}
	}
	c.out.set("capabilities", all.raw())
	return nil
}

// carryAll carries over keys that mean the same to veth.
func (c *converter) carryAll(p plugin, keys ...string) {
	for _, key := range keys {
		if value := p.keys.get(key); value != nil {
			c.carry(p, key, value)
		}
	}
}

func (c *converter) noteAll(p plugin, texts map[string]string) {
	for _, m := range p.keys {
		if text := texts[m.key]; text != "" {
			c.note(p, m.key, text)
		}
	}
}

func (c *converter) portmap(p plugin) {
	c.carryAll(p, "snat", "masqAll")
	if snat := p.keys.get("snat"); string(snat) == "false" && p.keys.isTrue("masqAll") {
		c.out.remove("masqAll")
		c.note(p, "masqAll", "left out: beside snat: false it had no effect")
	}
	c.noteAll(p, map[string]string{
		"backend":              "left out: veth always uses nftables, without the nft program",
		"markMasqBit":          "left out: veth's mark is no longer there once its own chains are through",
		"externalSetMarkChain": "left out: veth replaces sources itself and asks nobody else's chain",
	})
	if capabilities := p.keys.get("capabilities"); !strings.Contains(compact(capabilities), `"portMappings":true`) {
		c.remark(Remark{Path: join(p.path, "capabilities"), Text: "has no portMappings: the plugin was never told of any, and veth is not"})
		return
	}
	c.remark(Remark{Path: p.path, Text: "a port that a process of the host listens on is refused: where the runtime listens itself, " +
		`as podman does, add "hostPortInUse": "ignore"`})
	c.conditions(p)
}

// conditions turns arguments of iptables, which every packet to a port had to meet, into lists of sources and of the
// host's addresses. Both of veth's lists are for both families, so the family without a condition is listed whole.
func (c *converter) conditions(p plugin) {
	var sources, addresses []string
	var open []string // families whose ports answered on every address
	for _, family := range []struct{ key, name, all string }{{"conditionsV4", "IPv4", "0.0.0.0/0"}, {"conditionsV6", "IPv6", "::/0"}} {
		from, to, err := matches(p.keys.get(family.key), family.all)
		if err != nil {
			c.lose(p, family.key, fmt.Sprintf("%v: the ports are open to whom it kept out, unless hostPortSources, hostPortAddresses or a "+
				"rule in a table of your own says otherwise", err))
		}
		if len(from)+len(to) > 0 {
			c.note(p, family.key, "becomes hostPortSources for sources, hostPortAddresses for destinations")
		}
		if len(to) == 0 {
			open = append(open, family.name)
		}
		if len(from) == 0 {
			from = []string{family.all}
		}
		sources, addresses = append(sources, from...), append(addresses, to...)
	}
	if !slices.Equal(sources, []string{"0.0.0.0/0", "::/0"}) {
		c.carry(p, "hostPortSources", sources)
	}
	if len(addresses) == 0 {
		return
	}
	c.carry(p, "hostPortAddresses", addresses)
	for _, name := range open {
		c.remark(Remark{Lost: true, Path: p.path, Text: fmt.Sprintf("hostPortAddresses is for both families: ports answered on every "+
			"%s address of the host and now answer on none: add those they shall answer on", name)})
	}
}

// matches reads source and destination addresses from arguments of iptables. all is everything of the family.
func matches(raw json.RawMessage, all string) (sources, destinations []string, err error) {
	var args []string
	if raw != nil && json.Unmarshal(raw, &args) != nil {
		return nil, nil, errors.New("not a list of arguments")
	}
	family := netip.MustParsePrefix(all).Addr()
	for len(args) > 0 {
		if len(args) == 1 {
			return nil, nil, fmt.Errorf("%q has no value", args[0])
		}
		var into *[]string
		switch args[0] {
		case "-s", "--src", "--source":
			into = &sources
		case "-d", "--dst", "--destination":
			into = &destinations
		}
		if into == nil || len(*into) > 0 {
			return nil, nil, fmt.Errorf("%q is no source or destination that has to match", args[0])
		}
		for text := range strings.SplitSeq(args[1], ",") {
			value, err := matched(text, family, into == &destinations)
			if err != nil {
				return nil, nil, err
			}
			*into = append(*into, value)
		}
		args = args[2:]
	}
	return sources, destinations, nil
}

// matched reads what a packet's source or destination has to be. Ports of the host answer on single addresses.
func matched(text string, family netip.Addr, single bool) (string, error) {
	prefix, err := netip.ParsePrefix(text)
	if addr, e := netip.ParseAddr(text); e == nil {
		prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if err != nil || prefix.Addr().Is4() != family.Is4() {
		return "", fmt.Errorf("%q is neither an address nor a subnet of the family", text)
	}
	if !single {
		return prefix.Masked().String(), nil
	}
	if !prefix.IsSingleIP() {
		return "", fmt.Errorf("%q is more than one address of the host", text)
	}
	return prefix.Addr().String(), nil
}

func (c *converter) bandwidth(p plugin) {
	c.carryAll(p, "ingressRate", "ingressBurst", "egressRate", "egressBurst")
	for _, key := range []string{"ingressBurst", "egressBurst"} {
		if p.keys.get(key) != nil {
			c.note(p, key, "counts for no more than the rate lets pass in bandwidthLatency, 25 ms where the key is absent")
		}
	}
}

func (c *converter) firewall(p plugin) {
	c.opened(p)
	if p.keys.text("ingressPolicy") == "same-bridge" {
		c.carry(p, "ingressPolicy", "same-network")
	} else {
		c.carryAll(p, "ingressPolicy")
	}
	if p.keys.get("iptablesAdminChainName") != nil {
		c.lose(p, "iptablesAdminChainName", "the containers' packets no longer pass that chain: put what is in it into a table of your own")
	}
	if p.keys.get("firewalldZone") != nil {
		c.lose(p, "firewalldZone", "veth does not talk to firewalld: put the bridge, or the network's subnets as sources, into the zone")
	}
}

// opened says who lets packets through firewalls that drop what the host forwards. firewalld's own table is nobody's to
// write into.
func (c *converter) opened(p plugin) {
	firewalld := p.keys.text("backend") == "firewalld"
	c.carry(p, "forwardAccept", !firewalld)
	switch {
	case firewalld && p.keys.get("firewalldZone") == nil:
		c.lose(p, "backend", "veth does not talk to firewalld: put the bridge, or the network's subnets as sources, into zone trusted")
	case !firewalld && p.keys.get("backend") != nil:
		c.note(p, "backend", "left out: veth writes nftables, which iptables-nft uses too; forwardAccept opens the chains of others")
	case !firewalld:
		c.remark(Remark{Path: p.path, Text: "opened the host's firewall for containers: forwardAccept does, but for firewalld's, of which STATUS tells"})
	}
}

func (c *converter) tuning(p plugin) {
	c.sysctls(p)
	c.carryAll(p, "mac", "promisc", "allmulti", "txQLen")
	if mtu := p.keys.get("mtu"); mtu != nil && string(mtu) != "0" {
		c.carry(p, "mtu", mtu)
		c.note(p, "mtu", "was the container's end's alone; it is that of both ends, and of a bridge that veth makes")
	}
	if p.keys.get("dataDir") != nil {
		c.note(p, "dataDir", "left out: veth has nothing to restore, what it sets dies with the container")
	}
}

// sysctls carries over what veth would set too, name by name.
func (c *converter) sysctls(p plugin) {
	raw := p.keys.get("sysctl")
	if raw == nil {
		return
	}
	path := join(p.path, "sysctl")
	wanted, err := parseObject(path, raw)
	if err != nil {
		c.carry(p, "sysctl", raw) // netconf says what it should be
		return
	}
	all := object{}
	if have := c.out.get("sysctl"); have != nil {
		if all, err = parseObject(path, have); err != nil {
			return // it is veth's own, and netconf says what is wrong with it
		}
	}
	for _, m := range wanted {
		one := object{
			{"cniVersion", encode("1.1.0")}, {"name", encode("x")}, {"type", encode(netconf.TypeVeth)}, {"sysctl", object{m}.raw()},
		}
		if _, err := netconf.Parse(netconf.Request{Config: one.raw()}); err != nil {
			name := fmt.Sprintf("sysctl[%q]", m.key)
			c.remark(Remark{
				Lost: true, Path: join(p.path, name), Value: shown(m.value), Text: strings.TrimPrefix(err.Error(), name+": "),
			})
			continue
		}
		all.set(m.key, m.value)
	}
	if len(all) > 0 {
		c.out.set("sysctl", all.raw())
	}
}

// sbr gives the interface a routing table of its own. There, the reference adds a default route by each address's
// gateway whatever the interface's plugin was told.
func (c *converter) sbr(p plugin) {
	if table := p.keys.get("table"); table != nil {
		c.carry(p, "table", table)
	} else {
		c.carry(p, "table", "auto")
		c.remark(Remark{Path: join(p.path, "table"), Text: `absent: becomes "auto", another number than the reference's, which counts from 100`})
	}
	if raw := c.out.get("isDefaultGateway"); string(raw) == "false" {
		c.out.remove("isDefaultGateway")
		c.remark(Remark{Path: p.path, Text: "puts a default route into its table: so does veth without isDefaultGateway, which is left out"})
	}
}
