package netconf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// HostPorts says which ports of the host lead to the container, and for whom.
type HostPorts struct {
	// Mappings are runtimeConfig.portMappings without the entries whose hostPort is 0. No two claim the same port.
	Mappings []PortMapping
	// Capable says that the runtime was told to pass mappings: capabilities.portMappings.
	Capable bool
	// Addresses are the host's addresses that mappings without a hostIP answer on (hostPortAddresses); none: all.
	Addresses []netip.Addr
	// Sources are the prefixes that may connect (hostPortSources), masked; none: everybody.
	Sources []netip.Prefix
	// KeepSources leaves every source as it is (snat: false): the container itself, its bridge and the host's 127.0.0.1
	// then cannot use the ports.
	KeepSources bool
	// MasqueradeAll gives every connection an address of the host as its source (masqAll).
	MasqueradeAll bool
	InUse         InUse
}

// PortMapping is one port of the host that leads to the container.
type PortMapping struct {
	Protocol Protocol
	// Host is the address that the port is on: unspecified for all of its family, invalid for all of both.
	Host          netip.Addr
	HostPort      uint16
	ContainerPort uint16
}

func (m PortMapping) String() string {
	if !m.Host.IsValid() {
		return fmt.Sprintf("%s %d", m.Protocol, m.HostPort)
	}
	return fmt.Sprintf("%s %s", m.Protocol, netip.AddrPortFrom(m.Host, m.HostPort))
}

// overlaps reports whether a packet could be for both mappings.
func (m PortMapping) overlaps(o PortMapping) bool {
	switch {
	case m.Protocol != o.Protocol || m.HostPort != o.HostPort:
		return false
	case !m.Host.IsValid() || !o.Host.IsValid():
		return true
	case m.Host.Is4() != o.Host.Is4():
		return false
	}
	return m.Host == o.Host || m.Host.IsUnspecified() || o.Host.IsUnspecified()
}

// Protocol is a transport protocol by its number (IANA, "Assigned Internet Protocol Numbers").
type Protocol uint8

// The protocols whose ports can be mapped.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// InUse says what becomes of a mapping whose port a process of the host listens on: the mapping takes its traffic away.
type InUse uint8

// What key hostPortInUse may say.
const (
	InUseRefuse InUse = iota // "refuse", the default
	InUseWarn                // "warn"
	InUseIgnore              // "ignore"
)

// rawHostPorts is embedded into rawConfig.
type rawHostPorts struct {
	SNAT              *bool    `json:"snat"`
	MasqAll           bool     `json:"masqAll"`
	HostPortSources   []string `json:"hostPortSources"`
	HostPortAddresses []string `json:"hostPortAddresses"`
	HostPortInUse     string   `json:"hostPortInUse"`
}

