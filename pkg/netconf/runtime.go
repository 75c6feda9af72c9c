package netconf

import (
	"errors"
	"maps"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	libversion "github.com/containernetworking/cni/pkg/version"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// capable are the capabilities that the plugin reads the answers to: the keys of rawRuntime.
var capable = []string{"mac", "ips", "ipRanges", "bandwidth", "portMappings", "io.kubernetes.cri.pod-annotations"}

// conventional are the others of CONVENTIONS.md of the CNI project, which a runtime may be asked for to no effect.
var conventional = []string{"dns", "infinibandGUID", "deviceID", "aliases", "cgroupPath"}

// capabilities refuses what looks like a slip: the runtime would take it for a capability that it does not have, and
// hand over nothing. Other names pass, for they ask for nothing that the plugin could miss.
func (p *parser) capabilities() error {
	for _, name := range slices.Sorted(maps.Keys(p.raw.Capabilities)) {
		if slices.Contains(capable, name) || slices.Contains(conventional, name) {
			continue
		}
		if hint := suggest(name, capable, min(len(name)/4+1, 3)); hint != "" {
			return cnierr.New(cnierr.UnsupportedField, "%s: unknown capability with value %s%s",
				join("capabilities", name), shown(p.raw.Capabilities[name]), hint)
		}
	}
	return nil
}

// previous converts prevResult. The library takes results on trust; whoever reads Prev may follow every pointer and
// index in it.
func (p *parser) previous() error {
	if p.raw.PrevResult == nil {
		return nil
	}
	prev, err := convertResult(p.config.CNIVersion, p.raw.PrevResult)
	if err != nil {
		return cnierr.Wrap(cnierr.DecodingFailure, err, "prevResult: not a result of cniVersion %s", p.config.CNIVersion)
	}
	p.config.Prev = prev
	return nil
}

func convertResult(version string, raw map[string]any) (*current.Result, error) {
	if HoldsNull(raw) {
		return nil, errors.New("a list in it holds null")
	}
	conf := types.PluginConf{CNIVersion: version, RawPrevResult: raw}
	if err := libversion.ParsePrevResult(&conf); err != nil {
		return nil, err
	}
	result, err := current.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return nil, err
	}
	for _, ip := range result.IPs {
		if len(ip.Address.IP) == 0 {
			return nil, errors.New("an entry of ips has no address")
		}
		if ip.Interface != nil && (*ip.Interface < 0 || *ip.Interface >= len(result.Interfaces)) {
			return nil, errors.New("the address " + ip.Address.String() + " is on an interface that is not listed")
		}
	}
	for _, route := range result.Routes {
		if len(route.Dst.IP) == 0 {
			return nil, errors.New("an entry of routes has no dst")
		}
	}
	return result, nil
}

// HoldsNull reports whether any list in a decoded result has a null element: the CNI library makes nil pointers of them,
// and follows some itself.
func HoldsNull(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			if HoldsNull(member) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return e == nil || HoldsNull(e) })
	}
	return false
}

// attachments reads the list that GC keeps. libcni sends it under two names; the older counts only without the newer.
func (p *parser) attachments() error {
	path, raw := "cni.dev/valid-attachments", p.raw.Valid
	if raw == nil {
		path, raw = "cni.dev/attachments", p.raw.Attachments
	}
	if absent(raw) {
		return nil
	}
	var list []rawAttachment
	if err := (decoder{anyKey: true}).decode(path, raw, &list); err != nil {
		return err
	}
	valid := make([]Attachment, len(list))
	for i, a := range list {
		if a.ContainerID == "" || a.IfName == "" {
			return missing(index(path, i), "containerID and ifname")
		}
		valid[i] = Attachment{ContainerID: a.ContainerID, IfName: a.IfName}
	}
	p.config.Valid, p.config.ValidGiven = valid, true
	return nil
}
