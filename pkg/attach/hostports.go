package attach

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/firewall"
	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// publish makes ports of the host lead to a container, and what conntrack still sends elsewhere follow.
func (m *machine) publish(h plan.HostPorts) (bool, error) {
	if err := m.unused(h); err != nil {
		return false, err
	}
	created, evicted, err := m.firewall.ApplyHostPorts(h, m.node.Tenant)
	if err != nil {
		return false, cnierr.Wrap(cnierr.KernelRefused, err, "%s", h.ID())
	}
	warn(m.node.ForgetFlowsOutOf(evicted))
	if created {
		warn(m.node.ForgetFlowsInto(h.Ports))
	}
	return created, nil
}

// unused deals with ports that processes of the host listen on: a port that leads to a container takes their packets
// away, and nothing tells them.
func (m *machine) unused(h plan.HostPorts) error {
	if h.InUse == netconf.InUseIgnore {
		return nil
	}
	for _, p := range h.Ports {
		at, err := m.node.Listener(p)
		if err != nil {
			return err
		}
		if at == "" {
			continue
		}
		if h.InUse == netconf.InUseRefuse {
			return cnierr.New(cnierr.Conflict, "hostPort %s is taken: a process of the host listens on %s; want another port, "+
				"a hostIP it does not listen on, or hostPortInUse \"warn\" to take its traffic away", p, at)
		}
		warn(fmt.Errorf("hostPort %s takes the traffic of a process of the host that listens on %s", p, at))
	}
	return nil
}

// withdraw removes an attachment's ports, and the connections they made: a datagram that goes on to an address of which
// the next container is the owner would be for the wrong one.
func (m *machine) withdraw(owner lease.Owner, claimed []plan.HostPort) error {
	gone, err := m.firewall.ReleaseHostPorts(owner, claimed)
	warn(m.node.ForgetFlowsOutOf(gone)) // after an error, too: no later call knows these ports
	return cnierr.Wrap(cnierr.KernelRefused, err, "host ports of %s", owner.HostName())
}

// collectPorts removes the ports of a network's attachments that are gone.
func (m *machine) collectPorts(network string) error {
	gone, err := m.firewall.CollectHostPorts(network, m.tenants())
	warn(m.node.ForgetFlowsOutOf(gone))
	return err
}

// tenants asks for each host end once: a decision that is made anew, because others change the ruleset, asks again.
func (m *machine) tenants() firewall.Living {
	known := map[string]string{}
	return func(hostEnd string) (string, error) {
		who, ok := known[hostEnd]
		if ok {
			return who, nil
		}
		who, err := m.node.Tenant(hostEnd)
		known[hostEnd] = who
		return who, err
	}
}

// warn tells the runtime's log what an operator should know, and what is no reason to fail. Nor is a log that is gone, of
// which a write by os.Stderr would make one (os/signal, "SIGPIPE").
func warn(err error) {
	if err != nil {
		_, _ = unix.Write(unix.Stderr, fmt.Appendln(nil, "veth: warning:", err))
	}
}
