package netconf

import (
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/lease"
)

// addresses fills IPAM. Only the built-in's keys are ours to check: the configuration is handed to a delegate as it is.
func (p *parser) addresses() error {
	if p.config.IPAM.Delegated() {
		return nil
	}
	var raw rawIPAM
	if err := (decoder{}).decode("ipam", p.raw.IPAM, &raw); err != nil {
		return err
	}
	if p.config.IPAM.Type == "" {
		if !reflect.ValueOf(raw).IsZero() {
			return missing("ipam.type", `"veth", the name of another IPAM plugin, or an empty ipam for layer 2 alone`)
		}
		return nil
	}
	return p.builtin(raw)
}

// ipamType fills IPAM.Type. The plugin is looked up in the directories of CNI_PATH, out of which no name may lead.
func (p *parser) ipamType() error {
	var raw rawIPAMType
	if err := (decoder{anyKey: true, lenient: p.lenient}).decode("ipam", p.raw.IPAM, &raw); err != nil {
		return err
	}
	if strings.ContainsAny(raw.Type, "/\x00") || raw.Type == "." || raw.Type == ".." {
		return cnierr.Key(cnierr.InvalidConfig, "ipam.type", raw.Type, "the plain file name of a plugin")
	}
	p.config.IPAM.Type = raw.Type
	return nil
}

func (p *parser) builtin(raw rawIPAM) error {
	ipam := &p.config.IPAM
	ipam.ResolvConf = raw.ResolvConf
	if err := p.pool(raw); err != nil {
		return err
	}
	for i, r := range raw.Routes {
		route, err := r.parse(index("ipam.routes", i))
		if err != nil {
			return err
		}
		if err := p.reachable(index("ipam.routes", i), route); err != nil {
			return err
		}
		ipam.Routes = append(ipam.Routes, route)
	}
	return p.requested()
}

// reachable refuses a gateway that the kernel would take for no neighbour of the container's: one that is in no subnet,
// nor at the end of a route before, which has no gateway itself. In routed mode the host is the neighbour, whatever the
// gateway. IPv6 link-local addresses are on every link.
func (p *parser) reachable(path string, r Route) error {
	if p.config.Mode == Routed || !r.Via.IsValid() || r.Via.Is6() && r.Via.IsLinkLocalUnicast() {
		return nil
	}
	subnets := p.config.IPAM.Pool.Subnets()
	for _, before := range p.config.IPAM.Routes {
		if before.Direct() && !before.Via.IsValid() {
			subnets = append(subnets, before.Dst)
		}
	}
	if slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return s.Contains(r.Via) }) {
		return nil
	}
	return cnierr.New(cnierr.InvalidConfig, "%s.gw: %s is in no subnet of ipam: want the address of a router in one of %s",
		path, r.Via, p.config.IPAM.Pool.Subnets())
}

// pool gathers the ranges in host-local's order: what the runtime gives first, the flat range before the others.
func (p *parser) pool(raw rawIPAM) error {
	pool := &p.config.IPAM.Pool
	var fromRuntime [][]rawRange
	err := decoder{anyKey: true, anyCase: true}.decode("runtimeConfig.ipRanges", p.raw.RuntimeConfig.IPRanges, &fromRuntime)
	if err != nil {
		return err
	}
	if err := p.sets("runtimeConfig.ipRanges", fromRuntime); err != nil {
		return err
	}
	if raw.rawRange != (rawRange{}) {
		r, err := raw.parse("ipam")
		if err != nil {
			return err
		}
		pool.Sets = append(pool.Sets, lease.Set{r})
	}
	if err := p.sets("ipam.ranges", raw.Ranges); err != nil {
		return err
	}
	if len(pool.Sets) == 0 {
		return missing("ipam.ranges", "at least one range set for the built-in IPAM, such as "+rangesExample)
	}
	for i, s := range raw.Exclude {
		prefix, err := parseExclude(index("ipam.exclude", i), s)
		if err != nil {
			return err
		}
		pool.Exclude = append(pool.Exclude, prefix)
	}
	if gateway := routedGateway(); p.config.Mode == Routed && p.config.Type == TypeVeth && pool.SetOf(gateway) >= 0 {
		pool.Exclude = append(pool.Exclude, netip.PrefixFrom(gateway, gateway.BitLen()))
	}
	if err := pool.Validate(); err != nil {
		return cnierr.Wrap(cnierr.InvalidConfig, err, "%s", origins(len(fromRuntime) > 0, raw))
	}
	return p.oneOfEachFamily()
}

// routedGateway is the host itself to every container of type "veth" in routed mode, as package plan has it.
func routedGateway() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 1, 1}) }

// origins names the keys that make up a pool, for what is wrong with it as a whole. Range sets count in this order.
func origins(fromRuntime bool, raw rawIPAM) string {
	var keys []string
	if fromRuntime {
		keys = append(keys, "runtimeConfig.ipRanges")
	}
	if raw.rawRange != (rawRange{}) {
		keys = append(keys, "ipam")
	}
	if len(raw.Ranges) > 0 {
		keys = append(keys, "ipam.ranges")
	}
	return strings.Join(keys, " and ")
}

