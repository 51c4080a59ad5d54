package dialect_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

var bodies = []string{
	``, `{}`, ` { } `, `[]`, `null`, `{"model":"gpt"}`, `{"mod\u0065l":"g\u0070t","a":"\\\""}`, `{"model":"a","model":"b"}`,
	`{"model":"gpt","stream":true,"stream_options":{"include_usage":false,"a":[{}]}}`, `{"stream":true,"stream_options":{}}`,
	`{"stream":true,"stream_options":null,"n":1}`, `{"stream_options":{"include_usage":true,"include_usage":true}}`,
	`{"max_tokens":7,"max_completion_tokens":1e3,"max_output_tokens":-1}`, `{"user":"u","safety_identifier":"s","metadata":{"user_id":"m"}}`,
	`{"messages":[{"role":"user","content":[{"type":"text","text":"ü"}]}],"temperature":-0.5e-1,"x":null,"y":false}`,
	`{"a":1}{`, `{"a":01}`, `{"a":[1,]}`, `{"a":"` + strings.Repeat(`\\`, 9) + `"}`, strings.Repeat(`{"a":[`, 60), `{"a":` + strings.Repeat(`9`, 70) + `}`,
}

func FuzzScan(f *testing.F) {
	for _, b := range bodies {
		f.Add([]byte(b))
	}
	f.Add([]byte(`{"Input":1}`))
	f.Add([]byte(`{"uſer":"u"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := dialect.Scan(body)
		if err == nil && !json.Valid(body) {
			t.Fatalf("Scan takes %q, which is no JSON", body)
		}
		fields, refuse := wellFormed(body)
		if refuse != "" {
			return
		}
		if err != nil {
			t.Fatalf("Scan refuses %q: %v", body, err)
		}
		if model, _ := fields["model"].(string); got.Model != model {
			t.Errorf("the model of %q is %q, want %q", body, got.Model, model)
		}
		if stream, _ := fields["stream"].(bool); got.Stream != stream {
			t.Errorf("the stream of %q is %t, want %t", body, got.Stream, stream)
		}
		metadata, _ := fields["metadata"].(map[string]any)
		user := ""
		for _, v := range []any{fields["safety_identifier"], fields["user"], metadata["user_id"]} {
			if s, _ := v.(string); user == "" {
				user = s
			}
		}
		if got.User != user {
			t.Errorf("the user of %q is %q, want %q", body, got.User, user)
		}
		if got.MaxTokens < 0 {
			t.Errorf("the output limit of %q is %d", body, got.MaxTokens)
		}
	})
}

func FuzzSplices(f *testing.F) {
	for _, b := range bodies {
		f.Add([]byte(b), "provider/model", true, true)
		f.Add([]byte(b), "", true, false)
		f.Add([]byte(b), "gpt", false, true)
	}
	f.Fuzz(func(t *testing.T, body []byte, model string, usage, chat bool) {
		r, err := dialect.Scan(body)
		if err != nil || !json.Valid(body) || !utf8.ValidString(model) {
			return
		}
		api := logos.APIEmbeddings
		if chat {
			api = logos.APIChat
		}
		splices := r.Splices(api, model, usage)
		checkInOrder(t, body, splices)
		out := dialect.Apply(body, splices)
		if !json.Valid(out) {
			t.Fatalf("%q becomes %q, which is no JSON", body, out)
		}
		want := decode(t, body)
		if model != "" {
			want["model"] = model
		}
		if usage && chat && r.Stream {
			options, ok := want["stream_options"].(map[string]any)
			if !ok {
				options = make(map[string]any)
			}
			options["include_usage"] = true
			want["stream_options"] = options
		}
		if diff := cmp.Diff(want, decode(t, out)); diff != "" {
			t.Errorf("%q becomes %q (-want +got):\n%s", body, out, diff)
		}
		again, err := dialect.Scan(out)
		if err != nil && len(model) <= dialect.MaxModelLength && !strings.ContainsAny(model, "\x00\r\n") {
			t.Fatalf("%q becomes %q, which Scan refuses: %v", body, out, err)
		}
		if err == nil && len(again.Splices(api, model, usage)) != 0 {
			t.Errorf("%q becomes %q, which is to change once more", body, out)
		}
	})
}

// decode reads an object with the numbers as they are spelt.
func decode(t *testing.T, body []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var fields map[string]any
	if err := d.Decode(&fields); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return fields
}

// wellFormed decodes a body with the standard library, or says why Scan may refuse it: what it checks, said
// once more in terms of another parser.
func wellFormed(body []byte) (fields map[string]any, refuse string) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	switch {
	case !json.Valid(body) || bytes.TrimLeft(body, " \t\r\n")[0] != '{':
		return nil, "it is no JSON object"
	case !utf8.Valid(body):
		return nil, "the standard library replaces what is no UTF-8"
	case d.Decode(&fields) != nil:
		return nil, "a number does not fit"
	}
	if deepest, longest := tokens(body); deepest > 200 || longest > 64 {
		return nil, "it is nested too deep, or a number is too long"
	}
	for _, object := range []string{"", "stream_options", "metadata"} {
		names := namesIn(body, object)
		for _, name := range names {
			if slices.ContainsFunc(known, func(k string) bool { return k != name && strings.EqualFold(k, name) }) {
				return nil, "a known field is spelt in another case"
			}
		}
		slices.Sort(names)
		if len(slices.Compact(slices.Clone(names))) != len(names) {
			return nil, "a field is there twice"
		}
	}
	if v, ok := fields["model"]; ok {
		if s, _ := v.(string); s == "" || len(s) > dialect.MaxModelLength || strings.ContainsAny(s, "\x00\r\n") {
			return nil, "the model is no name"
		}
	}
	if _, ok := fields["stream"].(bool); !ok && fields["stream"] != nil {
		return nil, "stream is no boolean"
	}
	return fields, ""
}

var known = []string{
	"model", "stream", "max_tokens", "max_completion_tokens", "max_output_tokens", "safety_identifier", "user", "metadata",
	"user_id", "stream_options", "include_usage", "n", "best_of", "service_tier", "messages", "input", "prompt", "system", "instructions", "tools",
	"functions", "response_format", "text", "output_format", "output_config",
}

// namesIn lists the names in the outermost object, or in the object that one of its fields holds.
func namesIn(body []byte, object string) []string {
	var outer map[string]json.RawMessage
	if object != "" {
		if json.Unmarshal(body, &outer) != nil {
			return nil
		}
		body = outer[object]
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil
	}
	var names []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return names
		}
		names = append(names, name.(string))
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return names
		}
	}
	return names
}

// tokens returns how deep a body is nested, and the length of its longest number.
func tokens(body []byte) (deepest, longest int) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	depth := 0
	for {
		token, err := d.Token()
		if err != nil {
			return deepest, longest
		}
		switch token := token.(type) {
		case json.Delim:
			if token == '{' || token == '[' {
				depth++
			} else {
				depth--
			}
		case json.Number:
			longest = max(longest, len(token))
		}
		deepest = max(deepest, depth)
	}
}
