package main

import (
	"context"
	"os"
	"strings"

	specversion "github.com/containernetworking/cni/pkg/version"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
)

// The CNI library's skel does what is in this file as well. It checks names with regular expressions, whose making costs
// every call a tenth of a millisecond, and its errors name neither key nor value.

// verb is an operation of the protocol.
type verb struct {
	run   func(context.Context, netconf.Request) error
	needs []string // variables
	since string   // the first version of the specification that has it
}

// verbs are those of CNI spec 1.1.0, section 2 "Execution Protocol", with the variables it requires. It requires CNI_PATH
// too, which only a plugin that delegates has a use for.
var verbs = map[string]verb{
	"ADD":    {run: add, needs: []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"}},
	"CHECK":  {run: check, needs: []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"}, since: "0.4.0"},
	"DEL":    {run: del, needs: []string{"CNI_CONTAINERID", "CNI_IFNAME"}},
	"GC":     {run: gc, since: "1.1.0"},
	"STATUS": {run: status, since: "1.1.0"},
}

// vet finds a verb and what is wrong with a call of it.
func vet(name string, input []byte) (verb, error) {
	v, ok := verbs[name]
	if !ok {
		return verb{}, cnierr.Key(cnierr.InvalidEnvironment, "CNI_COMMAND", name,
			"ADD, CHECK, DEL, GC, STATUS or VERSION")
	}
	var missing []string
	for _, key := range v.needs {
		if os.Getenv(key) == "" {
			missing = append(missing, key)
		}
	}
	if len(missing) > 0 {
		return verb{}, cnierr.New(cnierr.InvalidEnvironment, "%s: missing: want them set for %s",
			strings.Join(missing, ", "), name)
	}
	err := netconf.Vet(netconf.Request{
		ContainerID: os.Getenv("CNI_CONTAINERID"), IfName: os.Getenv("CNI_IFNAME"), Config: input,
	})
	if err != nil {
		return verb{}, err
	}
	asked := askedVersion(input)
	if old, err := specversion.GreaterThan(v.since, asked); v.since != "" && (err != nil || old) {
		return verb{}, cnierr.Key(cnierr.IncompatibleVersion, "cniVersion", asked, v.since+" or later for "+name)
	}
	return v, nil
}

func supported() string { return strings.Join(specversion.All.SupportedVersions(), ", ") }
