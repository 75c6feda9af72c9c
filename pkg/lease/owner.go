package lease

import (
	"fmt"
	"strings"
)

// Owner says whose a host interface is.
type Owner struct {
	Network, ContainerID, IfName string
	PodNamespace, PodName        string // both empty when CNI_ARGS did not tell
}

// Alias returns the text for the host interface's alias: "network/container/interface", and " namespace/pod" when the
// pod is known and there is room for it. It has at most 255 bytes, the kernel's limit. A network name too long for a
// lease (see Name) stands there as in the lease, and a container id beyond 151 bytes is cut the same way. Network,
// container id and interface name are taken to be valid for CNI: no slash and no space.
func (o Owner) Alias() string {
	alias := Network(o.Network) + "/" + short(o.ContainerID, maxContainer) + "/" + o.IfName
	if !word(o.PodNamespace) || !word(o.PodName) {
		return alias
	}
	if long := alias + " " + o.PodNamespace + "/" + o.PodName; len(long) <= maxAlias {
		return long
	}
	return alias
}

// Network returns a network's name as leases and aliases have it: a name of more than 87 bytes is cut and ends in a hash
// of the whole. Of what it returned it returns the same.
func Network(name string) string { return short(name, maxNetwork) }

// NetworkAlias returns the text for the alias of an interface that belongs to a whole network, its bridge. No Owner has
// it: it holds no slash.
func NetworkAlias(network string) string { return "network " + Network(network) }

// ParseOwner reads an interface alias back. It is false for every text that Alias does not return. What Alias has cut
// stays cut; HostName gives the same name nonetheless. Others may write aliases of the same form: the interface is the
// owner's only if its name is the owner's HostName.
func ParseOwner(alias string) (Owner, bool) {
	attachment, pod, _ := strings.Cut(alias, " ")
	parts := strings.Split(attachment, "/")
	if len(parts) != 3 || !codedWord(parts[0]) || !codedWord(parts[1]) || parts[2] == "" {
		return Owner{}, false
	}
	o := Owner{Network: parts[0], ContainerID: parts[1], IfName: parts[2]}
	o.PodNamespace, o.PodName, _ = strings.Cut(pod, "/")
	if o.Alias() != alias {
		return Owner{}, false
	}
	return o, true
}

// Owns reports whether an interface alias says that the interface belongs to a network.
func Owns(alias, network string) bool {
	o, ok := ParseOwner(alias)
	return ok && o.Network == Network(network)
}

// HostName returns the name of the owner's host interface.
func (o Owner) HostName() string { return HostName(o.Network, o.ContainerID, o.IfName) }

// String names the owner in a message.
func (o Owner) String() string {
	if o.PodNamespace == "" || o.PodName == "" {
		return fmt.Sprintf("container %s (interface %s, network %s)", o.ContainerID, o.IfName, o.Network)
	}
	return fmt.Sprintf("pod %s/%s (container %s, interface %s, network %s)",
		o.PodNamespace, o.PodName, o.ContainerID, o.IfName, o.Network)
}

// word reports whether s consists of the characters of CNI's and Kubernetes' names. A pod named otherwise stays out of
// the alias: it could not be read back, or would upset whoever prints it.
func word(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == ""
}

// codedWord is word for a name that may have been cut.
func codedWord(s string) bool { return word(strings.Replace(s, cutMark, "", 1)) }
