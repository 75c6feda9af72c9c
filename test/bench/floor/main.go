// Command floor attaches a container with no more than the kernel demands: what is left when everything that makes a
// plugin useful is taken away. It is what the plugin's time is compared with.
//
// It is called as a CNI plugin is, and trusts whoever calls it: its configuration tells it everything, checked and in
// the form the kernel wants. ADD makes the pair with the peer in the container's namespace and claims the address by an
// alternative name, in one message to the kernel; gives the container its addresses and routes, in a second; gives the
// host its routes, in a third. A bridge needs no third. DEL has a child ask for the removal and returns when the kernel
// says it has happened, without the wait for the kernel's own tidying up.
//
// Of Go it uses the system calls, and encoding/json for what it is given and for its result, which is what no plugin can
// do without.
package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// The main goroutine stays on the main thread: entering a namespace concerns a thread.
func init() { runtime.LockOSThread() }

func main() {
	var conf config
	if err := json.NewDecoder(os.Stdin).Decode(&conf); err != nil && !errors.Is(err, io.EOF) { // VERSION needs none
		fail("read the configuration", err)
	}
	verb, _ := unix.Getenv("CNI_COMMAND")
	switch verb {
	case "ADD":
		add(conf)
	case "DEL":
		del(conf)
	case "VERSION":
		print(map[string]any{"cniVersion": version, "supportedVersions": []string{version}})
	default:
		fail("CNI_COMMAND", unix.EINVAL)
	}
}

// add attaches the container. The interface's name inside is CNI_IFNAME.
func add(conf config) {
	path, _ := unix.Getenv("CNI_NETNS")
	ifname, _ := unix.Getenv("CNI_IFNAME")
	netns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	check("open the namespace", err)
	host := dial(0)
	var b batch
	conf.pair(&b, ifname, netns, bridgeIndex(host, conf.text("bridge")))
	conf.lease(&b)
	made := exchange("make the pair", host, &b)
	if conf.text("quiet") != "" {
		withoutIPv6(conf.text("host"))
	}
	check("enter the namespace", unix.Setns(netns, unix.CLONE_NEWNET))
	conf.inside(&b, made.peer)
	exchange("set up the container", dial(0), &b)
	if conf.text("bridge") == "" {
		conf.outside(&b, made.index)
		exchange("set up the host", host, &b)
	}
	print(result{
		CNIVersion: version, Interfaces: []end{{Name: conf.text("host")}, {Name: ifname, Sandbox: path}}, IPs: ips(conf),
	})
}

// withoutIPv6 keeps IPv6 off the host end, by the only way there is. It is not unavoidable, and on an empty node a waste
// of time; but what the kernel does for an interface with IPv6 grows with the number of those there are. So does a
// look-up in everybody's /proc/sys.
func withoutIPv6(link string) {
	fd, err := unix.Openat(ownProc(), "sys/net/ipv6/conf/"+link+"/disable_ipv6", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	check("find the IPv6 setting", err)
	_, err = unix.Write(fd, []byte{'1'})
	check("switch IPv6 off", err)
}

// ownProc is the root of a proc file system that nobody else has.
func ownProc() int {
	context, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err == nil {
		err = unix.FsconfigCreate(context)
	}
	if err == nil {
		context, err = unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	}
	if err != nil { // not for a user namespace
		context, err = unix.Open("/proc", unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	check("find the settings", err)
	return context
}

const version = "1.0.0"

// result is what CNI wants on standard output.
type result struct {
	CNIVersion string `json:"cniVersion"`
	Interfaces []end  `json:"interfaces"`
	IPs        []ip   `json:"ips"`
}

type end struct {
	Name    string `json:"name"`
	Sandbox string `json:"sandbox,omitempty"`
}

type ip struct {
	Interface int    `json:"interface"`
	Address   string `json:"address"`
}

func ips(conf config) []ip {
	list := []ip{{1, conf.text("cidr")}}
	if six := conf.text("cidr6"); six != "" {
		list = append(list, ip{1, six})
	}
	return list
}

// del removes the pair by the host end's name.
func del(conf config) {
	name := conf.text("host")
	news := dial(1 << (unix.RTNLGRP_LINK - 1))
	ask := dial(0)
	var b batch
	b.link(unix.RTM_DELLINK, 0, 0)
	b.attr(unix.IFLA_IFNAME, zero(name))
	b.end()
	if deleteInChild(ask, b.buf) < 0 {
		fail("fork", unix.EAGAIN)
	}
	awaitRemoval(news, ask, name)
}

func print(v any) { check("print", json.NewEncoder(os.Stdout).Encode(v)) }

func check(what string, err error) {
	if err != nil {
		fail(what, err)
	}
}

func fail(what string, err error) {
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"cniVersion": version, "code": 999, "msg": "floor: " + what + ": " + err.Error(),
	})
	os.Exit(1)
}
