package process

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// having makes a bridge of somebody else's, which is an interface with addresses like any other.
func having(name string, addresses ...string) func(*host) error {
	return func(h *host) error {
		return h.Do(func() error {
			l := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, Flags: net.FlagUp}}
			failed := []error{netlink.LinkAdd(l)}
			for _, text := range addresses {
				a, err := netlink.ParseAddr(text)
				if err != nil {
					return err
				}
				a.Flags = unix.IFA_F_NODAD
				failed = append(failed, netlink.AddrAdd(l, a))
			}
			return errors.Join(failed...)
		})
	}
}

// An address of the host's own is nobody's, asked for or not: it would get the container's packets itself.
func TestTheHostKeepsItsAddresses(t *testing.T) {
	t.Parallel()
	const pool = `{"ipam": {"ranges": [[{"subnet": "10.88.0.0/24", "rangeStart": "10.88.0.5", "rangeEnd": "10.88.0.6"}]]}}`
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			if err := having("lan0", "10.88.0.5/29", "2001:db8:88::5/120")(h); err != nil {
				t.Fatal(err)
			}
			c := h.Container()
			h.leaves(func() {
				o := h.call("ADD", m.config, c, "CNI_ARGS=IP=10.88.0.5")
				o.refused(103, "the requested address 10.88.0.5", "the host", "lan0")
				o = h.call("ADD", with(m.config, `{"runtimeConfig": {"ips": ["2001:db8:88::5"]}}`), c)
				o.refused(103, "the requested address 2001:db8:88::5", "the host", "lan0")
			}, c)
			if got := h.add(with(m.config, pool), c).addresses(); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("10.88.0.6")}) {
				t.Errorf("got %s, want the other address of the range, 10.88.0.6", got)
			}
			h.call("ADD", with(m.config, pool), h.Container()).refused(104, "the host's own")
		})
	}
}

// Two networks of one subnet give no address twice: the host has one route to each container.
func TestRoutedNetworksOfOneSubnet(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	pool := `{"ipam": {"ranges": [[{"subnet": "10.88.0.0/29"}], [{"subnet": "2001:db8:88::/125"}]]}}`
	given := map[netip.Addr]bool{}
	for i := range 4 { // of five
		config := with(routed, pool)
		if i%2 == 1 {
			config = with(config, `{"name": "renamed"}`)
		}
		for _, a := range h.add(config, h.Container()).addresses() {
			if given[a] {
				t.Errorf("%s is given twice", a)
			}
			given[a] = true
		}
	}
	for _, network := range []string{"podnet", "renamed"} {
		for a := range given {
			h.call("ADD", with(with(routed, pool), `{"name": "`+network+`", "runtimeConfig": {"ips": ["`+a.String()+`"]}}`), h.Container()).
				refused(103, "the requested address "+a.String(), "container ")
		}
	}
}
