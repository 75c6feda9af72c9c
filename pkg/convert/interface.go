package convert

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/veth-cni/veth/pkg/netconf"
)

// defaultBridge is the reference bridge plugin's.
const defaultBridge = "cni0"

// interfaceKeys carries over the plugin that makes the interface.
func (c *converter) interfaceKeys(p plugin) error {
	switch p.kind {
	case netconf.TypeVeth:
		c.out = p.keys
		for _, m := range p.keys {
			c.from[m.key] = p.path
		}
		return nil
	case netconf.TypeBridge:
		p.keys = c.tidy(p.path, p.kind, p.keys, common, bridgeKeys)
	default:
		p.keys = c.tidy(p.path, p.kind, p.keys, common, ptpKeys)
	}
	for _, m := range p.keys {
		switch m.key {
		case "cniVersion", "name": // the list's own count
		case "type":
			c.carry(p, "type", netconf.TypeVeth)
		case "ipMasqBackend":
			c.note(p, m.key, "left out: veth always masquerades by nftables")
		case "ipam":
			if err := c.ipam(p, m.value); err != nil {
				return err
			}
		default:
			c.carry(p, m.key, m.value)
		}
	}
	if p.kind == netconf.TypeBridge {
		c.bridge(p)
	} else {
		c.ptp(p)
	}
	if mtu := p.keys.get("mtu"); mtu == nil || string(mtu) == "0" {
		c.remark(Remark{Path: join(p.path, "mtu"), Text: "absent: was the kernel's 1500, or that of the bridge; with veth it is " +
			"what fits the route to the world, but no more than an existing bridge's"})
	}
	return nil
}

func (c *converter) bridge(p plugin) {
	if p.keys.text("bridge") == "" {
		c.carry(p, "bridge", defaultBridge)
		c.remark(Remark{Path: join(p.path, "bridge"), Text: "absent: the reference's default, cni0, is written out; without " +
			"the key veth needs no bridge"})
	}
	if p.keys.isTrue("macspoofchk") {
		c.note(p, "macspoofchk", "veth locks the bridge port, which takes Linux 5.18")
	}
	if vlan := p.keys.get("vlan"); vlan != nil && string(vlan) != "0" && (p.keys.isTrue("isGateway") || p.keys.isTrue("isDefaultGateway")) {
		c.note(p, "vlan", fmt.Sprintf("the gateway's address is on an 802.1Q interface, %s.%s, and no longer on a veth pair of its own",
			c.out.text("bridge"), vlan))
	}
}

func (c *converter) ptp(p plugin) {
	c.remark(Remark{Path: join(p.path, "type"), Value: `"ptp"`, Text: "becomes routed mode: the container's gateway is " +
		"169.254.1.1 and fe80::1 whatever IPAM names, and its address a /32 or /128; it sends from no other (antiSpoof); type ptp, which veth takes too, keeps the gateway"})
}

// defaultRoutes comes last. Routed mode has default routes unless told otherwise, the reference ptp only IPAM's; what sbr
// puts into a table of its own is another matter.
func (c *converter) defaultRoutes(p plugin) {
	if p.kind != netconf.TypePTP || c.out.get("ipam") == nil || c.out.get("table") != nil || routesEverywhere(c.out.get("ipam")) {
		return
	}
	c.carry(p, "isDefaultGateway", false)
	c.remark(Remark{Path: join(p.path, "type"), Value: `"ptp"`, Text: "isDefaultGateway is false, so that there are no default routes " +
		"but IPAM's, as before"})
}

// routesEverywhere reports whether IPAM itself has a default route for each family that it has ranges of.
func routesEverywhere(raw json.RawMessage) bool {
	var ipam struct {
		Type   string
		Subnet string
		Ranges [][]struct{ Subnet string }
		Routes []struct{ Dst string }
	}
	if json.Unmarshal(raw, &ipam) != nil || ipam.Type != netconf.IPAMBuiltin {
		return false
	}
	has := map[string]bool{}
	for _, r := range ipam.Routes {
		has[r.Dst] = true
	}
	subnets := []string{ipam.Subnet}
	for _, set := range ipam.Ranges {
		for _, r := range set {
			subnets = append(subnets, r.Subnet)
		}
	}
	for _, s := range subnets {
		switch {
		case s == "":
		case strings.Contains(s, ":") && !has["::/0"], !strings.Contains(s, ":") && !has["0.0.0.0/0"]:
			return false
		}
	}
	return true
}

// ipam makes host-local the built-in. Any other address manager goes on as before.
func (c *converter) ipam(p plugin, raw json.RawMessage) error {
	path := join(p.path, "ipam")
	o, err := parseObject(path, raw)
	if err != nil {
		return err
	}
	kind := o.text("type")
	switch {
	case kind == "host-local":
		o = c.tidy(path, kind, o, hostLocalKeys)
		o.set("type", netconf.IPAMBuiltin)
		if dir := o.get("dataDir"); dir != nil {
			c.remark(Remark{Path: join(path, "dataDir"), Value: shown(dir), Text: "left out: leases are names of interfaces, in the " +
				"kernel; once no container of the old list is left, the directory can go"})
			o.remove("dataDir")
		}
		c.remark(Remark{Path: join(path, "type"), Value: `"host-local"`, Text: "becomes the built-in, which does not know " +
			"what host-local has leased"})
	case kind != "" && kind != netconf.IPAMBuiltin:
		c.remark(Remark{Path: join(path, "type"), Value: shown(o.get("type")), Text: "stays: veth executes the plugin of that name " +
			"for addresses, as the reference does"})
	}
	c.carry(p, "ipam", o.raw())
	return nil
}
