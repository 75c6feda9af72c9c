package attach

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/ipam"
	"github.com/veth-cni/veth/pkg/kernel"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/netconf"
)

// GC removes the attachments of the network that the runtime no longer lists, and, once the network has none, what it
// shared. Without a list nothing tells a live attachment from a forgotten one: then only the latter is done, and log
// says so. It goes on after a failure and reports them all.
func GC(ctx context.Context, cfg *netconf.Config, log io.Writer) error {
	m, err := open()
	if err != nil {
		return err
	}
	defer m.close()
	m.inherits(cfg)
	if !cfg.ValidGiven {
		fmt.Fprintln(log, "veth: GC without cni.dev/valid-attachments: this plugin keeps every attachment it finds")
	}
	there, unlisted := m.node.Attachments(cfg.Network)
	kept, err := m.collect(cfg, there)
	failed := []error{unlisted, err, possible(m.collectPorts(cfg.Network))}
	empty := kept == 0 && unlisted == nil
	if empty {
		failed = append(failed, m.node.Retire(cfg.Network, cfg.Bridge.Name))
	}
	switch {
	case empty:
		failed = append(failed, possible(m.firewall.RetireMasquerade(cfg.Network)))
	case !cfg.IPMasq:
		failed = append(failed, possible(m.firewall.DropMasquerade(cfg.Network)))
	case cfg.IPAM.Delegated():
		failed = append(failed, possible(m.firewall.CollectMasquerade(cfg.Network, m.tenants())))
	}
	failed = append(failed, m.retireIsolation(cfg, empty))
	err = cnierr.Wrap(cnierr.CleanupFailed, errors.Join(failed...), "GC")
	if cfg.IPAM.Delegated() {
		err = errors.Join(err, ipam.NewDelegate(cfg).GC(ctx)) // which says itself that it is of a GC
	}
	return err
}

// collect removes the forgotten attachments and counts those that stay. The name of a host end is a function of its
// attachment, so names are all there is to compare.
func (m *machine) collect(cfg *netconf.Config, there []kernel.Attached) (int, error) {
	valid := map[string]bool{}
	for _, a := range cfg.Valid {
		valid[lease.HostName(cfg.Network, a.ContainerID, a.IfName)] = true
	}
	kept := 0
	var forgotten []kernel.Attached
	for _, x := range there {
		if !cfg.ValidGiven || valid[x.Name] {
			kept++
		} else {
			forgotten = append(forgotten, x)
		}
	}
	left, err := m.node.RemoveAll(forgotten)
	return kept + len(left), err
}
