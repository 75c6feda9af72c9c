package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// From include/uapi/linux/pkt_sched.h.
const (
	tcRoot            = 0xffffffff // TC_H_ROOT
	linkLayerEthernet = 1          // TC_LINKLAYER_ETHERNET: the kernel computes times itself and wants no table
	tickNanoseconds   = 64         // PSCHED_SHIFT of include/net/pkt_sched.h
	handleOne         = 1 << 16    // "1:" in tc(8)
)

// tbfParms is struct tc_tbf_qopt of include/uapi/linux/pkt_sched.h; its two struct tc_ratespec are spelled out.
type tbfParms struct {
	CellLog, LinkLayer                   uint8
	Overhead, CellAlign, MPU             uint16
	Rate                                 uint32 // bytes a second; all ones where TCA_TBF_RATE64 has more
	PeakCellLog, PeakLinkLayer           uint8
	PeakOverhead, PeakCellAlign, PeakMPU uint16
	PeakRate                             uint32
	Limit                                uint32 // bytes
	Buffer                               uint32 // the burst as time at the rate, in ticks
	MTU                                  uint32
}

// applyShaper makes tbf the root queueing discipline of a new interface.
func (n *Node) applyShaper(s plan.Shaper) (bool, error) {
	side := n.side(s.Place)
	index, err := side.indexOf(s.Link)
	if err != nil {
		return false, err
	}
	parms := tbfParms{
		LinkLayer: linkLayerEthernet, Limit: s.Queue,
		Rate: uint32(min(s.Rate, math.MaxUint32)),
	}
	req := side.discipline(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, nl.TcMsg{
		Ifindex: int32(index), Parent: tcRoot, Handle: handleOne,
	})
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("tbf")))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_TBF_PARMS, words(parms))
	options.AddRtAttr(nl.TCA_TBF_BURST, nl.Uint32Attr(s.Burst))
	if s.Rate > math.MaxUint32 {
		options.AddRtAttr(nl.TCA_TBF_RATE64, nl.Uint64Attr(s.Rate))
	}
	req.AddData(options)
	if err := side.send(req); err != nil {
		return false, lacking(err, "shaping needs the queueing discipline tbf: want the kernel module sch_tbf")
	}
	if s.GSO == 0 {
		return true, nil
	}
	req, _ = side.linkRequest(unix.RTM_NEWLINK, 0, index)
	req.AddData(nl.NewRtAttr(unix.IFLA_GSO_MAX_SIZE, nl.Uint32Attr(s.GSO)))
	return true, side.send(req)
}

// ProbeBandwidth reports whether the kernel can shape, and police when egress is set. It fails with FeatureMissing.
func (n *Node) ProbeBandwidth(egress bool) error {
	const loopback, some = "lo", 1 << 16
	objects := []plan.Object{plan.Shaper{Link: loopback, Rate: some, Burst: some, Queue: some}}
	if egress {
		objects = append(objects, plan.Policer{Link: loopback, Rate: some, Burst: some})
	}
	return try("limits of bandwidth", objects...)
}

// observeShaper asks for the one root queueing discipline.
func (n *Node) observeShaper(s plan.Shaper) (plan.Object, error) {
	side := n.side(s.Place)
	index, err := side.indexOf(s.Link)
	if err != nil {
		return nil, err
	}
	req := side.discipline(unix.RTM_GETQDISC, unix.NLM_F_ECHO, nl.TcMsg{Ifindex: int32(index), Parent: tcRoot})
	kind, options, err := side.askDiscipline(req)
	if err != nil {
		return nil, err
	}
	if kind != "tbf" {
		return nil, syscall.ENOENT
	}
	got := shaperSeen(s, options)
	link, err := side.linkByName(s.Link)
	if err != nil {
		return nil, err
	}
	got.GSO = link.Attrs().GSOMaxSize
	return got, nil
}

func shaperSeen(want plan.Shaper, options []byte) plan.Shaper {
	var parms tbfParms
	got := plan.Shaper{Place: want.Place, Link: want.Link}
	walk(options, nl.TCA_TBF_PARMS, func(b []byte) {
		_, _ = binary.Decode(b, nl.NativeEndian(), &parms)
	})
	got.Rate, got.Queue = uint64(parms.Rate), parms.Limit
	walk(options, nl.TCA_TBF_RATE64, func(b []byte) {
		got.Rate = nl.NativeEndian().Uint64(b)
	})
	got.Burst = burstSeen(parms.Buffer, got.Rate, want.Burst)
	return got
}

// burstSeen turns the kernel's ticks back into bytes. It rounded to whole ticks, so a burst as long as the wanted one, give
// or take what passes in a tick, is that.
func burstSeen(ticks uint32, rate uint64, want uint32) uint32 {
	perTick := float64(rate) * tickNanoseconds / 1e9
	got := float64(ticks) * perTick
	if math.Abs(got-float64(want)) <= perTick+1 {
		return want
	}
	return uint32(min(got, math.MaxUint32))
}

// discipline begins a request about a queueing discipline or a filter.
func (s *side) discipline(kind, flags int, msg nl.TcMsg) *nl.NetlinkRequest {
	req := s.request(kind, flags)
	req.AddData(&msg)
	return req
}

// askDiscipline asks for one queueing discipline or filter. The kernel answers with EINVAL where a discipline is its
// default, and where there is no clsact, which filters hang on.
func (s *side) askDiscipline(req *nl.NetlinkRequest) (kind string, options []byte, err error) {
	answers, err := s.ask(req)
	if errors.Is(err, syscall.EINVAL) || err == nil && len(answers) == 0 {
		err = syscall.ENOENT
	}
	if err != nil {
		return "", nil, err
	}
	attrs := answers[0][nl.SizeofTcMsg:]
	walk(attrs, nl.TCA_KIND, func(b []byte) { kind = nl.BytesToString(b) })
	walk(attrs, nl.TCA_OPTIONS, func(b []byte) { options = b })
	return kind, options, nil
}

// words is a struct of fixed size as it lies in the kernel's memory.
func words(v any) []byte {
	b, err := binary.Append(nil, nl.NativeEndian(), v)
	if err != nil {
		panic(fmt.Sprintf("%T has no fixed size: %v", v, err))
	}
	return b
}

// lacking names the part of the kernel that is missing when it says that there is no such thing: tc answers with ENOENT
// for a kind it neither has nor can load.
func lacking(err error, want string) error {
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EOPNOTSUPP) {
		return cnierr.Wrap(cnierr.FeatureMissing, err, "%s", want)
	}
	return err
}
