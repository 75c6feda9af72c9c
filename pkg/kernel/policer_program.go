package kernel

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets into struct __sk_buff of include/uapi/linux/bpf.h, for the last since Linux 5.7.
const (
	skbLength  = 0
	skbGSOSize = 176
)

const (
	verdictDrop   = 2  // TC_ACT_SHOT
	verdictNext   = -1 // TC_ACT_UNSPEC: as the filter after this one says
	ktimeGetNS    = 5  // BPF_FUNC_ktime_get_ns, for programs of any licence since Linux 5.8
	skbLoadBytes  = 26 // BPF_FUNC_skb_load_bytes
	framePointer  = 10 // the register that points to the end of the stack, and cannot be changed
	tcpLength     = 12 // where in a TCP header its length is, in words, in the upper half of the byte (RFC 9293)
	leastUDP      = 8  // the length of a UDP header, and the least of any transport's
	headersLength = 12 // from the Ethernet type to the protocol of IPv4, which is behind that of IPv6

	// tries bounds the wait for other processors that receive from the same container at the same time. Behind a shaper
	// there are none.
	tries = 4
)

// The registers of the policer's program; those from 6 on outlive a call. context and header are done with when depth and
// now begin.
const (
	result, argument, scratch, spare = 0, 1, 2, 3
	context, bucketAt, length        = 6, 7, 8
	header                           = 9
	old, fresh, attempts             = 1, 2, 4
	depth, now                       = 6, 9
)

// policerProgram is the program of a policer whose bucket is the one element of a map:
//
//	length += (segments - 1) * header, of a GSO packet, as the shaper counts it
//	ahead  := max(bucket.Full-now, 0) + length*bucket.Cost>>costShift
//	drop if ahead > bucket.Depth, else store now+ahead, or try again if another processor has changed it meanwhile
func policerProgram(bucketMap int) []instruction {
	word := func(offset uintptr) memory { return memory{size: unix.BPF_DW, base: bucketAt, offset: int16(offset)} }
	a := assembler{labels: map[string]int{}, jumps: map[int]string{}}

	a.element(bucketAt, bucketMap)
	a.measure()
	a.load(scratch, word(unsafe.Offsetof(bucket{}.Cost)))
	a.do(unix.BPF_MUL, length, reg(scratch)) // from here on in nanoseconds
	a.do(unix.BPF_RSH, length, num(costShift))
	a.load(depth, word(unsafe.Offsetof(bucket{}.Depth)))
	a.call(ktimeGetNS)
	a.do(unix.BPF_MOV, now, reg(result))
	a.do(unix.BPF_MOV, attempts, num(tries))

	a.label("try")
	a.load(old, word(unsafe.Offsetof(bucket{}.Full)))
	a.do(unix.BPF_MOV, fresh, reg(old)) // max without a branch: the verifier follows every branch of every try
	a.do(unix.BPF_SUB, fresh, reg(now))
	a.do(unix.BPF_MOV, spare, reg(fresh))
	a.do(unix.BPF_ARSH, spare, num(63))
	a.do(unix.BPF_XOR, spare, num(-1))
	a.do(unix.BPF_AND, fresh, reg(spare))
	a.do(unix.BPF_ADD, fresh, reg(length))
	a.jump(test{fresh, unix.BPF_JGT, reg(depth)}, "drop")
	a.do(unix.BPF_ADD, fresh, reg(now))
	a.do(unix.BPF_MOV, result, reg(old))
	a.atomic(unix.BPF_CMPXCHG, word(unsafe.Offsetof(bucket{}.Full)), fresh) // r0: what was expected, then what was there
	a.jump(test{result, unix.BPF_JEQ, reg(old)}, "pass")
	a.do(unix.BPF_SUB, attempts, num(1))
	a.jump(test{attempts, unix.BPF_JNE, num(0)}, "try")

	a.label("drop")
	a.do(unix.BPF_MOV, scratch, num(1))
	a.atomic(unix.BPF_ADD, word(unsafe.Offsetof(bucket{}.Dropped)), scratch)
	a.verdict(verdictDrop)
	a.label("pass")
	a.verdict(verdictNext)
	return a.program()
}

// measure puts into length what a packet has on a wire: each segment of a GSO packet has the headers again. How long they
// are the container decides, who may send segments of one byte behind headers of a hundred. Of TCP and UDP they are counted
// to the byte, as the kernel does for the shaper (qdisc_pkt_len_init, net/core/dev.c); of all others, tunnels, as long as
// they are at least: never more than the shaper counts. IPv6 extension headers, which can be of any length, do not go
// with segments: nothing puts them there but the kernel itself, in packets of more than 64 KB (BIG TCP).
func (a *assembler) measure() {
	a.load(length, memory{unix.BPF_W, argument, skbLength})
	a.load(scratch, memory{unix.BPF_W, argument, skbGSOSize})
	a.jump(test{scratch, unix.BPF_JEQ, num(0)}, "measured")
	a.do(unix.BPF_MOV, context, reg(argument))
	a.network()
	a.transport()

	a.label("UDP")
	a.do(unix.BPF_ADD, header, num(leastUDP))
	a.label("exactly")
	a.jump(test{header, unix.BPF_JGE, reg(length)}, "measured")
	a.load(scratch, memory{unix.BPF_W, context, skbGSOSize})
	a.do(unix.BPF_MOV, spare, reg(length))
	a.do(unix.BPF_SUB, spare, reg(header))
	a.do(unix.BPF_SUB, spare, num(1))
	a.to("segments")

	a.label("another")
	a.do(unix.BPF_ADD, header, num(leastUDP))
	a.label("at least")
	a.load(scratch, memory{unix.BPF_W, context, skbGSOSize})
	a.jump(test{scratch, unix.BPF_JGT, reg(length)}, "measured")
	a.do(unix.BPF_MOV, spare, reg(length))
	a.do(unix.BPF_SUB, spare, reg(scratch))

	a.label("segments")
	a.do(unix.BPF_DIV, spare, reg(scratch))
	a.do(unix.BPF_MUL, spare, reg(header))
	a.do(unix.BPF_ADD, length, reg(spare))
	a.label("measured")
}

