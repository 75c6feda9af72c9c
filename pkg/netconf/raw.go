package netconf

import (
	"encoding/json"

	"github.com/containernetworking/cni/pkg/types"
)

// The raw structs mirror the JSON, one field a key. Their tags are the list of known keys: decoder reads it from them.
// The tag keys:"any" marks an object whose other keys belong to somebody else, keys:"any case" one that a runtime fills
// in besides (decoder.anyCase). A json.RawMessage is decoded later, once it is known whose it is; null in it counts as
// absent, as everywhere. Numbers are int64: what a value is must not depend on the machine.

type rawConfig struct {
	CNIVersion    string                     `json:"cniVersion"`
	Name          string                     `json:"name"`
	Type          string                     `json:"type"`
	Capabilities  map[string]json.RawMessage `json:"capabilities"`
	Args          rawArgs                    `json:"args" keys:"any"`
	RuntimeConfig rawRuntime                 `json:"runtimeConfig" keys:"any case"`
	IPAM          json.RawMessage            `json:"ipam"`
	DNS           types.DNS                  `json:"dns"`
	PrevResult    map[string]any             `json:"prevResult"`

	Valid       json.RawMessage `json:"cni.dev/valid-attachments"`
	Attachments json.RawMessage `json:"cni.dev/attachments"` // a slip in the specification; libcni sends both

	MTU                       int64   `json:"mtu"`
	IPMasq                    bool    `json:"ipMasq"`
	IPMasqBackend             *string `json:"ipMasqBackend"`
	IsDefaultGateway          *bool   `json:"isDefaultGateway"`
	EnableDAD                 bool    `json:"enabledad"`
	DisableContainerInterface bool    `json:"disableContainerInterface"`
	SyncDelete                bool    `json:"syncDelete"`

	rawBandwidth
	BandwidthLatency *int64 `json:"bandwidthLatency"` // milliseconds

	Bridge              string     `json:"bridge"`
	IsGateway           bool       `json:"isGateway"`
	ForceAddress        bool       `json:"forceAddress"`
	HairpinMode         bool       `json:"hairpinMode"`
	PromiscMode         bool       `json:"promiscMode"`
	MACSpoofChk         bool       `json:"macspoofchk"`
	PortIsolation       bool       `json:"portIsolation"`
	VLAN                int64      `json:"vlan"`
	VLANTrunk           []rawTrunk `json:"vlanTrunk"`
	PreserveDefaultVLAN bool       `json:"preserveDefaultVlan"`

	rawHostPorts
	rawIsolation
	rawTuning
	rawRouting
	rawAnnotations
	rawWire
}

type rawTrunk struct {
	MinID *int64 `json:"minID"`
	MaxID *int64 `json:"maxID"`
	ID    *int64 `json:"id"`
}

type rawArgs struct {
	CNI struct {
		MAC string          `json:"mac"`
		IPs json.RawMessage `json:"ips"`
	} `json:"cni"`
}

type rawRuntime struct {
	MAC      string          `json:"mac"`
	IPs      json.RawMessage `json:"ips"`
	IPRanges json.RawMessage `json:"ipRanges"`

	Bandwidth rawBandwidth `json:"bandwidth"`

	PortMappings json.RawMessage `json:"portMappings"`

	Annotations map[string]json.RawMessage `json:"io.kubernetes.cri.pod-annotations"`
}

type rawAttachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// rawIPAMType is all that is read of an ipam object before it is known whose it is.
type rawIPAMType struct {
	Type string `json:"type"`
}

// rawIPAM is the built-in IPAM's object: host-local's keys and exclude.
type rawIPAM struct {
	rawIPAMType
	rawRange                // host-local's older, flat form of a single range
	Ranges     [][]rawRange `json:"ranges"`
	Exclude    []string     `json:"exclude"`
	Routes     []rawRoute   `json:"routes"`
	ResolvConf string       `json:"resolvConf"`
	DataDir    string       `json:"dataDir"` // host-local's state; the kernel holds ours
}

type rawRange struct {
	Subnet     string `json:"subnet"`
	RangeStart string `json:"rangeStart"`
	RangeEnd   string `json:"rangeEnd"`
	Gateway    string `json:"gateway"`
}

type rawRoute struct {
	Dst      string `json:"dst"`
	GW       string `json:"gw"`
	MTU      int64  `json:"mtu"`
	AdvMSS   int64  `json:"advmss"`
	Priority int64  `json:"priority"`
	Table    int64  `json:"table"`
	Scope    *int64 `json:"scope"`
}
