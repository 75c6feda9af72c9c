// Package convert rewrites a network configuration of the reference plugins, a chain of bridge or ptp and what acts on
// their interfaces, into one that does the same with this plugin alone. It is pure.
package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	libversion "github.com/containernetworking/cni/pkg/version"

	"github.com/veth-cni/veth/pkg/netconf"
)

// Result is a converted configuration list.
type Result struct {
	List    []byte // indented JSON, one line at the end
	Remarks []Remark
}

// Complete reports whether everything was carried over.
func (r Result) Complete() bool {
	return !slices.ContainsFunc(r.Remarks, func(m Remark) bool { return m.Lost })
}

// Remark says what became of a key that is not simply carried over.
type Remark struct {
	Lost  bool   // it could not be carried over; otherwise it was, or is not needed, and the operator should know how
	Path  string // of the key in the input, such as plugins[1].backend; empty: the list as a whole
	Value string // the key's, as JSON in one line, perhaps cut; empty: the key is absent
	Text  string // why, and what to do
}

func (r Remark) String() string {
	parts := []string{"note"}
	if r.Lost {
		parts[0] = "lost"
	}
	for _, part := range []string{r.Path, r.Value, r.Text} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// Convert rewrites a configuration list (.conflist), or a single configuration (.conf), which becomes a list. Plugins of a
// list that it does not know stay in it, in their order. A list that has nothing to convert is returned as it is. The
// result is always one that netconf.Parse accepts. The error names the key at fault.
func Convert(input []byte) (Result, error) {
	list, plugins, err := read(input)
	if err != nil {
		return Result{}, err
	}
	first, err := interfacePlugin(plugins)
	if err != nil {
		return Result{}, err
	}
	if plugins[first].kind == netconf.TypeVeth && !slices.ContainsFunc(plugins, plugin.merges) {
		const nothing = "nothing to convert: the list uses veth, and none of the plugins it stands for"
		if whole, err := parseObject("", input); err == nil && whole.get("plugins") != nil {
			return Result{List: input, Remarks: []Remark{{Text: nothing}}}, nil
		}
		return Result{List: indented(list), Remarks: []Remark{{Text: nothing + "; a single configuration becomes a list"}}}, nil
	}
	c := converter{from: map[string]string{}}
	if err := c.interfaceKeys(plugins[first]); err != nil {
		return Result{}, err
	}
	for _, p := range plugins {
		if err := c.merge(p); err != nil {
			return Result{}, fmt.Errorf("%s: %w", p.path, err)
		}
	}
	c.defaultRoutes(plugins[first])
	c.order(plugins, first)
	c.version(list)
	c.remark(Remark{Text: "what the old plugins set up and leased is not taken over: drain the node, put the new list in the " +
		"place of the old one, and start its containers anew"})
	list.set("plugins", c.chain(plugins, first))
	if err := c.accepted(list); err != nil {
		return Result{}, err
	}
	return Result{List: indented(list), Remarks: c.remarks}, nil
}

// plugin is an entry of a list.
type plugin struct {
	path string // plugins[0]
	kind string // its type
	keys object
}

// merges reports whether the plugin acts on another's interface, and veth does what it does.
func (p plugin) merges() bool { return chained[p.kind] != nil }

// read takes a list apart. A single configuration is made a list of one.
func read(input []byte) (object, []plugin, error) {
	if err := json.Unmarshal(input, new(any)); err != nil {
		return nil, nil, fmt.Errorf("not JSON: %w", err)
	}
	list, err := parseObject("the configuration", input)
	if err != nil {
		return nil, nil, err
	}
	if list.get("plugins") == nil {
		if list.get("type") == nil {
			return nil, nil, errors.New("plugins: missing: want a configuration list, or a single configuration with a type")
		}
		list = wrap(list)
	}
	var raw []json.RawMessage
	if json.Unmarshal(list.get("plugins"), &raw) != nil {
		return nil, nil, fmt.Errorf("plugins: %s is not valid: want a list", shown(list.get("plugins")))
	}
	var plugins []plugin
	for i, r := range raw {
		p := plugin{path: fmt.Sprintf("plugins[%d]", i)}
		if p.keys, err = parseObject(p.path, r); err != nil {
			return nil, nil, err
		}
		if p.kind = p.keys.text("type"); p.kind == "" {
			return nil, nil, fmt.Errorf("%s.type: missing: want the name of a plugin", p.path)
		}
		plugins = append(plugins, p)
	}
	return list, plugins, nil
}

func wrap(single object) object {
	var list object
	for _, key := range []string{"cniVersion", "name"} {
		if value := single.get(key); value != nil {
			list.set(key, value)
		}
		single.remove(key)
	}
	list.set("plugins", append(append(json.RawMessage("["), single.raw()...), ']'))
	return list
}

// interfacePlugin finds the one plugin that makes the interface.
func interfacePlugin(plugins []plugin) (int, error) {
	found := -1
	var kinds []string
	for i, p := range plugins {
		kinds = append(kinds, p.kind)
		if p.kind != netconf.TypeBridge && p.kind != netconf.TypePTP && p.kind != netconf.TypeVeth {
			continue
		}
		if found >= 0 {
			return 0, fmt.Errorf("%s.type: %q makes an interface, as %s does: want one that does", p.path, p.kind, plugins[found].path)
		}
		found = i
	}
	if found < 0 {
		return 0, fmt.Errorf("plugins: %v: want one of type bridge or ptp, whose work veth could do", kinds)
	}
	return found, nil
}

// converter is one run of Convert.
type converter struct {
	out     object            // the veth plugin
	from    map[string]string // where a key of out came from
	remarks []Remark
}

func (c *converter) remark(r Remark) { c.remarks = append(c.remarks, r) }

// note tells of a key what became of it.
func (c *converter) note(p plugin, key, text string) {
	c.remark(Remark{Path: join(p.path, key), Value: shown(p.keys.get(key)), Text: text})
}

// lose tells of a key why it could not be carried over.
func (c *converter) lose(p plugin, key, text string) {
	c.remark(Remark{Lost: true, Path: join(p.path, key), Value: shown(p.keys.get(key)), Text: text})
}

// carry gives veth a key of a plugin. Of two, that of the later plugin counts: it acted after the other.
func (c *converter) carry(p plugin, key string, value any) {
	before := c.out.get(key)
	c.out.set(key, value)
	if before != nil && !same(before, c.out.get(key)) {
		c.note(p, key, fmt.Sprintf("takes the place of %s in %s", shown(before), c.from[key]))
	}
	c.from[key] = p.path
}

// chain is the new list of plugins.
func (c *converter) chain(plugins []plugin, first int) json.RawMessage {
	var kept []json.RawMessage
	for i, p := range plugins {
		switch {
		case i == first:
			kept = append(kept, c.sorted().raw())
		case !p.merges():
			kept = append(kept, p.keys.raw())
		}
	}
	joined := bytes.Join(rawBytes(kept), []byte(","))
	return append(append(json.RawMessage("["), joined...), ']')
}

func rawBytes(list []json.RawMessage) [][]byte {
	out := make([][]byte, len(list))
	for i, raw := range list {
		out[i] = raw
	}
	return out
}

// sorted is the veth plugin as somebody would write it: what it is first, then settings, addresses last.
func (c *converter) sorted() object {
	front, back := []string{"type", "bridge", "capabilities"}, []string{"runtimeConfig", "args", "dns", "ipam"}
	pick := func(keys []string) (some object) {
		for _, key := range keys {
			if value := c.out.get(key); value != nil {
				some = append(some, member{key, value})
			}
		}
		return some
	}
	middle := slices.Clone(c.out)
	for _, key := range slices.Concat(front, back) {
		middle.remove(key)
	}
	return slices.Concat(pick(front), middle, pick(back))
}

// order tells of plugins that now act after one they came before.
func (c *converter) order(plugins []plugin, first int) {
	for i, p := range plugins {
		for _, kept := range plugins[first+1 : max(i, first+1)] {
			if p.merges() && !kept.merges() {
				c.remark(Remark{Path: p.path, Text: fmt.Sprintf("%s acted after %s (%s), and as a part of veth acts before it",
					p.kind, kept.path, kept.kind)})
			}
		}
	}
	for i, p := range plugins {
		if i != first && !p.merges() {
			c.remark(Remark{Path: p.path, Text: fmt.Sprintf("%s stays in the list as it is", p.kind)})
		}
	}
}

// version tells of verbs that a runtime does not call for the list, because its version of the specification lacks them.
// Of several versions the highest that a runtime knows counts (CNI spec 1.1.0, section 1, "cniVersions").
func (c *converter) version(list object) {
	var all []string
	_ = json.Unmarshal(list.get("cniVersions"), &all) // what is no list of versions is the runtime's to refuse
	has := func(least string) bool {
		return slices.ContainsFunc(append(all, list.text("cniVersion")), func(v string) bool {
			enough, err := libversion.GreaterThanOrEqualTo(v, least)
			return err == nil && enough
		})
	}
	lacks := ""
	switch {
	case has("1.1.0"):
		return
	case has("0.4.0"):
		lacks = "GC and STATUS (from 1.1.0 on)"
	default:
		lacks = "CHECK (from 0.4.0 on), GC and STATUS (from 1.1.0 on)"
	}
	c.remark(Remark{Path: "cniVersion", Value: shown(list.get("cniVersion")), Text: "runtimes do not call " + lacks +
		" for such a list: raise it if yours can; containerd 2 takes 1.1.0, before it and podman 4 take 1.0.0"})
}

// accepted holds the veth plugin to what the plugin itself takes, as a runtime would hand it over.
func (c *converter) accepted(list object) error {
	request := slices.Clone(c.out)
	for _, key := range []string{"cniVersion", "name"} {
		if value := list.get(key); value != nil {
			request.set(key, value)
		}
	}
	if _, err := netconf.Parse(netconf.Request{Config: request.raw()}); err != nil {
		return fmt.Errorf("veth would refuse what this becomes: %w", err)
	}
	return nil
}

func indented(list object) []byte {
	var b bytes.Buffer
	_ = json.Indent(&b, list.raw(), "", "  ") // it is well formed
	return append(b.Bytes(), '\n')
}
