// Package netconf turns what a runtime hands to the plugin, a JSON network configuration and the CNI_* variables,
// into one typed Config that is always valid. It is pure: it reads no file, no clock and no kernel.
package netconf

import (
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/veth-cni/veth/pkg/lease"
)

// Mode says how the host end of a veth pair is connected.
type Mode uint8

// The modes.
const (
	Routed  Mode = iota // host routes to the container's addresses; no bridge
	Bridged             // the host end is a port of a Linux bridge
)

// The types (configuration key "type") whose configurations the plugin answers to.
const (
	TypeVeth   = "veth"
	TypeBridge = "bridge" // the reference bridge plugin's configuration
	TypePTP    = "ptp"    // the reference ptp plugin's configuration
)

// IPAMBuiltin is the ipam.type of the built-in address management: leases as alternative names in the kernel.
const IPAMBuiltin = "veth"

// Request is one call of the plugin as the runtime made it: the CNI_* variables and the raw configuration.
type Request struct {
	ContainerID string // CNI_CONTAINERID
	Netns       string // CNI_NETNS, verbatim
	IfName      string // CNI_IFNAME
	Args        string // CNI_ARGS
	Config      []byte // standard input
}

// Config is one valid network configuration together with the attachment it is for.
type Config struct {
	CNIVersion string
	Network    string // key "name"
	Type       string // TypeVeth, TypeBridge or TypePTP
	Mode       Mode
	Attachment Attachment

	Bridge Bridge // Bridged mode only

	MTU         int // bytes, 0: not given; Sized tells what it is then
	PodMTU      int // bytes, 0: none; what the pod wants its interface to have at most, see ContainerMTU
	MTUOverhead int // bytes that a tunnel puts around each packet on the way to the world
	// MAC is the hardware address asked for the container's interface, nil when none was asked for. Precedence:
	// mac < the pod's annotation < CNI_ARGS MAC < args.cni.mac < runtimeConfig.mac.
	MAC net.HardwareAddr

	Bandwidth Bandwidth

	IPMasq         bool
	DefaultGateway bool // install a default route in the container. Routed TypeVeth: true unless isDefaultGateway is false
	EnableDAD      bool // wait for IPv6 duplicate address detection
	// DisableContainerInterface leaves the container's interface down and without addresses.
	DisableContainerInterface bool
	// SyncDelete has DEL wait until the kernel has no work left with the interface that it removes.
	SyncDelete bool

	HostPorts HostPorts

	Ingress IngressPolicy
	// PodIngress is what the pod wants for itself, see ContainerIngress; PodIngressAllowed says that pods may.
	PodIngress        IngressPolicy
	PodIngressAllowed bool
	// AntiSpoof drops what containers send from addresses that are not theirs.
	AntiSpoof bool
	Forward   ForwardAccept

	IPAM IPAM
	DNS  types.DNS // key "dns"; empty: the IPAM's own

	Tuning  Tuning
	Routing Routing
	Wire    Wire

	// Prev is prevResult converted to the newest result version; nil when there was none.
	Prev *current.Result
	// Valid lists the attachments the runtime still knows (GC). ValidGiven is false when the key was absent or null.
	Valid      []Attachment
	ValidGiven bool

	// Raw is the configuration as it was received, for delegates.
	Raw []byte
}

// Attachment identifies one interface of one container on one network (CNI spec 1.1.0, "Attachment").
type Attachment struct {
	ContainerID  string
	IfName       string
	Netns        string // CNI_NETNS verbatim; empty at DEL when the runtime has none
	PodNamespace string // CNI_ARGS K8S_POD_NAMESPACE
	PodName      string // CNI_ARGS K8S_POD_NAME
}

// Bridge is the part of a configuration that concerns the Linux bridge and the port on it.
type Bridge struct {
	Name         string
	Gateway      bool // isGateway: the gateway address of each range is put on the bridge, and the host forwards
	ForceAddress bool
	Promisc      bool // promiscMode, of the bridge interface

	Hairpin   bool // hairpinMode, of the port
	Isolated  bool // portIsolation, of the port
	MACLocked bool // macspoofchk: frames with another source MAC than the container's are dropped

	VLAN                uint16   // untagged VLAN of the port, 0: none
	Trunk               []uint16 // tagged VLANs of the port, ascending, without duplicates
	PreserveDefaultVLAN bool
}

// VLANAware reports whether the bridge must filter VLANs.
func (b Bridge) VLANAware() bool { return b.VLAN != 0 || len(b.Trunk) > 0 }

// IPAM says where addresses come from.
type IPAM struct {
	// Type is empty for a layer 2 network, IPAMBuiltin for leases in the kernel, otherwise the plugin to delegate to.
	Type string
	// Pool holds the built-in IPAM's ranges: those of runtimeConfig.ipRanges, the flat range in ipam, then ipam.ranges.
	Pool lease.Pool
	// Requested are the addresses asked for from the built-in IPAM, in this order: the pod's annotation, CNI_ARGS IP (ignored where
	// args.cni.ips is present), args.cni.ips, runtimeConfig.ips. Each lies in the Pool, is neither excluded nor a
	// gateway, and no two are of one range set.
	Requested []netip.Addr
	Routes    []Route
	// ResolvConf is the path of a resolv.conf(5) file to take DNS settings from; empty: none.
	ResolvConf string
}

// Builtin reports whether addresses are leased in the kernel.
func (i IPAM) Builtin() bool { return i.Type == IPAMBuiltin }

// Delegated reports whether addresses come from another IPAM plugin.
func (i IPAM) Delegated() bool { return i.Type != "" && !i.Builtin() }

// Route is a route of the container (CNI spec 1.1.0, result "routes").
type Route struct {
	Dst      netip.Prefix // masked
	Via      netip.Addr   // invalid: the gateway of the address of the same family
	MTU      int64        // bytes, 0: the interface's
	AdvMSS   int64        // bytes, 0: the kernel's choice
	Priority int64        // metric, 0: the kernel's default
	Table    int64        // 0: main
	Scope    *int64       // nil: the kernel's default for the route
}
