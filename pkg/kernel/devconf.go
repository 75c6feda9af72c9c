package kernel

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/plan"
)

// Some settings of an interface are rtnetlink's as well as files. To open the file of a new interface makes the kernel
// build its directory first, which takes thirty times as long as a message.

// devconf are IPv4 settings by their number in enum ipv4_devconf (include/uapi/linux/ip.h), which is what a message calls
// them (inet_set_link_af in net/ipv4/devinet.c). "forwarding" is not among them: its file does more.
var devconf = map[string]int{
	"proxy_arp": 3, "accept_redirects": 4, "secure_redirects": 5, "send_redirects": 6, "shared_media": 7,
	"rp_filter": 8, "accept_source_route": 9, "log_martians": 11, "arp_filter": 13, "arp_announce": 18,
	"arp_ignore": 19, "promote_secondaries": 20, "arp_accept": 21, "arp_notify": 22, "accept_local": 23,
	"src_valid_mark": 24, "proxy_arp_pvlan": 25, "route_localnet": 26,
}

// ownSysctl reports whether a setting is of the end of a pair that this call made.
func (s *side) ownSysctl(key string) bool {
	return s.born != "" && strings.Contains(key, "/"+s.born+"/")
}

// sysctlErrand sets what a message can set of an interface that this call made: of another, whoever set it before may
// count on the kernel telling others.
func (n *Node) sysctlErrand(o plan.Sysctl) (errand, error) {
	s := n.side(o.Place)
	value, err := strconv.ParseUint(o.Value, 10, 31)
	if err != nil || !s.ownSysctl(o.Key) {
		return errand{}, nil //nolint:nilerr // the kernel says what is wrong with it
	}
	e := errand{side: s, judge: func(err error) (bool, error) { return false, err }}
	index := s.known[s.born].Index
	if number, ok := devconf[strings.TrimPrefix(o.Key, "net/ipv4/conf/"+s.born+"/")]; ok {
		e.req = s.setDevconf(index, number, uint32(value))
	}
	if o.Key == "net/ipv4/neigh/"+s.born+"/proxy_delay" {
		e.req = s.setProxyDelay(index, value)
	}
	return e, nil
}

func (s *side) setDevconf(index, number int, value uint32) *nl.NetlinkRequest {
	const inetConf = 1 // IFLA_INET_CONF, include/uapi/linux/if_link.h
	req, _ := s.linkRequest(unix.RTM_SETLINK, 0, index)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET, nil).AddRtAttr(inetConf, nil).AddRtAttr(number, nl.Uint32Attr(value))
	req.AddData(spec)
	return req
}

// setProxyDelay sets how long the kernel waits, at most and at random, before it answers for others. The file counts in
// hundredths of a second (USER_HZ), a message in milliseconds (neightbl_set in net/core/neighbour.c).
func (s *side) setProxyDelay(index int, centiseconds uint64) *nl.NetlinkRequest {
	const ( // include/uapi/linux/rtnetlink.h and neighbour.h
		setTable              = 67 // RTM_SETNEIGHTBL
		tableName, parameters = 1, 6
		ofInterface, delay    = 1, 13
	)
	list := nl.NewRtAttr(parameters, nil)
	list.AddRtAttr(ofInterface, nl.Uint32Attr(uint32(index)))
	list.AddRtAttr(delay, binary.NativeEndian.AppendUint64(nil, centiseconds*10))
	table := []byte{unix.AF_INET, 0, 0, 0} // struct ndtmsg
	table = append(table, nl.NewRtAttr(tableName, nl.ZeroTerminated("arp_cache")).Serialize()...)
	req := s.request(setTable, 0)
	req.AddRawData(append(table, list.Serialize()...))
	return req
}

// The two settings by which a host forwards, and the family each is of.
var forwardingOf = map[string]int{"net/ipv4/ip_forward": unix.AF_INET, "net/ipv6/conf/all/forwarding": unix.AF_INET6}

// asWanted reports whether a host's setting is known to be what it should be without opening its file. All namespaces'
// directories net/ipv4 and net/ipv6 are beside each other in the kernel's cache of names: finding one's own among those
// of a thousand containers takes a millisecond.
func (n *Node) asWanted(o plan.Sysctl) bool {
	if o.Place != plan.Host {
		return false
	}
	if family, ok := forwardingOf[o.Key]; ok && o.Value == "1" {
		return n.host.forwards(family)
	}
	name, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, "net/ipv6/conf/"), "/accept_ra")
	seen, met := n.host.acceptRA[name]
	return ok && met && strconv.Itoa(int(seen)) == o.Value
}

// forwards reports whether a namespace is known to forward packets of a family (inet_netconf_get_devconf, which takes no
// lock).
func (s *side) forwards(family int) bool {
	const ( // include/uapi/linux/netconf.h
		interfaceIndex, forwarding = 1, 2
		all                        = ^uint32(0) // NETCONFA_IFINDEX_ALL, -1
	)
	req := s.request(unix.RTM_GETNETCONF, 0)
	message := []byte{byte(family), 0, 0, 0} // struct netconfmsg
	req.AddRawData(append(message, nl.NewRtAttr(interfaceIndex, nl.Uint32Attr(all)).Serialize()...))
	answers, err := s.ask(req)
	if err != nil || len(answers) == 0 || len(answers[0]) < len(message) {
		return false
	}
	on := false
	walk(answers[0][len(message):], forwarding, func(value []byte) { on = binary.NativeEndian.Uint32(value) == 1 })
	return on
}

// meetConf notes what a message about an interface says of router advertisements.
func (s *side) meetConf(name string, message []byte) {
	if accept, ok := inet6Conf(message, devconfAcceptRA); ok {
		s.acceptRA[name] = accept
	}
}

// Settings of IPv6 by their number in include/uapi/linux/ipv6.h (DEVCONF_MTU6, DEVCONF_ACCEPT_RA).
const devconfMTU6, devconfAcceptRA = 2, 3

// inet6Conf is a setting of IPv6 that a message about an interface tells (IFLA_INET6_CONF, inet6_fill_ifla6_attrs).
func inet6Conf(message []byte, number int) (value int32, told bool) {
	const attribute = 2 // IFLA_INET6_CONF, include/uapi/linux/if_link.h
	walk(message[unix.SizeofIfInfomsg:], unix.IFLA_AF_SPEC, func(families []byte) {
		walk(families, unix.AF_INET6, func(attrs []byte) {
			walk(attrs, attribute, func(conf []byte) {
				if told = len(conf) >= 4*(number+1); told {
					value = int32(binary.NativeEndian.Uint32(conf[4*number:]))
				}
			})
		})
	})
	return value, told
}
