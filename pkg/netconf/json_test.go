package netconf

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzJSON holds what takes JSON apart to encoding/json.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, ` [ ] `, `null`, `true`, `-1.5e3`, `""`, `"a\"b\\"`, `"\ud800\u0061"`, "\"\xff\"", "\"\u00e9\"",
		`{"a": 1, "b": [2, {"c": "]},:[{"}], "a": null}`, "\t{ \"\\u0061\" :\r\n{ } , \"\" : [ [ ] , \"\\\\\" ] }\n",
		`[1, "two", [3], {"four": 5}, null, false]`, `["\"]", "\\", 1]`,
		`{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"i":0,"j":0,"k":0,"l":0,"m":0,"n":0,"o":0,"p":0,"q":0}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if json.Valid(doc) {
			takeApart(t, bytes.TrimSpace(doc))
		}
	})
}

func takeApart(t *testing.T, raw json.RawMessage) {
	t.Helper()
	switch raw[0] {
	case '{':
		list, err := members(nil, "", raw)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]json.RawMessage{}
		for _, m := range list {
			got[m.name] = m.value
			takeApart(t, m.value)
		}
		equal(t, string(raw), got, decoded[map[string]json.RawMessage](t, raw))
	case '[':
		got := split([]json.RawMessage{}, raw)
		equal(t, string(raw), got, decoded[[]json.RawMessage](t, raw))
		for _, element := range got {
			takeApart(t, element)
		}
	case '"':
		got, ok := text(raw)
		must(t, ok, "no text", raw)
		equal(t, string(raw), got, decoded[string](t, raw))
	default:
		_, ok := text(raw)
		must(t, !ok, "text", raw)
	}
}

func decoded[T any](t *testing.T, raw json.RawMessage) (v T) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
