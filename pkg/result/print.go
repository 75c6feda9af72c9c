package result

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// Print writes a result as a version of the specification wants it, on one line. The library encodes a result of 1.0.0
// or later three times over, to leave out an empty dns, and looks through ten types for it, with no other result to
// spread the cost over.
func Print(w io.Writer, r *current.Result, version string) error {
	versioned, err := r.GetAsVersion(version)
	if err != nil {
		return fmt.Errorf("convert the result to version %s: %w", version, err)
	}
	list, ok := versioned.(*current.Result)
	if !ok {
		return versioned.PrintTo(w)
	}
	p := printer{out: make([]byte, 0, 2048)}
	p.open('{')
	p.text("cniVersion", list.CNIVersion)
	if !list.DNS.IsEmpty() {
		p.key("dns")
		p.library(list.DNS)
	}
	some(&p, "interfaces", list.Interfaces, (*printer).networkInterface)
	some(&p, "ips", list.IPs, (*printer).ip)
	some(&p, "routes", list.Routes, (*printer).route)
	p.out = append(p.out, '}', '\n')
	_, err = w.Write(p.out)
	return err
}

// printer builds JSON, the members of an object in the order of their keys.
type printer struct{ out []byte }

// open begins an object or a list, a comma before it if it is not the first of several.
func (p *printer) open(bracket byte) {
	if end := len(p.out) - 1; end >= 0 && p.out[end] == '}' {
		p.out = append(p.out, ',')
	}
	p.out = append(p.out, bracket)
}

// key begins a member.
func (p *printer) key(name string) {
	if p.out[len(p.out)-1] != '{' {
		p.out = append(p.out, ',')
	}
	p.out = append(p.out, '"')
	p.out = append(p.out, name...)
	p.out = append(p.out, '"', ':')
}

func (p *printer) text(name, value string) {
	p.key(name)
	if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' || strings.ContainsRune(`"\<>&`, c) }) {
		p.library(value)
		return
	}
	p.out = append(p.out, '"')
	p.out = append(p.out, value...)
	p.out = append(p.out, '"')
}

// word is a member, unless it is empty.
func (p *printer) word(name, value string) {
	if value != "" {
		p.text(name, value)
	}
}

func (p *printer) library(value any) {
	b, _ := json.Marshal(value) // strings and lists of them do not fail
	p.out = append(p.out, b...)
}

// number is a member, unless it is nil.
func (p *printer) number(name string, value *int) {
	if value != nil {
		p.key(name)
		p.out = strconv.AppendInt(p.out, int64(*value), 10)
	}
}

// positive is a member, unless it is 0.
func (p *printer) positive(name string, value int) {
	if value != 0 {
		p.number(name, &value)
	}
}

// some is a list, unless it is empty.
func some[T any](p *printer, name string, list []T, each func(*printer, T)) {
	if len(list) == 0 {
		return
	}
	p.key(name)
	p.open('[')
	for _, x := range list {
		p.open('{')
		each(p, x)
		p.out = append(p.out, '}')
	}
	p.out = append(p.out, ']')
}

func (p *printer) networkInterface(i *current.Interface) {
	p.word("mac", i.Mac)
	p.positive("mtu", i.Mtu)
	p.text("name", i.Name)
	p.word("pciID", i.PciID)
	p.word("sandbox", i.Sandbox)
	p.word("socketPath", i.SocketPath)
}

func (p *printer) ip(ip *current.IPConfig) {
	p.text("address", ip.Address.String())
	if len(ip.Gateway) > 0 {
		p.text("gateway", ip.Gateway.String())
	}
	p.number("interface", ip.Interface)
}

func (p *printer) route(r *types.Route) {
	p.positive("advmss", r.AdvMSS)
	p.text("dst", r.Dst.String())
	if len(r.GW) > 0 {
		p.text("gw", r.GW.String())
	}
	p.positive("mtu", r.MTU)
	p.positive("priority", r.Priority)
	p.number("scope", r.Scope)
	p.number("table", r.Table)
}
