package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// applyBridge fails with ErrBridgeGone when the bridge went between two of its requests.
func (n *Node) applyBridge(b plan.Bridge) (created bool, err error) {
	created, err = n.meetBridge(b)
	if missing(err) {
		n.forgetBridge(b.Name)
		return false, errors.Join(ErrBridgeGone, err)
	}
	return created, err
}

// forgetBridge forgets what this call knows of a bridge that is gone.
func (n *Node) forgetBridge(name string) {
	delete(n.host.known, name)
	delete(n.found, name)
}

// meetBridge looks first: nearly always the bridge is there. A hardware address given in the creating request counts as
// set by the user (NET_ADDR_SET), so neither the ports nor udev change it later.
func (n *Node) meetBridge(b plan.Bridge) (bool, error) {
	l, err := n.glimpse(b.Name)
	created := false
	if missing(err) {
		created, err = n.createBridge(b)
		if err == nil {
			l, err = n.host.linkByName(b.Name)
		}
	}
	if err != nil {
		return created, err
	}
	n.host.known[b.Name] = l.Attrs()
	if madeHere(l) && l.Attrs().Alias == "" {
		if err := n.finishBridge(b, l.Attrs()); err != nil {
			return created, err
		}
	}
	if err := fits(b, l); err != nil {
		return created, err
	}
	adjusted, err := n.adjustBridge(b, l)
	if adjusted && !created {
		n.found[b.Name] = l
	}
	return created || adjusted, err
}

// glimpse is linkByName for an interface that was looked at a moment ago, once.
func (n *Node) glimpse(name string) (l netlink.Link, err error) {
	l, n.glimpsed = n.glimpsed, nil
	if l == nil || l.Attrs().Name != name {
		l, err = n.host.linkByName(name)
	}
	return l, err
}

// madeHere reports whether a bridge has a hardware address such as this plugin gives to one of its name. The alias says
// whose it is, but takes a request of its own, before which an ADD can be killed.
func madeHere(l netlink.Link) bool {
	return l.Type() == "bridge" && bytes.HasPrefix(l.Attrs().HardwareAddr, plan.BridgeMAC(l.Attrs().Name))
}

// finishBridge does what a creating request cannot: it writes the alias, and an MTU that counts as set by the user. The
// kernel would otherwise take that of the ports, and 1500 when the last one leaves (br_mtu_auto_adjust).
func (n *Node) finishBridge(b plan.Bridge, made *netlink.LinkAttrs) error {
	req := n.host.labelRequest(made.Index, b.Alias)
	if b.MTU > 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(b.MTU))))
	}
	if err := n.host.send(req); err != nil {
		return fmt.Errorf("write the bridge's alias and MTU: %w", err)
	}
	if b.MTU > 0 {
		made.MTU = b.MTU
	}
	return nil
}

// complete draws the bytes that a hardware address lacks, of a unicast address that is locally administered.
func complete(begin net.HardwareAddr) net.HardwareAddr {
	const length = 6 // ETH_ALEN
	mac := make(net.HardwareAddr, length)
	_, _ = unix.Getrandom(mac, 0) // never fails for so few bytes once the machine has booted (getrandom(2))
	mac[0] = mac[0]&^1 | 2
	copy(mac, begin)
	return mac
}

// createBridge reports false when another call made the bridge at the same moment.
func (n *Node) createBridge(b plan.Bridge) (bool, error) {
	req, msg := n.host.linkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0)
	msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(b.Name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, complete(b.MAC)))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(b.Group)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	if b.VLANs {
		info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.IFLA_BR_VLAN_FILTERING, []byte{1})
	}
	req.AddData(info)
	err := n.host.send(req)
	switch {
	case errors.Is(err, syscall.EEXIST):
		return false, nil
	case errors.Is(err, syscall.EOPNOTSUPP) && b.VLANs:
		return false, noVLANs(err)
	case errors.Is(err, syscall.EOPNOTSUPP):
		return false, cnierr.Wrap(cnierr.FeatureMissing, err, "this kernel has no bridges: want CONFIG_BRIDGE")
	case err != nil:
		return false, fmt.Errorf("create the bridge: %w", err)
	}
	// Detection begins with the first port, and until it is over for the bridge's link-local address the host asks no
	// neighbour on the bridge for packets it forwards there (ndisc_send_ns): IPv6 from elsewhere would be lost meanwhile.
	dad := plan.Sysctl{Key: "net/ipv6/conf/" + b.Name + "/accept_dad", Value: "0", IfPresent: true}
	if _, err := n.applySysctl(dad); err != nil {
		return true, fmt.Errorf("%s: %w", dad.ID(), err)
	}
	return true, nil
}

