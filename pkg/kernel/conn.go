package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// side is one network namespace as the plugin talks to it. Requests go through a socket that stays bound to the
// namespace and answers with the kernel's own words (extended acks). The library's handle, which looks more up than an
// ADD can afford, is opened only by those who observe.
type side struct {
	space     netns.NsHandle // netns.None(): the namespace of the calling thread
	socket    *socket
	netfilter *nl.SocketHandle // opened by those who need it
	library   *netlink.Handle
	known     map[string]*netlink.LinkAttrs // interfaces met; an index never changes and is never reused
	born      string                        // the end of the pair that this call made

	acceptRA map[string]int32 // of interfaces met
}

// dial connects to the namespace of the calling thread, which is called space by who opens more of it.
func dial(space netns.NsHandle) (*side, error) {
	socket, err := newSocket()
	if err != nil {
		return nil, err
	}
	// The loopback interface is the first of each namespace (LOOPBACK_IFINDEX, include/net/flow.h).
	known := map[string]*netlink.LinkAttrs{"lo": {Name: "lo", Index: 1}}
	return &side{space: space, socket: socket, known: known, acceptRA: map[string]int32{}}, nil
}

func (s *side) close() {
	s.socket.close()
	if s.netfilter != nil {
		s.netfilter.Close()
	}
	if s.library != nil {
		s.library.Close()
	}
}

// handle is the library's view of the namespace, for looking.
func (s *side) handle() (*netlink.Handle, error) {
	if s.library == nil {
		h, err := netlink.NewHandleAt(s.space, unix.NETLINK_ROUTE)
		if err != nil {
			return nil, fmt.Errorf("open a rtnetlink socket: %w", err)
		}
		s.library = h
	}
	return s.library, nil
}

// request begins a message whose answer is an acknowledgement, or an error.
func (s *side) request(kind, flags int) *nl.NetlinkRequest {
	return nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
}

// linkRequest begins a message about an interface, whose flags and their mask the caller may still set.
func (s *side) linkRequest(kind, flags, index int) (*nl.NetlinkRequest, *nl.IfInfomsg) {
	req, msg := s.request(kind, flags), nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	return req, msg
}

// send has the kernel carry out a request.
func (s *side) send(req *nl.NetlinkRequest) error {
	_, err := s.ask(req)
	return err
}

// ask has the kernel carry out a request, and returns the messages that answer it.
func (s *side) ask(req *nl.NetlinkRequest) ([][]byte, error) {
	answers, err := s.socket.exchange(req)
	if err != nil {
		return nil, err
	}
	return answers[0].messages, answers[0].err
}

// indexOf finds an interface by its name, once.
func (s *side) indexOf(name string) (int, error) {
	if known, ok := s.known[name]; ok {
		return known.Index, nil
	}
	l, err := s.linkByName(name)
	if err != nil {
		return 0, err
	}
	s.known[name] = l.Attrs()
	return l.Attrs().Index, nil
}

// skipStats is RTEXT_FILTER_SKIP_STATS of include/uapi/linux/rtnetlink.h.
const skipStats = 1 << 3

// linkByName finds an interface by its name or an alternative name, in O(1): the kernel hashes both.
func (s *side) linkByName(name string) (netlink.Link, error) {
	message, err := s.linkMessage(name)
	if err != nil {
		return nil, err
	}
	s.meetConf(name, message)
	return readLink(message), nil
}

// look is linkByName for who needs little of what the kernel tells: its attributes (IFLA_*).
func (s *side) look(name string) ([]byte, error) {
	message, err := s.linkMessage(name)
	if err != nil {
		return nil, err
	}
	return message[unix.SizeofIfInfomsg:], nil
}

// linkMessage is what the kernel says of an interface by its name.
func (s *side) linkMessage(name string) ([]byte, error) {
	kind := unix.IFLA_IFNAME
	if len(name) >= unix.IFNAMSIZ {
		kind = unix.IFLA_ALT_IFNAME
	}
	message, err := s.getLink(0, nl.NewRtAttr(kind, nl.ZeroTerminated(name))) // any index
	if err != nil {
		return nil, fmt.Errorf("look up interface %s: %w", name, err)
	}
	return message, nil
}

func (s *side) getLink(index int, attrs ...*nl.RtAttr) ([]byte, error) {
	answers, err := s.ask(s.askForLink(index, attrs...))
	if err == nil && len(answers) == 0 {
		err = syscall.ENODEV
	}
	if err != nil {
		return nil, err
	}
	return answers[0], nil
}

// labelRequest writes an interface's alias.
func (s *side) labelRequest(index int, alias string) *nl.NetlinkRequest {
	req, _ := s.linkRequest(unix.RTM_NEWLINK, 0, index)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(alias)))
	return req
}

// askForLink leaves out the counters, which the kernel would have to add up over all processors.
func (s *side) askForLink(index int, attrs ...*nl.RtAttr) *nl.NetlinkRequest {
	req, _ := s.linkRequest(unix.RTM_GETLINK, 0, index)
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	for _, a := range attrs {
		req.AddData(a)
	}
	return req
}

// whole repeats a dump that the kernel marked as interrupted: something came or went meanwhile, and some of what stayed
// may be missing from the answer (NLM_F_DUMP_INTR).
func whole[T any](dump func() ([]T, error)) (list []T, err error) {
	const tries = 10
	for range tries {
		list, err = dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	return list, err
}

// device is an interface as the library takes it.
func device(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// missing reports whether an error says that the thing asked for is not there.
func missing(err error) bool {
	var noLink netlink.LinkNotFoundError
	return errors.As(err, &noLink) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ESRCH) ||
		errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
