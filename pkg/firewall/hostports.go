package firewall

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/plan"
)

// Living says in words whose a host end is, and "" when there is no interface of that name: what its attachment had is
// then free to be taken.
type Living func(hostEnd string) (string, error)

// ProbeHostPorts is Probe for host ports.
func (f *Firewall) ProbeHostPorts() error { return f.probe(hostPorts()) }

// ReleaseHostPorts removes the ports of an attachment and nothing else, and returns them. claimed are the ports it may
// have: if they are all, nothing else is looked at. With the last port of the host what served them goes. It costs one
// question where the attachment has none and claims none, and does not depend on how many others have.
func (f *Firewall) ReleaseHostPorts(owner lease.Owner, claimed []plan.HostPort) (gone []plan.HostPort, err error) {
	if len(claimed) == 0 {
		has, err := f.conn.has(entry{set: attachmentsMap, key: interfaceName(owner.HostName())})
		if err != nil || !has {
			return nil, err
		}
	}
	permit := chain{name: permitName(owner.Network), uses: anyNumber}
	q := query{part: part{chains: []chain{permit}}, brief: true, keys: claimedOf(owner, claimed)}
	err = f.retire(hostPortsWith(permit), q, func(s *state) ([]message, error) {
		e := edit{conn: &f.conn, state: s}
		own, err := e.attachment(owner, claimed)
		if err != nil {
			return nil, err
		}
		for _, x := range own {
			e.remove(x)
		}
		gone = portsOf(own)
		return e.leave(owner.Network)
	})
	return gone, err
}

// attachment finds all that an attachment has: by what it may have if that is all, otherwise by its name everywhere.
func (e *edit) attachment(owner lease.Owner, claimed []plan.HostPort) ([]entry, error) {
	index := entry{set: attachmentsMap, key: interfaceName(owner.HostName())}
	found, err := e.found(claimedOf(owner, claimed))
	if err != nil || found[index.id()].set == "" {
		return nil, err
	}
	var own []entry
	mine := func(found map[string]entry) {
		for _, x := range found {
			if x.holder() == owner.HostName() {
				own = append(own, x)
			}
		}
	}
	whole := func() bool { return len(own)-1 == number(found[index.id()].note) }
	if mine(found); whole() {
		return own, nil
	}
	selves, err := e.lookUp(selfEntries(own, ""))
	if err != nil {
		return nil, err
	}
	if mine(selves); whole() {
		return own, nil
	}
	return e.ownedBy(owner.HostName())
}

// claimedOf are the keys of what an attachment may have.
func claimedOf(owner lease.Owner, ports []plan.HostPort) []entry {
	keys := append(linkEntries(plan.HostPorts{Owner: owner, Link: owner.HostName()}),
		entry{set: attachmentsMap, key: interfaceName(owner.HostName())})
	for _, p := range ports {
		keys = append(keys, portEntry(p), permitEntry(p))
	}
	return keys
}

// leave returns the messages for what is to be removed, and the network's chain if nothing but its own rules keeps it.
func (e *edit) leave(network string) ([]message, error) {
	msgs, err := e.messages()
	if err != nil {
		return nil, err
	}
	name, jumps := permitName(network), 0
	for _, x := range e.drop {
		if x.jump == name {
			jumps++
		}
	}
	if have := e.state.chains[name]; have != nil && int(have.uses)-jumps == len(have.rules) {
		msgs = append(msgs, flushChain(chain{name: name}), deleteChain(chain{name: name}))
	}
	return msgs, nil
}

// CollectHostPorts removes what attachments of a network have left behind whose host ends are gone, and what the network
// itself has where none is left. It walks all that there is: for GC only.
func (f *Firewall) CollectHostPorts(network string, living Living) (gone []plan.HostPort, err error) {
	p := hostPortsWith(chain{name: permitName(network), uses: anyNumber})
	err = f.retire(p, query{part: p}, func(s *state) ([]message, error) {
		e := edit{conn: &f.conn, state: s}
		everything, err := e.everything()
		if err != nil {
			return nil, err
		}
		alive := false
		for _, x := range everything {
			if x.of(network) {
				who, err := living(x.holder())
				if err != nil {
					return nil, err
				}
				if who == "" {
					e.remove(x)
				}
				alive = alive || who != ""
			}
		}
		if !alive {
			if err := e.leaveLinks(network, everything, f.heirs); err != nil {
				return nil, err
			}
		}
		gone = portsOf(e.drop)
		return e.leave(network)
	})
	return gone, err
}

// leaveLinks removes what a network has said of links, or leaves it to another that is behind the same and has host ports.
func (e *edit) leaveLinks(network string, everything []entry, survey Survey) error {
	own := slices.DeleteFunc(slices.Clone(everything), func(x entry) bool { return !x.belongsTo(lease.NetworkAlias(network)) })
	if len(own) == 0 {
		return nil
	}
	heirs, err := survey()
	if err != nil {
		return err
	}
	for _, x := range own {
		e.remove(x)
		for _, heir := range heirs.Behind(linkOf(x)) {
			if slices.ContainsFunc(everything, func(port entry) bool { return port.of(heir) }) {
				e.add(x.left(heir))
				break
			}
		}
	}
	return nil
}

