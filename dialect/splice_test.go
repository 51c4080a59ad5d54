package dialect_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// The bodies wanted are compared byte for byte: what is not spliced stays as the caller wrote it.
func TestSplicesChangeNothingElse(t *testing.T) {
	const chat, completions = logos.APIChat, logos.APICompletions
	for _, c := range []struct {
		name  string
		api   logos.API
		model string // at the provider
		usage bool
		body  string
		want  string
	}{
		{"nothing to change", chat, "gpt", false, `{"model":"gpt","stream":true}`, `{"model":"gpt","stream":true}`},
		{"no name at the provider", chat, "", false, `{"model":"gpt"}`, `{"model":"gpt"}`},
		{"another model", chat, "gpt-4.1", false, `{"model":"gpt","n":1}`, `{"model":"gpt-4.1","n":1}`},
		{"a shorter model", chat, "g", false, `{"n":1,"model":"gpt"}`, `{"n":1,"model":"g"}`},
		{"a model amid blanks", chat, "x", false, "\n{ \"model\" :\t\"gpt\" , \"n\" : 1.0e0 } ", "\n{ \"model\" :\t\"x\" , \"n\" : 1.0e0 } "},
		{"a model under an escaped name", chat, "x", false, `{"mod\u0065l":"g\u0070t"}`, `{"mod\u0065l":"x"}`},
		{"an escaped model that is the provider's too", chat, "gpt", false, `{"model":"g\u0070t"}`, `{"model":"g\u0070t"}`},
		{"a model that JSON must escape", chat, `a"\b`, false, `{"model":"gpt"}`, `{"model":"a\"\\b"}`},
		{"a model beside odd neighbours", chat, "x", false, `{"a":1e400,"model":"gpt","a":2,"b":"\ud800"}`, `{"a":1e400,"model":"x","a":2,"b":"\ud800"}`},
		{"a model only in the path", chat, "x", false, `{"n":1}`, `{"model":"x","n":1}`},
		{"a model only in the path, amid blanks", chat, "x", false, ` { "n":1}`, ` {"model":"x", "n":1}`},
		{"an empty object", chat, "x", false, `{}`, `{"model":"x"}`},
		{"an empty object with blanks", chat, "x", true, ` { } `, ` {"model":"x" } `},
		{"the model of another object", chat, "x", false, `{"a":{"model":"y"},"model":"gpt"}`, `{"a":{"model":"y"},"model":"x"}`},

		{"usage without options", chat, "", true, `{"stream":true}`, `{"stream_options":{"include_usage":true},"stream":true}`},
		{"usage of completions", completions, "", true, `{"stream":true}`, `{"stream_options":{"include_usage":true},"stream":true}`},
		{"usage over false", chat, "", true, `{"stream":true,"stream_options":{"include_usage":false}}`, `{"stream":true,"stream_options":{"include_usage":true}}`},
		{"usage over false amid others", chat, "", true, `{"stream_options":{"a":1, "include_usage" : false ,"b":2},"stream":true}`, `{"stream_options":{"a":1, "include_usage" : true ,"b":2},"stream":true}`},
		{"usage over false under an escaped name", chat, "", true, `{"stream":true,"stream_options":{"includ\u0065_usage":false}}`, `{"stream":true,"stream_options":{"includ\u0065_usage":true}}`},
		{"usage over null", chat, "", true, `{"stream":true,"stream_options":{"include_usage":null}}`, `{"stream":true,"stream_options":{"include_usage":true}}`},
		{"usage over a string", chat, "", true, `{"stream":true,"stream_options":{"include_usage":"true"}}`, `{"stream":true,"stream_options":{"include_usage":true}}`},
		{"usage over an object", chat, "", true, `{"stream":true,"stream_options":{"include_usage":{"t":1}}}`, `{"stream":true,"stream_options":{"include_usage":true}}`},
		{"usage asked for already", chat, "", true, `{"stream":true,"stream_options":{"include_usage": true }}`, `{"stream":true,"stream_options":{"include_usage": true }}`},
		{"usage into options", chat, "", true, `{"stream":true,"stream_options":{"a":{"include_usage":false}}}`, `{"stream":true,"stream_options":{"include_usage":true,"a":{"include_usage":false}}}`},
		{"usage into empty options", chat, "", true, `{"stream":true,"stream_options":{ }}`, `{"stream":true,"stream_options":{"include_usage":true }}`},
		{"usage over null options", chat, "", true, `{"stream":true,"stream_options": null }`, `{"stream":true,"stream_options": {"include_usage":true} }`},
		{"usage over options that are no object", chat, "", true, `{"stream":true,"stream_options":[true]}`, `{"stream":true,"stream_options":{"include_usage":true}}`},

		{"model, then usage", chat, "x", true, `{"model":"gpt","stream":true,"stream_options":{}}`, `{"model":"x","stream":true,"stream_options":{"include_usage":true}}`},
		{"usage, then model", chat, "x", true, `{"stream_options":{"include_usage":false},"stream":true,"model":"gpt"}`, `{"stream_options":{"include_usage":true},"stream":true,"model":"x"}`},
		{"usage in front, then model", chat, "x", true, `{"stream":true,"model":"gpt"}`, `{"stream_options":{"include_usage":true},"stream":true,"model":"x"}`},
		{"both in front", chat, "x", true, `{"stream":true}`, `{"model":"x","stream_options":{"include_usage":true},"stream":true}`},
		{"model in front, usage in options", chat, "x", true, `{"stream_options":{},"stream":true}`, `{"model":"x","stream_options":{"include_usage":true},"stream":true}`},

		{"no usage where it is off", chat, "", false, `{"stream":true,"stream_options":{"include_usage":false}}`, `{"stream":true,"stream_options":{"include_usage":false}}`},
		{"no usage without a stream", chat, "", true, `{"stream_options":{"include_usage":false}}`, `{"stream_options":{"include_usage":false}}`},
		{"no usage where the stream is off", chat, "", true, `{"stream":false}`, `{"stream":false}`},
		{"no usage of responses", logos.APIResponses, "x", true, `{"stream":true,"model":"gpt"}`, `{"stream":true,"model":"x"}`},
		{"no usage of messages", logos.APIMessages, "x", true, `{"stream":true,"model":"gpt"}`, `{"stream":true,"model":"x"}`},
		{"no usage of embeddings", logos.APIEmbeddings, "x", true, `{"stream":true,"model":"gpt"}`, `{"stream":true,"model":"x"}`},
		{"no usage of pass-through", logos.APINone, "x", true, `{"stream":true,"model":"gpt"}`, `{"stream":true,"model":"x"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := dialect.Scan([]byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			body := []byte(c.body)
			splices := r.Splices(c.api, c.model, c.usage)
			checkInOrder(t, body, splices)
			got := dialect.Apply(body, splices)
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Errorf("the body differs (-want +got):\n%s", diff)
			}
			if !json.Valid(got) {
				t.Errorf("%s is no JSON", got)
			}
			if string(body) != c.body {
				t.Errorf("Apply changed its argument to %s", body)
			}
		})
	}
}

func TestAsksUsageOnlyOfStreamsThatNeedIt(t *testing.T) {
	for _, api := range []logos.API{logos.APINone, logos.APIChat, logos.APICompletions, logos.APIResponses, logos.APIEmbeddings, logos.APIMessages} {
		needs := api == logos.APIChat || api == logos.APICompletions
		if got := (&dialect.Request{Stream: true}).AsksUsage(api); got != needs {
			t.Errorf("a stream of %q asks for usage: %t, want %t", api, got, needs)
		}
		if (&dialect.Request{}).AsksUsage(api) {
			t.Errorf("%q asks for usage without a stream", api)
		}
	}
}

func TestApplyCutsAndInserts(t *testing.T) {
	for _, c := range []struct {
		splices []dialect.Splice
		want    string
	}{
		{nil, "abcdef"},
		{[]dialect.Splice{{At: 0, With: "X"}}, "Xabcdef"},
		{[]dialect.Splice{{At: 6, With: "X"}}, "abcdefX"},
		{[]dialect.Splice{{At: 0, Cut: 6}}, ""},
		{[]dialect.Splice{{At: 1, Cut: 2, With: "XYZ"}, {At: 4, Cut: 1}}, "aXYZdf"},
		{[]dialect.Splice{{At: 2, With: "X"}, {At: 2, With: "Y"}}, "abXYcdef"},
	} {
		if got := string(dialect.Apply([]byte("abcdef"), c.splices)); got != c.want {
			t.Errorf("Apply(abcdef, %v) = %s, want %s", c.splices, got, c.want)
		}
	}
}

// checkInOrder holds what the Lua filter takes for granted: splices lie within the body, one after another.
func checkInOrder(t *testing.T, body []byte, splices []dialect.Splice) {
	t.Helper()
	done := 0
	for _, s := range splices {
		if s.At < done || s.Cut < 0 || s.At+s.Cut > len(body) || s.Cut == 0 && s.With == "" {
			t.Fatalf("the splices %+v of a body of %d bytes are empty, overlap, or lie out of order or beyond it", splices, len(body))
		}
		done = s.At + s.Cut
	}
}
