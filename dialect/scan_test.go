package dialect_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

func TestScanReads(t *testing.T) {
	long := strings.Repeat("m", dialect.MaxModelLength)
	for _, c := range []struct {
		name, body string
		want       dialect.Request
	}{
		{"nothing in an empty object", `{}`, dialect.Request{}},
		{"the model", `{"model":"gpt"}`, dialect.Request{Model: "gpt"}},
		{"a model with escapes", `{"model":"g\u0070t\/\"4\""}`, dialect.Request{Model: `gpt/"4"`}},
		{"a model in UTF-8", `{"model":"größe"}`, dialect.Request{Model: "größe"}},
		{"a surrogate pair", `{"model":"\ud83d\ude00"}`, dialect.Request{Model: "😀"}},
		{"the longest model", `{"model":"` + long + `"}`, dialect.Request{Model: long}},
		{"an escaped name", `{"mod\u0065l":"gpt","\u0073tream":true}`, dialect.Request{Model: "gpt", Stream: true}},
		{"around all whitespace", " \t\r\n{ \"model\"\t:\r\n\"gpt\" , \"stream\" : true } \n", dialect.Request{Model: "gpt", Stream: true}},
		{"no stream", `{"stream":false}`, dialect.Request{}},
		{"null as no stream", `{"stream":null}`, dialect.Request{}},
		{"not the fields of others", `{"a":{"model":"x","stream":true,"user":"u","max_tokens":1}}`, dialect.Request{}},
		{"not the elements of others", `{"messages":[{"model":"x"},{"model":"y"}],"model":"gpt"}`, dialect.Request{Model: "gpt"}},
		{"past a string that looks like a field", `{"a":"\",\"model\":\"x","model":"gpt"}`, dialect.Request{Model: "gpt"}},
		{"past a string that ends in backslashes", `{"a":"\\\\","b":"\\\"","model":"gpt"}`, dialect.Request{Model: "gpt"}},
		{"past every kind of value", `{"a":[],"b":{},"c":[1,-0.5e+3,true,false,null,"",[{}]],"model":"gpt"}`, dialect.Request{Model: "gpt"}},

		{"max_tokens", `{"max_tokens":7}`, dialect.Request{MaxTokens: 7}},
		{"max_completion_tokens", `{"max_completion_tokens":7}`, dialect.Request{MaxTokens: 7}},
		{"max_output_tokens", `{"max_output_tokens":7}`, dialect.Request{MaxTokens: 7}},
		{"the smallest limit", `{"max_tokens":9,"max_completion_tokens":7,"max_output_tokens":8}`, dialect.Request{MaxTokens: 7}},
		{"a limit as a float", `{"max_tokens":1e2}`, dialect.Request{MaxTokens: 100}},
		{"no limit of zero", `{"max_tokens":0,"max_output_tokens":8}`, dialect.Request{MaxTokens: 8}},
		{"no negative limit", `{"max_tokens":-1,"max_output_tokens":8}`, dialect.Request{MaxTokens: 8}},
		{"the largest limit", `{"max_tokens":1000000000000000}`, dialect.Request{MaxTokens: 1e15}},
		{"no absurd limit", `{"max_tokens":1000000000000001}`, dialect.Request{}},
		{"no infinite limit", `{"max_tokens":1e999}`, dialect.Request{}},
		{"no limit in a string", `{"max_tokens":"7"}`, dialect.Request{}},
		{"no limit in an array", `{"max_tokens":[7]}`, dialect.Request{}},
		{"null as no limit", `{"max_tokens":null}`, dialect.Request{}},

		{"user", `{"user":"ada"}`, dialect.Request{User: "ada"}},
		{"an escaped user", `{"user":"\u0061da"}`, dialect.Request{User: "ada"}},
		{"safety_identifier before user", `{"user":"ada","safety_identifier":"sid"}`, dialect.Request{User: "sid"}},
		{"user before metadata", `{"metadata":{"user_id":"meta"},"user":"ada"}`, dialect.Request{User: "ada"}},
		{"metadata.user_id", `{"metadata":{"a":{"user_id":"no"},"user_id":"meta","b":1}}`, dialect.Request{User: "meta"}},
		{"past an empty user", `{"user":"","metadata":{"user_id":"meta"}}`, dialect.Request{User: "meta"}},
		{"users of other types as none", `{"user":7,"safety_identifier":null,"metadata":{"user_id":["x"]}}`, dialect.Request{}},
		{"metadata of other types as none", `{"metadata":"user_id"}`, dialect.Request{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := dialect.Scan([]byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.IgnoreUnexported(dialect.Request{})); diff != "" {
				t.Errorf("Scan(%s) differs (-want +got):\n%s", c.body, diff)
			}
		})
	}
}

