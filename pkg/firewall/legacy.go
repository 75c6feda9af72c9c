package firewall

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// The tables of iptables-legacy are not of nftables, and packets pass both. They are read by options of a socket, whose
// structures have the machine's layout (include/uapi/linux/netfilter/x_tables.h, netfilter_ipv4/ip_tables.h,
// netfilter_ipv6/ip6_tables.h).
const (
	getInfo, getEntries = 64, 65 // IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES; the same for IPv6
	tableNameSize       = 32     // XT_TABLE_MAXNAMELEN
	infoSize            = 84     // struct ipt_getinfo
	targetHeader        = 32     // struct xt_entry_target
	forwardHook         = unix.NF_INET_FORWARD
)

// legacyFamily is what differs between iptables and ip6tables.
type legacyFamily struct {
	family  byte // NFPROTO_*
	domain  int  // of the socket
	level   int
	names   string // the file of /proc that lists the tables that are in use in a network namespace
	address int    // the bytes of struct ipt_entry that choose packets, which come first
	offsets int    // where target_offset is in it
	entry   int    // its size
}

var legacyFamilies = []legacyFamily{
	{unix.NFPROTO_IPV4, unix.AF_INET, unix.SOL_IP, "ip_tables_names", 84, 88, 112},
	{unix.NFPROTO_IPV6, unix.AF_INET6, unix.SOL_IPV6, "ip6_tables_names", 136, 140, entry6},
}

// legacyChains are the FORWARD chains of iptables-legacy that there are. To ask for a table would make it, so which there
// are is looked up in /proc. Nobody may read that in a network namespace that is older than its user namespace's
// identities, as unshare(1) makes one with -rn: of such nothing is known.
func legacyChains() (chains []foreignChain, err error) {
	for _, f := range legacyFamilies {
		names, err := os.ReadFile("/proc/thread-self/net/" + f.names)
		unknown := errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
		if unknown || err == nil && !slices.Contains(strings.Fields(string(names)), "filter") {
			continue
		}
		var drops bool
		if err == nil {
			drops, err = f.forwardDrops()
		}
		if err != nil {
			return nil, cnierr.Wrap(cnierr.KernelRefused, err, "look at the FORWARD chain of %s", f.program())
		}
		c := foreignChain{family: f.family, table: "filter", name: "FORWARD", legacy: f.program(), policy: acceptVerdict}
		if drops {
			c.policy = dropVerdict
		}
		chains = append(chains, c)
	}
	return chains, nil
}

func (f legacyFamily) program() string {
	if f.family == unix.NFPROTO_IPV6 {
		return "ip6tables-legacy"
	}
	return "iptables-legacy"
}

// forwardDrops reads the table until nobody changes it between its size and its entries (EAGAIN, get_entries of
// net/ipv4/netfilter/ip_tables.c).
func (f legacyFamily) forwardDrops() (drops bool, err error) {
	fd, err := unix.Socket(f.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	for range patience {
		info := make([]byte, infoSize)
		copy(info, "filter")
		if err := getOption(fd, f.level, getInfo, info); err != nil {
			return false, err
		}
		t := parseLegacyInfo(info)
		entries := make([]byte, entriesHeader+int(t.size))
		copy(entries, "filter")
		binary.NativeEndian.PutUint32(entries[tableNameSize:], t.size)
		err := getOption(fd, f.level, getEntries, entries)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		return err == nil && f.drops(t, entries[entriesHeader:]), err
	}
	return false, unix.EAGAIN
}

// getOption fills a buffer that also says what is asked for.
func getOption(fd, level, name int, buffer []byte) error {
	size := uint32(len(buffer))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&buffer[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return os.NewSyscallError("getsockopt", errno)
	}
	return nil
}

// legacyTable is the part of struct ipt_getinfo that tells where the FORWARD chain begins, where the entry of its policy
// is, and how long all entries are.
type legacyTable struct{ begin, policy, size uint32 }

func parseLegacyInfo(b []byte) legacyTable {
	const hooks, hook = 5, 4 // NF_INET_NUMHOOKS; bytes of one
	begins := b[tableNameSize+4:]
	policies := begins[hooks*hook:]
	return legacyTable{
		begin:  binary.NativeEndian.Uint32(begins[forwardHook*hook:]),
		policy: binary.NativeEndian.Uint32(policies[forwardHook*hook:]),
		size:   binary.NativeEndian.Uint32(policies[hooks*hook+4:]),
	}
}

// drops walks the FORWARD chain to the first rule that decides about every packet, which at the latest is its policy.
// What it cannot read decides nothing.
func (f legacyFamily) drops(t legacyTable, entries []byte) bool {
	for at := int(t.begin); at+f.entry <= len(entries) && at <= int(t.policy); {
		e := entries[at:]
		target := int(binary.NativeEndian.Uint16(e[f.offsets:]))
		next := int(binary.NativeEndian.Uint16(e[f.offsets+2:]))
		if next < target+targetHeader || target < f.entry || next > len(e) {
			return false
		}
		always := target == f.entry && !slices.ContainsFunc(e[:f.address], func(b byte) bool { return b != 0 })
		if v := legacyVerdict(e[target:next]); always && v != undecided {
			return v == refuses
		}
		at += next
	}
	return false
}

// legacyVerdict reads struct xt_entry_target: a standard one, without a name, has the verdict as -NF_DROP - 1 and so on.
func legacyVerdict(target []byte) verdict {
	name, _, _ := bytes.Cut(target[2:targetHeader-1], []byte{0})
	switch {
	case string(name) == "REJECT":
		return refuses
	case len(name) > 0 || len(target) < targetHeader+4:
		return undecided
	}
	switch int32(binary.NativeEndian.Uint32(target[targetHeader:])) {
	case -1:
		return refuses
	case -2:
		return passes
	}
	return undecided
}
