// Command veth is a CNI plugin: a container runtime executes it with CNI_COMMAND and a network configuration on standard
// input. It also answers to configurations of type "bridge" and "ptp" when it is installed under those names.
package main

// A call lives for milliseconds: it has no use for the processor limit of its cgroup, which takes a tenth of that to
// find, nor for following it.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	specversion "github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/attach"
	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
)

// version is set by the linker.
var version = "development"

// The main goroutine stays on the main thread: a network namespace is a property of a thread.
func init() { runtime.LockOSThread() }

func main() { os.Exit(run()) }

func run() int {
	input, err := prepare()
	if err != nil {
		return fail("", cnierr.Of(err, cnierr.IOFailure))
	}
	asked := askedVersion(input)
	if os.Getenv("CNI_COMMAND") == "VERSION" {
		return answerVersion(asked)
	}
	if err := vet(input); err != nil {
		return fail(asked, cnierr.Of(err, types.ErrInternal))
	}
	funcs := skel.CNIFuncs{Add: add, Check: check, Del: del, GC: gc, Status: status}
	if e := skel.PluginMainFuncsWithError(funcs, specversion.All, "CNI plugin veth "+version); e != nil {
		return fail(asked, e)
	}
	return 0
}

// prepare reads standard input ahead of the library, because the version asked for belongs into every error and into the
// answer to VERSION, and puts it back. It also fills in CNI_PATH, which the specification lets a runtime leave out and
// the library demands: the directory this plugin is in.
func prepare() ([]byte, error) {
	if os.Getenv("CNI_COMMAND") == "" {
		return nil, nil
	}
	if os.Getenv("CNI_PATH") == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the plugin's own directory for CNI_PATH: %w", err)
		}
		if err := os.Setenv("CNI_PATH", filepath.Dir(self)); err != nil {
			return nil, fmt.Errorf("set CNI_PATH: %w", err)
		}
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, fmt.Errorf("read the configuration from standard input: %w", err)
	}
	if os.Stdin, err = inMemory(input); err != nil {
		return nil, fmt.Errorf("hand the configuration on: %w", err)
	}
	return input, nil
}

// inMemory is a file to read b from. Unlike a pipe it takes any size, and nobody has to write while somebody reads.
func inMemory(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "stdin")
	if _, err := f.Write(b); err != nil {
		return nil, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// vet says what is wrong with a call before the library does, in words that name the key and the value. A call without a
// verb is somebody at a shell, whom the library tells what this is.
func vet(input []byte) error {
	switch verb := os.Getenv("CNI_COMMAND"); verb {
	case "":
		return nil
	case "ADD", "CHECK", "DEL", "GC", "STATUS":
	default:
		return cnierr.Key(cnierr.InvalidEnvironment, "CNI_COMMAND", verb, "ADD, CHECK, DEL, GC, STATUS or VERSION")
	}
	return netconf.Vet(netconf.Request{
		ContainerID: os.Getenv("CNI_CONTAINERID"), IfName: os.Getenv("CNI_IFNAME"), Config: input,
	})
}

func askedVersion(input []byte) string {
	var conf struct {
		CNIVersion string `json:"cniVersion"`
	}
	_ = json.Unmarshal(input, &conf) // whoever needs more than the version reports what is wrong
	return conf.CNIVersion
}

func answerVersion(asked string) int {
	if asked == "" {
		asked = specversion.Current()
	}
	answer := struct {
		CNIVersion string   `json:"cniVersion"`
		Supported  []string `json:"supportedVersions"`
	}{asked, specversion.All.SupportedVersions()}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		return 1
	}
	return 0
}

// fail prints an error as CNI spec 1.1.0, section "Error", wants it: on standard output, with the version asked for.
func fail(asked string, e *types.Error) int {
	if asked == "" {
		asked = specversion.Current()
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "    ")
	out.SetEscapeHTML(false)
	_ = out.Encode(struct { // there is no other place to complain
		CNIVersion string `json:"cniVersion"`
		*types.Error
	}{asked, e})
	return 1
}

func request(args *skel.CmdArgs) netconf.Request {
	// The namespace is checked before anything is changed; the library would do it again afterwards, and could still fail
	// an ADD that has succeeded.
	args.NetnsOverride = "1"
	return netconf.Request{
		ContainerID: args.ContainerID, Netns: args.Netns, IfName: args.IfName, Args: args.Args, Config: args.StdinData,
	}
}

func add(args *skel.CmdArgs) error {
	cfg, err := netconf.Parse(request(args))
	if err != nil {
		return coded(err)
	}
	return coded(attach.Add(context.Background(), cfg, func(r *current.Result) error {
		return types.PrintResult(r, cfg.CNIVersion)
	}))
}

func check(args *skel.CmdArgs) error {
	cfg, err := netconf.Parse(request(args))
	if err != nil {
		return coded(err)
	}
	return coded(attach.Check(context.Background(), cfg))
}

func del(args *skel.CmdArgs) error {
	return coded(attach.Del(context.Background(), netconf.ParseLenient(request(args))))
}

func gc(args *skel.CmdArgs) error {
	return coded(attach.GC(context.Background(), netconf.ParseLenient(request(args)), os.Stderr))
}

func status(args *skel.CmdArgs) error {
	cfg, err := netconf.Parse(request(args))
	if err != nil {
		return coded(err)
	}
	return coded(attach.Status(context.Background(), cfg))
}

// coded gives an error without a code the specification's catch-all for the plugin's own failures.
func coded(err error) error {
	if err == nil {
		return nil
	}
	return cnierr.Of(err, types.ErrInternal)
}
