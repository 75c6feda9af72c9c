package kernel

import (
	"errors"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// brportLocked is IFLA_BRPORT_LOCKED of include/uapi/linux/if_link.h, since Linux 5.18.
const brportLocked = 39

// applyPort has nothing to do for a port whose settings are the kernel's own defaults.
func (n *Node) applyPort(p plan.Port) (bool, error) {
	if !p.Hairpin && !p.Isolated && !p.Locked {
		return false, nil
	}
	index, err := n.host.indexOf(p.Link)
	if err != nil {
		return false, err
	}
	req := n.host.request(unix.RTM_SETLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	info.AddRtAttr(nl.IFLA_BRPORT_MODE, flag(p.Hairpin))
	info.AddRtAttr(nl.IFLA_BRPORT_ISOLATED, flag(p.Isolated))
	if p.Locked {
		info.AddRtAttr(nl.IFLA_BRPORT_LEARNING, flag(false)) // or a container could learn its way in
		info.AddRtAttr(brportLocked, flag(true))
	}
	req.AddData(info)
	if err := n.host.send(req); err != nil {
		return false, err
	}
	return true, n.ensureLocked(p)
}

// ensureLocked looks whether the kernel took the lock: before 5.18 it skips an attribute it does not know.
func (n *Node) ensureLocked(p plan.Port) error {
	if !p.Locked {
		return nil
	}
	got, err := n.observePort(p)
	if err != nil {
		return err
	}
	if !got.(plan.Port).Locked {
		return cnierr.New(cnierr.FeatureMissing, "macspoofchk: true needs locked bridge ports: want Linux 5.18 or later")
	}
	return nil
}

func flag(on bool) []byte {
	if on {
		return []byte{1}
	}
	return []byte{0}
}

// observePort reads the port's settings itself, from IFLA_LINKINFO/IFLA_INFO_SLAVE_DATA: the library does not know the
// lock.
func (n *Node) observePort(p plan.Port) (plan.Object, error) {
	link, err := n.host.look(p.Link)
	if err != nil {
		return nil, err
	}
	got := plan.Port{Link: p.Link}
	setting := func(kind uint16, value []byte) {
		on := len(value) > 0 && value[0] == 1
		switch kind {
		case nl.IFLA_BRPORT_MODE:
			got.Hairpin = on
		case nl.IFLA_BRPORT_ISOLATED:
			got.Isolated = on
		case brportLocked:
			got.Locked = on
		}
	}
	walk(link, unix.IFLA_LINKINFO, func(info []byte) {
		walk(info, nl.IFLA_INFO_SLAVE_DATA, func(port []byte) { walkAll(port, setting) })
	})
	return got, nil
}

// applyForwarding pins the container's address to its port, which a locked port needs to let anything in.
func (n *Node) applyForwarding(f plan.Forwarding) (bool, error) {
	entry, h, err := n.forwarding(f)
	if err != nil {
		return false, err
	}
	return true, h.NeighSet(entry)
}

func (n *Node) forwarding(f plan.Forwarding) (*netlink.Neigh, *netlink.Handle, error) {
	index, err := n.host.indexOf(f.Link)
	if err != nil {
		return nil, nil, err
	}
	h, err := n.host.handle()
	return &netlink.Neigh{
		Family: unix.AF_BRIDGE, LinkIndex: index, HardwareAddr: f.MAC, Vlan: int(f.VLAN),
		State: netlink.NUD_NOARP, Flags: netlink.NTF_MASTER,
	}, h, err
}

func (n *Node) observeForwarding(f plan.Forwarding) (plan.Object, error) {
	entry, h, err := n.forwarding(f)
	if err != nil {
		return nil, err
	}
	list, err := h.NeighList(entry.LinkIndex, unix.AF_BRIDGE)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.HardwareAddr.String() == f.MAC.String() && e.Vlan == int(f.VLAN) && e.State&netlink.NUD_NOARP != 0 {
			return f, nil
		}
	}
	return nil, syscall.ENOENT
}

func (n *Node) applyPortVLANs(v plan.PortVLANs) (bool, error) {
	index, err := n.host.indexOf(v.Link)
	if err != nil {
		return false, err
	}
	h, err := n.host.handle()
	if err != nil {
		return false, err
	}
	port := device(index)
	if !v.KeepDefault {
		// A new port is a member of the bridge's default VLAN and nothing else.
		if err := h.BridgeVlanDelRange(port, 1, 4094, false, false, false, true); err != nil && !missing(err) {
			return false, vlanError(err)
		}
	}
	if err := h.BridgeVlanAdd(port, v.PVID, true, true, false, true); err != nil {
		return false, vlanError(err)
	}
	for _, id := range v.Tagged {
		if err := h.BridgeVlanAdd(port, id, false, false, false, true); err != nil {
			return false, vlanError(err)
		}
	}
	return true, nil
}

func vlanError(err error) error {
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return noVLANs(err)
	}
	return err
}

func (n *Node) observePortVLANs(v plan.PortVLANs) (plan.Object, error) {
	index, err := n.host.indexOf(v.Link)
	if err != nil {
		return nil, err
	}
	h, err := n.host.handle()
	if err != nil {
		return nil, err
	}
	list, err := h.BridgeVlanList()
	if err != nil {
		return nil, err
	}
	got := plan.PortVLANs{Link: v.Link, KeepDefault: v.KeepDefault}
	wanted := map[uint16]bool{}
	for _, id := range v.Tagged {
		wanted[id] = true
	}
	for _, info := range list[int32(index)] {
		switch {
		case info.PortVID():
			got.PVID = info.Vid
		case wanted[info.Vid] || !v.KeepDefault:
			got.Tagged = append(got.Tagged, info.Vid)
		}
	}
	return got, nil
}
