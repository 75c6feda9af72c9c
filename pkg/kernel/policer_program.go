package kernel

import (
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
	verdictDrop = 2  // TC_ACT_SHOT
	verdictNext = -1 // TC_ACT_UNSPEC: as the filter after this one says
	ktimeGetNS  = 5  // BPF_FUNC_ktime_get_ns, for programs of any licence since Linux 5.8

	// segmentHeaders is what each further segment of a GSO packet has beyond the packet's own bytes on a wire, at least:
	// the headers of UDP in IPv4 in Ethernet. The shaper counts all, so what it lets pass is never too much here.
	segmentHeaders = 14 + 20 + 8
	// tries bounds the wait for other processors that receive from the same container at the same time. Behind a shaper
	// there are none.
	tries = 4
)

// policerProgram is the program of a policer whose bucket is the one element of a map:
//
//	length += (length/gsoSize - 1) * segmentHeaders
//	ahead  := max(bucket.Full-now, 0) + length*bucket.Cost>>costShift
//	drop if ahead > bucket.Depth, else store now+ahead, or try again if another processor has changed it meanwhile
func policerProgram(bucketMap int) []instruction {
	const (
		result, context, scratch, spare = 0, 1, 2, 3
		old, fresh, attempts            = 1, 2, 4
		depth, bucketAt, length, now    = 6, 7, 8, 9 // these outlive a call
	)
	word := func(offset uintptr) memory { return memory{size: unix.BPF_DW, base: bucketAt, offset: int16(offset)} }
	a := assembler{labels: map[string]int{}, jumps: map[int]string{}}

	a.load(length, memory{unix.BPF_W, context, skbLength})
	a.load(scratch, memory{unix.BPF_W, context, skbGSOSize})
	a.jump(test{scratch, unix.BPF_JEQ, num(0)}, "measured")
	a.do(unix.BPF_MOV, spare, reg(length))
	a.do(unix.BPF_DIV, spare, reg(scratch))
	a.jump(test{spare, unix.BPF_JEQ, num(0)}, "measured")
	a.do(unix.BPF_SUB, spare, num(1))
	a.do(unix.BPF_MUL, spare, num(segmentHeaders))
	a.do(unix.BPF_ADD, length, reg(spare))
	a.label("measured")
	a.element(bucketAt, bucketMap)
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
