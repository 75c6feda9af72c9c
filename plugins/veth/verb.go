package main

import (
	"context"
	"os"
	"slices"
	"strings"

	current "github.com/containernetworking/cni/pkg/types/100"
	specversion "github.com/containernetworking/cni/pkg/version"

	"github.com/veth-cni/veth/pkg/attach"
	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/pkg/result"
)

// The CNI library's skel does what is in this file as well. It checks names with regular expressions, whose making costs
// every call a tenth of a millisecond, and its errors name neither key nor value.

// verb is an operation of the protocol.
type verb struct {
	name  string
	run   func(context.Context, netconf.Request) error
	needs []string // variables
}

// verbs are those of CNI spec 1.1.0, section 2 "Execution Protocol", with the variables it requires. It requires CNI_PATH
// too, which only a plugin that delegates has a use for.
var verbs = []verb{
	{"ADD", add, []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"}},
	{"CHECK", check, []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"}},
	{"DEL", del, []string{"CNI_CONTAINERID", "CNI_IFNAME"}},
	{"GC", gc, nil},
	{"STATUS", status, nil},
}

// find looks a verb up and whether it has the variables it needs.
func find(name string) (verb, error) {
	i := slices.IndexFunc(verbs, func(v verb) bool { return v.name == name })
	if i < 0 {
		return verb{}, cnierr.Key(cnierr.InvalidEnvironment, "CNI_COMMAND", name,
			"ADD, CHECK, DEL, GC, STATUS or VERSION")
	}
	v := verbs[i]
	var missing []string
	for _, key := range v.needs {
		if os.Getenv(key) == "" {
			missing = append(missing, key)
		}
	}
	switch len(missing) {
	case 0:
		return v, nil
	case 1:
		return verb{}, cnierr.New(cnierr.InvalidEnvironment, "%s: missing: want it set for %s", missing[0], name)
	default:
		return verb{}, cnierr.New(cnierr.InvalidEnvironment, "%s: missing: want them set for %s",
			strings.Join(missing, ", "), name)
	}
}

// since refuses a verb to a configuration of a version of the specification that does not have it.
func since(first, name, asked string) error {
	if old, err := specversion.GreaterThan(first, asked); err != nil || old {
		return cnierr.Key(cnierr.IncompatibleVersion, "cniVersion", asked, first+" or later for "+name)
	}
	return nil
}

func add(ctx context.Context, r netconf.Request) error {
	cfg, err := netconf.Parse(r)
	if err != nil {
		return err
	}
	return attach.Add(ctx, cfg, func(r *current.Result) error { return result.Print(stdout, r, cfg.CNIVersion) })
}

func check(ctx context.Context, r netconf.Request) error {
	cfg, err := netconf.Parse(r)
	if err == nil {
		err = since("0.4.0", "CHECK", cfg.CNIVersion)
	}
	if err != nil {
		return err
	}
	return attach.Check(ctx, cfg)
}

func del(ctx context.Context, r netconf.Request) error {
	if _, err := netconf.Vet(r); err != nil {
		return err
	}
	return attach.Del(ctx, netconf.ParseLenient(r))
}

func gc(ctx context.Context, r netconf.Request) error {
	version, err := netconf.Vet(r)
	if err == nil {
		err = since("1.1.0", "GC", version)
	}
	if err != nil {
		return err
	}
	return attach.GC(ctx, netconf.ParseLenient(r), stderr)
}

func status(ctx context.Context, r netconf.Request) error {
	cfg, err := netconf.Parse(r)
	if err == nil {
		err = since("1.1.0", "STATUS", cfg.CNIVersion)
	}
	if err != nil {
		return err
	}
	return attach.Status(ctx, cfg)
}
