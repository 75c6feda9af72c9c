package lease

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"
)

// Limits of the kernel in bytes, the closing NUL not counted (include/uapi/linux/if.h).
const (
	maxIfName  = 15  // IFNAMSIZ - 1
	maxAltName = 127 // ALTIFNAMSIZ - 1
	maxAlias   = 255 // IFALIASZ - 1
)

// Budgets of the parts of a coded name. They do not depend on the other parts, so a network and a container each have
// one coded form, and whatever fits its budget is its own coded form.
const (
	longestAddr  = len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	maxNetwork   = maxAltName - len("@") - longestAddr
	maxContainer = maxAlias - len("//") - maxNetwork - maxIfName
)

// cutMark ends what is left of a name that was cut. CNI allows it neither in network names nor in container ids (CNI
// spec 1.1.0, "Network configuration format" and "Parameters"), so no cut name can be mistaken for a whole one.
const cutMark = "~"

const (
	hostPrefix = "veth"
	hashDigits = 16 // hexadecimal, of the hash that stands for what was cut off
)

// HostName returns the name of the host end of an attachment's veth pair: "veth" and 11 hexadecimal digits of the
// SHA-256 of network, container id and interface name, separated by NUL, which none of them can hold. It has 15 bytes,
// the kernel's limit. Long networks and container ids count in their coded form (see Owner.Alias), so that the name can
// be computed from the interface's alias too.
func HostName(network, containerID, ifName string) string {
	key := Network(network) + "\x00" + short(containerID, maxContainer) + "\x00" + ifName
	return hostPrefix + digest(key)[:maxIfName-len(hostPrefix)]
}

// IsHostName reports whether a name has the form of HostName's.
func IsHostName(name string) bool {
	digits, ok := strings.CutPrefix(name, "veth")
	return ok && len(digits) == 11 && strings.Trim(digits, "0123456789abcdef") == ""
}

// Name returns the alternative interface name that leases an address on a network: "<address>@<network>". It has at
// most 127 bytes, the kernel's limit: a network name of more than 87 bytes is cut and ends in a hash of the whole. An
// IPv4 address in IPv6 form is the IPv4 address, and a zone does not count.
func Name(network string, addr netip.Addr) string {
	return addr.Unmap().WithZone("").String() + "@" + Network(network)
}

// Parse returns the address that an alternative interface name leases on a network. It is false for every name that
// Name does not return for that network.
func Parse(name, network string) (netip.Addr, bool) {
	text, found := strings.CutSuffix(name, "@"+Network(network))
	if !found {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || Name(network, addr) != name {
		return netip.Addr{}, false
	}
	return addr, true
}

// Plain returns the bare IPv4 address as a second alternative name, for people: tcpdump -i 10.88.0.5. It is false for
// IPv6, whose text can be longer than the 15 bytes that such tools take.
func Plain(addr netip.Addr) (string, bool) {
	addr = addr.Unmap()
	if !addr.Is4() {
		return "", false
	}
	return addr.String(), true
}

// short returns name if it has at most limit bytes. Otherwise it returns exactly limit bytes: the beginning of name, a
// mark that no valid name holds, and a hash of the whole. Shortening twice changes nothing.
func short(name string, limit int) string {
	if len(name) <= limit {
		return name
	}
	return name[:limit-len(cutMark)-hashDigits] + cutMark + digest(name)[:hashDigits]
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
