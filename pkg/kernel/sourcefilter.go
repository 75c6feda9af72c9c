package kernel

import (
	"bytes"
	"encoding/binary"

	"github.com/vishvananda/netlink/nl"
	classic "golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/plan"
)

// sourceFilterName is what tc(8) shows.
const sourceFilterName = "veth_sources"

// sourceFilterAt is the place of the filter on what an interface receives: second, behind what limits a rate, so that
// forged packets count as well.
func sourceFilterAt(index int) nl.TcMsg {
	const second = 2 << 16 // priority, in the upper half
	at := policerFilter(index)
	at.Info = second | at.Info&0xffff
	return at
}

// applySourceFilter attaches a program to what an interface receives, where the bridge has not seen it yet. The program
// is the filter's and the filter the interface's: nothing is left of either when it goes.
func (n *Node) applySourceFilter(f plan.SourceFilter) (bool, error) {
	const key = "antiSpoof on a bridge"
	index, err := n.host.indexOf(f.Link)
	if err != nil {
		return false, err
	}
	code, err := encodeProgram(f)
	if err != nil {
		return false, err
	}
	if err := n.ensureClsact(index, key); err != nil {
		return false, err
	}
	req := n.host.discipline(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, sourceFilterAt(index))
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("bpf")))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_BPF_OPS_LEN, nl.Uint16Attr(uint16(len(code)/unix.SizeofSockFilter)))
	options.AddRtAttr(nl.TCA_BPF_OPS, code)
	options.AddRtAttr(nl.TCA_BPF_NAME, nl.ZeroTerminated(sourceFilterName))
	options.AddRtAttr(nl.TCA_BPF_FLAGS, nl.Uint32Attr(nl.TCA_BPF_FLAG_ACT_DIRECT))
	req.AddData(options)
	if err := n.host.send(req); err != nil {
		return false, lacking(err, key+" needs the classifier bpf: want the kernel module cls_bpf")
	}
	return true, nil
}

// encodeProgram is the program as an array of struct sock_filter (include/uapi/linux/filter.h).
func encodeProgram(f plan.SourceFilter) ([]byte, error) {
	raw, err := classic.Assemble(sourceFilterProgram(f))
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
	req := n.host.discipline(unix.RTM_GETTFILTER, 0, sourceFilterAt(index))
	_, options, err := n.host.askDiscipline(req)
	if err != nil {
		return nil, err
	}
	want, err := encodeProgram(f)
	if err != nil {
		return nil, err
	}
	var code []byte
	walk(options, nl.TCA_BPF_OPS, func(b []byte) { code = b })
	if !bytes.Equal(code, want) {
		f.State = "another program"
	}
	return f, nil
}

// ProbeSourceFilter reports whether the kernel has what a source filter needs, by making one in a namespace that is
// thrown away. It fails with FeatureMissing.
func (n *Node) ProbeSourceFilter() error {
	const link = "probe"
	return try("source filters", plan.Bridge{Name: link, Kind: "bridge", MAC: []byte{2, 0, 0, 0, 0, 1}},
		plan.SourceFilter{Link: link, MAC: []byte{2, 0, 0, 0, 0, 2}})
}
