package netconf

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// AnnotationPrefix begins the names of the pod annotations that are the plugin's.
const AnnotationPrefix = "veth-cni.github.io/"

// maxAnnotation is the most bytes that a value may have; a list of addresses is the longest that makes sense.
const maxAnnotation = 256

// podSettings are the words of allowPodAnnotations in their order, each with the annotations that it opens.
var podSettings = []struct {
	word  string
	opens []string
}{
	{"address", []string{"address"}},
	{"bandwidth", []string{"ingressRate", "egressRate"}},
	{"ingressPolicy", []string{"ingressPolicy"}},
	{"mac", []string{"mac"}},
	{"mtu", []string{"mtu"}},
}

func podWords() (words []string) {
	for _, s := range podSettings {
		words = append(words, s.word)
	}
	return words
}

// rawAnnotations is embedded into rawConfig.
type rawAnnotations struct {
	AllowPodAnnotations []string `json:"allowPodAnnotations"`
}

// annotations collects what the pod asks for. Its author is a tenant, not the operator, so whatever is not plainly
// allowed fails: a pod that asked to be isolated, or misspelt it, must not run as if it had not.
func (p *parser) annotations() error {
	allowed, err := p.allowedAnnotations()
	if err != nil || len(p.raw.RuntimeConfig.Annotations) == 0 {
		return err
	}
	p.pod = map[string]string{}
	for _, full := range slices.Sorted(maps.Keys(p.raw.RuntimeConfig.Annotations)) {
		name, ours := strings.CutPrefix(full, AnnotationPrefix)
		raw := p.raw.RuntimeConfig.Annotations[full]
		if !ours || absent(raw) {
			continue
		}
		if err := p.mayAsk(name, allowed); err != nil {
			return err
		}
		value, ok := text(raw)
		switch {
		case !ok:
			return wrongType(annotation(name), raw, "a string")
		case len(value) > maxAnnotation:
			return cnierr.New(cnierr.InvalidConfig, "%s: %d bytes: want at most %d", annotation(name), len(value), maxAnnotation)
		case value == "":
			return cnierr.Key(cnierr.InvalidConfig, annotation(name), value, "a value, or no such annotation")
		}
		p.pod[name] = value
	}
	return p.podMAC()
}

// annotation is the path of an annotation in messages.
func annotation(name string) string { return "annotation " + AnnotationPrefix + name }

// allowedAnnotations lists the annotations that the network allows, and refuses to allow what cannot be had.
func (p *parser) allowedAnnotations() (names []string, err error) {
	kind, words := p.config.IPAM.Type, podWords()
	for i, word := range p.raw.AllowPodAnnotations {
		path := index("allowPodAnnotations", i)
		setting := slices.Index(words, word)
		switch {
		case setting < 0:
			return nil, cnierr.New(cnierr.UnsupportedField, "%s: %q is not valid: want one of %s%s",
				path, word, strings.Join(words, ", "), didYouMean(word, words))
		case slices.Contains(names, podSettings[setting].opens[0]):
			return nil, cnierr.Key(cnierr.InvalidConfig, path, word, "each word once")
		case word == "address" && kind != IPAMBuiltin:
			return nil, cnierr.New(cnierr.InvalidConfig,
				"%s: \"address\" contradicts ipam.type %q: only the built-in IPAM, %q, knows which addresses it may give", path, kind, IPAMBuiltin)
		case word == "mac" && p.locksMAC() != "":
			return nil, cnierr.New(cnierr.InvalidConfig,
				"%s: \"mac\" contradicts %s: a lock on an address that the pod chooses keeps nobody from choosing another's", path, p.locksMAC())
		}
		names = append(names, podSettings[setting].opens...)
	}
	p.config.PodIngressAllowed = slices.Contains(names, "ingressPolicy")
	return names, nil
}

// locksMAC names the key that holds containers of a bridge to their MAC, if there is one. In routed mode nobody but the
// host sees a container's.
func (p *parser) locksMAC() string {
	switch {
	case p.config.Mode == Routed:
		return ""
	case p.raw.MACSpoofChk:
		return "macspoofchk"
	case isTrue(p.raw.AntiSpoof):
		return "antiSpoof"
	}
	return ""
}

func (p *parser) mayAsk(name string, allowed []string) error {
	if slices.Contains(allowed, name) {
		return nil
	}
	var all []string
	for _, s := range podSettings {
		if slices.Contains(s.opens, name) {
			return cnierr.New(cnierr.InvalidConfig, "%s: not allowed on network %q: want it taken off the pod, or %q in allowPodAnnotations",
				annotation(name), p.raw.Name, s.word)
		}
		all = append(all, s.opens...)
	}
	return cnierr.New(cnierr.UnsupportedField, "%s: unknown annotation%s", annotation(clipped(name)), didYouMean(name, all))
}

