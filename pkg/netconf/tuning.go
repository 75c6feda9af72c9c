package netconf

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// SysctlAllowList is the file that limits which settings a configuration may make, where it exists. It is the reference
// tuning plugin's, so that a node's policy holds for both.
const SysctlAllowList = "/etc/cni/tuning/allowlist.conf"

// Tuning is what a configuration wants of the container's interface and of the settings of its network namespace.
type Tuning struct {
	Sysctls  []Sysctl // in the order to write them
	Promisc  bool     // false leaves the interface as it is
	AllMulti *bool    // nil leaves the interface as it is
	TxQLen   *int     // packets; nil: the kernel's choice
}

// Sysctl is one setting of the container's network namespace.
type Sysctl struct {
	// Name is the one spelling of the setting that allow lists are compared with, as sysctl(8) prints it: dots between
	// the parts, IFNAME for the container's interface where the configuration says so.
	Name string
	// Key is the path below /proc/sys, with the interface's own name in it.
	Key   string
	Value string // its words with a single space between them
	// OfInterface says that the setting is the container's interface's own.
	OfInterface bool
}

type rawTuning struct {
	Sysctl      json.RawMessage `json:"sysctl"`
	Promisc     bool            `json:"promisc"`
	AllMulti    *bool           `json:"allmulti"`
	TxQLen      *int64          `json:"txQLen"`
	MAC         string          `json:"mac"`
	MTUOverhead int64           `json:"mtuOverhead"`
}

func (p *parser) tuning() error {
	raw := p.raw.rawTuning
	if q := raw.TxQLen; q != nil && (*q < 0 || *q > math.MaxInt32) {
		return cnierr.Key(cnierr.InvalidConfig, "txQLen", *q, "0 to 2147483647 packets")
	}
	p.config.Tuning = Tuning{Promisc: raw.Promisc, AllMulti: raw.AllMulti}
	if raw.TxQLen != nil {
		packets := int(*raw.TxQLen)
		p.config.Tuning.TxQLen = &packets
	}
	return p.sysctls()
}

func (p *parser) sysctls() error {
	list, err := members(nil, "sysctl", p.raw.Sysctl)
	if err != nil {
		return err
	}
	paths := map[string]string{} // the configuration's key that wants the setting
	for _, m := range list {
		path := fmt.Sprintf("sysctl[%q]", m.name)
		s, err := p.sysctl(path, m)
		if err != nil {
			return err
		}
		if other, twice := paths[s.Key]; twice {
			return cnierr.New(cnierr.InvalidConfig, "%s: the same setting as %s: want it once", path, other)
		}
		paths[s.Key] = path
		p.config.Tuning.Sysctls = append(p.config.Tuning.Sysctls, s)
	}
	slices.SortFunc(p.config.Tuning.Sysctls, inOrder)
	return nil
}

func (p *parser) sysctl(path string, m member) (Sysctl, error) {
	value, ok := text(m.value)
	if !ok {
		return Sysctl{}, wrongType(path, m.value, `a string, such as "1"`)
	}
	if strings.ContainsAny(value, "\x00\n") {
		return Sysctl{}, cnierr.Key(cnierr.InvalidConfig, path, value, "one line of text")
	}
	parts, ok := sysctlParts(m.name)
	if !ok {
		return Sysctl{}, cnierr.New(cnierr.InvalidConfig, "%s: not a network setting: want the name of one below net, such as "+
			`"net.ipv4.conf.IFNAME.log_martians"`, path)
	}
	s := Sysctl{Name: sysctlName(parts), Value: strings.Join(strings.Fields(value), " ")}
	ifName := cmp.Or(p.request.IfName, AnyIfName) // STATUS has none
	if i := slices.Index(parts, AnyIfName); i >= 0 {
		parts[i] = ifName
	}
	s.Key = strings.Join(parts, "/")
	if s.Key == reservedPorts {
		s.Value = portRanges(s.Value)
	}
	s.OfInterface = len(parts) == 5 && (parts[2] == "conf" || parts[2] == "neigh") && parts[3] == ifName
	return s, p.lasts(path, s)
}

// reservedPorts is the setting that holds a list of ports. The kernel shows it sorted and joined into ranges
// (proc_do_large_bitmap, kernel/sysctl.c), whatever was written.
const reservedPorts = "net/ipv4/ip_local_reserved_ports"