func TestScanRefuses(t *testing.T) {
	tooLong := strings.Repeat("m", dialect.MaxModelLength+1)
	for _, c := range []struct{ name, body, want string }{
		{"an empty body", ``, "must be a JSON object"},
		{"blanks alone", " \n", "must be a JSON object"},
		{"an array", `[{"model":"gpt"}]`, "must be a JSON object"},
		{"a string", `"model"`, "must be a JSON object"},
		{"a byte order mark", "\ufeff{}", "must be a JSON object"},
		{"a second object", `{"model":"gpt"}{"model":"other"}`, "after the JSON object"},
		{"a trailing comma", `{},`, "after the JSON object"},
		{"a trailing NUL", "{}\x00", "after the JSON object"},

		{"an object left open", `{`, "a string is missing"},
		{"an object left open after a field", `{"a":1`, "a comma or a closing brace is missing"},
		{"a comma before the brace", `{"a":1,}`, "a string is missing"},
		{"a comma alone", `{,}`, "a string is missing"},
		{"a name without quotes", `{model:"gpt"}`, "a string is missing"},
		{"a name without value", `{"a"}`, "a colon is missing"},
		{"a missing value", `{"a":}`, "a value is missing"},
		{"a missing value at the end", `{"a":`, "a value is missing"},
		{"two values", `{"a":1 2}`, "a comma or a closing brace is missing"},
		{"a string left open", `{"a":"b}`, "a string is not closed"},
		{"a string closed by an escaped quote", `{"a":"b\"}`, "a string is not closed"},
		{"an array left open", `{"a":[1`, "a comma or a closing bracket is missing"},
		{"a comma before the bracket", `{"a":[1,]}`, "a value is missing"},
		{"brackets that cross", `{"a":[1}]`, "a comma or a closing bracket is missing"},
		{"a comment", `{"a":1/*x*/}`, "a comma or a closing brace is missing"},
		{"other quotes", `{'a':1}`, "a string is missing"},

		{"Python's True", `{"a":True}`, "misspelt"},
		{"a word cut short", `{"a":nul}`, "misspelt"},
		{"NaN", `{"a":NaN}`, "misspelt"},
		{"Infinity", `{"a":-Infinity}`, "misspelt"},
		{"a leading zero", `{"a":01}`, "misspelt"},
		{"a leading plus", `{"a":+1}`, "misspelt"},
		{"a bare point", `{"a":.5}`, "misspelt"},
		{"a hexadecimal number", `{"a":0x10}`, "misspelt"},
		{"a number of 65 digits", `{"a":1` + strings.Repeat("0", 64) + `}`, "misspelt"},

		{"a model that is null", `{"model":null}`, `"model" must be a string`},
		{"a model that is a number", `{"model":4}`, `"model" must be a string`},
		{"a model that is an object", `{"model":{"id":"gpt"}}`, `"model" must be a string`},
		{"an empty model", `{"model":""}`, "1 to 256 bytes"},
		{"a model of 257 bytes", `{"model":"` + tooLong + `"}`, "1 to 256 bytes"},
		{"NUL in the model", `{"model":"gpt\u0000"}`, "1 to 256 bytes"},
		{"a line feed in the model", `{"model":"a\nb"}`, "1 to 256 bytes"},
		{"a carriage return in the model", `{"model":"a\rb"}`, "1 to 256 bytes"},
		{"a model that is no UTF-8", "{\"model\":\"a\xff\"}", "1 to 256 bytes"},
		{"a model with a wrong escape", `{"model":"\q"}`, ""},
		{"a model left open", `{"model":"gpt`, "a string is not closed"},
		{"a stream that is a number", `{"stream":1}`, `"stream" must be true or false`},
		{"a stream that is a string", `{"stream":"true"}`, `"stream" must be true or false`},
		{"a stream misspelt", `{"stream":tru}`, "misspelt"},
		{"a stream misspelt as null", `{"stream":nullx}`, "a comma or a closing brace is missing"},
		{"a user left open", `{"user":"ada`, "a string is not closed"},
		{"a limit misspelt", `{"max_tokens":7x}`, "misspelt"},
		{"metadata left open", `{"metadata":{"user_id":"x"`, "a comma or a closing brace is missing"},
		{"options misspelt", `{"stream_options":nil}`, "misspelt"},
		{"an include_usage misspelt", `{"stream_options":{"include_usage":yes}}`, "misspelt"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, c.body, c.want) })
	}
}

func TestRefusesARepeatedField(t *testing.T) {
	for _, c := range []struct{ body, field string }{
		{`{"model":"a","model":"b"}`, "model"},
		{`{"model":"a","model":"a"}`, "model"},
		{`{"model":"a","x":{},"mod\u0065l":"b"}`, "model"},
		{`{"\u006dodel":"a","model":"b"}`, "model"},
		{`{"stream":false,"stream":true}`, "stream"},
		{`{"stream":null,"stre\u0061m":true}`, "stream"},
		{`{"max_tokens":1,"max_tokens":2}`, "max_tokens"},
		{`{"user":"a","user":"b"}`, "user"},
		{`{"user":null,"user":"b"}`, "user"},
		{`{"safety_identifier":"a","safety_identifier":"b"}`, "safety_identifier"},
		{`{"metadata":{},"metadata":{"user_id":"b"}}`, "metadata"},
		{`{"stream_options":null,"stream_options":{}}`, "stream_options"},
		{`{"stream_options":{"include_usage":true,"include_usage":false}}`, "include_usage"},
		{`{"stream_options":{"include_usage":true,"includ\u0065_usage":false}}`, "include_usage"},
	} {
		t.Run(c.body, func(t *testing.T) { refused(t, c.body, fmt.Sprintf("the field %q is there twice", c.field)) })
	}
}

