package result

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// Print writes a result as a version of the specification wants it. The library encodes a result of 1.0.0 or later three
// times over to leave out an empty dns.
func Print(w io.Writer, r *current.Result, version string) error {
	versioned, err := r.GetAsVersion(version)
	if err != nil {
		return fmt.Errorf("convert the result to version %s: %w", version, err)
	}
	list, ok := versioned.(*current.Result)
	if !ok {
		return versioned.PrintTo(w)
	}
	printed := struct {
		CNIVersion string               `json:"cniVersion"`
		Interfaces []*current.Interface `json:"interfaces,omitempty"`
		IPs        []*current.IPConfig  `json:"ips,omitempty"`
		Routes     []*types.Route       `json:"routes,omitempty"`
		DNS        *types.DNS           `json:"dns,omitempty"`
	}{CNIVersion: list.CNIVersion, Interfaces: list.Interfaces, IPs: list.IPs, Routes: list.Routes}
	if !list.DNS.IsEmpty() {
		printed.DNS = &list.DNS
	}
	return json.NewEncoder(w).Encode(printed)
}
