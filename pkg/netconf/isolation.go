package netconf

import "github.com/veth-cni/veth/pkg/cnierr"

// IngressPolicy says which containers of the node may open connections to those of a network. The values are those of
// the reference firewall plugin.
type IngressPolicy uint8

// The policies, from the most open to the strictest. None concerns the host itself, what comes from beyond the node, or answers.
const (
	IngressOpen        IngressPolicy = iota // all; the default
	IngressSameNetwork                      // those of the same network; on a bridge, those of the same bridge
	IngressIsolated                         // none
	// IngressUnreadable is what ParseLenient makes of a value that Parse refuses.
	IngressUnreadable
)

func (i IngressPolicy) String() string {
	switch i {
	case IngressOpen:
		return "open"
	case IngressSameNetwork:
		return "same-network"
	case IngressIsolated:
		return "isolated"
	}
	return "unreadable"
}

// Restricts reports whether the policy keeps anybody out.
func (i IngressPolicy) Restricts() bool { return i == IngressSameNetwork || i == IngressIsolated }

// ForwardAccept says what becomes of firewalls of others that drop what the host forwards.
type ForwardAccept uint8

// What key forwardAccept may say.
const (
	ForwardReport ForwardAccept = iota // absent: STATUS reports them
	ForwardOpen                        // true: they are opened for the network
	ForwardIgnore                      // false: somebody else opens them
)

type rawIsolation struct {
	IngressPolicy string `json:"ingressPolicy"`
	AntiSpoof     *bool  `json:"antiSpoof"`
	ForwardAccept *bool  `json:"forwardAccept"`
}

// isolation fills Config.Ingress, AntiSpoof and Forward. It comes after the addresses.
func (p *parser) isolation() error {
	raw, c := p.raw.rawIsolation, p.config
	if err := p.ingress(); err != nil {
		return err
	}
	if raw.ForwardAccept != nil {
		c.Forward = ForwardIgnore
		if *raw.ForwardAccept {
			c.Forward = ForwardOpen
		}
	}
	c.AntiSpoof = c.Mode == Routed && c.IPAM.Type != ""
	if raw.AntiSpoof != nil {
		c.AntiSpoof = *raw.AntiSpoof
	}
	if !c.AntiSpoof || c.Mode == Routed {
		return nil
	}
	if c.IPAM.Type == "" {
		return cnierr.New(cnierr.InvalidConfig, "antiSpoof: contradicts a network without ipam: no address to hold "+
			"containers to; want macspoofchk, which holds them to their MAC")
	}
	if len(c.Bridge.Trunk) > 0 {
		return cnierr.New(cnierr.InvalidConfig, "antiSpoof: contradicts vlanTrunk: the addresses that containers have "+
			"in tagged VLANs are their own affair; want macspoofchk, which holds them to their MAC")
	}
	return nil
}

func (p *parser) ingress() (err error) {
	if p.raw.IngressPolicy != "" {
		p.config.Ingress, err = parseIngress("ingressPolicy", p.raw.IngressPolicy)
	}
	if err != nil {
		return err
	}
	return p.podIngress()
}

func parseIngress(path, text string) (IngressPolicy, error) {
	switch text {
	case "open":
		return IngressOpen, nil
	case "same-network", "same-bridge":
		return IngressSameNetwork, nil
	case "isolated":
		return IngressIsolated, nil
	}
	return IngressUnreadable, cnierr.Key(cnierr.UnsupportedField, path, text,
		`"open", "same-network" (or "same-bridge", which means the same) or "isolated"`)
}
