package plan

import (
	"strconv"

	"github.com/veth-cni/veth/pkg/netconf"
)

// Knobs are settings of the container's interface.
type Knobs struct {
	Link     string
	Promisc  bool  // take in frames for others too; false leaves the interface as it is
	AllMulti *bool // take in all multicast; nil leaves the interface as it is
	TxQLen   *int  // length of the transmit queue in packets; nil leaves the interface as it is
}

// ID implements Object.
func (k Knobs) ID() string { return "container settings of interface " + k.Link }

// Fields implements Object.
func (k Knobs) Fields() []Field {
	f := []Field{{"promisc", yes(k.Promisc)}, {Name: "allmulti"}, {Name: "txqlen"}}
	if k.AllMulti != nil {
		f[1].Value = onOff(*k.AllMulti)
	}
	if k.TxQLen != nil {
		f[2].Value = strconv.Itoa(*k.TxQLen)
	}
	return f
}

func (b *builder) knobs() {
	t := b.cfg.Tuning
	if t.Promisc || t.AllMulti != nil || t.TxQLen != nil {
		b.plan.Inside = append(b.plan.Inside,
			Knobs{Link: b.plan.Pair.Peer, Promisc: t.Promisc, AllMulti: t.AllMulti, TxQLen: t.TxQLen})
	}
}

// sysctls adds those settings of the configuration that are of a kind. Where the plan has a setting already, the
// configuration's value takes its place.
func (b *builder) sysctls(kind func(netconf.Sysctl) bool) {
	for _, s := range b.cfg.Tuning.Sysctls {
		if kind(s) {
			b.setInside(Sysctl{Place: Container, Key: s.Key, Value: s.Value})
		}
	}
}

func (b *builder) setInside(s Sysctl) {
	for i, o := range b.plan.Inside {
		if o.ID() == s.ID() {
			b.plan.Inside[i] = s
			return
		}
	}
	b.plan.Inside = append(b.plan.Inside, s)
}

// The kinds of settings, in the order in which the kernel must get them. General ones may reach every interface, so
// they come before what the plan itself sets on the container's.
func general(s netconf.Sysctl) bool     { return !s.OfInterface }
func ofInterface(s netconf.Sysctl) bool { return s.OfInterface }
