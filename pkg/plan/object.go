package plan

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Place is the network namespace an object lives in.
type Place uint8

// The places.
const (
	Host Place = iota
	Container
)

func (p Place) String() string {
	if p == Host {
		return "host"
	}
	return "container"
}

// Object is one thing the kernel shall hold.
type Object interface {
	// ID identifies the object in the kernel, in words: two objects with one ID are the same object.
	ID() string
	// Fields lists what CHECK compares, in a fixed order.
	Fields() []Field
}

// Field is one attribute of an object. An empty value in a wanted object means "whatever the kernel chose".
type Field struct{ Name, Value string }

// String is the field as ip(8) and sysctl(8) print theirs: what is on by its name alone, a setting behind "=".
func (f Field) String() string {
	switch {
	case f.Value == set:
		return f.Name
	case f.Name == value:
		return "= " + f.Value
	case strings.Contains(f.Value, " "):
		return f.Name + " " + strconv.Quote(f.Value)
	}
	return f.Name + " " + f.Value
}

// Bridge is a Linux bridge that is up.
type Bridge struct {
	Name    string
	Kind    string           // "bridge"; what the kernel calls the interface of that name
	MTU     int              // bytes, 0: the kernel's choice
	MAC     net.HardwareAddr // its first bytes, the rest is random; given at creation, so that no port changes it; not compared
	Promisc bool             // false leaves the bridge as it is
	VLANs   bool             // vlan_filtering; false leaves the bridge as it is
	Alias   string           // given at creation: which network made it; not compared
	Group   uint32           // given at creation, as Pair's; not compared
	Up      bool
}

// ID implements Object.
func (b Bridge) ID() string { return "host interface " + b.Name }

// Fields implements Object.
func (b Bridge) Fields() []Field {
	return []Field{
		{"kind", b.Kind},
		{"up", yes(b.Up)},
		{"mtu", number(b.MTU)},
		{"promisc", yes(b.Promisc)},
		{"vlan_filtering", yes(b.VLANs)},
	}
}

// Pair is a veth pair: the host end in the host's namespace, the peer born in the container's with its final name.
// Deleting the host end deletes everything else of the attachment that lives on either end.
type Pair struct {
	Host   string           // host end's name
	MAC    net.HardwareAddr // host end's hardware address
	MTU    int              // bytes, of the host end; 0: the kernel's choice
	Master string           // the bridge the host end is a port of; empty: none
	Alias  string           // host end's ifalias: whose it is
	Peer   string           // container end's name
	Group  uint32           // the host end's group (IFLA_GROUP), by which nftables knows it
	Up     bool             // the host end's
	// PeerMTU is the container end's, in bytes; 0: the host end's. The kernel gives a bridge without an MTU of its own the
	// least of its ports' (br_mtu_auto_adjust), so a pod's wish may not reach the host end there.
	PeerMTU int
	Ends    Ends
}

// ID implements Object.
func (p Pair) ID() string { return "host interface " + p.Host }

// Fields implements Object.
func (p Pair) Fields() []Field {
	fields := append([]Field{
		{"up", yes(p.Up)},
		{"mac", p.MAC.String()},
		{"mtu", number(p.MTU)},
		{"master", orNone(p.Master)},
		{"alias", p.Alias},
		{"peer", p.Peer},
		{"group", group(p.Group)},
	}, p.Ends.Host.fields("")...)
	return append(fields, p.Ends.Peer.fields("peer ")...)
}

// Interface is the container end of the pair.
type Interface struct {
	Name string
	MAC  net.HardwareAddr // nil: the kernel's choice
	MTU  int              // bytes, 0: the kernel's choice
	Up   bool             // false leaves the interface down
}

// ID implements Object.
func (i Interface) ID() string { return "container interface " + i.Name }

// Fields implements Object.
func (i Interface) Fields() []Field {
	return []Field{{"up", yes(i.Up)}, {"mac", i.MAC.String()}, {"mtu", number(i.MTU)}}
}

// Lease is an alternative name of the host end. The kernel keeps interface names unique in a namespace, so a name that
// holds an address leases it, and the lease dies with the interface.
type Lease struct {
	Link string // the host end's name
	Name string // as lease.Name codes it
}

// ID implements Object.
func (l Lease) ID() string { return "host altname " + l.Name }

