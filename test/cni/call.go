// Package cni calls the plugin's verbs as a runtime does, in the test's own process, for containers of a test's node.
package cni

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/netip"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/veth-cni/veth/pkg/attach"
	"github.com/veth-cni/veth/pkg/netconf"
	"github.com/veth-cni/veth/test/node"
)

// Object is JSON.
type Object = map[string]any

// Call is what a runtime passes for one attachment.
type Call struct {
	Node      *node.Node
	Container *node.Namespace
	ID        string // of the container; its namespace's name if empty
	IfName    string // eth0 if empty
	Args      string // CNI_ARGS
	Config    Object
	Prev      *current.Result // goes into the configuration; nil: none
	// Deliver takes the result of an ADD; nil: it arrives.
	Deliver func(*current.Result) error
}

func (c Call) ifName() string { return cmp.Or(c.IfName, "eth0") }

func (c Call) id() string {
	if c.ID == "" {
		return c.Container.Name
	}
	return c.ID
}

func (c Call) request() (netconf.Request, error) {
	config := c.Config
	if c.Prev != nil {
		version, _ := config["cniVersion"].(string)
		prev, err := c.Prev.GetAsVersion(version)
		if err != nil {
			return netconf.Request{}, err
		}
		config = maps.Clone(config)
		config["prevResult"] = prev
	}
	raw, err := json.Marshal(config)
	return netconf.Request{
		ContainerID: c.id(), Netns: c.Container.Path, IfName: c.ifName(), Args: c.Args, Config: raw,
	}, err
}

func (c Call) parse() (*netconf.Config, error) {
	r, err := c.request()
	if err != nil {
		return nil, err
	}
	return netconf.Parse(r)
}

// Add returns the result, also of an ADD that failed because nobody took it.
func (c Call) Add() (result *current.Result, err error) {
	cfg, err := c.parse()
	if err != nil {
		return nil, err
	}
	err = c.Node.Do(func() error {
		return attach.Add(context.Background(), cfg, func(r *current.Result) error {
			result = r
			if c.Deliver == nil {
				return nil
			}
			return c.Deliver(r)
		})
	})
	return result, err
}

// Check calls CHECK.
func (c Call) Check() error {
	cfg, err := c.parse()
	if err != nil {
		return err
	}
	return c.Node.Do(func() error { return attach.Check(context.Background(), cfg) })
}

// Del calls DEL, which takes any configuration.
func (c Call) Del() error {
	r, err := c.request()
	if err != nil {
		return err
	}
	return c.Node.Do(func() error { return attach.Del(context.Background(), netconf.ParseLenient(r)) })
}

// GC calls GC for a network whose attachments are those given, and no others.
func GC(n *node.Node, config Object, valid ...Call) error {
	list := []Object{}
	for _, v := range valid {
		list = append(list, Object{"containerID": v.id(), "ifname": v.ifName()})
	}
	config = maps.Clone(config)
	config["cni.dev/valid-attachments"] = list
	raw, err := json.Marshal(config)
	if err != nil {
		return err
	}
	cfg := netconf.ParseLenient(netconf.Request{Config: raw})
	return n.Do(func() error { return attach.GC(context.Background(), cfg, io.Discard) })
}

// Addresses lists what an ADD gave, in its order.
func Addresses(r *current.Result) []netip.Addr {
	var list []netip.Addr
	for _, x := range r.IPs {
		a, _ := netip.AddrFromSlice(x.Address.IP)
		list = append(list, a.Unmap())
	}
	return list
}
