package kernel

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// From include/uapi/linux/pkt_sched.h.
const (
	tcClsact  = 0xfffffff1 // TC_H_CLSACT
	tcIngress = 0xfffffff2 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
)

// policerName is what tc(8) and bpftool(8) show.
const policerName = "veth_policer"

// policerFilter places the policer before every other filter on what the host end receives.
func policerFilter(index int) nl.TcMsg {
	const first = 1 << 16 // priority, in the upper half
	return nl.TcMsg{
		Ifindex: int32(index), Parent: tcIngress, Handle: 1,
		Info: first | uint32(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})), // the protocol, in network order
	}
}

// applyPolicer attaches a program to what the host end receives. Program and map are held by the filter, the filter by
// the interface: nothing is pinned, and all of it goes when the interface goes, or this process before it is done.
func (n *Node) applyPolicer(p plan.Policer) (bool, error) {
	index, err := n.host.indexOf(p.Link)
	if err != nil {
		return false, err
	}
	program, err := loadPolicer(bucketOf(p))
	if err != nil {
		return false, policerError(err)
	}
	defer unix.Close(program)
	if err := n.ensureClsact(index, "egressRate"); err != nil {
		return false, err
	}
	req := n.host.discipline(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, policerFilter(index))
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("bpf")))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_BPF_FD, nl.Uint32Attr(uint32(program)))
	options.AddRtAttr(nl.TCA_BPF_NAME, nl.ZeroTerminated(policerName))
	options.AddRtAttr(nl.TCA_BPF_FLAGS, nl.Uint32Attr(nl.TCA_BPF_FLAG_ACT_DIRECT))
	req.AddData(options)
	if err := n.host.send(req); err != nil {
		return false, lacking(err, "egressRate needs the classifier bpf: want the kernel module cls_bpf")
	}
	return true, nil
}

// ensureClsact adds the queueing discipline that filters of what an interface receives hang on, for a key.
func (n *Node) ensureClsact(index int, key string) error {
	req := n.host.discipline(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL, nl.TcMsg{
		Ifindex: int32(index), Parent: tcClsact, Handle: tcClsact &^ 0xffff,
	})
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("clsact")))
	if err := n.host.send(req); err != nil && !errors.Is(err, syscall.EEXIST) {
		return lacking(err, key+" needs the queueing discipline clsact: want the kernel module sch_ingress")
	}
	return nil
}

// notCompiled is ENOTSUPP of include/linux/errno.h, which was not meant to leave the kernel (bpf_prog_select_runtime,
// kernel/bpf/core.c).
const notCompiled = syscall.Errno(524)

func policerError(err error) error {
	switch {
	case errors.Is(err, syscall.EPERM):
		return cnierr.Wrap(cnierr.FeatureMissing, err,
			"egressRate needs BPF: want CAP_BPF and CAP_NET_ADMIN in the initial user namespace")
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS):
		return cnierr.Wrap(cnierr.FeatureMissing, err, "egressRate needs BPF with atomic exchange: want Linux 5.12 or later")
	case errors.Is(err, notCompiled):
		return cnierr.Wrap(cnierr.FeatureMissing, err, "egressRate needs BPF with atomic exchange, which this kernel cannot compile "+
			"for its processor and does not interpret: want a later one, or CONFIG_BPF_JIT_ALWAYS_ON off")
	}
	return err
}

func (n *Node) observePolicer(p plan.Policer) (plan.Object, error) {
	index, err := n.host.indexOf(p.Link)
	if err != nil {
		return nil, err
	}
	req := n.host.discipline(unix.RTM_GETTFILTER, 0, policerFilter(index))
	_, options, err := n.host.askDiscipline(req)
	if err != nil {
		return nil, err
	}
	var id uint32
	walk(options, nl.TCA_BPF_ID, func(b []byte) { id = nl.NativeEndian().Uint32(b) })
	seen, err := readBucket(id)
	if err != nil {
		return nil, err
	}
	want := bucketOf(p)
	if seen.Cost == want.Cost && seen.Depth == want.Depth {
		return p, nil
	}
	return seen.policer(p.Link), nil
}

// bucket is the policer's memory, shared with its program: a token bucket counted in time (the generic cell rate
// algorithm of ITU-T I.371), so that it is one word and one atomic operation. Full is when the bucket will be full
// again; a packet passes if that is not more than Depth away with it.
type bucket struct {
	Cost    uint64 // nanoseconds a byte takes at the rate, times 2^costShift
	Depth   uint64 // nanoseconds the burst takes at the rate
	Full    uint64 // CLOCK_MONOTONIC, nanoseconds
	Dropped uint64 // packets
}

// costShift leaves 24 bits for the length of a packet at the lowest rate, a byte in eight milliseconds.
const costShift = 16

const second = 1e9

func bucketOf(p plan.Policer) bucket {
	hi, lo := bits.Mul64(p.Burst, second)
	depth, _ := bits.Div64(hi, lo, p.Rate) // a burst is a matter of seconds: the quotient fits
	return bucket{Cost: second << costShift / p.Rate, Depth: depth}
}

func (b bucket) policer(link string) plan.Policer {
	p := plan.Policer{Link: link}
	if b.Cost != 0 {
		p.Rate = second << costShift / b.Cost
	}
	hi, lo := bits.Mul64(b.Depth, p.Rate)
	if hi < second {
		p.Burst, _ = bits.Div64(hi, lo, second)
	}
	return p
}
