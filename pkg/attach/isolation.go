package attach

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/firewall"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// openForward warns about a chain that cannot be opened: the container has its network all the same, and STATUS says 50.
func (m *machine) openForward(o plan.ForwardAccept) (bool, error) {
	created, err := m.firewall.ApplyForwardAccept(o)
	if err != nil && cnierr.Of(err, 0).Code == cnierr.Conflict {
		warn(err)
		err = nil
	}
	return created, err
}

// retireIsolation takes back what a network has no use for any more: of a policy that was changed to open, and, of one
// without attachments, all.
func (m *machine) retireIsolation(cfg *netconf.Config, empty bool) error {
	switch {
	case !empty && cfg.Ingress == netconf.IngressOpen:
		return possible(m.firewall.OpenIngress(cfg.Network))
	case !empty:
		return nil
	}
	link, _ := plan.HostSide(cfg)
	accept := plan.ForwardAccept{Network: cfg.Network, Link: link, IPv4: true, IPv6: true} // GC knows no ranges
	return errors.Join(possible(m.firewall.RetireIngress(cfg.Network)), possible(m.firewall.RetireForwardAccept(accept)),
		possible(m.undoShared(plan.SourceCheck{}, "")), possible(m.undoShared(plan.PortIngress{}, "")))
}

// isolationPossible fails where the kernel lacks what keeps a network's promises.
func isolationPossible(cfg *netconf.Config, m *machine) error {
	if cfg.Ingress.Restricts() || cfg.PodIngressAllowed {
		if err := m.firewall.ProbeIngress(); err != nil {
			return cnierr.Wrap(cnierr.NotAvailable, err, "ingressPolicy")
		}
	}
	if cfg.PodIngressAllowed && cfg.Mode == netconf.Bridged {
		if err := m.firewall.ProbePortIngress(); err != nil {
			return cnierr.Wrap(cnierr.NotAvailable, err, "allowPodAnnotations: \"ingressPolicy\"")
		}
	}
	switch {
	case !cfg.AntiSpoof:
		return nil
	case cfg.Mode == netconf.Bridged:
		return m.node.ProbeSourceFilter()
	}
	return cnierr.Wrap(cnierr.NotAvailable, m.firewall.ProbeSourceCheck(), "antiSpoof")
}

// reversePathHarmless looks at the one global setting that quietly takes from routed mode what antiSpoof false promises:
// the kernel uses the larger of it and the interface's own (Documentation/networking/ip-sysctl.rst), so 1, strict, drops
// what the containers send from further addresses. With antiSpoof no value does harm: 1 is what the interfaces have
// themselves, and 2, loose, lets nothing pass that nftables has not dropped before.
func reversePathHarmless(cfg *netconf.Config, m *machine) error {
	if cfg.Mode != netconf.Routed || !gives(cfg, true) || cfg.AntiSpoof {
		return nil
	}
	value, err := m.node.Setting("net/ipv4/conf/all/rp_filter")
	if err != nil {
		return cnierr.Wrap(cnierr.IOFailure, err, "read net.ipv4.conf.all.rp_filter")
	}
	if value == "1" {
		return cnierr.New(cnierr.NotAvailable, "net.ipv4.conf.all.rp_filter: 1 (strict) drops what containers of routed network %s, "+
			"whose antiSpoof is off, send from addresses other than their own: want 0 or 2", cfg.Network)
	}
	return nil
}

// forwarded fails where a firewall of somebody else drops what the host forwards for the network.
func forwarded(cfg *netconf.Config, m *machine) error {
	a, ok, err := passage(cfg, m)
	if !ok || err != nil {
		return err
	}
	if cfg.Forward == netconf.ForwardOpen {
		return m.firewall.ProbeForwardAccept(a)
	}
	dropping, err := m.firewall.Dropping(a)
	if err != nil || len(dropping) == 0 {
		return err
	}
	return dropped(cfg.Network, dropping)
}

// dropped says what helps a network: forwardAccept where it can open all chains, and otherwise rules by hand in each of
// them, for only without it does STATUS take their word.
func dropped(network string, dropping []firewall.Obstacle) error {
	const dead = "%s: drops what the host forwards, so containers of network %s reach the host and nothing beyond: want "
	var names []string
	var byHand []error
	for _, o := range dropping {
		names = append(names, o.Chain)
		why := ""
		if o.Reason != "" {
			why = " (not forwardAccept true: " + o.Reason + ")"
		}
		byHand = append(byHand, cnierr.New(cnierr.NotAvailable, dead+"%s, and forwardAccept false%s", o.Chain, network, o.ByHand, why))
	}
	if slices.ContainsFunc(dropping, func(o firewall.Obstacle) bool { return o.Reason != "" }) {
		return errors.Join(byHand...)
	}
	return cnierr.New(cnierr.NotAvailable, dead+"forwardAccept true to open it, or rules of your own there and forwardAccept false",
		strings.Join(names, ", "), network)
}

// passage is what a network needs of firewalls of others, false if nothing: the host forwards packets for a network whose
// gateway it is, and shows frames that it bridges to the same chains where br_netfilter is on, as Docker wants it.
func passage(cfg *netconf.Config, m *machine) (plan.ForwardAccept, bool, error) {
	link, ok := plan.HostSide(cfg)
	if !ok || cfg.Forward == netconf.ForwardIgnore {
		return plan.ForwardAccept{}, false, nil
	}
	a := plan.ForwardAccept{Network: cfg.Network, Link: link, State: "ok"}
	a.IPv4, a.IPv6 = families(cfg)
	if cfg.Mode == netconf.Routed || cfg.Bridge.Gateway {
		return a, cfg.IPAM.Type != "", nil
	}
	for _, f := range []struct {
		key string
		on  *bool
	}{{"iptables", &a.IPv4}, {"ip6tables", &a.IPv6}} {
		value, err := m.node.Setting("net/bridge/bridge-nf-call-" + f.key)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return a, false, cnierr.Wrap(cnierr.IOFailure, err, "read net.bridge.bridge-nf-call-%s", f.key)
		}
		*f.on = *f.on && value == "1"
	}
	return a, true, nil
}

// families says whether a network's containers get IPv4 and IPv6 addresses, as far as the configuration tells: a delegate
// may give both, and whoever puts addresses on a layer 2 network by hand, too.
func families(cfg *netconf.Config) (ipv4, ipv6 bool) {
	if !cfg.IPAM.Builtin() {
		return true, true
	}
	return gives(cfg, true), gives(cfg, false)
}