// Fields implements Object.
func (l Lease) Fields() []Field { return []Field{{"dev", l.Link}} }

// Address is an IP address of an interface.
type Address struct {
	Place  Place
	Link   string
	Prefix netip.Prefix // not masked: the address with its prefix length
	// Scope of the address, as in rtnetlink(7): 0 global, 253 link.
	Scope uint8
	// Quiet adds no connected route for the prefix (IFA_F_NOPREFIXROUTE).
	Quiet bool
	// DAD lets IPv6 duplicate address detection run. Without it the address is usable at once (IFA_F_NODAD).
	DAD bool
	// Force removes other addresses of the interface that overlap, or, in IPv4, any other address.
	Force bool
	// Sole refuses to join an interface that has such other addresses (unless Force removes them).
	Sole bool
	// Label of an IPv4 address, at most 15 bytes and beginning with the interface's name; not compared.
	Label string
	// State is what duplicate address detection made of the address: "ok", "tentative" or "dadfailed".
	State string
	// Announced tells the neighbours of an IPv6 address as soon as it is usable. The kernel does so (ndisc_notify) where
	// duplicate address detection has ended, be it before it began, and not where there was to be none.
	Announced bool
}

// ID implements Object.
func (a Address) ID() string {
	return a.Place.String() + " address " + a.Prefix.String() + " dev " + a.Link
}

// Fields implements Object.
func (a Address) Fields() []Field {
	return []Field{{"scope", scope(a.Scope)}, {"state", a.State}}
}

// Route is a unicast route.
type Route struct {
	Place Place
	Link  string
	Dst   netip.Prefix // masked; 0.0.0.0/0 and ::/0 are default routes
	Via   netip.Addr   // invalid: directly connected
	// OnLink says that Via is on the link although no prefix covers it (RTNH_F_ONLINK).
	OnLink bool
	// Src is the preferred source address, invalid: none.
	Src netip.Addr
	// SrcIfNone is the preferred source address if the kernel would find none of its own; not compared.
	SrcIfNone netip.Addr
	Scope     *uint8 // nil: link when Via is invalid, universe otherwise
	Table     uint32 // 0: main
	Metric    uint32 // 0: the kernel's default
	MTU       int    // bytes, 0: the interface's
	AdvMSS    int    // bytes, 0: the kernel's choice
	// Implied says that the kernel makes the route with an address of Link, so that nothing is left to apply. It counts
	// in whatever table it is: plugins later in a chain may have moved it.
	Implied bool
}

// ID implements Object. A route's identity in the kernel is its destination, table and metric.
func (r Route) ID() string {
	id := r.Place.String() + " route " + dst(r.Dst)
	if r.Table != 0 && r.Table != mainTable {
		id += " table " + strconv.FormatUint(uint64(r.Table), 10)
	}
	if r.Metric != 0 {
		id += " metric " + strconv.FormatUint(uint64(r.Metric), 10)
	}
	return id
}

// Fields implements Object.
func (r Route) Fields() []Field {
	f := []Field{
		{"dev", r.Link},
		{"via", orNone(addr(r.Via))},
		{"src", addr(r.Src)},
		{"mtu", number(r.MTU)},
		{"advmss", number(r.AdvMSS)},
	}
	if r.Scope != nil {
		f = append(f, Field{"scope", scope(*r.Scope)})
	}
	return f
}

// Neighbour is a permanent neighbour entry: no ARP and no neighbour discovery for that address.
type Neighbour struct {
	Place Place
	Link  string
	Addr  netip.Addr
	MAC   net.HardwareAddr
}

// ID implements Object.
func (n Neighbour) ID() string {
	return n.Place.String() + " neighbour " + n.Addr.String() + " dev " + n.Link
}

// Fields implements Object.
func (n Neighbour) Fields() []Field { return []Field{{"lladdr", n.MAC.String()}} }

// Sysctl is a file below /proc/sys, as the namespace of its place shows it.
type Sysctl struct {
	Place Place
	Key   string // with slashes: net/ipv4/ip_forward
	Value string
	// IfPresent skips the setting where the kernel has no such file (IPv6 disabled at boot, an older kernel).
	IfPresent bool
	// Yields leaves the last word to plugins later in the chain: CHECK does not look at it.
	Yields bool
}