// sets adds the range sets of a key to the pool.
func (p *parser) sets(path string, raw [][]rawRange) error {
	pool := &p.config.IPAM.Pool
	for i, ranges := range raw {
		at := index(path, i)
		if len(ranges) == 0 {
			return missing(at, "at least one range in the set")
		}
		set := make(lease.Set, len(ranges))
		for j, r := range ranges {
			var err error
			if set[j], err = r.parse(index(at, j)); err != nil {
				return err
			}
		}
		pool.Sets = append(pool.Sets, set)
	}
	return nil
}

func (r rawRange) parse(path string) (lease.Range, error) {
	if r.Subnet == "" {
		return lease.Range{}, missing(join(path, "subnet"), wantPrefix)
	}
	subnet, err := parsePrefix(r.Subnet)
	if err != nil {
		return lease.Range{}, cnierr.Key(cnierr.InvalidConfig, join(path, "subnet"), r.Subnet, wantPrefix)
	}
	var first, last, gateway netip.Addr
	for _, part := range []struct {
		key, text string
		addr      *netip.Addr
	}{
		{"rangeStart", r.RangeStart, &first},
		{"rangeEnd", r.RangeEnd, &last},
		{"gateway", r.Gateway, &gateway},
	} {
		if part.text == "" {
			continue
		}
		if *part.addr, err = parseAddr(part.text); err != nil {
			return lease.Range{}, cnierr.Key(cnierr.InvalidConfig, join(path, part.key), part.text, wantAddr)
		}
	}
	out, err := lease.NewRange(subnet, first, last, gateway)
	return out, cnierr.Wrap(cnierr.InvalidConfig, err, "%s", path)
}

func parseExclude(path, s string) (netip.Prefix, error) {
	const want = `a subnet such as "10.88.3.0/24" or an address such as "10.88.0.9"`
	if addr, err := parseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := parsePrefix(s)
	if err != nil {
		return netip.Prefix{}, cnierr.Key(cnierr.InvalidConfig, path, s, want)
	}
	return prefix, masked(path, prefix)
}

// oneOfEachFamily holds for results before 0.3.0, which have room for one address of a family and no more.
func (p *parser) oneOfEachFamily() error {
	if !beforeLists(p.config.CNIVersion) {
		return nil
	}
	var count [2]int
	for _, set := range p.config.IPAM.Pool.Sets {
		family := 0
		if set[0].Subnet.Addr().Is6() {
			family = 1
		}
		if count[family]++; count[family] > 1 {
			return cnierr.New(cnierr.InvalidConfig, "ipam.ranges: more than one range set of a family, "+
				"of which a result of cniVersion %s has no room for the addresses; want at least 0.3.0",
				p.config.CNIVersion)
		}
	}
	return nil
}

func (r rawRoute) parse(path string) (Route, error) {
	route := Route{MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Table: r.Table, Scope: r.Scope}
	if r.Dst == "" {
		return route, missing(path+".dst", wantPrefix)
	}
	var err error
	if route.Dst, err = parsePrefix(r.Dst); err != nil {
		return route, cnierr.Key(cnierr.InvalidConfig, path+".dst", r.Dst, wantPrefix)
	}
	if err := masked(path+".dst", route.Dst); err != nil {
		return route, err
	}
	if r.GW != "" {
		route.Via, err = parseAddr(r.GW)
		switch {
		case err != nil || route.Via.IsUnspecified() || route.Via.IsMulticast():
			return route, cnierr.Key(cnierr.InvalidConfig, path+".gw", r.GW, "the address of a router")
		case route.Via.Is4() != route.Dst.Addr().Is4():
			return route, cnierr.Key(cnierr.InvalidConfig, path+".gw", r.GW, "an address of dst's family, "+r.Dst)
		}
	}
	return route, route.CheckNumbers(cnierr.InvalidConfig, path)
}

// Direct reports whether the scope of a route says that it has no gateway: link or narrower (fib_check_nh of
// net/ipv4/fib_semantics.c).
func (r Route) Direct() bool {
	const link = 253 // RT_SCOPE_LINK
	return r.Scope != nil && *r.Scope >= link
}

// CheckNumbers holds the numbers of a route to the widths rtnetlink(7) gives them. The error has the code, and names the
// key below path.
func (r Route) CheckNumbers(code uint, path string) error {
	scope := int64(0)
	if r.Scope != nil {
		scope = *r.Scope
	}
	for _, n := range []struct {
		key   string
		value int64
		max   int64
		of    string
	}{
		{"mtu", r.MTU, maxMTU, " bytes"},
		{"advmss", r.AdvMSS, maxMTU, " bytes"},
		{"priority", r.Priority, mostOfRoute, ""},
		{"table", r.Table, mostOfRoute, ""},
		{"scope", scope, math.MaxUint8, ", as in rtnetlink(7)"},
	} {
		if n.value < 0 || n.value > n.max {
			return cnierr.Key(code, join(path, n.key), n.value, "0 to "+strconv.FormatInt(n.max, 10)+n.of)
		}
	}
	return nil
}

