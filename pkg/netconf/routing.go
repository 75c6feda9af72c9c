package netconf

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// Routing says where the routes of an attachment go in the container.
type Routing struct {
	// Table is the routing table that the attachment's routes go to, with a rule for each of its addresses; 0: main, and
	// no rules.
	Table uint32
	// AutoTable asks for a table that no other attachment uses.
	AutoTable bool
	// DefaultGateway asks for a default route in that table by whatever gateway the addresses have: isDefaultGateway
	// says nothing of it.
	DefaultGateway bool
	DefaultMetric  uint32 // of default routes that name none; 0: the kernel's default
}

// OwnTable reports whether the attachment's routes are kept apart from those of others.
func (r Routing) OwnTable() bool { return r.Table != 0 || r.AutoTable }

// mostOfRoute is the highest metric and the highest number of a table. The kernel has 32 bits for each, the CNI library,
// and with it the runtime that reads a result, an int, which on a 32-bit machine is one bit less.
const mostOfRoute int64 = min(math.MaxUint32, math.MaxInt)

type rawRouting struct {
	Table              json.RawMessage `json:"table"`
	DefaultRouteMetric *int64          `json:"defaultRouteMetric"`
}

// routing comes after the addresses: without any there is nothing to route.
func (p *parser) routing() error {
	raw, r := p.raw.rawRouting, &p.config.Routing
	if err := p.table(); err != nil {
		return err
	}
	if m := raw.DefaultRouteMetric; m != nil {
		if *m < 0 || *m > mostOfRoute {
			return cnierr.Key(cnierr.InvalidConfig, "defaultRouteMetric", *m, fmt.Sprintf("0, for the kernel's own, to %d", mostOfRoute))
		}
		r.DefaultMetric = uint32(*m)
	}
	if p.config.IPAM.Type != "" {
		return nil
	}
	if r.OwnTable() {
		return cnierr.New(cnierr.InvalidConfig, "table: contradicts a network without ipam: no address to route")
	}
	if r.DefaultMetric != 0 {
		return cnierr.New(cnierr.InvalidConfig, "defaultRouteMetric: contradicts a network without ipam: no routes")
	}
	return nil
}

// table reads the key of that name. The tables 253 to 255 are the kernel's own (rtnetlink(7)): rules lead there already.
func (p *parser) table() error {
	raw, r := p.raw.Table, &p.config.Routing
	if absent(raw) {
		return nil
	}
	want := fmt.Sprintf(`"auto" or the number of a routing table, 1 to %d without 253, 254 and 255`, mostOfRoute)
	var word string
	var number int64
	switch {
	case json.Unmarshal(raw, &word) == nil:
		if word != "auto" {
			return cnierr.Key(cnierr.InvalidConfig, "table", word, want)
		}
		r.AutoTable = true
	case json.Unmarshal(raw, &number) != nil:
		return wrongType("table", raw, want)
	case number < 1 || number > mostOfRoute || number >= 253 && number <= 255:
		return cnierr.Key(cnierr.InvalidConfig, "table", number, want)
	default:
		r.Table = uint32(number)
	}
	r.DefaultGateway = p.raw.IsDefaultGateway == nil
	return nil
}
