package plan

import (
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/veth-cni/veth/pkg/netconf"
)

// Addresses is what address management gave to one attachment.
type Addresses struct {
	List   []Assigned
	Routes []netconf.Route
	DNS    types.DNS
	Leased bool // by the built-in IPAM: each address is an alternative name of the host end
}

// Assigned is one address with its subnet's prefix length and its gateway.
type Assigned struct {
	Prefix  netip.Prefix // not masked
	Gateway netip.Addr   // invalid: none
}

// Plan is the desired state of one attachment, in the order in which it is applied.
type Plan struct {
	// Base belongs to the network, is shared by its attachments, and exists before any pair: the bridge.
	Base []Object
	// Pair is the attachment itself. Leases, Guards, Inside and Outside live and die with it.
	Pair Pair
	// Leases are claimed while addresses are chosen, not applied.
	Leases []Object
	// Common belongs to all networks of the host: the gateway that routed mode puts on the loopback interface.
	Common []Object
	// Guards are what the host's end must not do, or not let pass. They stand before the container can send.
	Guards []Object
	// Inside is the container's side.
	Inside []Object
	// Outside is the host's way to the container.
	Outside []Object
	// Shared belongs to the network as well, but needs to know its addresses. It comes last, so that an attachment that
	// fails has touched as little of what others use as possible.
	Shared []Object
}

// Objects lists the whole plan in order.
func (p Plan) Objects() []Object {
	all := append([]Object{}, p.Base...)
	all = append(all, p.Pair)
	for _, part := range [][]Object{p.Leases, p.Common, p.Guards, p.Inside, p.Outside, p.Shared} {
		all = append(all, part...)
	}
	return all
}

// String prints one object a line with the fields that CHECK compares, much as ip(8) would.
func (p Plan) String() string {
	var b strings.Builder
	for _, o := range p.Objects() {
		b.WriteString(o.ID())
		for _, f := range o.Fields() {
			if f.Value != "" {
				b.WriteByte(' ')
				b.WriteString(f.String())
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
