package kernel

import (
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/plan"
)

// neighbourErrand makes an entry that never expires, so that neither side ever asks for the other.
func (n *Node) neighbourErrand(e plan.Neighbour) (errand, error) {
	s := n.side(e.Place)
	index, err := s.indexOf(e.Link)
	if err != nil {
		return errand{}, err
	}
	req := s.request(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	req.AddData(&netlink.Ndmsg{
		Family: uint8(family(e.Addr)), Index: uint32(index), State: unix.NUD_PERMANENT,
	})
	req.AddData(nl.NewRtAttr(unix.NDA_DST, e.Addr.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.NDA_LLADDR, e.MAC))
	return errand{side: s, req: req}, nil
}

func (n *Node) observeNeighbour(e plan.Neighbour) (plan.Object, error) {
	s := n.side(e.Place)
	index, err := s.indexOf(e.Link)
	if err != nil {
		return nil, err
	}
	h, err := s.handle()
	if err != nil {
		return nil, err
	}
	list, err := h.NeighList(index, family(e.Addr))
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		ip, ok := netip.AddrFromSlice(x.IP)
		if ok && ip.Unmap() == e.Addr && x.State&unix.NUD_PERMANENT != 0 {
			return plan.Neighbour{Place: e.Place, Link: e.Link, Addr: e.Addr, MAC: x.HardwareAddr}, nil
		}
	}
	return nil, syscall.ENOENT
}
