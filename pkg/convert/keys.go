package convert

import (
	"encoding/json"
	"fmt"
	"strings"
)

// keys are those an object has, each with those of the objects in it, or in a list that it holds.
type keys map[string]keys

// The keys of the reference plugins v1.9.1. Those of every configuration, which runtimes and the library read, first.
var (
	common = keys{
		"cniVersion": nil, "name": nil, "type": nil, "capabilities": nil, "args": nil, "runtimeConfig": nil,
		"ipam": nil, "dns": {"nameservers": nil, "domain": nil, "search": nil, "options": nil},
	}
	bridgeKeys = keys{
		"bridge": nil, "isGateway": nil, "isDefaultGateway": nil, "forceAddress": nil, "ipMasq": nil, "ipMasqBackend": nil,
		"mtu": nil, "hairpinMode": nil, "promiscMode": nil, "vlan": nil, "preserveDefaultVlan": nil, "macspoofchk": nil,
		"enabledad": nil, "disableContainerInterface": nil, "portIsolation": nil,
		"vlanTrunk": {"minID": nil, "maxID": nil, "id": nil},
	}
	ptpKeys       = keys{"ipMasq": nil, "ipMasqBackend": nil, "mtu": nil}
	hostLocalKeys = keys{
		"type": nil, "subnet": nil, "rangeStart": nil, "rangeEnd": nil, "gateway": nil, "resolvConf": nil, "dataDir": nil,
		"ranges": {"subnet": nil, "rangeStart": nil, "rangeEnd": nil, "gateway": nil},
		"routes": {"dst": nil, "gw": nil, "mtu": nil, "advmss": nil, "priority": nil, "table": nil, "scope": nil},
	}
)

// tidy spells the known keys of an object as they are documented, and leaves out those it does not know, which the
// reference ignored, and null. What belongs to others, with a domain or a path in its key, stays.
func (c *converter) tidy(path, kind string, o object, known ...keys) object {
	var out object
	for _, m := range o {
		at := join(path, m.key)
		name, inner, ok := find(m.key, known)
		switch {
		case o.get(m.key) == nil:
		case ok:
			if name != m.key {
				c.remark(Remark{Path: at, Text: fmt.Sprintf("is spelt %q", name)})
			}
			out = append(out, member{name, c.tidyValue(at, kind, m.value, inner)})
		case strings.ContainsAny(m.key, "/."):
			out = append(out, m)
		default:
			c.remark(Remark{
				Lost: true, Path: at, Value: shown(m.value),
				Text: fmt.Sprintf("the reference %s (v1.9.1) has no such key: what it was meant to do, if anything, has to be said anew", kind),
			})
		}
	}
	return out
}

func find(key string, known []keys) (name string, inner keys, ok bool) {
	for _, k := range known {
		for name, inner := range k {
			if strings.EqualFold(name, key) {
				return name, inner, true
			}
		}
	}
	return "", nil, false
}

// tidyValue looks for objects with known keys in a value and in lists of lists of them.
func (c *converter) tidyValue(path, kind string, raw json.RawMessage, known keys) json.RawMessage {
	if known == nil {
		return raw
	}
	if o, err := parseObject(path, raw); err == nil {
		return c.tidy(path, kind, o, known).raw()
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || list == nil {
		return raw // whatever it is, netconf says what it should be
	}
	for i := range list {
		list[i] = c.tidyValue(fmt.Sprintf("%s[%d]", path, i), kind, list[i], known)
	}
	return encode(list)
}
