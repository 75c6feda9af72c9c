package convert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// object is a JSON object that keeps the order its author gave it, and the values as they were written.
type object []member

type member struct {
	key   string
	value json.RawMessage
}

// parseObject reads an object. A key given twice is an error: readers do not agree on which of the two counts.
func parseObject(path string, raw json.RawMessage) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("%s: %s is not valid: want an object", path, shown(raw))
	}
	o := object{}
	for dec.More() {
		var m member
		name, err := dec.Token()
		if err == nil {
			m.key, _ = name.(string)
			err = dec.Decode(&m.value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if o.index(m.key) >= 0 {
			return nil, fmt.Errorf("%s: given twice: want it once", join(path, m.key))
		}
		o = append(o, m)
	}
	return o, nil
}

// index finds a key in any case: the reference plugins read keys so.
func (o object) index(key string) int {
	return slices.IndexFunc(o, func(m member) bool { return strings.EqualFold(m.key, key) })
}

// get returns the value of a key, nil where it is absent or null.
func (o object) get(key string) json.RawMessage {
	i := o.index(key)
	if i < 0 || string(bytes.TrimSpace(o[i].value)) == "null" {
		return nil
	}
	return o[i].value
}

// text is the value of a key that holds a string, empty where it does not.
func (o object) text(key string) (s string) {
	_ = json.Unmarshal(o.get(key), &s) // what is no string fails where it is used
	return s
}

func (o object) isTrue(key string) (is bool) {
	_ = json.Unmarshal(o.get(key), &is)
	return is
}

// set replaces the value of a key, or adds it at the end.
func (o *object) set(key string, value any) {
	raw, isRaw := value.(json.RawMessage)
	if !isRaw {
		raw = encode(value)
	}
	if i := o.index(key); i >= 0 {
		(*o)[i].value = raw
		return
	}
	*o = append(*o, member{key, raw})
}

func (o *object) remove(key string) {
	*o = slices.DeleteFunc(*o, func(m member) bool { return strings.EqualFold(m.key, key) })
}

// raw writes the object.
func (o object) raw() json.RawMessage {
	var b bytes.Buffer
	for i, m := range o {
		b.WriteByte("{,"[min(i, 1)])
		b.Write(encode(m.key))
		b.WriteByte(':')
		b.Write(m.value)
	}
	if len(o) == 0 {
		b.WriteByte('{')
	}
	b.WriteByte('}')
	return b.Bytes()
}

// encode writes strings, numbers, booleans and lists of them, which cannot fail, without escaping what HTML would mind.
func encode(value any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(value)
	return bytes.TrimSpace(b.Bytes())
}

// same reports whether two values are written alike but for white space.
func same(a, b json.RawMessage) bool { return compact(a) == compact(b) }

func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

// shown is a value as a remark shows it, in one line and cut.
func shown(raw json.RawMessage) string {
	const most = 80
	s := compact(raw)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