// placedAddr is a requested address, and the key or variable that asked for it.
type placedAddr struct {
	path   string
	addr   netip.Addr
	prefix netip.Prefix // the address as asked for, if with a prefix length
}

// requested gathers the addresses asked for. Some runtimes ask for one address in several ways at once, so an address
// that a later source repeats is the same request; within one list it is a mistake.
func (p *parser) requested() error {
	asked, err := p.asked()
	if err != nil {
		return err
	}
	pool := p.config.IPAM.Pool
	holder := map[int]placedAddr{} // by range set
	for _, a := range asked {
		if err := pool.Usable(a.addr); err != nil {
			return cnierr.Wrap(cnierr.AddressTaken, err, "%s", a.path)
		}
		if err := a.fits(pool); err != nil {
			return err
		}
		set := pool.SetOf(a.addr)
		switch other, taken := holder[set]; {
		case taken && other.addr == a.addr && source(other.path) == source(a.path):
			return cnierr.New(cnierr.InvalidConfig, "%s: asks for %s again, as %s does", a.path, a.addr, other.path)
		case taken && other.addr != a.addr:
			return cnierr.New(cnierr.InvalidConfig, "%s: %s and %s of %s are of the same range set, "+
				"which gives an attachment one address", a.path, a.addr, other.addr, other.path)
		case taken:
			continue
		}
		holder[set] = a
		p.config.IPAM.Requested = append(p.config.IPAM.Requested, a.addr)
	}
	return nil
}

// asked lists the requests in host-local's order. Unlike there, CNI_ARGS counts for nothing where args.cni.ips is
// present (CONVENTIONS.md of the CNI project).
func (p *parser) asked() ([]placedAddr, error) {
	type placedText struct{ path, text string }
	var texts []placedText
	args := p.raw.Args.CNI.IPs
	for _, s := range p.podAddresses() {
		texts = append(texts, placedText{annotation("address"), s})
	}
	if p.args.IP != "" && absent(args) {
		texts = append(texts, placedText{"CNI_ARGS IP", p.args.IP})
	}
	for _, list := range []struct {
		path string
		raw  json.RawMessage
	}{{"args.cni.ips", args}, {"runtimeConfig.ips", p.raw.RuntimeConfig.IPs}} {
		var ips []string
		if err := (decoder{}).decode(list.path, list.raw, &ips); err != nil {
			return nil, err
		}
		for i, s := range ips {
			texts = append(texts, placedText{index(list.path, i), s})
		}
	}
	var out []placedAddr
	for _, t := range texts {
		a := placedAddr{path: t.path}
		var err error
		if a.addr, err = parseAddr(t.text); err != nil {
			a.prefix, err = parsePrefix(t.text)
			a.addr = a.prefix.Addr()
		}
		if err != nil {
			return nil, cnierr.Key(codeOf(t.path), t.path, t.text, wantAddr)
		}
		out = append(out, a)
	}
	return out, nil
}

// fits refuses a prefix length that is not that of the range. host-local drops any (CONVENTIONS.md of the CNI project
// leaves that to the plugin); whoever wrote 10.50.0.9/16 counts on a subnet that the container would not get. The length
// of an address says nothing of a subnet.
func (a placedAddr) fits(pool lease.Pool) error {
	if !a.prefix.IsValid() || a.prefix.IsSingleIP() {
		return nil
	}
	r, _ := pool.RangeOf(a.addr)
	if fitting := netip.PrefixFrom(a.addr, r.Subnet.Bits()); a.prefix != fitting {
		return cnierr.Key(codeOf(a.path), a.path, a.prefix.String(),
			a.addr.String()+", or with the prefix length of its range, "+fitting.String())
	}
	return nil
}

// source is a path without its index.
func source(path string) string {
	list, _, _ := strings.Cut(path, "[")
	return list
}

const (
	rangesExample = `[[{"subnet": "10.88.0.0/16"}]]`

	wantPrefix = `a subnet such as "10.88.0.0/16" or "2001:db8::/64"`
	wantAddr   = `an address such as "10.88.0.9" or "2001:db8::9"`
)

var errNotPlain = errors.New("neither IPv4 nor IPv6 without a zone")

// parseAddr reads an address. IPv4 in IPv6 form becomes IPv4; a zone, which names an interface, has no meaning here.
func parseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, errNotPlain
	}
	return addr.Unmap(), nil
}

// parsePrefix reads a prefix, without masking it. IPv4 in IPv6 form (::ffff:0:0/96) becomes IPv4.
func parsePrefix(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, errNotPlain
	}
	if addr := prefix.Addr(); addr.Is4In6() {
		prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
	}
	if !prefix.IsValid() { // shorter than /96: it reaches beyond IPv4
		return netip.Prefix{}, errNotPlain
	}
	return prefix, nil
}

// masked refuses host bits: whoever wrote them meant either the one address or another network.
func masked(path string, prefix netip.Prefix) error {
	if prefix == prefix.Masked() {
		return nil
	}
	return cnierr.Key(cnierr.InvalidConfig, path, prefix.String(), prefix.Masked().String()+", without host bits")
}
