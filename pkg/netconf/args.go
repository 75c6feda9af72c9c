package netconf

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// cniArgs is what CNI_ARGS says.
type cniArgs struct {
	IP, MAC               string
	PodNamespace, PodName string
}

// parseArgs reads CNI_ARGS, "KEY=VALUE;KEY=VALUE" (CNI spec 1.1.0, section 2). A value may contain "="; of a key given
// twice the last counts. A key nobody knows fails unless IgnoreUnknown is true, wherever in the list that stands. The
// result holds what was understood even with an error, which is the first.
func parseArgs(s string) (cniArgs, error) {
	if s == "" {
		return cniArgs{}, nil
	}
	var (
		args          cniArgs
		ignoreUnknown types.UnmarshallableBool
		unknown, bad  error
	)
	known := map[string]*string{
		"IgnoreUnknown":              nil,
		"IP":                         &args.IP,
		"MAC":                        &args.MAC,
		"K8S_POD_NAMESPACE":          &args.PodNamespace,
		"K8S_POD_NAME":               &args.PodName,
		"K8S_POD_INFRA_CONTAINER_ID": new(string),
		"K8S_POD_UID":                new(string),
	}
	for pair := range strings.SplitSeq(s, ";") {
		name, value, isPair := strings.Cut(pair, "=")
		field, isKnown := known[name]
		switch {
		case !isPair:
			bad = cmp.Or(bad, badArg("CNI_ARGS", pair, "KEY=VALUE, with ';' between one and the next"))
		case !isKnown:
			unknown = cmp.Or(unknown, cnierr.New(cnierr.InvalidEnvironment, "CNI_ARGS: unknown key %q with value %q: "+
				"want IgnoreUnknown=1 beside it%s", name, value, didYouMean(name, slices.Sorted(maps.Keys(known)))))
		case field != nil:
			*field = value
		case ignoreUnknown.UnmarshalText([]byte(value)) != nil:
			bad = cmp.Or(bad, badArg("CNI_ARGS IgnoreUnknown", value, "1, true, 0 or false"))
		}
	}
	if ignoreUnknown {
		unknown = nil
	}
	return args, cmp.Or(bad, unknown)
}

func badArg(name, value, want string) error {
	return cnierr.Key(cnierr.InvalidEnvironment, name, value, want)
}

// hardwareAddress picks the one MAC that counts, and checks no other: a runtime's default may be overridden.
func (p *parser) hardwareAddress() error {
	for _, asked := range []struct{ from, mac string }{
		{"runtimeConfig.mac", p.raw.RuntimeConfig.MAC},
		{"args.cni.mac", p.raw.Args.CNI.MAC},
		{"CNI_ARGS MAC", p.args.MAC},
		{annotation("mac"), p.pod["mac"]},
		{"mac", p.raw.MAC},
	} {
		if asked.mac == "" {
			continue
		}
		mac, err := parseMAC(asked.from, asked.mac)
		p.config.MAC = mac
		return err
	}
	return nil
}

// codeOf is the code of a bad value in a key, or in the environment.
func codeOf(from string) uint {
	if strings.HasPrefix(from, "CNI_ARGS") {
		return cnierr.InvalidEnvironment
	}
	return cnierr.InvalidConfig
}
