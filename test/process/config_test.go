package process

import (
	"encoding/json"
	"fmt"
)

// The networks most scenarios use. The subnets are the same: a test uses one of them, or says why not.
const (
	routed = `{"cniVersion": "1.1.0", "name": "podnet", "type": "veth", "ipMasq": true, "ipam": {"type": "veth",
		"ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "2001:db8:88::/64"}]]}}`
	bridged = `{"cniVersion": "1.1.0", "name": "podnet", "type": "veth", "bridge": "br0", "isDefaultGateway": true,
		"ipMasq": true, "ipam": {"type": "veth",
		"ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "2001:db8:88::/64"}]]}}`
	ptp = `{"cniVersion": "1.1.0", "name": "podnet", "type": "ptp", "ipMasq": true,
		"ipam": {"type": "veth", "ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "2001:db8:88::/64"}]],
		"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`
	layer2 = `{"cniVersion": "1.1.0", "name": "podnet", "type": "veth", "bridge": "br0"}`
)

// modes are the two ways to connect a container.
var modes = []mode{{"routed", routed}, {"bridge", bridged}}

type mode struct{ name, config string }

// with changes a configuration by a JSON merge patch (RFC 7386): objects are merged, null removes a key.
func with(config, patch string) string {
	var c, p map[string]any
	for text, into := range map[string]*map[string]any{config: &c, patch: &p} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			panic(fmt.Sprintf("%v in %s", err, text))
		}
	}
	out, err := json.Marshal(merge(c, p))
	if err != nil {
		panic(err)
	}
	return string(out)
}

func merge(into, patch map[string]any) map[string]any {
	if into == nil {
		into = map[string]any{}
	}
	for key, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(into, key)
		case map[string]any:
			below, _ := into[key].(map[string]any)
			into[key] = merge(below, value)
		default:
			into[key] = value
		}
	}
	return into
}
