package main

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
)

const bridgeName = "bench0"

// The gateways of routed containers: on lo, and on every host end.
var floorGateway4, floorGateway6 = netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("fe80::1")

// with is a configuration with keys added or replaced.
func with(conf object, changes ...object) object {
	conf = maps.Clone(conf)
	for _, c := range changes {
		maps.Copy(conf, c)
	}
	return conf
}

// What the networks are made of. Ours and the reference's say the same in their own words.
var (
	ranges     = [][]object{{{"subnet": pods4.String()}}}
	rangesDual = [][]object{{{"subnet": pods4.String()}}, {{"subnet": pods6.String()}}}

	routed   = object{"type": "veth", "ipam": object{"type": "veth", "ranges": ranges}}
	bridged  = with(routed, object{"bridge": bridgeName, "isDefaultGateway": true})
	dual     = object{"ipam": object{"type": "veth", "ranges": rangesDual}}
	masked   = object{"ipMasq": true}
	complete = with(limits(), object{
		"ipMasq": true, "ingressPolicy": "same-network", "sysctl": sysctl, "runtimeConfig": ports,
	})

	refPTP = object{"type": "ptp", "ipam": object{
		"type": "host-local", "ranges": ranges, "routes": []object{{"dst": "0.0.0.0/0"}},
	}}
	refBridge = object{
		"type": "bridge", "bridge": bridgeName, "isDefaultGateway": true,
		"ipam": object{"type": "host-local", "ranges": ranges},
	}
	refPTPDual = object{"ipam": object{
		"type": "host-local", "ranges": rangesDual, "routes": []object{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}},
	}}
	refBridgeDual = object{"ipam": object{"type": "host-local", "ranges": rangesDual}}

	refPortmap   = object{"type": "portmap", "runtimeConfig": ports}
	refBandwidth = with(limits(), object{"type": "bandwidth"})
	refFirewall  = object{"type": "firewall", "backend": "iptables", "ingressPolicy": "same-bridge"}
	refTuning    = object{"type": "tuning", "sysctl": sysctl}

	ports = object{"portMappings": []object{
		{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
		{"hostPort": 8443, "containerPort": 443, "protocol": "tcp"},
	}}
	sysctl = object{"net.ipv4.conf.IFNAME.log_martians": "1", "net.ipv4.ip_unprivileged_port_start": "0"}
)

const (
	rate  = 100_000_000 // bit/s
	burst = 1_000_000   // bit
)

// limits are bandwidth's. The kernel lets no user namespace load the program that polices what a container sends, so a
// plain user's run leaves that direction out, on both sides.
func limits() object {
	conf := object{"ingressRate": rate, "ingressBurst": burst}
	if initialUser() {
		conf["egressRate"], conf["egressBurst"] = rate, burst
	}
	return conf
}

// initialUser reports whether the process is in the first user namespace, which has all users there are.
func initialUser() bool {
	var inside, outside, count uint64
	text, err := os.ReadFile("/proc/self/uid_map")
	if err == nil {
		_, err = fmt.Sscan(string(text), &inside, &outside, &count)
	}
	return err == nil && inside == outside && count == math.MaxUint32
}

// backend chooses between the reference's two ways to the kernel's packet filter, in the words of bridge and of portmap.
func backend(name string) (masquerade, portmap object) {
	return object{"ipMasq": true, "ipMasqBackend": name}, object{"backend": name}
}

// plugin is a stage that always has the same configuration.
func plugin(program string, conf object) stage {
	return stage{program, func(attachment) object { return conf }}
}

// reference is a stage of the reference plugins.
func reference(conf object) stage {
	return plugin(binaries.Reference+"/"+conf["type"].(string), conf)
}

// floor is the floor program's stage. It chooses no address, so it is told one.
func floor(bridge, six bool) stage {
	return stage{binaries.Floor, func(a attachment) object {
		conf := floorConf(a.number, bridge, six)
		if a.others >= crowded && !six {
			conf["quiet"] = "yes"
		}
		return conf
	}}
}

// crowded is from how many interfaces on an attachment is done sooner if the host end is kept free of IPv6.
const crowded = 900

func floorConf(number int, bridge, six bool) object {
	addr, addr6 := netip.AddrFrom4([4]byte{10, 88, byte(number>>8) + 1, byte(number)}), pods6.Addr().As16()
	addr6[14], addr6[15] = byte(number>>8)+1, byte(number)
	bits, bits6, gateway, next6 := 32, 128, floorGateway4, floorGateway6
	conf := object{"host": fmt.Sprintf("floor%d", number)}
	if bridge {
		bits, bits6, gateway, next6 = pods4.Bits(), pods6.Bits(), gateway4, gateway6
		conf["bridge"] = bridgeName
	}
	conf["lease"] = addr.String() + "@bench"
	conf["cidr"] = netip.PrefixFrom(addr, bits).String()
	conf["address"] = hex.EncodeToString(addr.AsSlice())
	conf["prefix"] = hex.EncodeToString([]byte{byte(bits)})
	conf["gateway"] = hex.EncodeToString(gateway.AsSlice())
	if six {
		conf["cidr6"] = netip.PrefixFrom(netip.AddrFrom16(addr6), bits6).String()
		conf["address6"] = hex.EncodeToString(addr6[:])
		conf["prefix6"] = hex.EncodeToString([]byte{byte(bits6)})
		conf["gateway6"] = hex.EncodeToString(next6.AsSlice())
	}
	return conf
}
