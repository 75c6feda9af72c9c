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
	req := s.request(unix.RTM_SETLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
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
