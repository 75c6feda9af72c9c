package kernel

import (
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/plan"
)

// devconf are the IPv4 settings of an interface that rtnetlink sets as well, by their number in enum ipv4_devconf
// (include/uapi/linux/ip.h; inet_set_link_af in net/ipv4/devinet.c). Opening the file of a new interface makes the kernel
// build a directory for it first, which takes thirty times as long.
var devconf = map[string]int{
	"proxy_arp": 3, "rp_filter": 8, "arp_notify": 22,
}

const (
	inetConf = 1 // IFLA_INET_CONF, include/uapi/linux/if_link.h
	ofDevice = "net/ipv4/conf/"
)

// ownSysctl reports whether a setting is of the end of a pair that this call made.
func (s *side) ownSysctl(key string) bool {
	return s.born != "" && strings.Contains(key, "/"+s.born+"/")
}

// sysctlErrand sets what rtnetlink can set of an interface that this call made: of another, whoever set it before may
// count on the kernel telling others.
func (n *Node) sysctlErrand(o plan.Sysctl) (errand, error) {
	s := n.side(o.Place)
	number, ok := devconf[strings.TrimPrefix(o.Key, ofDevice+s.born+"/")]
	value, err := strconv.ParseUint(o.Value, 10, 32)
	if s.born == "" || !ok || err != nil {
		return errand{}, nil //nolint:nilerr // the kernel says what is wrong with it
	}
	req := s.request(unix.RTM_SETLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(s.known[s.born].Index)
	req.AddData(msg)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET, nil).AddRtAttr(inetConf, nil).AddRtAttr(number, nl.Uint32Attr(uint32(value)))
	req.AddData(spec)
	return errand{side: s, req: req, judge: func(err error) (bool, error) { return false, err }}, nil
}
