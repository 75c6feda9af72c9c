// Command demo shows on one page what the plugin does. It makes a node and two containers out of network namespaces,
// has cnitool attach both with a configuration of conf/, sends packets, breaks something, and cleans up. It needs no
// root, no installation and no other program. An argument names another network of conf/ than "bridged".
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/veth-cni/veth/test/node"
)

func main() {
	if err := node.Enter(); err != nil {
		fail(fmt.Errorf("the demo needs namespaces of its own: %w", err))
	}
	d := demo{network: "bridged"}
	if len(os.Args) > 1 {
		d.network = os.Args[1]
	}
	start := time.Now()
	if err := d.run(); err != nil {
		fail(err)
	}
	fmt.Printf("\nThat took %.1f s.\n", time.Since(start).Seconds())
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "demo:", err)
	os.Exit(1)
}

// demo is a node with two containers on one network.
type demo struct {
	network       string
	node, web, db *node.Namespace
}

func (d *demo) run() error {
	var err error
	for _, p := range []struct {
		name string
		ns   **node.Namespace
	}{{"node", &d.node}, {"web", &d.web}, {"db", &d.db}} {
		if *p.ns, err = node.Create(p.name); err != nil {
			return err
		}
	}
	web, err := d.add(d.web)
	if err != nil {
		return err
	}
	beforeDB := d.node.Snapshot()
	db, err := d.add(d.db)
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return d.links("The node's interfaces; an alternative name is the lease of an address") },
		func() error { return d.pings(web, db) },
		d.check,
		d.breakRoute,
		func() error { return d.del(beforeDB) },
		func() error {
			return d.links("Nothing is left of either; the bridge is the network's, and waits for the next")
		},
		d.collect,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// collect has GC remove what a network without containers has left.
func (d *demo) collect() error {
	heading("GC finds the network empty")
	if _, err := d.cnitool("gc", d.web); err != nil {
		return err
	}
	return d.links("Nothing is left at all")
}

// add attaches a container and prints the result as a runtime gets it.
func (d *demo) add(container *node.Namespace) (*current.Result, error) {
	heading("Attach " + container.Name)
	out, err := d.cnitool("add", container)
	if err != nil {
		return nil, fmt.Errorf("ADD: %w", err)
	}
	fmt.Println(out)
	result := &current.Result{}
	return result, json.Unmarshal([]byte(out), result)
}

// links prints the node's interfaces much as ip-link(8) does.
func (d *demo) links(title string) error {
	heading(title)
	return d.node.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, link := range links {
			a := link.Attrs()
			fmt.Printf("%d: %s: <%s> mtu %d\n", a.Index, a.Name, strings.ToUpper(a.Flags.String()), a.MTU)
			if a.Alias != "" {
				fmt.Printf("    alias %s\n", a.Alias)
			}
			for _, name := range a.AltNames {
				fmt.Printf("    altname %s\n", name)
			}
		}
		return nil
	})
}

// pings sends one packet each way between the containers and between a container and the node, in both families.
func (d *demo) pings(web, db *current.Result) error {
	heading("One packet each: container to container, to the node, and back")
	for i := range web.IPs {
		for _, p := range []struct {
			from *node.Namespace
			to   string
			addr net.IP
		}{
			{d.web, "db", db.IPs[i].Address.IP},
			{d.db, "web", web.IPs[i].Address.IP},
			{d.web, "its gateway", web.IPs[i].Gateway},
			{d.node, "web", web.IPs[i].Address.IP},
		} {
			addr, ok := netip.AddrFromSlice(p.addr)
			if !ok {
				return fmt.Errorf("the result has no address of %s", p.to)
			}
			addr = addr.Unmap()
			if addr.IsLinkLocalUnicast() && addr.Is6() {
				addr = addr.WithZone("eth0")
			}
			start := time.Now()
			if err := p.from.Ping(addr); err != nil {
				return err
			}
			fmt.Printf("%-4s -> %-11s %-18s %7.3f ms\n", p.from.Name, p.to, addr, time.Since(start).Seconds()*1000)
		}
	}
	return nil
}

func (d *demo) check() error {
	heading("CHECK compares the plan with what the kernel holds")
	for _, container := range []*node.Namespace{d.web, d.db} {
		if _, err := d.cnitool("check", container); err != nil {
			return fmt.Errorf("CHECK: %w", err)
		}
		fmt.Println("ok")
	}
	return nil
}

// breakRoute removes a route behind the plugin's back.
func (d *demo) breakRoute() error {
	heading("Remove web's default route: CHECK names it")
	err := d.web.Do(func() error {
		return netlink.RouteDel(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}})
	})
	if err != nil {
		return fmt.Errorf("removing the default route: %w", err)
	}
	_, err = d.cnitool("check", d.web)
	if err == nil {
		return errors.New("CHECK passed without the default route")
	}
	fmt.Println(err)
	return nil
}

// del detaches both. The node must then be what it was before db came, down to its routes and firewall rules.
func (d *demo) del(beforeDB string) error {
	heading("Detach both")
	if _, err := d.cnitool("del", d.db); err != nil {
		return fmt.Errorf("DEL: %w", err)
	}
	if diff := node.Diff(beforeDB, d.node.Snapshot()); diff != "" {
		return fmt.Errorf("DEL of db leaves a difference:\n%s", diff)
	}
	fmt.Println("the node is exactly as it was before db came")
	if _, err := d.cnitool("del", d.web); err != nil {
		return fmt.Errorf("DEL: %w", err)
	}
	if rest := d.node.Snapshot(); strings.Contains(rest, "@"+d.network) {
		return fmt.Errorf("leases are left:\n%s", rest)
	}
	return nil
}

// cnitool calls the plugin through libcni, from the node, and returns what it prints.
func (d *demo) cnitool(verb string, container *node.Namespace) (string, error) {
	bin, err := filepath.Abs("bin")
	if err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(bin, "cnitool"), verb, d.network, container.Path)
	cmd.Env = append(os.Environ(), "CNI_PATH="+bin, "NETCONFPATH=conf")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	fmt.Printf("$ CNI_PATH=bin NETCONFPATH=conf cnitool %s\n", strings.Join(cmd.Args[1:], " "))
	if err := d.node.Run(cmd); err != nil {
		message, _, _ := strings.Cut(stderr.String(), "\nUsage:")
		return "", errors.New(message)
	}
	return strings.TrimSpace(stdout.String()), nil
}

var headings int

func heading(title string) {
	headings++
	fmt.Printf("\n%d. %s\n", headings, title)
}
