package node

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// switches are those of a veth that a snapshot shows when they are not as the kernel makes them
// (include/uapi/linux/ethtool.h).
var switches = []struct {
	name    string
	command uint32
	usual   uint32
}{
	{"rx-checksumming", 0x14, 1},              // ETHTOOL_GRXCSUM
	{"tx-checksumming", 0x16, 1},              // ETHTOOL_GTXCSUM
	{"scatter-gather", 0x18, 1},               // ETHTOOL_GSG
	{"tcp-segmentation-offload", 0x1e, 1},     // ETHTOOL_GTSO
	{"generic-segmentation-offload", 0x23, 1}, // ETHTOOL_GGSO
	{"generic-receive-offload", 0x2b, 0},      // ETHTOOL_GGRO
}

// wireLines lists what is unusual about how interfaces carry packets: their longest packets, and of veth pairs the
// switches.
func (o observation) wireLines() ([]string, error) {
	var lines []string
	for _, link := range o.links {
		a := link.Attrs()
		for _, s := range []struct {
			name string
			size uint32
		}{
			{"gso_max_size", a.GSOMaxSize},
			{"gro_max_size", a.GROMaxSize},
			{"gso_ipv4_max_size", a.GSOIPv4MaxSize},
			{"gro_ipv4_max_size", a.GROIPv4MaxSize},
		} {
			if s.size != 0 && s.size != usualGSO {
				lines = append(lines, fmt.Sprintf("%s %d dev %s", s.name, s.size, a.Name))
			}
		}
		if link.Type() != "veth" {
			continue
		}
		more, err := switchLines(a.Name)
		if err != nil {
			return nil, err
		}
		lines = append(lines, more...)
	}
	return lines, nil
}

func switchLines(link string) ([]string, error) {
	var lines []string
	for _, s := range switches {
		value, err := ethtoolValue(link, s.command)
		if err != nil {
			return nil, fmt.Errorf("ethtool %s of %s: %w", s.name, link, err)
		}
		if value != s.usual {
			lines = append(lines, fmt.Sprintf("%s %d dev %s", s.name, value, link))
		}
	}
	return lines, nil
}

// ethtoolValue asks for one switch of an interface in the thread's namespace.
func ethtoolValue(link string, command uint32) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	request := [2]uint32{command}
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&request)
	arg := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&request)}
	copy(arg.name[:], link)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return 0, errno
	}
	return request[1], nil
}
