package kernel

import (
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// bpf calls bpf(2) with an attribute, a pointer to a struct that mirrors a part of union bpf_attr.
func bpf[T any](command int, attribute *T) (int, error) {
	size := unsafe.Sizeof(*attribute)
	r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(unsafe.Pointer(attribute)), size)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// address is a pointer as bpf(2) takes it, 64 bits on every machine. What it points to stays where it is until it is
// unpinned.
func address(pins *runtime.Pinner, v any) uint64 {
	pins.Pin(v)
	return uint64(reflect.ValueOf(v).Pointer())
}

// objectName is an object's name as bpf(2) takes it: 15 bytes and a zero (BPF_OBJ_NAME_LEN).
func objectName(s string) (name [16]byte) {
	copy(name[:15], s)
	return name
}

// createArray makes an array map with one element.
func createArray(name string, valueSize uintptr) (int, error) {
	return bpf(unix.BPF_MAP_CREATE, &struct {
		Kind, KeySize, ValueSize, MaxEntries, Flags, InnerFD, NUMANode uint32
		Name                                                           [16]byte
	}{
		Kind: unix.BPF_MAP_TYPE_ARRAY, KeySize: 4, ValueSize: uint32(valueSize), MaxEntries: 1,
		Name: objectName(name),
	})
}

// element is the part of union bpf_attr that addresses a map's element.
type element struct {
	Map   uint32
	_     uint32
	Key   uint64
	Value uint64
	Flags uint64
}

// arrayElement reads or writes, as the command says, the one element of an array map. value points to a struct as long as
// the map's values: the kernel does not ask how long it is.
func arrayElement(command, arrayMap int, value any) error {
	var pins runtime.Pinner
	defer pins.Unpin()
	_, err := bpf(command, &element{
		Map: uint32(arrayMap), Key: address(&pins, new(uint32)), Value: address(&pins, value),
	})
	return err
}

// loadClassifier gives the kernel a program for tc to verify and translate.
func loadClassifier(name string, program []instruction) (int, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	licence := []byte("Apache-2.0\x00")
	attribute := &struct {
		Kind, Instructions       uint32
		Program, Licence         uint64
		LogLevel, LogSize        uint32
		Log                      uint64
		KernelVersion, LoadFlags uint32
		Name                     [16]byte
	}{
		Kind: unix.BPF_PROG_TYPE_SCHED_CLS, Instructions: uint32(len(program)),
		Program: address(&pins, &program[0]), Licence: address(&pins, &licence[0]), Name: objectName(name),
	}
	// The verifier gives up with EAGAIN when a signal comes, and Go's scheduler sends signals to busy threads.
	for range 20 {
		fd, err := bpf(unix.BPF_PROG_LOAD, attribute)
		if !errors.Is(err, syscall.EAGAIN) {
			return fd, err
		}
	}
	return -1, syscall.EAGAIN
}

// byID opens a program or a map, as the command says, by its number.
func byID(command int, id uint32) (int, error) {
	return bpf(command, &struct{ ID, Next, Flags uint32 }{ID: id})
}

// programInfo is the beginning of struct bpf_prog_info.
type programInfo struct {
	Kind, ID                  uint32
	Tag                       [8]byte
	JITedLength, XlatedLength uint32
	JITed, Xlated, LoadTime   uint64
	CreatedBy, Maps           uint32
	MapIDs                    uint64
}

// mapInfo is the beginning of struct bpf_map_info.
type mapInfo struct{ Kind, ID, KeySize, ValueSize, MaxEntries, Flags uint32 }

// describe fills into info what the kernel knows of a program or a map.
func describe[T any](object int, info *T) error {
	var pins runtime.Pinner
	defer pins.Unpin()
	_, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, &struct {
		Object, Length uint32
		Info           uint64
	}{Object: uint32(object), Length: uint32(unsafe.Sizeof(*info)), Info: address(&pins, info)})
	return err
}

