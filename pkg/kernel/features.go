package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
)

// From include/uapi/linux/ethtool.h. The structs there end in arrays of as many elements as the kernel says; here they are
// bytes.
const (
	featureStrings = 4  // ETH_SS_FEATURES
	stringLength   = 32 // ETH_GSTRING_LEN
)

// ethtool asks the driver of an interface through ioctl(2), SIOCETHTOOL. Any socket of the namespace does. request begins
// with a command, and the answer comes in its place. The kernel's return value is not always 0.
func (s *side) ethtool(link string, request []byte) (int, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&request[0])
	arg := struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the union is longer than a pointer
	}{data: unsafe.Pointer(&request[0])}
	copy(arg.name[:unix.IFNAMSIZ-1], link)
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.descriptor()), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return 0, fmt.Errorf("ask the driver of interface %s: %w", link, errno)
	}
	return int(r), nil
}

// descriptor is a socket of the namespace.
func (s *side) descriptor() int { return s.socket.fd }

// words32 is a request for ethtool of so many words, the first of which is the command.
func words32(n int, first ...uint32) []byte {
	b := make([]byte, 4*n)
	for i, w := range first {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	return b
}

func word(b []byte, i int) uint32 { return binary.NativeEndian.Uint32(b[4*i:]) }

// channels counts the queues that an interface uses (struct ethtool_channels).
func (s *side) channels(link string) (netconf.Queues, error) {
	const rx, tx, length = 5, 6, 9
	b := words32(length, unix.ETHTOOL_GCHANNELS)
	_, err := s.ethtool(link, b)
	return netconf.Queues{Tx: int(word(b, tx)), Rx: int(word(b, rx))}, err
}

// featureBits numbers the features by their names. The numbers are this kernel's, the names are for good.
func (s *side) featureBits(link string) (map[string]int, int, error) {
	const head = 4                                          // words of struct ethtool_sset_info before its data
	b := words32(head+1, unix.ETHTOOL_GSSET_INFO)           // command, reserved,
	binary.NativeEndian.PutUint64(b[8:], 1<<featureStrings) // the mask of sets, then a count for each
	if _, err := s.ethtool(link, b); err != nil {
		return nil, 0, err
	}
	count := int(word(b, head))
	const start = 12 // struct ethtool_gstrings: command, set, length
	names := append(words32(start/4, unix.ETHTOOL_GSTRINGS, featureStrings, uint32(count)), make([]byte, count*stringLength)...)
	if _, err := s.ethtool(link, names); err != nil {
		return nil, 0, err
	}
	bits := make(map[string]int, count)
	for i := range count {
		at := start + i*stringLength
		bits[unix.ByteSliceToString(names[at:at+stringLength])] = i
	}
	return bits, count, nil
}

// blocks is how many words a set of bits takes.
func blocks(count int) int { return (count + 31) / 32 }

// setFeatures switches those that are named. The kernel says with its return value that it did not follow
// (ETHTOOL_F_WISH), as when one needs another that is off.
func (s *side) setFeatures(link string, wanted []netconf.Offload) error {
	bits, count, err := s.featureBits(link)
	if err != nil {
		return err
	}
	const head = 2 // words of struct ethtool_sfeatures before its blocks of two: valid, requested
	b := words32(head+2*blocks(count), unix.ETHTOOL_SFEATURES, uint32(blocks(count)))
	for _, o := range wanted {
		bit, known := bits[o.Feature]
		if !known && o.On {
			return cnierr.New(cnierr.FeatureMissing, "offloads: this kernel has no %s: want it left out", o.Feature)
		}
		if !known {
			continue // what is not there is off
		}
		at, mask := head+2*(bit/32), uint32(1)<<(bit%32)
		binary.NativeEndian.PutUint32(b[4*at:], word(b, at)|mask)
		if o.On {
			binary.NativeEndian.PutUint32(b[4*(at+1):], word(b, at+1)|mask)
		}
	}
	result, err := s.ethtool(link, b)
	if err != nil {
		return err
	}
	if result != 0 {
		return s.unswitched(link, wanted)
	}
	return nil
}

// unswitched names the features that the kernel did not switch.
func (s *side) unswitched(link string, wanted []netconf.Offload) error {
	got, err := s.features(link, wanted)
	if err != nil {
		return err
	}
	for i, o := range wanted {
		if got[i] != o {
			err = errors.Join(err, cnierr.New(cnierr.KernelRefused, "offloads: %s stays %s: want it so, or left out",
				o.Feature, map[bool]string{true: "on", false: "off"}[got[i].On]))
		}
	}
	return err
}

// features looks at those that are wanted. One that the kernel does not know is off.
func (s *side) features(link string, wanted []netconf.Offload) ([]netconf.Offload, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	bits, count, err := s.featureBits(link)
	if err != nil {
		return nil, err
	}
	const head, perBlock, active = 2, 4, 2 // of struct ethtool_get_features_block: available, requested, active, never_changed
	b := words32(head+perBlock*blocks(count), unix.ETHTOOL_GFEATURES, uint32(blocks(count)))
	if _, err := s.ethtool(link, b); err != nil {
		return nil, err
	}
	got := make([]netconf.Offload, len(wanted))
	for i, o := range wanted {
		bit, known := bits[o.Feature]
		got[i] = netconf.Offload{
			Feature: o.Feature,
			On:      known && word(b, head+perBlock*(bit/32)+active)&(1<<(bit%32)) != 0,
		}
	}
	return got, nil
}
