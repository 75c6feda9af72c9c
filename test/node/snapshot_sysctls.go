package node

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
)

// sysctls are the settings that decide how packets travel. A star stands for all, default and every interface.
var sysctls = []string{
	"net/ipv4/ip_forward",
	"net/ipv4/conf/*/accept_local",
	"net/ipv4/conf/*/arp_notify",
	"net/ipv4/conf/*/forwarding",
	"net/ipv4/conf/*/proxy_arp",
	"net/ipv4/conf/*/route_localnet",
	"net/ipv4/conf/*/rp_filter",
	"net/ipv6/conf/*/accept_dad",
	"net/ipv6/conf/*/accept_ra",
	"net/ipv6/conf/*/disable_ipv6",
	"net/ipv6/conf/*/forwarding",
	"net/ipv6/conf/*/ndisc_notify",
	"net/ipv6/conf/*/proxy_ndp",
	"net/bridge/bridge-nf-call-*",
}

func sysctlLines() ([]string, error) {
	var lines []string
	for _, pattern := range sysctls {
		names, err := expand("/proc/sys", pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			value, err := os.ReadFile(path.Join("/proc/sys", name))
			if errors.Is(err, os.ErrNotExist) {
				continue // the interface went, or this kernel has no such setting
			}
			if err != nil {
				return nil, err
			}
			lines = append(lines, fmt.Sprintf("sysctl %s %s", name, strings.TrimSpace(string(value))))
		}
	}
	return lines, nil
}

// expand lists the files below root that a pattern with at most one star stands for.
func expand(root, pattern string) ([]string, error) {
	before, after, found := strings.Cut(pattern, "*")
	if !found {
		return []string{pattern}, nil
	}
	dir, prefix := path.Split(before)
	entries, err := os.ReadDir(path.Join(root, dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // IPv6 switched off at boot; no bridge netfilter
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, dir+e.Name()+after)
		}
	}
	return names, nil
}