func TestLeavesRepeatsOfOtherFieldsToTheProvider(t *testing.T) {
	for _, body := range []string{`{"a":1,"a":2}`, `{"x":{"model":"a","model":"b"}}`, `{"stream_options":{"a":1,"a":2}}`} {
		if _, err := dialect.Scan([]byte(body)); err != nil {
			t.Errorf("Scan(%s): %v", body, err)
		}
	}
}

// Each of these says two things at once to a provider that reads JSON as Go's decoder (names in any case) or
// a lenient one (needless escapes) does.
func TestRefusesAFieldInDisguise(t *testing.T) {
	for _, body := range []string{
		`{"model":"a","MODEL":"b"}`,
		`{"Model":"b"}`,
		`{"model":"a","\model":"b"}`,
		`{"stream":true,"stream_options":{"include_usage":true,"Include_Usage":false}}`,
		`{"metadata":{"user_id":"a","user_id":"b"}}`,
	} {
		t.Run(body, func(t *testing.T) { refused(t, body, "") })
	}
}

// A provider's decoder refuses these, or reads them in a way of its own.
func TestRefusesStringsThatAreNoJSON(t *testing.T) {
	for _, body := range []string{
		"{\"a\":\"\n\"}", "{\"a\":\"\x00\"}", "{\"a\x1f\":1}", `{"a":"\q"}`, `{"a":"\u12g4"}`, `{"a":"\u12"}`, `{"\x61":1}`,
		"{\"user\":\"\t\"}", `{"user":"\'"}`, "{\"model\":\"a\x01\"}",
	} {
		t.Run(body, func(t *testing.T) { refused(t, body, "") })
	}
}

func TestBoundsNesting(t *testing.T) {
	const most = 200
	for _, c := range []struct{ name, before, after string }{
		{"arrays", "[", "]"},
		{"objects", `{"a":`, "}"},
	} {
		for _, within := range []string{`{"a":%s}`, `{"metadata":{"a":%s}}`, `{"stream_options":{"include_usage":%s}}`, `{"user":%s}`, `{"max_tokens":%s}`} {
			levels := most - strings.Count(within, "{") // the innermost value stands one deeper
			ok := fmt.Sprintf(within, strings.Repeat(c.before, levels)+"1"+strings.Repeat(c.after, levels))
			if _, err := dialect.Scan([]byte(ok)); err != nil {
				t.Errorf("%d %s in %s are refused: %v", levels, c.name, within, err)
			}
			tooDeep := fmt.Sprintf(within, strings.Repeat(c.before, levels+1)+"1"+strings.Repeat(c.after, levels+1))
			refused(t, tooDeep, "nested deeper than 200 levels")
		}
	}
	refused(t, `{"a":`+strings.Repeat("[", 1<<20), "nested deeper than 200 levels")
}

func TestErrorsSayWhere(t *testing.T) {
	for body, at := range map[string]string{
		`x`:                       "(at byte 0 of the request body)",
		`{"a":1 2}`:               "(at byte 7 of the request body)",
		`{"a":1,"b":tru}`:         "(at byte 11 of the request body)",
		`{} x`:                    "(at byte 3 of the request body)",
		`{"stream":"yes"}`:        "(at byte 10 of the request body)",
		`{"a":"left open`:         "(at byte 15 of the request body)",
		`{"model":"a","model":1}`: "(at byte 21 of the request body)",
	} {
		refused(t, body, at)
	}
}

func refused(t *testing.T, body, want string) {
	t.Helper()
	got, err := dialect.Scan([]byte(body))
	e, ok := errors.AsType[*logos.Error](err)
	if !ok || e.Kind != logos.Invalid || e.Code != "invalid_json" {
		t.Errorf("Scan(%.100q) = %+v, %#v; want an error invalid_json of kind Invalid", body, got, err)
		return
	}
	if !strings.Contains(e.Message, want) {
		t.Errorf("Scan(%.100q) says %q, want %q in it", body, e.Message, want)
	}
	if got.Model != "" {
		t.Errorf("Scan(%.100q) gives the model %q with its error", body, got.Model)
	}
}

// Words are read at once: each byte at each place of one is read as the general decoder reads it.
func TestScanReadsEachByteOfAString(t *testing.T) {
	for c := range 256 {
		for before := range 17 {
			for _, next := range []string{"", "n", "u00Fe", "u00g0", "\\", `"`} {
				body := `{"a":"` + strings.Repeat("é", before/2) + strings.Repeat("x", before%2) + string([]byte{byte(c)}) + next + strings.Repeat("y", 9) + `"}`
				_, err := dialect.Scan([]byte(body))
				if valid := json.Valid([]byte(body)); (err == nil) != valid {
					t.Errorf("%q is valid: %v, read: %v", body, valid, err)
				}
			}
		}
	}
}
