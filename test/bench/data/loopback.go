package main

import (
	"github.com/vishvananda/netlink"
)

// widenLoopback lets it carry packets of BIG TCP.
func widenLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, set := range []func(netlink.Link, int) error{
		netlink.LinkSetGSOMaxSize, netlink.LinkSetGROMaxSize, netlink.LinkSetGSOIPv4MaxSize, netlink.LinkSetGROIPv4MaxSize,
	} {
		if err := set(lo, bigTCP); err != nil {
			return err
		}
	}
	return nil
}
