package netconf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/veth-cni/veth/pkg/cnierr"
)

const (
	defaultBridge = "cni0" // the reference bridge plugin's

	minMTU  = 68    // ETH_MIN_MTU, and the datagram every router forwards whole (RFC 791, section 3.2)
	minMTU6 = 1280  // RFC 8200, section 5
	maxMTU  = 65535 // ETH_MAX_MTU, what drivers/net/veth.c allows

	defaultMTU = 1500 // ETH_DATA_LEN, what drivers/net/veth.c begins with

	maxVLAN = 4094 // 4095 is reserved (IEEE 802.1Q)
)

// oldestVersion is the specification's version of a configuration that names none.
const oldestVersion = "0.1.0"

// Parse turns a call into a Config that every other package may rely on. An empty ContainerID, IfName or Netns is not
// checked: STATUS and GC have none. The error is a CNI error whose message begins with the key or variable at fault:
//   - DecodingFailure: not JSON, or a value of another JSON type, or a prevResult that is no result
//   - IncompatibleVersion: a cniVersion that the plugin does not speak
//   - UnsupportedField: a key nobody knows, or a value outside a fixed list of words
//   - InvalidConfig: a value out of range, a missing key, one given twice, keys that contradict each other
//   - InvalidEnvironment: a CNI_* variable
//   - AddressTaken: a requested address that can never be leased
func Parse(r Request) (*Config, error) {
	p := parser{request: r, config: &Config{Raw: r.Config}}
	parts := []func() error{
		p.decode, p.environment, p.identity, p.capabilities, p.mode, p.link, p.trunk, p.ipamType, p.annotations,
		p.hardwareAddress, p.addresses, p.interplay, p.mtu, p.tuning, p.wire, p.routing, p.bandwidth, p.hostPorts, p.isolation, p.previous, p.layer2,
		p.attachments,
	}
	for _, part := range parts {
		if err := part(); err != nil {
			return nil, err
		}
	}
	return p.config, nil
}

// ParseLenient extracts what is needed to clean up after a configuration that Parse may refuse: Network, Type, Mode,
// Attachment, Bridge.Name, IPMasq, HostPorts.Mappings and Addresses, Ingress, IPAM.Type, Routing's table, Prev and Valid.
// What cannot be used is left empty; nothing fails. Where Parse succeeds, these fields are the same. One unreadable entry
// makes the whole of Valid not given: an attachment that is missing from the list is one that GC removes.
func ParseLenient(r Request) *Config {
	p := parser{request: r, lenient: true, config: &Config{Raw: r.Config}}
	// Errors are dropped by intention: a part that fails has set nothing.
	_ = decoder{lenient: true}.config(r.Config, &p.raw)
	p.args, _ = parseArgs(r.Args)

	p.attachment()
	p.config.CNIVersion = version(&p.raw)
	p.config.Network, p.config.Type, p.config.IPMasq = p.raw.Name, p.raw.Type, p.raw.IPMasq
	_ = p.ipamType()
	p.config.Mode, p.config.Bridge.Name = modeOf(&p.raw)
	if !validIfName(p.config.Bridge.Name) {
		p.config.Bridge.Name = ""
	}
	p.hostPortsLenient()
	p.config.SyncDelete = p.raw.SyncDelete
	_ = p.ingress()
	_ = p.table()
	_ = p.previous()
	_ = p.attachments()
	return p.config
}

// parser is one run of Parse: what came in, and the Config that its methods fill, each its own part.
type parser struct {
	request Request
	lenient bool // for ParseLenient
	raw     rawConfig
	args    cniArgs
	pod     map[string]string // what the pod asks for and may: annotations without their prefix
	config  *Config
}

func (p *parser) decode() error {
	return decoder{}.config(p.request.Config, &p.raw)
}

func (p *parser) environment() error {
	if err := p.variables(); err != nil {
		return err
	}
	var err error
	p.args, err = parseArgs(p.request.Args)
	p.attachment()
	return err
}

func (p *parser) attachment() {
	p.config.Attachment = Attachment{
		ContainerID:  p.request.ContainerID,
		IfName:       p.request.IfName,
		Netns:        p.request.Netns,
		PodNamespace: p.args.PodNamespace,
		PodName:      p.args.PodName,
	}
}

// nameRule is the specification's for network names and container ids (CNI spec 1.1.0, section 1 and section 2).
const nameRule = "letters, digits, '_', '.' and '-', the first a letter or a digit"