// ID implements Object.
func (s Sysctl) ID() string { return s.Place.String() + " sysctl " + s.Key }

// Fields implements Object.
func (s Sysctl) Fields() []Field { return []Field{{value, s.Value}} }

// Port holds the settings of a bridge port.
type Port struct {
	Link     string
	Hairpin  bool
	Isolated bool
	// Locked drops frames whose source address has no static forwarding entry on the port (BR_PORT_LOCKED, Linux 5.18).
	Locked bool
}

// ID implements Object.
func (p Port) ID() string { return "host bridge port " + p.Link }

// Fields implements Object.
func (p Port) Fields() []Field {
	return []Field{{"hairpin", onOff(p.Hairpin)}, {"isolated", onOff(p.Isolated)}, {"locked", onOff(p.Locked)}}
}

// Forwarding is a static entry of a bridge's forwarding database: that MAC is behind that port.
type Forwarding struct {
	Link string // the port
	MAC  net.HardwareAddr
	VLAN uint16 // 0: none
}

// ID implements Object.
func (f Forwarding) ID() string {
	if f.VLAN != 0 {
		return fmt.Sprintf("host fdb %s vlan %d", f.MAC, f.VLAN)
	}
	return "host fdb " + f.MAC.String()
}

// Fields implements Object.
func (f Forwarding) Fields() []Field { return []Field{{"dev", f.Link}} }

// PortVLANs is the VLAN membership of a bridge port.
type PortVLANs struct {
	Link        string
	PVID        uint16   // untagged in and out, 0: the bridge's default
	Tagged      []uint16 // ascending
	KeepDefault bool     // leave the bridge's default VLAN on the port
}

// ID implements Object.
func (v PortVLANs) ID() string { return "host bridge vlan dev " + v.Link }

// Fields implements Object.
func (v PortVLANs) Fields() []Field {
	return []Field{{"pvid", number(int(v.PVID))}, {"tagged", orNone(vlans(v.Tagged))}}
}

// VLANInterface is an 802.1Q interface on a bridge, the host's own foot in that VLAN.
type VLANInterface struct {
	Name   string
	Bridge string
	VLAN   uint16
	Up     bool
	Group  uint32 // given at creation, as Pair's; not compared
}

// ID implements Object.
func (v VLANInterface) ID() string { return "host interface " + v.Name }

// Fields implements Object.
func (v VLANInterface) Fields() []Field {
	return []Field{{"up", yes(v.Up)}, {"link", v.Bridge}, {"vlan", number(int(v.VLAN))}}
}

// Masquerade makes what leaves a subnet for the world carry the host's address. It belongs to the network: nothing is
// added for each container.
type Masquerade struct {
	Subnet  netip.Prefix // masked
	Network string       // the owner, written beside the element
	Holder  string       // the host end that a single address belongs to, and goes with; empty: it is the network's
	State   string       // "ok", or in words what keeps the kernel from doing it
}

// ID implements Object.
func (m Masquerade) ID() string { return "host nftables masquerade " + m.Subnet.String() }

// Fields implements Object. Which network put the subnet there does not matter to a packet.
func (m Masquerade) Fields() []Field { return []Field{{"state", m.State}} }

const mainTable = 254 // RT_TABLE_MAIN

const (
	set   = "yes"   // the value of a flag that is on; one that is off has none, so that nobody asks for it
	value = "value" // the name of a setting's only field
)

func yes(b bool) string {
	if b {
		return set
	}
	return ""
}

// orNone is for what must be absent where it is not wanted.
func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// scope names a scope as ip(8) does (rt_scope_t of include/uapi/linux/rtnetlink.h).
func scope(n uint8) string {
	if name, ok := map[uint8]string{0: "global", 200: "site", scopeLink: "link", 254: "host", 255: "nowhere"}[n]; ok {
		return name
	}
	return strconv.Itoa(int(n))
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func dst(p netip.Prefix) string {
	if p.Bits() == 0 && p.Addr().Is4() {
		return "default"
	}
	if p.Bits() == 0 {
		return "IPv6 default"
	}
	return p.String()
}

func vlans(ids []uint16) string {
	s := make([]string, len(ids))
	for i, id := range ids {
		s[i] = strconv.Itoa(int(id))
	}
	return strings.Join(s, ",")
}
