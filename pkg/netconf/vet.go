package netconf

import (
	"encoding/json"
	"slices"
	"strings"

	libversion "github.com/containernetworking/cni/pkg/version"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// Vet checks what no verb can do without, not even one that forgives everything else: the configuration is a JSON
// object and no list, with a valid network name and a version of the specification that exists, and the container id and
// the interface name, where given, are valid. The errors are those of Parse. It returns the version.
func Vet(r Request) (version string, err error) {
	var config struct {
		Name       json.RawMessage `json:"name"`
		CNIVersion json.RawMessage `json:"cniVersion"`
		Plugins    json.RawMessage `json:"plugins"`
	}
	p := parser{request: r, config: new(Config)}
	if err := p.variables(); err != nil {
		return "", err
	}
	if err := (decoder{anyKey: true, lenient: true}).config(r.Config, &config); err != nil {
		return "", err
	}
	if config.Plugins != nil { // GC would take the network for one without any key
		return "", isList()
	}
	if err := (decoder{}).decode("cniVersion", config.CNIVersion, &p.raw.CNIVersion); err != nil {
		return "", err
	}
	if err := (decoder{}).decode("name", config.Name, &p.raw.Name); err != nil {
		return "", err
	}
	err = p.identity()
	return p.config.CNIVersion, err
}

// variables checks the parameters that name the attachment.
func (p *parser) variables() error {
	if id := p.request.ContainerID; id != "" && !validName(id) {
		return cnierr.Key(cnierr.InvalidEnvironment, "CNI_CONTAINERID", id, nameRule)
	}
	if name := p.request.IfName; name != "" && !validIfName(name) {
		return cnierr.Key(cnierr.InvalidEnvironment, "CNI_IFNAME", name, ifNameRule)
	}
	return nil
}

func (p *parser) name() error {
	if p.raw.Name == "" {
		return missing("name", "the network's name")
	}
	if !validName(p.raw.Name) {
		return cnierr.Key(cnierr.InvalidConfig, "name", p.raw.Name, nameRule)
	}
	return nil
}

// version takes exactly what the library has results of: it compares versions as text.
func (p *parser) version() error {
	v := version(&p.raw)
	if all := libversion.All.SupportedVersions(); !slices.Contains(all, v) {
		return cnierr.Key(cnierr.IncompatibleVersion, "cniVersion", v, "one of "+strings.Join(all, ", "))
	}
	p.config.CNIVersion = v
	return nil
}
