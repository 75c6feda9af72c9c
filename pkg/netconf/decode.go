package netconf

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"maps"
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
	lenient bool // what does not fit is left out
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

// config fills the outermost struct, which into points to. Everything below it is well-formed JSON once this has not
// failed.
func (d decoder) config(stdin []byte, into any) error {
	var raw json.RawMessage
	var syntax *json.SyntaxError
	if err := json.Unmarshal(stdin, &raw); errors.As(err, &syntax) { // what is well formed fits a RawMessage
		return cnierr.Wrap(cnierr.DecodingFailure, err,
			"the network configuration is not JSON, wrong at byte %d", syntax.Offset)
	}
	return d.value("", raw, reflect.ValueOf(into).Elem())
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
	default:
		fresh := reflect.New(into.Type()) // a failed Unmarshal may leave half a value behind
		if json.Unmarshal(raw, fresh.Interface()) != nil {
			return wrongType(path, raw, wanted(into.Kind()))
		}
		into.Set(fresh.Elem())
		return nil
	}
}

func (d decoder) object(path string, raw json.RawMessage, into reflect.Value) error {
	var members map[string]json.RawMessage
	if absent(raw) || json.Unmarshal(raw, &members) != nil {
		return wrongType(cmp.Or(path, "the network configuration"), raw, "an object")
	}
	fields := keyFields(nil, into)
	if err := d.unknownKey(path, members, fields); err != nil {
		return err
	}
	for _, field := range fields {
		member := d.member(members, field.key)
		if absent(member) && field.value.Type() != reflect.TypeFor[json.RawMessage]() {
			continue
		}
		inner := d
		inner.anyKey = d.anyKey || field.keys != ""
		inner.anyCase = d.anyCase || field.keys == "any case"
		err := inner.value(join(path, field.key), member, field.value)
		if err != nil && !d.lenient {
			return err
		}
	}
	return nil
}

// member finds the value of a key; its exact spelling goes first.
func (d decoder) member(members map[string]json.RawMessage, key string) json.RawMessage {
	member, exact := members[key]
	if exact || !d.anyCase {
		return member
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if strings.EqualFold(name, key) {
			return members[name]
		}
	}
	return nil
}

func (d decoder) list(path string, raw json.RawMessage, into reflect.Value) error {
	var elements []json.RawMessage
	if json.Unmarshal(raw, &elements) != nil {
		return wrongType(path, raw, "a list")
	}
	list := reflect.MakeSlice(into.Type(), len(elements), len(elements))
	for i, element := range elements {
		at := index(path, i)
		if absent(element) { // null would leave an element that looks like one nobody filled in
			return wrongType(at, element, wanted(into.Type().Elem().Kind()))
		}
		if err := d.value(at, element, list.Index(i)); err != nil {
			return err
		}
	}
	into.Set(list)
	return nil
}

// unknownKey refuses members that there is no field for. Keys with a domain or a path in them pass: runtimes add such
// keys of their own, as cni.dev/valid-attachments is one.
func (d decoder) unknownKey(path string, members map[string]json.RawMessage, fields []keyField) error {
	if d.anyKey || d.lenient {
		return nil
	}
	known := make([]string, len(fields))
	for i, field := range fields {
		known[i] = field.key
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if slices.Contains(known, name) || strings.ContainsAny(name, "/.") {
			continue
		}
		return cnierr.New(cnierr.UnsupportedField, "%s: unknown key with value %s%s",
			join(path, name), shown(members[name]), didYouMean(name, known))
	}
	return nil
}

// keyField is a field of a raw struct that stands for a JSON key.
type keyField struct {
	key   string
	keys  string // the tag that says which keys the value may have
	value reflect.Value
}

// keyFields adds those of a struct to a list, those of embedded structs included.
func keyFields(list []keyField, of reflect.Value) []keyField {
	for i := range of.NumField() {
		f := of.Type().Field(i)
		if f.Anonymous {
			list = keyFields(list, of.Field(i))
			continue
		}
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "" {
			list = append(list, keyField{key, f.Tag.Get("keys"), of.Field(i)})
		}
	}
	return list
}

func absent(raw json.RawMessage) bool {
	trimmed := bytes.TrimSpace(raw)
	return len(trimmed) == 0 || string(trimmed) == "null"
}

func wrongType(path string, raw json.RawMessage, want string) error {
	return cnierr.Key(cnierr.DecodingFailure, path, shown(raw), want)
}

func wanted(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
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
func didYouMean(name string, known []string) string {
	best, least := "", len(name)/4+2
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
