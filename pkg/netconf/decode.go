package netconf

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// decoder fills a raw struct from JSON. Unlike encoding/json it takes a key only in its exact spelling, refuses keys
// the struct does not have, and names the full path of the key and the value it found there when they do not fit.
type decoder struct {
	anyKey  bool // keys the struct does not have are somebody else's
	lenient bool // what does not fit is left out; of a key given twice the last counts, as in encoding/json
	// anyCase takes keys in any case, for what a runtime fills in: containerd's structures have no JSON tags, so its port
	// mappings come with "HostPort" and its ranges with "RangeStart", as encoding/json, which most plugins use, takes them.
	anyCase bool
}

// decode fills into, a pointer to a raw struct or a list of them, from the value of the key at path. An absent value
// and null change nothing.
func (d decoder) decode(path string, raw json.RawMessage, into any) error {
	if absent(raw) {
		return nil
	}
	return d.value(path, raw, reflect.ValueOf(into).Elem())
}

// config fills the outermost struct, which into points to. Once this has not failed, everything below is well-formed JSON
// without white space around it.
func (d decoder) config(stdin []byte, into any) error {
	if !json.Valid(stdin) {
		return notJSON(stdin)
	}
	raw := bytes.TrimSpace(stdin)
	if raw[0] != '{' {
		return wrongType("the network configuration", raw, "an object")
	}
	return d.object("", raw, reflect.ValueOf(into).Elem())
}

func notJSON(stdin []byte) error {
	var raw json.RawMessage
	err := json.Unmarshal(stdin, &raw)
	var syntax *json.SyntaxError
	errors.As(err, &syntax) // what is well formed fits a RawMessage
	return cnierr.Wrap(cnierr.DecodingFailure, err, "the network configuration is not JSON, wrong at byte %d", syntax.Offset)
}

func (d decoder) value(path string, raw json.RawMessage, into reflect.Value) error {
	if into.Type() == reflect.TypeFor[json.RawMessage]() {
		into.SetBytes(raw)
		return nil
	}
	switch into.Kind() {
	case reflect.Struct:
		return d.object(path, raw, into)
	case reflect.Slice:
		return d.list(path, raw, into)
	case reflect.Pointer:
		fresh := reflect.New(into.Type().Elem())
		if err := d.value(path, raw, fresh.Elem()); err != nil {
			return err
		}
		into.Set(fresh)
		return nil
	case reflect.Map:
		if into, ok := into.Addr().Interface().(*map[string]json.RawMessage); ok {
			return names(path, raw, into)
		}
	}
	if !scalar(raw, into) {
		return wrongType(path, raw, wanted(into.Type()))
	}
	return nil
}

func (d decoder) object(path string, raw json.RawMessage, into reflect.Value) error {
	list, err := members(make([]member, 0, 16), path, raw) // most have fewer, which then stay off the heap
	if err != nil {
		return err
	}
	failed := d.fields(path, list, into)
	return cmp.Or(d.unknownKey(path, list, into.Type()), failed)
}

// fields fills those of a raw struct, those of embedded structs included, from the members that have their keys. It marks
// these members as known and returns the first error.
func (d decoder) fields(path string, list []member, into reflect.Value) (failed error) {
	of := into.Type()
	for i := range of.NumField() {
		if !slices.ContainsFunc(list, member.unknown) {
			break // there is nothing for the other fields
		}
		var err error
		if f := of.Field(i); f.Anonymous {
			err = d.fields(path, list, into.Field(i))
		} else if m, before := d.member(list, key(f)); m != nil {
			at, inner, keys := join(path, key(f)), d, f.Tag.Get("keys")
			inner.anyKey = d.anyKey || keys != ""
			inner.anyCase = d.anyCase || keys == "any case"
			err = cmp.Or(twice(at, before, m), inner.field(at, m.value, into.Field(i)))
		}
		if failed == nil && !d.lenient {
			failed = err
		}
	}
	return failed
}

// field fills one field. Of null it keeps no more than that it was there.
func (d decoder) field(path string, raw json.RawMessage, into reflect.Value) error {
	if absent(raw) && into.Type() != reflect.TypeFor[json.RawMessage]() {
		return nil
	}
	return d.value(path, raw, into)
}

// key is the JSON key that a field of a raw struct stands for.
func key(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return key
}

// member finds that of a key, if there is one, and marks it as known. The key's exact spelling goes first. Of a key given
// twice it is the last, and before the one ahead of that.
func (d decoder) member(list []member, key string) (found, before *member) {
	var exact, folded *member
	for i := range list {
		switch m := &list[i]; {
		case m.name == key:
			before, exact, m.known = exact, m, true
		case d.anyCase && strings.EqualFold(m.name, key) && (folded == nil || m.name <= folded.name):
			folded = m
		}
	}
	return cmp.Or(exact, folded), before
}

