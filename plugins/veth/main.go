// Command veth is a CNI plugin: a container runtime executes it with CNI_COMMAND and a network configuration on standard
// input. It also answers to configurations of type "bridge" and "ptp" when it is installed under those names.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	specversion "github.com/containernetworking/cni/pkg/version"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
	_ "github.com/veth-cni/veth/pkg/stack" // for its initialisation
)

// version is set by the linker.
var version = "development"

// The main goroutine stays on the main thread: a network namespace is a property of a thread.
func init() { runtime.LockOSThread() }

func main() { os.Exit(run()) }

func run() int {
	verb := os.Getenv("CNI_COMMAND")
	if verb == "" { // somebody at a shell
		fmt.Fprintf(os.Stderr, "CNI plugin veth %s\nCNI protocol versions supported: %s\n", version, strings.Join(specversion.All.SupportedVersions(), ", "))
		return 0
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return fail("", cnierr.Wrap(cnierr.IOFailure, err, "read the configuration from standard input"))
	}
	if err := call(verb, input); err != nil {
		return fail(askedVersion(input), err)
	}
	return 0
}

// call carries out a verb.
func call(verb string, input []byte) error {
	if verb == "VERSION" {
		return tellVersions(askedVersion(input))
	}
	v, err := find(verb)
	if err != nil {
		return err
	}
	return v.run(context.Background(), netconf.Request{
		ContainerID: os.Getenv("CNI_CONTAINERID"), Netns: os.Getenv("CNI_NETNS"), IfName: os.Getenv("CNI_IFNAME"),
		Args: os.Getenv("CNI_ARGS"), Config: input,
	})
}

func tellVersions(asked string) error {
	if asked == "" {
		asked = specversion.Current()
	}
	return json.NewEncoder(stdout).Encode(struct {
		CNIVersion string   `json:"cniVersion"`
		Supported  []string `json:"supportedVersions"`
	}{asked, specversion.All.SupportedVersions()})
}

// askedVersion is that of the configuration, which belongs into every answer. Whoever needs more of a configuration than
// its version reports what is wrong with it.
func askedVersion(input []byte) string {
	var conf struct {
		CNIVersion string `json:"cniVersion"`
	}
	_ = json.Unmarshal(input, &conf)
	return conf.CNIVersion
}

// fail prints an error as CNI spec 1.1.0, section "Error", wants it: on standard output, with the version asked for. One
// without a code gets the specification's catch-all for a plugin's own failures.
func fail(asked string, err error) int {
	if asked == "" {
		asked = specversion.Current()
	}
	out := json.NewEncoder(stdout)
	out.SetIndent("", "    ")
	out.SetEscapeHTML(false)
	_ = out.Encode(struct { // there is no other place to complain
		CNIVersion string `json:"cniVersion"`
		*types.Error
	}{asked, cnierr.Of(err, types.ErrInternal)})
	return 1
}