// portRanges is a list of ports as the kernel shows it. What is no such list stays as it is: the kernel refuses it.
func portRanges(list string) string {
	type ports struct{ first, last uint64 }
	var ranges, joined []ports
	for item := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || from > to {
			return list
		}
		ranges = append(ranges, ports{from, to})
	}
	slices.SortFunc(ranges, func(a, b ports) int { return cmp.Compare(a.first, b.first) })
	for _, r := range ranges {
		if end := len(joined) - 1; end >= 0 && r.first <= joined[end].last+1 {
			joined[end].last = max(joined[end].last, r.last)
			continue
		}
		joined = append(joined, r)
	}
	words := make([]string, len(joined))
	for i, r := range joined {
		words[i] = strconv.FormatUint(r.first, 10)
		if r.last > r.first {
			words[i] += "-" + strconv.FormatUint(r.last, 10)
		}
	}
	return strings.Join(words, ",")
}

// AnyIfName stands for the container's interface in the name of a setting, and in Tuning.Sysctls where the call is for no
// attachment.
const AnyIfName = "IFNAME"

// sysctlParts takes the name of a setting apart by the rule of sysctl(8): whichever of '.' and '/' comes first separates,
// and between dots a slash stands for a dot, so that net.ipv4.conf.eth0/100.forwarding is of interface eth0.100. What
// could lead anywhere but to a file below /proc/sys/net is no name.
func sysctlParts(name string) ([]string, bool) {
	first := strings.IndexAny(name, "./")
	if first < 0 || strings.ContainsRune(name, 0) {
		return nil, false
	}
	parts := strings.Split(name, name[first:first+1])
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], "/", ".")
		if p := parts[i]; p == "" || p == "." || p == ".." {
			return nil, false
		}
	}
	return parts, parts[0] == "net"
}

func sysctlName(parts []string) string {
	dotted := make([]string, len(parts))
	for i := range parts {
		dotted[i] = strings.ReplaceAll(parts[i], ".", "/")
	}
	return strings.Join(dotted, ".")
}

// lasts refuses what would not last, or what would not last beside it: the container's addresses, where it is known to
// get some, and the MTU of IPv6, which the kernel sets to the interface's whenever the link comes up (addrconf_notify,
// net/ipv6/addrconf.c).
func (p *parser) lasts(path string, s Sysctl) error {
	setting, is6 := strings.CutPrefix(s.Key, "net/ipv6/conf/")
	if !is6 || !s.OfInterface {
		return nil
	}
	_, setting, _ = strings.Cut(setting, "/")
	subnet, given := p.config.IPAM.subnet6()
	switch {
	case setting == "mtu":
		return cnierr.New(cnierr.InvalidConfig, "%s: the kernel sets it to the interface's whenever the link comes up: want mtu", path)
	case setting == "disable_ipv6" && s.Value != "0" && given:
		return cnierr.New(cnierr.InvalidConfig, "%s: contradicts ipam.ranges, which gives addresses of %s", path, subnet)
	}
	return nil
}

// inOrder sorts settings so that none undoes another: the kernel hands what is written to ip_forward or below conf/all
// on to every interface (devinet.c, addrconf.c), so those come first and the container's interface last.
func inOrder(a, b Sysctl) int {
	return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.Key, b.Key))
}

func (s Sysctl) rank() int {
	switch {
	case s.OfInterface:
		return 2
	case s.Key == "net/ipv4/ip_forward" || strings.Contains(s.Key, "/conf/all/"):
		return 0
	}
	return 1
}

// AllowSysctls holds the settings to an allow list: regular expressions, one a line, one of which each name must match
// somewhere. It fails with InvalidConfig. Its messages say that the list is the one at SysctlAllowList.
func (c *Config) AllowSysctls(list string) error {
	var allowed []*regexp.Regexp
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		re, err := regexp.Compile(line)
		if err != nil {
			return cnierr.Wrap(cnierr.InvalidConfig, err, "%s: %q is not a regular expression", SysctlAllowList, line)
		}
		allowed = append(allowed, re)
	}
	for _, s := range c.Tuning.Sysctls {
		if !slices.ContainsFunc(allowed, func(re *regexp.Regexp) bool { return re.MatchString(s.Name) }) {
			return cnierr.New(cnierr.InvalidConfig, "sysctl[%q]: not allowed on this node: want a name that a line of %s matches",
				s.Name, SysctlAllowList)
		}
	}
	return nil
}
