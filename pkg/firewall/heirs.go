package firewall

import (
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/lease"
)

// Several networks can be behind one bridge, or have addresses of one subnet. What the rules need to know of it is there
// once, and belongs to the network that came first. When that goes, another that is still there becomes its owner: nobody
// loses what it counts on because somebody else has gone.

// Heirs are the other networks with containers, as a look at the interfaces showed them.
type Heirs interface {
	// Behind names the networks that have containers behind a link, in alphabetical order.
	Behind(link string) []string
	// Within names those that have a container with an address from first to last.
	Within(first, last netip.Addr) []string
	// Alive reports whether a network has any container.
	Alive(network string) bool
}

// Survey looks who the heirs of a network are.
type Survey func() (Heirs, error)

type nobody struct{}

// Behind implements Heirs.
func (nobody) Behind(string) []string { return nil }

// Within implements Heirs.
func (nobody) Within(netip.Addr, netip.Addr) []string { return nil }

// Alive implements Heirs. Of nobody nothing is known.
func (nobody) Alive(string) bool { return true }

// first is the first of some names, "" of none.
func first(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

func (f *Firewall) heirs() (Heirs, error) {
	if f.Survey == nil {
		return nobody{}, nil
	}
	return f.Survey()
}

// leftMark ends the comment of what a network was left by another and may not want: its own GC then removes it, instead of
// leaving it to the next, and whoever wants it makes it its own.
const leftMark = ", left to it"

// left is an entry with another network for its owner.
func (e entry) left(heir string) entry {
	e.note = lease.NetworkAlias(heir) + leftMark
	return e
}

func inherited(note string) bool { return strings.HasSuffix(note, leftMark) }

// ownerOfNote is the comment of an entry of a network's, however it came by it.
func ownerOfNote(note string) string { return strings.TrimSuffix(note, leftMark) }

func (e entry) belongsTo(who string) bool { return ownerOfNote(e.note) == who }

// linkOf is the interface that an entry of a network is about, "" if it is about a group.
func linkOf(e entry) string {
	switch e.set {
	case closedLinks, openLinks, podLinks, hairpinSet, masqueradeSet:
		name, _, _ := strings.Cut(string(e.key[:min(len(e.key), unix.IFNAMSIZ)]), "\x00")
		return name
	}
	return ""
}

// restore puts back what went while another network came that counts on it. An ADD makes its host end before it looks what
// is there: whoever still saw what went is seen now.
func (f *Firewall) restore(p part, gone []entry) error {
	if len(gone) == 0 {
		return nil
	}
	heirs, err := f.heirs()
	if err != nil {
		return err
	}
	var back []entry
	for _, x := range gone {
		if heir := first(heirs.Behind(linkOf(x))); heir != "" {
			back = append(back, x.left(heir))
		}
	}
	if len(back) == 0 {
		return nil
	}
	return f.amend(p, func(e *edit) error {
		there, err := e.lookUp(back)
		for _, x := range back {
			e.settle(x, there[x.id()], true)
		}
		return err
	})
}
