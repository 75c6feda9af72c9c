package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Finding is one difference between what is wanted and what is there.
type Finding struct {
	Object string // the object's ID
	Field  string // empty: the object is missing altogether
	Want   string
	Got    string
	With   string // what else is missing because the object is
}

func (f Finding) String() string {
	if f.Field == "" {
		return f.Object + ": missing" + f.With
	}
	got := f.Got
	switch {
	case got == "" && f.Want == set:
		got = "no"
	case got == "":
		got = "nothing"
	}
	return fmt.Sprintf("%s: %s: want %s, found %s", f.Object, f.Field, f.Want, got)
}

// Findings is what CHECK reports; empty means that the kernel holds what the plan wants.
type Findings []Finding

func (f Findings) String() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "; ")
}

// Diff compares the plan with observed objects. Where the pair is gone everything on it is, and said once; what is shared
// is compared all the same. Objects that spare reports are not wanted.
func (p Plan) Diff(observed []Object, spare func(Object) bool) Findings {
	if slices.ContainsFunc(observed, func(o Object) bool { return o.ID() == p.Pair.ID() }) {
		return Diff(slices.DeleteFunc(p.Objects(), spare), observed)
	}
	all := fmt.Sprintf(", and with it the container's %s and all that was on either end", p.Pair.Peer)
	return append(Findings{{Object: p.Pair.ID(), With: all}}, Diff(p.lasting(), observed)...)
}

// lasting lists what does not live on the pair.
func (p Plan) lasting() []Object {
	guards := slices.DeleteFunc(slices.Clone(p.Guards), func(o Object) bool {
		switch o.(type) {
		case SourceCheck, Ingress, PortIngress:
			return false
		}
		return true
	})
	return slices.DeleteFunc(slices.Concat(p.Base, p.Common, guards, p.Shared), func(o Object) bool {
		s, ok := o.(Sysctl)
		return ok && strings.Contains(s.Key, "/"+p.Pair.Host+"/")
	})
}

// Diff compares wanted objects with observed ones. What is observed but not wanted is somebody else's and no
// difference: plugins later in a chain add their own. A wanted field without a value accepts any. The findings come in
// the order of want.
func Diff(want, observed []Object) Findings {
	byID := make(map[string]Object, len(observed))
	for _, o := range observed {
		byID[o.ID()] = o
	}
	var found Findings
	for _, w := range want {
		got, ok := byID[w.ID()]
		if !ok {
			found = append(found, Finding{Object: w.ID()})
			continue
		}
		found = append(found, diffFields(w, got)...)
	}
	return found
}

func diffFields(want, got Object) Findings {
	values := make(map[string]string)
	for _, f := range got.Fields() {
		values[f.Name] = f.Value
	}
	var found Findings
	for _, f := range want.Fields() {
		if f.Value != "" && f.Value != values[f.Name] {
			found = append(found, Finding{Object: want.ID(), Field: f.Name, Want: f.Value, Got: values[f.Name]})
		}
	}
	return found
}
