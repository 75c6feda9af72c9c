package result

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// members are those of a JSON object.
type members = map[string]any

// Print writes a result as a version of the specification wants it, on one line. The library encodes a result of 1.0.0
// or later three times over, to leave out an empty dns, and looks through ten types for it: as maps it takes a tenth of
// the time, and there is no other result to spread the cost over.
func Print(w io.Writer, r *current.Result, version string) error {
	versioned, err := r.GetAsVersion(version)
	if err != nil {
		return fmt.Errorf("convert the result to version %s: %w", version, err)
	}
	list, ok := versioned.(*current.Result)
	if !ok {
		return versioned.PrintTo(w)
	}
	out := members{"cniVersion": list.CNIVersion}
	some(out, "interfaces", list.Interfaces, printedInterface)
	some(out, "ips", list.IPs, printedIP)
	some(out, "routes", list.Routes, printedRoute)
	if !list.DNS.IsEmpty() {
		out["dns"] = list.DNS
	}
	return json.NewEncoder(w).Encode(out)
}

// some adds a list, unless it is empty.
func some[T any](out members, key string, list []T, each func(T) members) {
	if len(list) == 0 {
		return
	}
	printed := make([]any, len(list))
	for i, x := range list {
		printed[i] = each(x)
	}
	out[key] = printed
}

// put adds a value, unless it is the type's zero.
func put[T comparable](out members, key string, value T) {
	var zero T
	if value != zero {
		out[key] = value
	}
}

func printedInterface(i *current.Interface) members {
	m := members{"name": i.Name}
	put(m, "mac", i.Mac)
	put(m, "mtu", i.Mtu)
	put(m, "sandbox", i.Sandbox)
	put(m, "socketPath", i.SocketPath)
	put(m, "pciID", i.PciID)
	return m
}

func printedIP(ip *current.IPConfig) members {
	m := members{"address": ip.Address.String()}
	put(m, "interface", ip.Interface)
	if len(ip.Gateway) > 0 {
		m["gateway"] = ip.Gateway.String()
	}
	return m
}

func printedRoute(r *types.Route) members {
	m := members{"dst": r.Dst.String()}
	if len(r.GW) > 0 {
		m["gw"] = r.GW.String()
	}
	put(m, "mtu", r.MTU)
	put(m, "advmss", r.AdvMSS)
	put(m, "priority", r.Priority)
	put(m, "table", r.Table)
	put(m, "scope", r.Scope)
	return m
}