// validName holds a name against it.
func validName(name string) bool {
	alphanumeric := func(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' }
	for i := range len(name) {
		if !alphanumeric(name[i]) && (i == 0 || !strings.ContainsRune("_.-", rune(name[i]))) {
			return false
		}
	}
	return name != ""
}

func (p *parser) identity() error {
	if err := p.version(); err != nil {
		return err
	}
	if err := p.name(); err != nil {
		return err
	}
	p.config.Network = p.raw.Name
	return nil
}

func version(raw *rawConfig) string {
	if raw.CNIVersion == "" {
		return oldestVersion
	}
	return raw.CNIVersion
}

func (p *parser) mode() error {
	const knownTypes = `"veth", "bridge" or "ptp"`
	switch p.raw.Type {
	case "":
		return missing("type", knownTypes)
	case TypeVeth, TypeBridge, TypePTP:
	default:
		return cnierr.Key(cnierr.UnsupportedField, "type", p.raw.Type, knownTypes)
	}
	p.config.Type = p.raw.Type
	p.config.Mode, p.config.Bridge.Name = modeOf(&p.raw)
	if p.config.Mode == Routed {
		return p.bridgeless()
	}
	if !validIfName(p.config.Bridge.Name) {
		return cnierr.Key(cnierr.InvalidConfig, "bridge", p.config.Bridge.Name, ifNameRule)
	}
	return nil
}

// modeOf derives the mode, and in Bridged mode the bridge's name.
func modeOf(raw *rawConfig) (Mode, string) {
	switch {
	case raw.Type == TypePTP:
		return Routed, ""
	case raw.Bridge != "":
		return Bridged, raw.Bridge
	case raw.Type == TypeBridge:
		return Bridged, defaultBridge
	default:
		return Routed, ""
	}
}

// bridgeless refuses keys that would do something to a bridge or its port where there is none. A key that asks for
// nothing, such as "vlan": 0, passes.
func (p *parser) bridgeless() error {
	raw := &p.raw
	var set []string
	for _, k := range []struct {
		name string
		set  bool
	}{
		{"bridge", raw.Bridge != ""}, // of type "ptp": elsewhere this makes the mode Bridged
		{"isGateway", raw.IsGateway},
		{"forceAddress", raw.ForceAddress},
		{"hairpinMode", raw.HairpinMode},
		{"promiscMode", raw.PromiscMode},
		{"vlan", raw.VLAN != 0},
		{"vlanTrunk", len(raw.VLANTrunk) > 0},
		{"preserveDefaultVlan", raw.PreserveDefaultVLAN},
		{"macspoofchk", raw.MACSpoofChk},
		{"portIsolation", raw.PortIsolation},
		{"disableContainerInterface", raw.DisableContainerInterface},
		{"isDefaultGateway", raw.Type == TypePTP && isTrue(raw.IsDefaultGateway)},
	} {
		if k.set {
			set = append(set, k.name)
		}
	}
	switch {
	case len(set) == 0:
		return nil
	case raw.Type == TypePTP:
		return cnierr.New(cnierr.InvalidConfig, `%s: type "ptp" has no bridge; want it left out, or another type`,
			strings.Join(set, ", "))
	default:
		return cnierr.New(cnierr.InvalidConfig, `%s: has no effect without a bridge; want "bridge" too, or it left out`,
			strings.Join(set, ", "))
	}
}

// link fills what concerns the veth pair and the port, and not its addresses.
func (p *parser) link() error {
	raw, c := &p.raw, p.config
	c.DisableContainerInterface = raw.DisableContainerInterface
	c.SyncDelete = raw.SyncDelete
	c.EnableDAD = raw.EnableDAD
	c.DNS = raw.DNS
	if c.Mode == Routed {
		asked := raw.IsDefaultGateway
		c.DefaultGateway = c.Type == TypeVeth && (asked == nil || *asked)
		return nil
	}
	if raw.HairpinMode && raw.PromiscMode {
		return cnierr.New(cnierr.InvalidConfig, "hairpinMode: contradicts promiscMode, want at most one of them: "+
			"a promiscuous bridge already hands frames back to the host, and they would arrive twice")
	}
	if raw.VLAN < 0 || raw.VLAN > maxVLAN {
		return cnierr.Key(cnierr.InvalidConfig, "vlan", raw.VLAN, "0, for none, to 4094")
	}
	c.DefaultGateway = isTrue(raw.IsDefaultGateway)
	c.Bridge = Bridge{
		Name:                c.Bridge.Name,
		Gateway:             raw.IsGateway || c.DefaultGateway,
		ForceAddress:        raw.ForceAddress,
		Promisc:             raw.PromiscMode,
		Hairpin:             raw.HairpinMode,
		Isolated:            raw.PortIsolation,
		MACLocked:           raw.MACSpoofChk,
		VLAN:                uint16(raw.VLAN),
		PreserveDefaultVLAN: raw.PreserveDefaultVLAN,
	}
	return nil
}

// trunk collects the tagged VLANs of vlanTrunk, whose entries are a span, a single VLAN, or both.
func (p *parser) trunk() error {
	if len(p.raw.VLANTrunk) == 0 {
		return nil
	}
	tagged := make([]bool, maxVLAN+1)
	for i, entry := range p.raw.VLANTrunk {
		if err := entry.check(index("vlanTrunk", i)); err != nil {
			return err
		}
		if entry.MinID != nil {
			for id := *entry.MinID; id <= *entry.MaxID; id++ {
				tagged[id] = true
			}
		}
		if entry.ID != nil {
			tagged[*entry.ID] = true
		}
	}
	for id, is := range tagged {
		if is {
			p.config.Bridge.Trunk = append(p.config.Bridge.Trunk, uint16(id))
		}
	}
	return nil
}

func (t rawTrunk) check(path string) error {
	for _, id := range []struct {
		key   string
		value *int64
	}{{"minID", t.MinID}, {"maxID", t.MaxID}, {"id", t.ID}} {
		if id.value != nil && (*id.value < 1 || *id.value > maxVLAN) {
			return cnierr.Key(cnierr.InvalidConfig, join(path, id.key), *id.value, "1 to 4094")
		}
	}
	switch {
	case t.MinID == nil && t.MaxID == nil && t.ID == nil:
		return missing(path, "id, or minID and maxID")
	case t.MinID == nil && t.MaxID != nil:
		return missing(join(path, "minID"), "both minID and maxID, or neither")
	case t.MinID != nil && t.MaxID == nil:
		return missing(join(path, "maxID"), "both minID and maxID, or neither")
	case t.MinID != nil && *t.MinID > *t.MaxID:
		return cnierr.Key(cnierr.InvalidConfig, join(path, "minID"), *t.MinID,
			fmt.Sprintf("at most maxID, which is %d", *t.MaxID))
	}
	return nil
}

// interplay checks keys of the link against those of the addresses.
func (p *parser) interplay() error {
	raw, c := &p.raw, p.config
	if b := raw.IPMasqBackend; b != nil && *b != "iptables" && *b != "nftables" {
		return cnierr.Key(cnierr.UnsupportedField, "ipMasqBackend", *b,
			`"nftables" or "iptables"; both mean native nftables`)
	}
	if raw.IPMasq && c.IPAM.Type == "" {
		return cnierr.New(cnierr.InvalidConfig, "ipMasq: contradicts a network without ipam: no address to masquerade")
	}
	c.IPMasq = raw.IPMasq
	if c.DisableContainerInterface && c.IPAM.Type != "" {
		return cnierr.New(cnierr.InvalidConfig,
			"disableContainerInterface: contradicts ipam.type %q: an interface that stays down takes no address",
			c.IPAM.Type)
	}
	// The gateway address of a tagged network is on an interface of that VLAN, which is named after the bridge.
	if c.Bridge.Gateway && c.Bridge.VLAN != 0 && c.IPAM.Type != "" {
		if name := c.Bridge.Name + "." + strconv.Itoa(int(c.Bridge.VLAN)); !validIfName(name) {
			return cnierr.Key(cnierr.InvalidConfig, "bridge", c.Bridge.Name,
				fmt.Sprintf("a shorter name: the gateway's interface, %q, may have 15 bytes", name))
		}
	}
	return nil
}

// layer2 holds for results before 0.3.0, which must have an address. One that an earlier plugin of the chain gave will do.
func (p *parser) layer2() error {
	if c := p.config; !beforeLists(c.CNIVersion) || c.IPAM.Type != "" || c.Prev != nil && len(c.Prev.IPs) > 0 {
		return nil
	}
	return cnierr.Key(cnierr.InvalidConfig, "cniVersion", p.config.CNIVersion, fmt.Sprintf(
		"at least 0.3.0 for a network without ipam (layer 2): an older result must have an address; "+
			"a cniVersion left out is %s", oldestVersion))
}

// beforeLists reports whether results of a version have one address of each family instead of a list (CNI spec 0.3.0).
func beforeLists(version string) bool { return version == "0.1.0" || version == "0.2.0" }

// ifNameRule is the kernel's, dev_valid_name in net/core/dev.c, and what it does with names that pass it: it takes '%'
// for a template (dev_alloc_name), and keeps two names for directories of /proc/sys (sysctl_dev_name_is_allowed).
const ifNameRule = `1 to 15 bytes without '/', ':', '%' and white space, and not ".", "..", "all" or "default"`

func validIfName(name string) bool {
	return 0 < len(name) && len(name) <= 15 && !strings.ContainsAny(name, "/:%\x00") &&
		!strings.ContainsFunc(name, unicode.IsSpace) && !slices.Contains([]string{".", "..", "all", "default"}, name)
}

func missing(path, want string) error {
	return cnierr.New(cnierr.InvalidConfig, "%s: missing: want %s", path, want)
}

func isTrue(b *bool) bool { return b != nil && *b }