// clipped quotes what an error message shows of a name that somebody else chose, where it is not a plain word.
func clipped(name string) string {
	const most = 63 // of a Kubernetes annotation's name after the prefix
	if len(name) > most {
		name = name[:most] + "..."
	}
	quoted := strconv.QuoteToASCII(name)
	return quoted[1 : len(quoted)-1]
}

// podMAC checks the address that the pod asks for even where another source of it counts. Of addresses that the plugin
// derives itself, none can be asked for: each is another container's, or a gateway's.
func (p *parser) podMAC() error {
	text, asked := p.pod["mac"]
	if !asked {
		return nil
	}
	mac, err := parseMAC(annotation("mac"), text)
	if err != nil {
		return err
	}
	if mac[0] == 0x06 || mac[0] == 0x0e || mac[0] == 0x0a && mac[1] == 0x58 {
		return cnierr.Key(cnierr.InvalidConfig, annotation("mac"), text,
			"an address that does not begin with 06, 0e or 0a:58, as those derived for bridges and other containers do")
	}
	return nil
}

func parseMAC(path, text string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || slices.Max(mac) == 0 {
		return nil, cnierr.Key(codeOf(path), path, text, "a unicast hardware address of 6 bytes, such as 02:00:5e:10:00:01")
	}
	return mac, nil
}

// podAddresses are the addresses that the pod asks for.
func (p *parser) podAddresses() []string {
	text, asked := p.pod["address"]
	if !asked {
		return nil
	}
	list := strings.Split(text, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// podMTU is what the container's interface may have at most; it never is a bridge's.
func (p *parser) podMTU() error {
	text, asked := p.pod["mtu"]
	if !asked {
		return nil
	}
	const want = "a number of bytes, 68 to 65535"
	mtu, err := strconv.ParseUint(text, 10, 16)
	if err != nil || mtu == 0 {
		return cnierr.Key(cnierr.InvalidConfig, annotation("mtu"), text, want)
	}
	p.config.PodMTU = int(mtu)
	return p.checkMTU(annotation("mtu"), int64(mtu), want)
}

// podBandwidth lowers limits to what the pod asks for, where that is less.
func (p *parser) podBandwidth(b *Bandwidth) error {
	for _, direction := range []struct {
		name string
		*Limit
	}{{"ingressRate", &b.Ingress}, {"egressRate", &b.Egress}} {
		name, limit := direction.name, direction.Limit
		text, asked := p.pod[name]
		if !asked {
			continue
		}
		rate, err := strconv.ParseUint(text, 10, 64)
		if err != nil || rate < minRate || rate > maxRate {
			return cnierr.Key(cnierr.InvalidConfig, annotation(name), text,
				"1000 (1 kbit/s) to 1000000000000000 (1 Pbit/s) bits a second, in digits")
		}
		if limit.Rate == 0 || rate < limit.Rate {
			limit.Rate = rate
		}
	}
	return nil
}

// podIngress is the policy that the pod asks for. It is no less than an operator's: a word that nobody knows fails.
func (p *parser) podIngress() (err error) {
	if text, asked := p.pod["ingressPolicy"]; asked {
		p.config.PodIngress, err = parseIngress(annotation("ingressPolicy"), text)
	}
	return err
}

// ContainerIngress is the policy for the container: the stricter of the network's and the pod's.
func (c *Config) ContainerIngress() IngressPolicy {
	if c.PodIngress.Restricts() && c.PodIngress > c.Ingress {
		return c.PodIngress
	}
	return c.Ingress
}

// ContainerMTU is the MTU of the container's interface in bytes: the network's, or less where the pod asked for less. It
// is 0 as long as the network's is not known.
func (c *Config) ContainerMTU() int {
	if c.MTU == 0 || c.PodMTU == 0 {
		return c.MTU
	}
	return min(c.MTU, c.PodMTU)
}

// checkMTU holds an MTU to what a link and IPv6 take.
func (p *parser) checkMTU(path string, mtu int64, want string) error {
	if mtu < minMTU || mtu > maxMTU {
		return cnierr.Key(cnierr.InvalidConfig, path, mtu, want)
	}
	if subnet, is6 := p.config.IPAM.subnet6(); is6 && mtu < minMTU6 {
		return cnierr.Key(cnierr.InvalidConfig, path, mtu,
			fmt.Sprintf("at least 1280 bytes for %s, IPv6's minimum (RFC 8200)", subnet))
	}
	return nil
}