// twice refuses a key that is there again: readers do not agree on which of the two counts (RFC 8259, section 4).
func twice(path string, before, m *member) error {
	if before == nil {
		return nil
	}
	return cnierr.New(cnierr.InvalidConfig, "%s: given more than once, as %s and as %s: want it once",
		path, shown(before.value), shown(m.value))
}

// names fills a map, which takes any key.
func names(path string, raw json.RawMessage, into *map[string]json.RawMessage) error {
	list, err := members(nil, path, raw)
	if err != nil {
		return err
	}
	filled := make(map[string]json.RawMessage, len(list))
	for i, m := range list {
		if value, is := filled[m.name]; is {
			return twice(join(path, m.name), &member{value: value}, &list[i])
		}
		filled[m.name] = m.value
	}
	*into = filled
	return nil
}

func (d decoder) list(path string, raw json.RawMessage, into reflect.Value) error {
	if raw[0] != '[' {
		return wrongType(path, raw, wanted(into.Type()))
	}
	elements := split(make([]json.RawMessage, 0, 8), raw)
	list := reflect.MakeSlice(into.Type(), len(elements), len(elements))
	for i, element := range elements {
		at := index(path, i)
		if absent(element) { // null would leave an element that looks like one nobody filled in
			return wrongType(at, element, wanted(into.Type().Elem()))
		}
		if err := d.value(at, element, list.Index(i)); err != nil {
			return err
		}
	}
	into.Set(list)
	return nil
}

// unknownKey refuses members that there is no field for, the first by name. Keys with a domain or a path in them pass:
// runtimes add such keys of their own, as cni.dev/valid-attachments is one.
func (d decoder) unknownKey(path string, list []member, of reflect.Type) error {
	if d.anyKey || d.lenient {
		return nil
	}
	var first *member
	for i := range list {
		m := &list[i]
		if m.unknown() && !strings.ContainsAny(m.name, "/.") && (first == nil || m.name <= first.name) {
			first = m
		}
	}
	if first == nil {
		return nil
	}
	if path == "" && slices.ContainsFunc(list, member.isPlugins) {
		return isList()
	}
	var known []string
	for _, f := range reflect.VisibleFields(of) {
		if !f.Anonymous {
			known = append(known, key(f))
		}
	}
	return cnierr.New(cnierr.UnsupportedField, "%s: unknown key with value %s%s",
		join(path, first.name), shown(first.value), didYouMean(first.name, known))
}

func isList() error {
	return cnierr.New(cnierr.UnsupportedField, "plugins: this is a configuration list: want one of its plugins, with the list's "+
		"name and cniVersion")
}

func absent(raw json.RawMessage) bool {
	trimmed := bytes.TrimSpace(raw)
	return len(trimmed) == 0 || string(trimmed) == "null"
}

func wrongType(path string, raw json.RawMessage, want string) error {
	return cnierr.Key(cnierr.DecodingFailure, path, shown(raw), want)
}

func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[[][]rawRange]():
		return "a list of lists of ranges, such as " + rangesExample
	case reflect.TypeFor[[]rawRange]():
		return "a list of ranges, as in " + rangesExample
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int64:
		return "an integer"
	case reflect.Uint64:
		return "an integer that is not negative"
	case reflect.Slice:
		return "a list"
	default:
		return "an object"
	}
}

// literal is JSON as an error message shows it.
type literal string

// shown cuts long values: an error ends up in one line of a log.
func shown(raw json.RawMessage) literal {
	const most = 80
	var compact bytes.Buffer
	if json.Compact(&compact, raw) != nil || compact.Len() <= most {
		return literal(compact.String())
	}
	return literal(strings.ToValidUTF8(compact.String()[:most], "") + "...")
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// didYouMean suggests the known key that name is a likely slip of: one edit for each four letters, and one more. Case
// is no edit, so that a key that differs in nothing else is always found.
func didYouMean(name string, known []string) string { return suggest(name, known, len(name)/4+1) }

// suggest is didYouMean with another limit to the edits.
func suggest(name string, known []string, most int) string {
	best, least := "", most+1
	for _, k := range known {
		if max(len(name)-len(k), len(k)-len(name)) >= least {
			continue // at least as many edits; spares comparing with a very long name
		}
		if n := edits(strings.ToLower(name), strings.ToLower(k)); n < least {
			best, least = k, n
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + strconv.Quote(best) + "?"
}

// edits counts the bytes to insert, drop, change, or swap with their neighbour to turn a into b (optimal string
// alignment distance).
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