func noVLANs(err error) error {
	return cnierr.Wrap(cnierr.FeatureMissing, err,
		"vlan: bridges of this kernel do not filter VLANs: want a kernel with CONFIG_BRIDGE_VLAN_FILTERING")
}

// fits refuses an interface that cannot serve as the bridge.
func fits(b plan.Bridge, l netlink.Link) error {
	if l.Type() != "bridge" {
		return cnierr.New(cnierr.Conflict, "bridge: %q is an interface of kind %q: want a bridge, or a free name", b.Name, l.Type())
	}
	if mtu := l.Attrs().MTU; b.MTU > mtu {
		return cnierr.New(cnierr.Conflict, "mtu: %d is more than the %d of bridge %q: want at most that", b.MTU, mtu, b.Name)
	}
	return nil
}

// adjustBridge changes of an existing bridge only what the plan insists on and others do not mind.
func (n *Node) adjustBridge(b plan.Bridge, l netlink.Link) (adjusted bool, err error) {
	if b.VLANs && !filtersVLANs(l) {
		if err := n.filterVLANs(l.Attrs().Index, true); err != nil {
			return false, err
		}
		adjusted = true
	}
	want := l.Attrs().RawFlags&bridgeFlags | unix.IFF_UP
	if b.Promisc {
		want |= unix.IFF_PROMISC
	}
	if want == l.Attrs().RawFlags&bridgeFlags {
		return adjusted, nil
	}
	return true, n.setFlags(l.Attrs().Index, want)
}

// bridgeFlags are those that a plan may change.
const bridgeFlags = unix.IFF_UP | unix.IFF_PROMISC

func (n *Node) setFlags(index int, flags uint32) error {
	req, msg := n.host.linkRequest(unix.RTM_NEWLINK, 0, index)
	msg.Flags, msg.Change = flags, bridgeFlags
	return n.host.send(req)
}

func filtersVLANs(l netlink.Link) bool {
	br, ok := l.(*netlink.Bridge)
	return ok && br.VlanFiltering != nil && *br.VlanFiltering
}

func (n *Node) filterVLANs(index int, on bool) error {
	req, _ := n.host.linkRequest(unix.RTM_NEWLINK, 0, index)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.IFLA_BR_VLAN_FILTERING, flag(on))
	req.AddData(info)
	err := n.host.send(req)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return noVLANs(err)
	}
	return err
}

// observeBridge shows a larger MTU than wanted as the wanted one: a bridge must carry the network's packets, and may
// carry larger ones of others.
func (n *Node) observeBridge(b plan.Bridge) (plan.Object, error) {
	l, err := n.host.linkByName(b.Name)
	if err != nil {
		return nil, err
	}
	a := l.Attrs()
	got := plan.Bridge{
		Name: b.Name, Kind: l.Type(), MTU: a.MTU, MAC: a.HardwareAddr, Alias: a.Alias,
		Up: a.Flags&net.FlagUp != 0, Promisc: a.RawFlags&unix.IFF_PROMISC != 0,
	}
	if got.MTU > b.MTU && b.MTU > 0 {
		got.MTU = b.MTU
	}
	got.VLANs = filtersVLANs(l)
	return got, nil
}

// Changed reports whether Apply has changed a bridge that was there before.
func (n *Node) Changed(b plan.Bridge) bool {
	_, ok := n.found[b.Name]
	return ok
}

// undoBridge removes the bridge that this call has made, and nobody else uses: one that another call has joined meanwhile
// stays. A bridge that was there before gets back what it was.
func (n *Node) undoBridge(b plan.Bridge) error {
	if was, ok := n.found[b.Name]; ok {
		return n.restoreBridge(b, was)
	}
	index, err := n.host.indexOf(b.Name)
	if err != nil {
		return err
	}
	return n.removeUnused(index)
}

