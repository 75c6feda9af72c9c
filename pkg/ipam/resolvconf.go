package ipam

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// ResolvConf reads DNS settings from a resolv.conf(5) file. An empty path gives empty settings.
func ResolvConf(path string) (types.DNS, error) {
	if path == "" {
		return types.DNS{}, nil
	}
	b, err := os.ReadFile(path) //nolint:gosec // the path is the operator's own configuration
	if err != nil {
		return types.DNS{}, cnierr.Wrap(cnierr.InvalidConfig, err, "ipam.resolvConf: %q cannot be read", path)
	}
	return parseResolvConf(string(b)), nil
}

// parseResolvConf follows resolv.conf(5): the last "domain" or "search" line wins, the others add up, and comments begin
// with "#" or ";".
func parseResolvConf(text string) types.DNS {
	var dns types.DNS
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || strings.HasPrefix(fields[0], ";") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			dns.Nameservers = append(dns.Nameservers, fields[1])
		case "domain":
			dns.Domain = fields[1]
		case "search":
			dns.Search = fields[1:]
		case "options":
			dns.Options = append(dns.Options, fields[1:]...)
		}
	}
	return dns
}

func splitPath(list string) []string { return filepath.SplitList(list) }