// firstMap opens the first of the maps that a program uses. It fails with ENOENT if there is none.
func firstMap(program int) (int, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	id := new(uint32)
	if err := describe(program, &programInfo{Maps: 1, MapIDs: address(&pins, id)}); err != nil {
		return -1, err
	}
	return byID(unix.BPF_MAP_GET_FD_BY_ID, *id)
}

// instruction is struct bpf_insn of include/uapi/linux/bpf.h.
type instruction struct {
	Op        uint8
	Registers uint8 // destination and source, four bits each, in the order in which the machine has bytes
	Offset    int16
	Immediate int32
}

// register is one of r0 to r9, or r10, the end of the stack. A call leaves its result in r0 and spoils r1 to r5. At
// first r1 holds the context, at the end r0 the verdict.
type register uint8

// operand is what an operation takes besides its destination: a register or a number.
type operand struct {
	kind   uint8 // BPF_X or BPF_K
	source register
	number int32
}

func reg(r register) operand { return operand{kind: unix.BPF_X, source: r} }
func num(n int32) operand    { return operand{kind: unix.BPF_K, number: n} }

// test is a condition to jump on.
type test struct {
	left  register
	is    uint8 // BPF_JEQ and so on; unsigned
	right operand
}

// memory is a word of 4 (BPF_W) or 8 (BPF_DW) bytes at an offset from what a register points to.
type memory struct {
	size   uint8
	base   register
	offset int16
}

// assembler collects instructions. Labels stand for places; jumps to them are filled in at the end.
type assembler struct {
	code   []instruction
	labels map[string]int
	jumps  map[int]string
}

func (a *assembler) emit(op uint8, dst register, from operand) *instruction {
	first, second := uint8(dst), uint8(from.source)
	if nl.NativeEndian() == binary.BigEndian {
		first, second = second, first
	}
	a.code = append(a.code, instruction{Op: op | from.kind, Registers: first | second<<4, Immediate: from.number})
	return &a.code[len(a.code)-1]
}

func (a *assembler) do(op uint8, dst register, from operand) { a.emit(unix.BPF_ALU64|op, dst, from) }

func (a *assembler) load(dst register, m memory) {
	a.emit(unix.BPF_LDX|unix.BPF_MEM|m.size, dst, operand{source: m.base}).Offset = m.offset
}

// atomic does an operation of include/uapi/linux/bpf.h, such as BPF_CMPXCHG, with memory and a register.
func (a *assembler) atomic(op int32, m memory, src register) {
	a.emit(unix.BPF_STX|unix.BPF_ATOMIC|m.size, m.base, operand{source: src, number: op}).Offset = m.offset
}

// element lets dst point to the first element of an array map. The instruction is two wide.
func (a *assembler) element(dst register, arrayMap int) {
	a.emit(unix.BPF_LD|unix.BPF_IMM|unix.BPF_DW, dst,
		operand{source: unix.BPF_PSEUDO_MAP_VALUE, number: int32(arrayMap)})
	a.emit(0, 0, operand{})
}

func (a *assembler) call(helper int32) {
	a.emit(unix.BPF_JMP|unix.BPF_CALL, 0, operand{number: helper})
}

// verdict ends the program.
func (a *assembler) verdict(v int32) {
	a.do(unix.BPF_MOV, 0, num(v))
	a.emit(unix.BPF_JMP|unix.BPF_EXIT, 0, operand{})
}

func (a *assembler) jump(on test, to string) {
	a.jumps[len(a.code)] = to
	a.emit(unix.BPF_JMP|on.is, on.left, on.right)
}

// to jumps in any case.
func (a *assembler) to(label string) {
	a.jumps[len(a.code)] = label
	a.emit(unix.BPF_JMP|unix.BPF_JA, 0, operand{})
}

func (a *assembler) label(name string) { a.labels[name] = len(a.code) }

func (a *assembler) program() []instruction {
	for at, to := range a.jumps {
		a.code[at].Offset = int16(a.labels[to] - at - 1)
	}
	return a.code
}
