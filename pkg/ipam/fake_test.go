package ipam

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/veth-cni/veth/pkg/lease"
	"github.com/veth-cni/veth/pkg/netconf"
)

// names is what the kernel knows of interface names in one namespace: who has which. It refuses what the kernel refuses,
// a name that anybody has, the claimant itself included (EEXIST), and one of more than 127 bytes (ERANGE).
type names struct {
	sync.Mutex
	holder map[string]string
}

func (n *names) add(name, link string) error {
	n.Lock()
	defer n.Unlock()
	switch _, taken := n.holder[name]; {
	case len(name) > 127:
		return syscall.ERANGE
	case taken:
		return syscall.EEXIST
	}
	if n.holder == nil {
		n.holder = map[string]string{}
	}
	n.holder[name] = link
	return nil
}

// fake is a host end on a node whose leases are in memory. It counts what is asked of it.
type fake struct {
	names   *names
	network string
	link    string
	cursor  uint64
	kept    []netip.Addr // by the host for itself

	claims, looks, dumps int

	broken  error            // of every claim and look-up
	outrun  func(netip.Addr) // called before each claim: the moment in which another process may be quicker
	dumping error            // of Taken
}

func newFake(cfg *netconf.Config, cursor uint64) *fake {
	return &fake{names: &names{}, network: cfg.Network, link: "veth1", cursor: cursor}
}

// take leases addresses for somebody else.
func (f *fake) take(t *testing.T, addrs ...netip.Addr) {
	t.Helper()
	for _, a := range addrs {
		if err := f.names.add(lease.Name(f.network, a), "other"); err != nil {
			t.Fatalf("take %s: %v", a, err)
		}
	}
}

func (f *fake) Cursor() uint64 { return f.cursor }

func (f *fake) Claim(a netip.Addr) (bool, error) {
	f.claims++
	if f.outrun != nil {
		f.outrun(a)
	}
	if f.broken != nil {
		return false, f.broken
	}
	if slices.Contains(f.kept, a) {
		return false, nil
	}
	err := f.names.add(lease.Name(f.network, a), f.link)
	if errors.Is(err, syscall.EEXIST) {
		return false, nil
	}
	return err == nil, err
}

func (f *fake) Taken() (map[netip.Addr]struct{}, error) {
	f.dumps++
	if f.dumping != nil {
		return nil, f.dumping
	}
	f.names.Lock()
	defer f.names.Unlock()
	taken := map[netip.Addr]struct{}{}
	for name := range f.names.holder {
		if a, ok := lease.Parse(name, f.network); ok {
			taken[a] = struct{}{}
		}
	}
	return taken, nil
}

func (f *fake) Holder(a netip.Addr) string {
	f.names.Lock()
	defer f.names.Unlock()
	if slices.Contains(f.kept, a) {
		return "the host"
	}
	return f.names.holder[lease.Name(f.network, a)]
}

// ledger is the fake as STATUS sees it: it looks and takes nothing.
type ledger struct{ *fake }

func (l ledger) Free(network string, a netip.Addr) (bool, error) {
	l.looks++
	l.names.Lock()
	defer l.names.Unlock()
	_, taken := l.names.holder[lease.Name(network, a)]
	return !taken && !slices.Contains(l.kept, a), l.broken
}

func (l ledger) Taken(string) (map[netip.Addr]struct{}, error) { return l.fake.Taken() }
