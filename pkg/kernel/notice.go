package kernel

import (
	"encoding/hex"
	"errors"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A bridge is removed when nobody is on it, and nobody holds a lock from the look at its ports to its removal. So whoever
// removes gives notice first, and whoever joins takes it down:
//
//   - Who removes draws a name that nobody else has ever had, and gives it to the bridge as an alternative name, once: the
//     notice. Then it looks for ports. If there are any it takes its notice down. If not, it has the kernel remove the
//     interface of the notice's name, which is nothing when somebody has taken that down.
//   - Who joins has made its port when it looks at the bridge, and takes down every notice it finds. If the bridge is gone
//     then, its port is on nothing: it takes the pair back and begins anew.
//
// The kernel carries out each request alone, under the RTNL lock, so all of them have an order. Let a removal succeed by
// notice N after somebody has joined and found no notice, or has taken down all it found. N is there until the removal, and
// N is put up once: so it was put up after the joiner's look. The remover looked for ports after that, when the joiner's had
// long been there. Then it does not remove: there is no such removal. A removal before the joiner is done leaves an index
// that no interface will ever have again, and the joiner's next request fails with ENODEV.
//
// Any number may remove and join at once, because nobody takes down its own notice in place of another's. Whoever is killed
// leaves a notice that nobody acts on and the next to join takes down. What the bridge is to others, its name, its group,
// its addresses, is the same all the while.

// noticePrefix begins a notice, which with eight digits has the 15 bytes of an interface's name: the kernel removes by
// IFLA_IFNAME whatever has the name, and says ENODEV if nothing has. Of IFLA_ALT_IFNAME alone it says EINVAL then
// (rtnl_dellink).
const noticePrefix = "vethrm-"

func newNotice() string {
	var drawn [4]byte
	_, _ = unix.Getrandom(drawn[:], 0) // as in complete
	return noticePrefix + hex.EncodeToString(drawn[:])
}

// removeUnused removes a bridge unless it has ports. It is no error that others have removed or joined it meanwhile.
func (n *Node) removeUnused(bridge int) error {
	notice := newNotice()
	if err := n.host.addAltNames(bridge, notice); err != nil {
		return present(err)
	}
	joined, err := n.hasPorts(bridge)
	return errors.Join(err, present(n.host.followUp(bridge, notice, joined || err != nil)))
}

// followUp has the bridge of a notice removed, or takes the notice down from one that stays.
func (s *side) followUp(bridge int, notice string, stays bool) error {
	if stays {
		return s.send(s.altNamesRequest(unix.RTM_DELLINKPROP, bridge, notice))
	}
	req, _ := s.linkRequest(unix.RTM_DELLINK, 0, 0)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(notice)))
	return s.send(req)
}

// hasPorts walks all interfaces.
func (n *Node) hasPorts(bridge int) (bool, error) {
	links, err := n.dumpLinks()
	for _, port := range links {
		if port.Attrs().MasterIndex == bridge {
			return true, err
		}
	}
	return false, err
}

// keep takes down the notices on a bridge that a port has joined, given what the kernel said of the bridge since. It fails
// with ENODEV when the bridge is gone. A notice that is down already is as good.
func (s *side) keep(bridge int, look answer) error {
	if look.err != nil {
		return look.err
	}
	var down []*nl.NetlinkRequest
	for _, message := range look.messages {
		walk(message[unix.SizeofIfInfomsg:], unix.IFLA_PROP_LIST, func(names []byte) {
			walk(names, unix.IFLA_ALT_IFNAME, func(b []byte) {
				if name := unix.ByteSliceToString(b); strings.HasPrefix(name, noticePrefix) {
					down = append(down, s.altNamesRequest(unix.RTM_DELLINKPROP, bridge, name))
				}
			})
		})
	}
	if len(down) == 0 {
		return nil
	}
	answers, err := s.socket.exchange(down...)
	for _, a := range answers {
		if !errors.Is(a.err, syscall.ENOENT) {
			err = errors.Join(err, a.err)
		}
	}
	return err
}
