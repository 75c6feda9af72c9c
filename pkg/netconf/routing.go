package netconf

import (
	"encoding/json"
	"math"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// Routing says where the routes of an attachment go in the container.
type Routing struct {
	// Table is the routing table that the attachment's routes go to, with a rule for each of its addresses; 0: main, and
	// no rules.
	Table int
	// AutoTable asks for a table that no other attachment uses.
	AutoTable bool
	// DefaultGateway asks for a default route in that table by whatever gateway the addresses have: isDefaultGateway
	// says nothing of it.
	DefaultGateway bool
	DefaultMetric  int // of default routes that name none; 0: the kernel's default
}

// OwnTable reports whether the attachment's routes are kept apart from those of others.
func (r Routing) OwnTable() bool { return r.Table != 0 || r.AutoTable }

type rawRouting struct {
	Table              json.RawMessage `json:"table"`
	DefaultRouteMetric *int            `json:"defaultRouteMetric"`
}

// routing comes after the addresses: without any there is nothing to route.
func (p *parser) routing() error {
	raw, r := p.raw.rawRouting, &p.config.Routing
	if err := p.table(); err != nil {
		return err
	}
	if m := raw.DefaultRouteMetric; m != nil {
		if *m < 0 || int64(*m) > math.MaxUint32 {
			return cnierr.Key(cnierr.InvalidConfig, "defaultRouteMetric", *m, "0, for the kernel's own, to 4294967295")
		}
		r.DefaultMetric = *m
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
	const want = `"auto" or the number of a routing table, 1 to 4294967295 without 253, 254 and 255`
	var word string
	var number int
	switch {
	case json.Unmarshal(raw, &word) == nil:
		if word != "auto" {
			return cnierr.Key(cnierr.InvalidConfig, "table", word, want)
		}
		r.AutoTable = true
	case json.Unmarshal(raw, &number) != nil:
		return wrongType("table", raw, want)
	case number < 1 || int64(number) > math.MaxUint32 || number >= 253 && number <= 255:
		return cnierr.Key(cnierr.InvalidConfig, "table", number, want)
	default:
		r.Table = number
	}
	r.DefaultGateway = p.raw.IsDefaultGateway == nil
	return nil
}