// network goes where the protocol behind IP leads, with the length of the headers up to there.
func (a *assembler) network() {
	const longest = 1 << 16
	head := func(size uint8, offset int16) memory {
		const etherType = 12
		return memory{size: size, base: framePointer, offset: offset - etherType - headersLength}
	}
	a.do(unix.BPF_MOV, header, num(frameData+20+leastUDP))
	a.bytes(num(frameType), headersLength)
	a.jump(test{result, unix.BPF_JNE, num(0)}, "at least")
	a.load(scratch, head(unix.BPF_H, frameType))
	a.jump(test{scratch, unix.BPF_JEQ, num(inFrame(unix.ETH_P_IPV6))}, "IPv6")
	a.jump(test{scratch, unix.BPF_JNE, num(inFrame(unix.ETH_P_IP))}, "at least")
	a.load(header, head(unix.BPF_B, frameData)) // in its lower half the length of the header in words
	a.do(unix.BPF_AND, header, num(0xf))
	a.do(unix.BPF_LSH, header, num(2))
	a.do(unix.BPF_ADD, header, num(frameData))
	a.load(spare, head(unix.BPF_B, frameData+9))
	a.jump(test{spare, unix.BPF_JEQ, num(unix.IPPROTO_TCP)}, "TCP")
	a.jump(test{spare, unix.BPF_JEQ, num(unix.IPPROTO_UDP)}, "UDP")
	a.to("another")

	a.label("IPv6")
	a.do(unix.BPF_MOV, header, num(icmpKind))
	a.load(spare, head(unix.BPF_B, v6Next))
	a.jump(test{spare, unix.BPF_JEQ, num(unix.IPPROTO_TCP)}, "TCP")
	a.jump(test{spare, unix.BPF_JEQ, num(unix.IPPROTO_UDP)}, "UDP")
	a.jump(test{length, unix.BPF_JGT, num(longest)}, "another")
	for _, extension := range []int32{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS} {
		a.jump(test{spare, unix.BPF_JEQ, num(extension)}, "drop")
	}

	a.to("another")
}

// transport adds the length of a TCP header.
func (a *assembler) transport() {
	a.label("TCP")
	a.do(unix.BPF_MOV, scratch, reg(header))
	a.do(unix.BPF_ADD, scratch, num(tcpLength))
	a.bytes(reg(scratch), 1)
	a.jump(test{result, unix.BPF_JNE, num(0)}, "drop") // there is none
	a.load(spare, memory{unix.BPF_B, framePointer, -1})
	a.do(unix.BPF_RSH, spare, num(4))
	a.do(unix.BPF_LSH, spare, num(2))
	a.do(unix.BPF_ADD, header, reg(spare))
	a.to("exactly")
}

// bytes copies some of the packet's to the end of the stack. The result is not 0 if there are not as many.
func (a *assembler) bytes(from operand, count int32) {
	a.do(unix.BPF_MOV, 2, from)
	a.do(unix.BPF_MOV, 1, reg(context))
	a.do(unix.BPF_MOV, 3, reg(framePointer))
	a.do(unix.BPF_ADD, 3, num(-count))
	a.do(unix.BPF_MOV, 4, num(count))
	a.call(skbLoadBytes)
}

// inFrame is what a number of a frame is when it is read as one of the machine's.
func inFrame(kind uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, kind)))
}

// loadPolicer returns a descriptor of the program. The program holds the map, and a filter the program.
func loadPolicer(b bucket) (int, error) {
	bucketMap, err := createArray(policerName, unsafe.Sizeof(b))
	if err != nil {
		return -1, err
	}
	defer unix.Close(bucketMap)
	if err := arrayElement(unix.BPF_MAP_UPDATE_ELEM, bucketMap, &b); err != nil {
		return -1, err
	}
	return loadClassifier(policerName, policerProgram(bucketMap))
}

// readBucket reads the memory of an attached policer.
func readBucket(programID uint32) (bucket, error) {
	program, err := byID(unix.BPF_PROG_GET_FD_BY_ID, programID)
	if err != nil {
		return bucket{}, err
	}
	defer unix.Close(program)
	bucketMap, err := firstMap(program)
	if err != nil {
		return bucket{}, err
	}
	defer unix.Close(bucketMap)
	var b bucket
	var info mapInfo
	if err := describe(bucketMap, &info); err != nil {
		return bucket{}, err
	}
	if info.Kind != unix.BPF_MAP_TYPE_ARRAY || info.KeySize != 4 || info.ValueSize != uint32(unsafe.Sizeof(b)) {
		return bucket{}, syscall.ENOENT // somebody else's program
	}
	err = arrayElement(unix.BPF_MAP_LOOKUP_ELEM, bucketMap, &b)
	return b, err
}
