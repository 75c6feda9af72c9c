package ipam

import (
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// ResolvConf reads DNS settings from a resolv.conf(5) file. An empty path gives empty settings.
func ResolvConf(path string) (types.DNS, error) {
	if path == "" {
		return types.DNS{}, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return types.DNS{}, cnierr.Wrap(cnierr.InvalidConfig, err, "ipam.resolvConf: %q cannot be read", path)
	}
	return parseResolvConf(string(b)), nil
}

// parseResolvConf follows resolv.conf(5): of all "domain" and "search" lines the last one alone counts, the others add
// up, and what begins with no key, such as "#" or ";", is a comment.
func parseResolvConf(text string) types.DNS {
	var dns types.DNS
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			dns.Nameservers = append(dns.Nameservers, fields[1])
		case "domain":
			dns.Domain, dns.Search = fields[1], nil
		case "search":
			dns.Domain, dns.Search = "", fields[1:]
		case "options":
			dns.Options = append(dns.Options, fields[1:]...)
		}
	}
	return dns
}
