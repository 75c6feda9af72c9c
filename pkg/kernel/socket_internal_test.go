package kernel

import (
	"encoding/binary"
	"errors"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// acknowledgement is a message of the kernel: an errno, the request's header and what follows it.
func acknowledgement(errno int32, flags uint16, requestLength uint32, rest ...byte) syscall.NetlinkMessage {
	data := binary.NativeEndian.AppendUint32(nil, uint32(-errno))
	header := make([]byte, unix.SizeofNlMsghdr)
	binary.NativeEndian.PutUint32(header, requestLength)
	return syscall.NetlinkMessage{
		Header: syscall.NlMsghdr{Type: unix.NLMSG_ERROR, Flags: flags}, Data: append(append(data, header...), rest...),
	}
}

func TestVerdict(t *testing.T) {
	words := binary.NativeEndian.AppendUint16(nil, 12)
	words = append(binary.NativeEndian.AppendUint16(words, unix.NLMSGERR_ATTR_MSG), "because\x00"...)
	const both = unix.NLM_F_CAPPED | unix.NLM_F_ACK_TLVS
	for _, tt := range []struct {
		name  string
		of    syscall.NetlinkMessage
		errno error
		text  string
	}{
		{"done", acknowledgement(0, unix.NLM_F_CAPPED, 40), nil, ""},
		{"an errno", acknowledgement(17, 0, 40, make([]byte, 24)...), syscall.EEXIST, "file exists"},
		{
			"words after the request", acknowledgement(22, unix.NLM_F_ACK_TLVS, 22, append(make([]byte, 8), words...)...),
			syscall.EINVAL, "invalid argument: because",
		},
		{"words without the request", acknowledgement(int32(unix.EOPNOTSUPP), both, 40, words...), syscall.EOPNOTSUPP, "not supported: because"},
		{"words cut off", acknowledgement(int32(unix.EOPNOTSUPP), both, 40, words[:6]...), syscall.EOPNOTSUPP, "not supported"},
		{"a request longer than the message", acknowledgement(22, unix.NLM_F_ACK_TLVS, 4000), syscall.EINVAL, "invalid argument"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := verdict(tt.of)
			if !errors.Is(err, tt.errno) || err != nil && !strings.HasSuffix(err.Error(), tt.text) {
				t.Errorf("got %v, want %v", err, tt.text)
			}
		})
	}
	if err := verdict(syscall.NetlinkMessage{Data: make([]byte, 10)}); err == nil {
		t.Error("took 10 bytes for an acknowledgement")
	}
}
