package netconf

import "testing"

func TestWhichMemberCounts(t *testing.T) {
	type thing struct {
		Key    string  `json:"key"`
		Number *uint64 `json:"number"`
	}
	for name, c := range map[string]struct {
		decoder
		object, want, fails string
	}{
		"none of two":                     {object: `{"key": "a", "key": "b"}`, fails: `key: given more than once, as "a" and as "b": want it once`},
		"none of two alike":               {object: `{"key": "a", "number": 1, "key": "a"}`, fails: `key: given more than once, as "a" and as "a": want it once`},
		"none of two, one null":           {object: `{"key": "a", "key": null}`, fails: `key: given more than once, as "a" and as null: want it once`},
		"none of two, one escaped":        {object: `{"k\u0065y": "a", "key": 1}`, fails: `key: given more than once, as "a" and as 1: want it once`},
		"the last":                        {decoder: decoder{lenient: true}, object: `{"key": "a", "key": "b"}`, want: "b"},
		"the last, whatever was before":   {decoder: decoder{lenient: true}, object: `{"key": 1, "key": "b"}`, want: "b"},
		"the last, null":                  {decoder: decoder{lenient: true}, object: `{"key": "a", "key": null}`},
		"somebody else's twice":           {decoder: decoder{anyKey: true}, object: `{"zone": 1, "key": "a", "zone": 2}`, want: "a"},
		"escaped":                         {object: `{"k\u0065y": "a"}`, want: "a"},
		"other case":                      {object: `{"Key": "a"}`, fails: `Key: unknown key with value "a"; did you mean "key"?`},
		"any case":                        {decoder: decoder{anyKey: true, anyCase: true}, object: `{"Key": "a"}`, want: "a"},
		"the exact spelling before other": {decoder: decoder{anyKey: true, anyCase: true}, object: `{"KEY": "a", "key": "b", "Key": "c"}`, want: "b"},
		"the first of other spellings":    {decoder: decoder{anyKey: true, anyCase: true}, object: `{"Key": "a", "KEY": "b", "kEY": "c"}`, want: "b"},
		"an unknown key before all":       {object: `{"key": 1, "zone": 1, "yard": 2, "yard": 3}`, fails: `yard: unknown key with value 3`},
		"the struct's first":              {object: `{"number": -1, "key": 1}`, fails: `key: 1 is not valid: want a string`},
		"what fits":                       {decoder: decoder{lenient: true}, object: `{"number": -1, "key": "a", "zone": 1}`, want: "a"},
	} {
		t.Run(name, func(t *testing.T) {
			var got thing
			err := c.config([]byte(c.object), &got)
			if err == nil && c.fails != "" || err != nil && err.Error() != c.fails {
				t.Errorf("got error %v, want %q", err, c.fails)
			}
			if c.fails == "" && (got.Key != c.want || got.Number != nil) {
				t.Errorf("got %+v, want key %q alone", got, c.want)
			}
		})
	}
}
