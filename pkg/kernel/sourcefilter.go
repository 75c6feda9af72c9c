package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// sourceFilterName is what tc(8) shows.
const sourceFilterName = "veth_sources"

// sourceFilterAt is the place of the filter on the ingress of an interface: second, behind what limits a rate, so that
// forged packets count as well.
func sourceFilterAt(index int) *nl.TcMsg {
	const (
		ingress = 0xfffffff2 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS), include/uapi/linux/pkt_sched.h
		second  = 2 << 16    // priority, in the upper half
	)
	return &nl.TcMsg{
		Family: unix.AF_UNSPEC, Ifindex: int32(index), Parent: ingress, Handle: 1, //nolint:gosec // an index fits 31 bits
		Info: second | uint32(nl.Swap16(unix.ETH_P_ALL)),
	}
}

// applySourceFilter attaches a program to what an interface receives, where the bridge has not seen it yet. The program
// is the filter's and the filter the interface's: nothing is left of either when it goes.
func (n *Node) applySourceFilter(f plan.SourceFilter) (bool, error) {
	index, err := n.host.indexOf(f.Link)
	if err != nil {
		return false, err
	}
	code, err := encodeProgram(f)
	if err != nil {
		return false, err
	}
	if err := n.ensureClsact(index); err != nil {
		return false, err
	}
	req := n.host.request(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	req.AddData(sourceFilterAt(index))
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("bpf")))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_BPF_OPS_LEN, nl.Uint16Attr(uint16(len(code)/unix.SizeofSockFilter))) //nolint:gosec // at most 4096
	options.AddRtAttr(nl.TCA_BPF_OPS, code)
	options.AddRtAttr(nl.TCA_BPF_NAME, nl.ZeroTerminated(sourceFilterName))
	options.AddRtAttr(nl.TCA_BPF_FLAGS, nl.Uint32Attr(nl.TCA_BPF_FLAG_ACT_DIRECT))
	req.AddData(options)
	if err := send(req); err != nil {
		return false, cnierr.Wrap(cnierr.FeatureMissing, err,
			"antiSpoof on a bridge needs the classifier bpf: want the kernel module cls_bpf (CONFIG_NET_CLS_BPF)")
	}
	return true, nil
}

// ensureClsact adds the queueing discipline that filters of what an interface receives hang on.
func (n *Node) ensureClsact(index int) error {
	const parent = 0xfffffff1 // TC_H_CLSACT
	req := n.host.request(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	req.AddData(&nl.TcMsg{
		Family: unix.AF_UNSPEC, Ifindex: int32(index), Parent: parent, Handle: parent &^ 0xffff, //nolint:gosec // an index
	})
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("clsact")))
	if err := send(req); err != nil && !errors.Is(err, syscall.EEXIST) {
		return cnierr.Wrap(cnierr.FeatureMissing, err,
			"antiSpoof on a bridge needs the queueing discipline clsact: want the kernel module sch_ingress (CONFIG_NET_SCH_INGRESS)")
	}
	return nil
}

// encodeProgram is the program as an array of struct sock_filter (include/uapi/linux/filter.h).
func encodeProgram(f plan.SourceFilter) ([]byte, error) {
	raw, err := bpf.Assemble(sourceFilterProgram(f))
	if err != nil {
		return nil, err
	}
	var code []byte
	for _, i := range raw {
		code = binary.NativeEndian.AppendUint16(code, i.Op)
		code = append(code, i.Jt, i.Jf)
		code = binary.NativeEndian.AppendUint32(code, i.K)
	}
	return code, nil
}

// observeSourceFilter compares the program that is there with the one that should be: nothing less shows what it does.
func (n *Node) observeSourceFilter(f plan.SourceFilter) (plan.Object, error) {
	index, err := n.host.indexOf(f.Link)
	if err != nil {
		return nil, err
	}
	req := n.host.request(unix.RTM_GETTFILTER, 0)
	req.AddData(sourceFilterAt(index))
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWTFILTER)
	if errors.Is(err, syscall.EINVAL) || err == nil && len(answers) == 0 {
		return nil, syscall.ENOENT // without clsact there is nowhere to look
	}
	if err != nil {
		return nil, err
	}
	want, err := encodeProgram(f)
	if err != nil {
		return nil, err
	}
	var code []byte
	walk(answers[0][nl.SizeofTcMsg:], nl.TCA_OPTIONS, func(options []byte) {
		walk(options, nl.TCA_BPF_OPS, func(b []byte) { code = b })
	})
	if !bytes.Equal(code, want) {
		f.State = "another program"
	}
	return f, nil
}

// ProbeSourceFilter reports whether the kernel has what a source filter needs, by making one in a namespace that is
// thrown away. It fails with FeatureMissing.
func (n *Node) ProbeSourceFilter() error {
	const link = "probe"
	return try(plan.Bridge{Name: link, Kind: "bridge", MAC: []byte{2, 0, 0, 0, 0, 1}},
		plan.SourceFilter{Link: link, MAC: []byte{2, 0, 0, 0, 0, 2}})
}
