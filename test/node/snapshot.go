package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// Snapshot is the text of everything in the namespace that an attachment could touch: links, bridge ports, addresses,
// routes of every table, rules, static neighbours and forwarding entries, the sysctls that decide how packets travel,
// queueing disciplines and filters, and the nftables ruleset. One state has one text: interface indexes, hardware
// addresses, counters and what the kernel makes of them by itself (IPv6 link-local addresses, multicast routes) are left
// out. It waits, at most three seconds, for duplicate address detection to end, because the kernel adds an address's
// local route only then. A namespace that cannot be read makes it panic.
func (ns *Namespace) Snapshot() string {
	var lines []string
	err := ns.Do(func() error {
		if err := settle(); err != nil {
			return err
		}
		for try := 0; ; try++ {
			var err error
			// A dump that a change interrupts is inconsistent and says so (NLM_F_DUMP_INTR).
			if lines, err = observe(); !errors.Is(err, netlink.ErrDumpInterrupted) || try == 10 {
				return err
			}
		}
	})
	if err != nil {
		panic(fmt.Sprintf("a snapshot of %s: %v", ns.Name, err))
	}
	return strings.Join(lines, "\n") + "\n"
}

// Diff lists what differs between two snapshots, a line each: "- " for what is gone and "+ " for what is new. It is
// empty when they are equal.
func Diff(before, after string) string {
	if before == after {
		return ""
	}
	count := map[string]int{}
	for line := range strings.Lines(after) {
		count[line]++
	}
	var diff strings.Builder
	for line := range strings.Lines(before) {
		if count[line]--; count[line] < 0 {
			diff.WriteString("- " + line)
		}
	}
	for line := range strings.Lines(after) {
		if count[line] > 0 {
			count[line]--
			diff.WriteString("+ " + line)
		}
	}
	if diff.Len() == 0 {
		return "the same lines in another order\n"
	}
	return diff.String()
}

// observation is one pass over the kernel's tables; names resolves interface indexes.
type observation struct {
	links []netlink.Link
	names map[int]string
}

// observe reads the thread's namespace into lines, section by section.
func observe() ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("links: %w", err)
	}
	o := observation{links: links, names: map[int]string{}}
	for _, link := range links {
		o.names[link.Attrs().Index] = link.Attrs().Name
	}
	var lines []string
	for _, section := range []struct {
		name   string
		read   func() ([]string, error)
		sorted bool
	}{
		{"links", o.linkLines, true},
		{"bridge ports", o.portLines, true},
		{"VLANs of bridge ports", o.vlanLines, true},
		{"addresses", o.addressLines, true},
		{"routes", o.routeLines, true},
		{"rules", ruleLines, false}, // their order is their meaning
		{"neighbours", o.neighbourLines, true},
		{"forwarding entries", o.forwardingLines, true},
		{"sysctls", sysctlLines, true},
		{"queueing disciplines", o.qdiscLines, true},
		{"wires", o.wireLines, true},
		{"nftables", rulesetLines, false},
	} {
		part, err := section.read()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", section.name, err)
		}
		if section.sorted {
			slices.Sort(part)
		}
		lines = append(lines, part...)
	}
	return lines, nil
}

// words is a line under construction.
type words []string

func (w *words) flag(name string, set bool) {
	if set {
		*w = append(*w, name)
	}
}

// add appends a name and its value unless the value is empty or zero.
func (w *words) add(name string, value any) {
	if s := fmt.Sprint(value); s != "" && s != "0" {
		*w = append(*w, name, s)
	}
}

func (w *words) String() string { return strings.Join(*w, " ") }