// ownEntries is what one attachment has: its ports, its link where that is its own, and last the index that counts them.
func ownEntries(h plan.HostPorts) []entry {
	var own []entry
	name := note(h.Owner)
	for _, p := range h.Ports {
		e := portEntry(p)
		e.value, e.note = append(p.Pod.Addr().AsSlice(), padded(p.Pod.Port())...), name
		own = append(own, e)
		if !p.Open {
			e = permitEntry(p)
			e.jump, e.note = permitName(h.Owner.Network), name
			own = append(own, e)
		}
	}
	if h.Link == h.Owner.HostName() {
		links := linkEntries(h)
		if h.Hairpin {
			own = append(own, links[0])
		}
		if h.Masquerade {
			own = append(own, links[1])
		}
	} else if h.Hairpin {
		own = append(own, selfEntries(own, name)...)
	}
	source := h.Source
	if !source.Is4() {
		source = netip.IPv4Unspecified()
	}
	_, who, _ := strings.Cut(name, " ")
	return append(own, entry{
		set: attachmentsMap, key: interfaceName(h.Owner.HostName()), value: source.AsSlice(),
		note: strconv.Itoa(len(own)) + " " + who,
	})
}

// selfEntries are the entries of the addresses that ports lead to.
func selfEntries(ports []entry, name string) []entry {
	var list []entry
	for _, p := range portsOf(ports) {
		addr := p.Pod.Addr().AsSlice()
		e := entry{set: portNames(p).self, key: append(slices.Clone(addr), addr...), note: name}
		if !slices.ContainsFunc(list, func(x entry) bool { return x.id() == e.id() }) {
			list = append(list, e)
		}
	}
	return list
}

// linkEntries are the entries of the interface that a container is reached through, those of hairpinSet and of
// masqueradeSet. Unless it is the container's own they belong to the network.
func linkEntries(h plan.HostPorts) []entry {
	link, who := interfaceName(h.Link), lease.NetworkAlias(h.Owner.Network)
	if h.Link == h.Owner.HostName() {
		who = note(h.Owner)
	}
	return []entry{
		{set: hairpinSet, key: append(slices.Clone(link), link...), note: who},
		{set: masqueradeSet, key: link, note: who},
	}
}

// portNames are the names of the sets that a port is in.
func portNames(p plan.HostPort) portSets {
	if p.Host.Addr().Is4() {
		return ipv4.ports()
	}
	return ipv6.ports()
}

// portEntry is the key of a port in the map that leads to the container.
func portEntry(p plan.HostPort) entry {
	if p.Wildcard() {
		return everyEntry(p)
	}
	return entry{set: portNames(p).on, key: append(p.Host.Addr().AsSlice(), portKey(p)...)}
}

// everyEntry is the key that the port has, or would have, if it is on every address.
func everyEntry(p plan.HostPort) entry { return entry{set: portNames(p).every, key: portKey(p)} }

// permitEntry is the key of a port that not everybody may use.
func permitEntry(p plan.HostPort) entry {
	e := portEntry(p)
	e.set += "_for"
	return e
}

// sharedEntry is the key under which it is counted how many addresses have the port to themselves.
func sharedEntry(p plan.HostPort) entry { return entry{set: portNames(p).shared, key: portKey(p)} }

func portKey(p plan.HostPort) []byte {
	return append([]byte{byte(p.Protocol), 0, 0, 0}, padded(p.Host.Port())...)
}

// padded is a port as a register holds it.
func padded(port uint16) []byte { return append(binary.BigEndian.AppendUint16(nil, port), 0, 0) }

// portKeySize is the size of portKey.
const portKeySize = 8

// sharedKey is the key of sharedEntry for an entry of a port on one address.
func sharedKey(e entry) []byte { return e.key[len(e.key)-portKeySize:] }

// podOf is where an entry of a port leads.
func podOf(e entry) netip.AddrPort {
	if len(e.value) < 4 {
		return netip.AddrPort{}
	}
	addr, port := e.value[:len(e.value)-4], e.value[len(e.value)-4:]
	a, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

// portsOf reads the ports among entries.
func portsOf(entries []entry) []plan.HostPort {
	var list []plan.HostPort
	for _, e := range entries {
		for _, f := range []*family{ipv4, ipv6} {
			names, host := f.ports(), netip.IPv6Unspecified()
			if f == ipv4 {
				host = netip.IPv4Unspecified()
			}
			if e.set == names.on {
				host, _ = netip.AddrFromSlice(e.key[:f.size])
			}
			if e.set == names.every || e.set == names.on {
				key := sharedKey(e)
				list = append(list, plan.HostPort{
					Protocol: netconf.Protocol(key[0]), Pod: podOf(e),
					Host: netip.AddrPortFrom(host, binary.BigEndian.Uint16(key[4:])),
				})
			}
		}
	}
	return list
}

// note names an owner beside an element: the host end, then the interface's alias, as much of it as nft takes of a
// comment (NFTNL_UDATA_COMMENT_MAXLEN). The first digits of a container id tell enough where all would leave no room.
func note(o lease.Owner) string {
	const limit, digits = 128, 12
	hostEnd := o.HostName()
	text := hostEnd + " " + o.Alias()
	if len(text) > limit && len(o.ContainerID) > digits {
		o.ContainerID = o.ContainerID[:digits]
		text = hostEnd + " " + o.Alias()
	}
	return text[:min(len(text), limit)]
}

// holder is the host end of the attachment that an entry belongs to, "" when no attachment's.
func (e entry) holder() string {
	if e.set == attachmentsMap {
		return strings.TrimRight(string(e.key), "\x00")
	}
	hostEnd, _, _ := strings.Cut(e.note, " ")
	if !lease.IsHostName(hostEnd) {
		return ""
	}
	return hostEnd
}

// of reports whether an entry belongs to an attachment of a network.
func (e entry) of(network string) bool {
	_, alias, _ := strings.Cut(e.note, " ")
	return e.holder() != "" && strings.HasPrefix(alias, lease.Network(network)+"/")
}

// number is what a comment begins with.
func number(note string) int {
	digits, _, _ := strings.Cut(note, " ")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return -1
	}
	return n
}
