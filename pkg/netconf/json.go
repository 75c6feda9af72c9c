package netconf

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// What is in this file takes apart JSON that is known to be well-formed, without white space around it. A call is a
// process of its own: encoding/json would look through each type anew and make a map of each object.

// member is a key of an object and its value.
type member struct {
	name  string
	value json.RawMessage
	known bool // there is a field for it
}

func (m member) unknown() bool { return !m.known }

// isPlugins tells a configuration list (.conflist) from one of its plugins.
func (m member) isPlugins() bool { return m.name == "plugins" }

// members adds those of an object to a list, in their order, with keys given twice. There are none in an absent object.
func members(list []member, path string, raw json.RawMessage) ([]member, error) {
	if absent(raw) {
		return list, nil
	}
	if raw[0] != '{' {
		return nil, wrongType(path, raw, "an object")
	}
	flat := split(make([]json.RawMessage, 0, 32), raw)
	for i := 0; i < len(flat); i += 2 {
		name, _ := text(flat[i])
		list = append(list, member{name: name, value: flat[i+1]})
	}
	return list, nil
}

// split adds to a list what stands between the brackets, commas and colons of a JSON list or object: elements, or the names
// and values of members.
func split(list []json.RawMessage, raw json.RawMessage) []json.RawMessage {
	depth, start, quoted := 0, 1, false
	for i := 0; i < len(raw); i++ {
		ends := false
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
			ends = depth == 0
		case c == ',' || c == ':':
			ends = depth == 1
		}
		if !ends {
			continue
		}
		if part := bytes.TrimSpace(raw[start:i]); len(part) > 0 { // there is nothing between the brackets of []
			list = append(list, part)
		}
		start = i + 1
	}
	return list
}

// scalar sets a value that is neither struct nor list, and reports whether it is of that type.
func scalar(raw json.RawMessage, into reflect.Value) (fits bool) {
	switch into.Kind() {
	case reflect.String:
		s, fits := text(raw)
		into.SetString(s)
		return fits
	case reflect.Bool:
		into.SetBool(string(raw) == "true")
		return into.Bool() || string(raw) == "false"
	case reflect.Int64:
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err == nil {
			into.SetInt(n)
		}
		return err == nil
	case reflect.Uint64:
		n, err := strconv.ParseUint(string(raw), 10, 64)
		if err == nil {
			into.SetUint(n)
		}
		return err == nil
	}
	fresh := reflect.New(into.Type()) // a failed Unmarshal may leave half a value behind
	if json.Unmarshal(raw, fresh.Interface()) != nil {
		return false
	}
	into.Set(fresh.Elem())
	return true
}

// text reads a JSON string. It is false for a value of another type.
func text(raw json.RawMessage) (string, bool) {
	if raw[0] != '"' {
		return "", false
	}
	if !bytes.ContainsFunc(raw, func(c rune) bool { return c == '\\' || c >= utf8.RuneSelf }) {
		return string(raw[1 : len(raw)-1]), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}
