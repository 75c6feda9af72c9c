package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/veth-cni/veth/pkg/netconf"
)

// RulePriority is that of every rule the plugin makes: after an administrator's own, before the main table's 32766.
const RulePriority = 30000

// Rule leads packets that come from an address of the container to a routing table. Rules are the namespace's: unlike
// the routes in the table, they stay when the interface goes.
type Rule struct {
	From  netip.Addr
	Table uint32
}

// ID implements Object.
func (r Rule) ID() string { return fmt.Sprintf("container rule %d from %s", RulePriority, r.From) }

// Fields implements Object.
func (r Rule) Fields() []Field { return []Field{{"table", strconv.FormatUint(uint64(r.Table), 10)}} }

// Table is the routing table of an attachment, 0 when it has none of its own. The one chosen for it is derived from what
// identifies the attachment, so that DEL knows it again. It lies far from what administrators number by hand, and the
// chance that a container's two attachments share one is 1 in 2^30.
func Table(cfg *netconf.Config) uint32 {
	if !cfg.Routing.AutoTable {
		return cfg.Routing.Table
	}
	sum := sha256.Sum256([]byte(Owner(cfg).HostName()))
	return 1<<30 | binary.BigEndian.Uint32(sum[:])>>2
}

// place puts a route without a table of its own into the attachment's, and gives a default route its metric.
func (b *builder) place(r Route) Route {
	if r.Table == 0 {
		r.Table = Table(b.cfg)
	}
	if r.Metric == 0 && r.Dst.Bits() == 0 {
		r.Metric = b.cfg.Routing.DefaultMetric
	}
	return r
}

// connected puts the routes that the kernel would make for the addresses into the attachment's own table instead.
func (b *builder) connected() {
	if b.cfg.Routing.OwnTable() {
		b.subnets(Route{})
	}
}

// implied tells CHECK of the routes that the kernel makes for the addresses.
func (b *builder) implied() {
	if !b.cfg.Routing.OwnTable() {
		b.subnets(Route{Implied: true})
	}
}

func (b *builder) subnets(r Route) {
	for _, a := range b.addrs.List {
		if r.Dst = a.Prefix.Masked(); !a.Prefix.IsSingleIP() {
			b.insideRoute(r)
		}
	}
}

// rules come last: a rule that leads to a table without routes would do nothing.
func (b *builder) rules() {
	if !b.cfg.Routing.OwnTable() {
		return
	}
	for _, a := range b.addrs.List {
		b.plan.Inside = append(b.plan.Inside, Rule{From: a.Prefix.Addr(), Table: Table(b.cfg)})
	}
}
