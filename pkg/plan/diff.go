package plan

import (
	"fmt"
	"strings"
)

// Finding is one difference between what is wanted and what is there.
type Finding struct {
	Object string // the object's ID
	Field  string // empty: the object is missing altogether
	Want   string
	Got    string
}

func (f Finding) String() string {
	if f.Field == "" {
		return f.Object + ": missing"
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