func (n *Node) restoreBridge(b plan.Bridge, was netlink.Link) error {
	var failed []error
	if b.VLANs && !filtersVLANs(was) {
		failed = append(failed, n.filterVLANs(was.Attrs().Index, false))
	}
	failed = append(failed, n.setFlags(was.Attrs().Index, was.Attrs().RawFlags&bridgeFlags))
	return errors.Join(failed...)
}

// Joined reports whether a bridge, or the bridge below a VLAN interface, has any ports. An interface that is gone, as the
// host end of a failed ADD is, has none. It walks all interfaces.
func (n *Node) Joined(name string) (bool, error) {
	l, err := n.host.linkByName(name)
	if err != nil {
		return false, present(err)
	}
	bridge := l.Attrs().Index
	if l.Type() == "vlan" {
		bridge = l.Attrs().ParentIndex
	}
	return n.hasPorts(bridge)
}

// applyVLANInterface makes the bridge a member of the VLAN and puts an 802.1Q interface on it.
func (n *Node) applyVLANInterface(v plan.VLANInterface) (bool, error) {
	if _, err := n.host.linkByName(v.Name); err == nil {
		return false, n.fitsVLAN(v)
	} else if !missing(err) {
		return false, err
	}
	parent, err := n.host.indexOf(v.Bridge)
	if err != nil {
		return false, err
	}
	if err := n.joinVLAN(v, parent); err != nil {
		return false, fmt.Errorf("make bridge %s a member of VLAN %d: %w", v.Bridge, v.VLAN, err)
	}
	link := &netlink.Vlan{
		LinkAttrs: netlink.LinkAttrs{
			Name: v.Name, ParentIndex: parent, Flags: net.FlagUp, TxQLen: -1, Group: v.Group,
		},
		VlanId: int(v.VLAN),
	}
	err = n.host.library.LinkAdd(link)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, syscall.EEXIST):
		return false, nil
	case errors.Is(err, syscall.EOPNOTSUPP):
		err = cnierr.Wrap(cnierr.FeatureMissing, err,
			"vlan: this kernel has no VLAN interfaces, which isGateway needs on VLAN %d: want CONFIG_VLAN_8021Q", v.VLAN)
	}
	return false, errors.Join(err, n.leaveVLAN(v))
}

// joinVLAN makes the bridge itself a member of the VLAN, and remembers whether it was one before.
func (n *Node) joinVLAN(v plan.VLANInterface, bridge int) error {
	h, err := n.host.handle()
	if err != nil {
		return err
	}
	members, err := h.BridgeVlanList()
	if err != nil {
		return err
	}
	own := members[int32(bridge)]
	was := slices.ContainsFunc(own, func(i *nl.BridgeVlanInfo) bool { return i.Vid == v.VLAN })
	if err := h.BridgeVlanAdd(device(bridge), v.VLAN, false, false, true, false); err != nil {
		return vlanError(err)
	}
	n.joined[v] = !was
	return nil
}

// leaveVLAN takes back what joinVLAN did.
func (n *Node) leaveVLAN(v plan.VLANInterface) error {
	if !n.joined[v] {
		return nil
	}
	bridge, err := n.host.indexOf(v.Bridge)
	if err != nil {
		return err
	}
	return n.host.library.BridgeVlanDel(device(bridge), v.VLAN, false, false, true, false)
}

// fitsVLAN refuses an interface that has the name and is not the VLAN's.
func (n *Node) fitsVLAN(v plan.VLANInterface) error {
	if found := n.differences(v); len(found) > 0 {
		return cnierr.New(cnierr.Conflict, "vlan: %s", found)
	}
	return nil
}

func (n *Node) observeVLANInterface(v plan.VLANInterface) (plan.Object, error) {
	l, err := n.host.linkByName(v.Name)
	if err != nil {
		return nil, err
	}
	got := plan.VLANInterface{Name: v.Name, Up: l.Attrs().Flags&net.FlagUp != 0}
	if vlan, ok := l.(*netlink.Vlan); ok {
		got.VLAN = uint16(vlan.VlanId)
	}
	if parent, err := n.host.indexOf(v.Bridge); err == nil && parent == l.Attrs().ParentIndex {
		got.Bridge = v.Bridge
	}
	return got, nil
}

func (n *Node) undoVLANInterface(v plan.VLANInterface) error {
	if err := n.host.deleteLink(v.Name); err != nil {
		return err
	}
	return n.leaveVLAN(v)
}
