package kernel

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// hosts is an address that a host has a use for already: it delivers what is for the address itself, or routes it to a
// container of another network.
type hosts struct {
	as   string // in words; "": the host does not keep it
	link int    // index of the interface it is of
}

// routed is how the host keeps what it has a route to alone.
const routed = "the target of a route"

// hostsOwn reads the answer to routeTo: routes to a host's own addresses, in the table "local", come before all others. A
// route that is not there, or that refuses packets, keeps none, and of others only one to the address alone.
func hostsOwn(a answer) hosts {
	if a.err != nil || len(a.messages) == 0 || len(a.messages[0]) < unix.SizeofRtMsg {
		return hosts{}
	}
	const inFamily, length, kind = 0, 1, 7 // of struct rtmsg
	var h hosts
	route := a.messages[0]
	switch route[kind] {
	case unix.RTN_LOCAL:
		h.as = "an address"
	case unix.RTN_BROADCAST:
		h.as = "a broadcast address"
	case unix.RTN_ANYCAST:
		h.as = "an anycast address"
	case unix.RTN_UNICAST:
		if route[inFamily] == unix.AF_INET && route[length] == 32 || route[length] == 128 {
			h.as = routed
		}
	}
	if h.as == "" {
		return h
	}
	for _, index := range nextHops(route[unix.SizeofRtMsg:]) {
		h.link = index
	}
	return h
}

// kept asks whether the host keeps an address for itself.
func (s *side) kept(a netip.Addr) (hosts, error) {
	answers, err := s.socket.exchange(s.routeTo(a))
	if err != nil {
		return hosts{}, cnierr.Wrap(cnierr.KernelRefused, err, "look up the route to %s", a)
	}
	return s.confirmed(hostsOwn(answers[0])), nil
}

// confirmed leaves of routes only those to host ends. Where others lead is their makers' affair: it may be to whoever gets
// the address.
func (s *side) confirmed(h hosts) hosts {
	if h.as != routed {
		return h
	}
	message, err := s.getLink(h.link)
	if err != nil || !hostEnd(readLink(message).Attrs()) {
		return hosts{}
	}
	return h
}

// describe says in words who keeps an address, and on which interface.
func (s *side) describe(h hosts) string {
	message, err := s.getLink(h.link)
	if err != nil { // no interface, or one that is gone
		return "the host, as " + h.as + " of its own"
	}
	l := readLink(message).Attrs()
	if hostEnd(l) {
		return tenant(l)
	}
	return fmt.Sprintf("the host, as %s of its interface %s", h.as, l.Name)
}