type rawMapping struct {
	HostPort      int64  `json:"hostPort"`
	ContainerPort int64  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

const mappingsPath = "runtimeConfig.portMappings"

// hostPorts fills Config.HostPorts.
func (p *parser) hostPorts() error {
	raw, hp := p.raw.rawHostPorts, &p.config.HostPorts
	hp.Capable = string(p.raw.Capabilities["portMappings"]) == "true"
	hp.KeepSources, hp.MasqueradeAll = raw.SNAT != nil && !*raw.SNAT, raw.MasqAll
	if hp.MasqueradeAll && hp.KeepSources {
		return cnierr.New(cnierr.InvalidConfig, "masqAll: contradicts snat: false, want at most one of them")
	}
	switch raw.HostPortInUse {
	case "", "refuse":
		hp.InUse = InUseRefuse
	case "warn":
		hp.InUse = InUseWarn
	case "ignore":
		hp.InUse = InUseIgnore
	default:
		return cnierr.Key(cnierr.UnsupportedField, "hostPortInUse", raw.HostPortInUse, `"refuse", "warn" or "ignore"`)
	}
	for _, part := range []func() error{p.hostPortSources, p.hostPortAddresses, p.portMappings} {
		if err := part(); err != nil {
			return err
		}
	}
	if len(hp.Mappings) > 0 && p.config.IPAM.Type == "" {
		return cnierr.New(cnierr.InvalidConfig,
			mappingsPath+": contradicts a network without ipam: a container without an address cannot have ports of the host")
	}
	return nil
}

func (p *parser) hostPortSources() error {
	for i, text := range p.raw.HostPortSources {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || prefix.Addr().Is4In6() {
			return cnierr.Key(cnierr.InvalidConfig, index("hostPortSources", i), text, "a prefix, such as 192.0.2.0/24")
		}
		p.config.HostPorts.Sources = append(p.config.HostPorts.Sources, prefix.Masked())
	}
	return nil
}

func (p *parser) hostPortAddresses() error {
	for i, text := range p.raw.HostPortAddresses {
		a, err := hostAddress(index("hostPortAddresses", i), text)
		if err != nil {
			return err
		}
		if a.IsUnspecified() || slices.Contains(p.config.HostPorts.Addresses, a) {
			return cnierr.Key(cnierr.InvalidConfig, index("hostPortAddresses", i), text, "addresses of the host, each once")
		}
		p.config.HostPorts.Addresses = append(p.config.HostPorts.Addresses, a)
	}
	return nil
}

// hostAddress reads an address that a port can be on.
func hostAddress(path, text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	a = a.Unmap()
	switch {
	case err != nil || a.Zone() != "" || a.IsMulticast():
		return a, cnierr.Key(cnierr.InvalidConfig, path, text, "an address of the host, such as 192.0.2.1")
	case a == netip.IPv6Loopback():
		return a, cnierr.Key(cnierr.InvalidConfig, path, text,
			"another address: the kernel lets no connection to ::1 leave the host's loopback interface")
	}
	return a, nil
}

func (p *parser) portMappings() error {
	var list []rawMapping
	if err := (decoder{anyKey: true, anyCase: true}).decode(mappingsPath, p.raw.RuntimeConfig.PortMappings, &list); err != nil {
		return err
	}
	claimed := map[portKey][]PortMapping{}
	for i, raw := range list {
		if raw.HostPort == 0 {
			continue // a port of the container that nobody asked for on the host
		}
		m, err := raw.parse(index(mappingsPath, i))
		if err != nil {
			return err
		}
		key := portKey{m.Protocol, m.HostPort}
		for _, other := range claimed[key] {
			if m.overlaps(other) {
				return cnierr.New(cnierr.InvalidConfig, "%s: %s is asked for twice, the other time as %s",
					index(mappingsPath, i), m, other)
			}
		}
		claimed[key] = append(claimed[key], m)
		p.config.HostPorts.Mappings = append(p.config.HostPorts.Mappings, m)
	}
	return nil
}

type portKey struct {
	protocol Protocol
	port     uint16
}

func (r rawMapping) parse(path string) (m PortMapping, err error) {
	const highest = 1<<16 - 1
	for _, port := range []struct {
		key   string
		value int64
	}{{"hostPort", r.HostPort}, {"containerPort", r.ContainerPort}} {
		if port.value < 1 || port.value > highest {
			return m, cnierr.Key(cnierr.InvalidConfig, join(path, port.key), port.value, "1 to 65535")
		}
	}
	m.HostPort, m.ContainerPort = uint16(r.HostPort), uint16(r.ContainerPort)
	switch strings.ToLower(r.Protocol) {
	case "", "tcp":
		m.Protocol = TCP
	case "udp":
		m.Protocol = UDP
	case "sctp":
		m.Protocol = SCTP
	default:
		return m, cnierr.Key(cnierr.UnsupportedField, join(path, "protocol"), r.Protocol, `"tcp", "udp" or "sctp"`)
	}
	if r.HostIP != "" {
		m.Host, err = hostAddress(join(path, "hostIP"), r.HostIP)
	}
	return m, err
}

// hostPortsLenient keeps of the mappings what can be read: DEL finds what they made by it.
func (p *parser) hostPortsLenient() {
	var list []rawMapping
	_ = (decoder{anyKey: true, anyCase: true, lenient: true}).decode(mappingsPath, p.raw.RuntimeConfig.PortMappings, &list)
	for _, raw := range list {
		if m, err := raw.parse(mappingsPath); err == nil {
			p.config.HostPorts.Mappings = append(p.config.HostPorts.Mappings, m)
		}
	}
	_ = p.hostPortAddresses()
}
