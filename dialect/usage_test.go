package dialect_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// metadata reads JSON as Envoy does: several events as those of a stream, where the last value wins; one
// as an answer as a whole.
func metadata(t *testing.T, events ...string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	fields := dialect.StreamFields()
	if len(events) == 1 && !strings.Contains(events[0], `"message":{"usage"`) && !strings.Contains(events[0], `"response":{`) {
		fields = dialect.AnswerFields()
	}
	numbers := make(map[string]any)
	for _, event := range events {
		var root any
		decoder := json.NewDecoder(strings.NewReader(event))
		decoder.UseNumber()
		if err := decoder.Decode(&root); err != nil {
			t.Fatalf("%s: %v", event, err)
		}
		for _, f := range fields {
			v := root
			for _, name := range f.Path {
				object, _ := v.(map[string]any)
				v = object[name]
			}
			number, isNumber := v.(json.Number)
			text, isText := v.(string)
			_, isObject := v.(map[string]any)
			switch {
			case f.Limit == 0 && isNumber:
				numbers[f.Key] = number
			case f.Limit > 0 && isText:
				out[f.Key] = text
			case f.Limit > 0 && isNumber:
				out[f.Key] = number.String()
			case f.Limit > 0 && isObject:
				encoded, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				out[f.Key] = string(encoded)
			}
		}
	}
	if len(numbers) > 0 {
		encoded, err := json.Marshal(numbers)
		if err != nil {
			t.Fatal(err)
		}
		out[dialect.Numbers] = string(encoded)
	}
	return out
}

func TestReadUsage(t *testing.T) {
	const input, cached, write, output, reasoning = logos.MeterInput, logos.MeterCachedInput, logos.MeterCacheWrite, logos.MeterOutput, logos.MeterReasoning
	type meters map[logos.Meter]int64
	for _, c := range []struct {
		name   string
		events []string
		want   meters
	}{
		{"OpenAI's chat", []string{`{"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}`}, meters{input: 10, output: 5}},
		{"OpenAI's chat, cached and reasoned", []string{`{"usage":{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}`}, meters{input: 6, cached: 4, output: 2, reasoning: 3}},
		{"OpenAI's chat streamed", []string{`{"choices":[],"usage":null}`, `{"usage":{"prompt_tokens":1,"completion_tokens":1}}`, `{"usage":{"prompt_tokens":10,"completion_tokens":5}}`}, meters{input: 10, output: 5}},
		{"OpenAI's embeddings", []string{`{"usage":{"prompt_tokens":8,"total_tokens":8}}`}, meters{input: 8, output: 0}},
		{"OpenAI's responses", []string{`{"usage":{"input_tokens":10,"output_tokens":5,"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":3}}}`}, meters{input: 6, cached: 4, output: 2, reasoning: 3}},
		{"OpenAI's responses streamed", []string{`{"type":"response.created","response":{"usage":null}}`, `{"type":"response.completed","response":{"usage":{"input_tokens":10,"output_tokens":5,"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":3}}}}`}, meters{input: 6, cached: 4, output: 2, reasoning: 3}},
		{"Anthropic's messages", []string{`{"usage":{"input_tokens":10,"output_tokens":5,"cache_read_input_tokens":100,"cache_creation_input_tokens":50}}`}, meters{input: 10, cached: 100, write: 50, output: 5}},
		{"Anthropic's messages without a cache", []string{`{"usage":{"input_tokens":10,"output_tokens":5}}`}, meters{input: 10, output: 5}},
		{"Anthropic's messages, only written", []string{`{"usage":{"input_tokens":10,"output_tokens":5,"cache_creation_input_tokens":50}}`}, meters{input: 10, write: 50, output: 5}},
		{"Anthropic's messages streamed", []string{`{"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1,"cache_read_input_tokens":100,"cache_creation_input_tokens":50}}}`, `{"type":"message_delta","usage":{"output_tokens":3}}`, `{"type":"message_delta","usage":{"output_tokens":5}}`}, meters{input: 10, cached: 100, write: 50, output: 5}},
		{"Anthropic's messages streamed, counted again", []string{`{"message":{"usage":{"input_tokens":10,"output_tokens":1,"cache_read_input_tokens":0}}}`, `{"usage":{"input_tokens":12,"cache_read_input_tokens":7,"output_tokens":5}}`}, meters{input: 12, cached: 7, output: 5}},
		{"Anthropic's messages broken off", []string{`{"message":{"usage":{"input_tokens":10,"output_tokens":1}}}`}, meters{input: 10, output: 1}},
		{"both ways of counting a cache", []string{`{"usage":{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},"cache_read_input_tokens":4,"cache_creation_input_tokens":2}}`}, meters{input: 6, cached: 4, output: 5}},
		{"more cached than asked", []string{`{"usage":{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":40}}}`}, meters{input: 0, cached: 10, output: 5}},
		{"more reasoned than said", []string{`{"usage":{"prompt_tokens":10,"completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":50}}}`}, meters{input: 10, output: 0, reasoning: 5}},
		{"output alone", []string{`{"usage":{"completion_tokens":5}}`}, meters{input: 0, output: 5}},
		{"a negative count", []string{`{"usage":{"prompt_tokens":-1,"completion_tokens":5}}`}, meters{input: 0, output: 5}},
		{"an absurd count", []string{`{"usage":{"prompt_tokens":1e300,"completion_tokens":5}}`}, meters{input: 0, output: 5}},
		{"no usage", []string{`{"choices":[]}`}, nil},
		{"details alone", []string{`{"usage":{"prompt_tokens_details":{"cached_tokens":4}}}`}, nil},
		{"counts in strings", []string{`{"usage":{"prompt_tokens":"10"}}`}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			usage := dialect.ReadUsage(metadata(t, c.events...))
			var got meters
			for _, m := range usage.Meters {
				if got == nil {
					got = make(meters)
				}
				if _, twice := got[m.Meter]; twice || m.Estimated {
					t.Errorf("%+v is there twice or is estimated", m)
				}
				got[m.Meter] = m.Quantity
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("meters differ (-want +got):\n%s", diff)
			}
			if usage.Reported != (c.want != nil) {
				t.Errorf("reported is %t", usage.Reported)
			}
		})
	}
}

func TestAnAnswerCountedOnlyAsItBeganIsPartial(t *testing.T) {
	const begin = `{"message":{"usage":{"input_tokens":10,"output_tokens":1}}}`
	for _, c := range []struct {
		name   string
		events []string
		want   bool
	}{
		{"a stream that breaks off", []string{begin}, true},
		{"a stream that ends", []string{begin, `{"usage":{"output_tokens":5}}`}, false},
		{"a stream that ends without a word", []string{begin, `{"usage":{"output_tokens":0}}`}, false},
		{"an answer as a whole", []string{`{"usage":{"input_tokens":10,"output_tokens":1}}`}, false},
		{"another dialect", []string{`{"usage":{"prompt_tokens":10}}`}, false},
		{"no usage", []string{`{}`}, false},
	} {
		if got := dialect.ReadUsage(metadata(t, c.events...)); got.Partial != c.want {
			t.Errorf("%s is partial: %t, want %t", c.name, got.Partial, c.want)
		}
	}
}

func TestReadsTierAndError(t *testing.T) {
	long := strings.Repeat("ü", 300)
	for _, c := range []struct {
		name   string
		events []string
		tier   string
		err    logos.CallError
	}{
		{"neither", []string{`{}`}, "", logos.CallError{}},
		{"a tier", []string{`{"service_tier":"flex"}`}, "flex", logos.CallError{}},
		{"a response's tier", []string{`{"response":{"service_tier":"auto"}}`, `{"response":{"service_tier":"default"}}`}, "default", logos.CallError{}},
		{"OpenAI's error", []string{`{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"bad"}}`}, "", logos.CallError{Code: "bad", Type: "invalid_request_error", Message: "no"}},
		{"Anthropic's error", []string{`{"type":"error","error":{"type":"overloaded_error","message":"busy"}}`}, "", logos.CallError{Type: "overloaded_error", Message: "busy"}},
		{"a code that is a number", []string{`{"error":{"code":429,"message":"busy"}}`}, "", logos.CallError{Code: "429", Message: "busy"}},
		{"a failed response", []string{`{"response":{"status":"in_progress"}}`, `{"response":{"status":"failed","error":{"code":"server_error","message":"oh"}}}`}, "", logos.CallError{Code: "server_error", Message: "oh"}},
		{"a failed response that says no more", []string{`{"response":{"status":"failed"}}`}, "", logos.CallError{Code: "response_failed"}},
		{"a completed response", []string{`{"response":{"status":"completed","error":null}}`}, "", logos.CallError{}},
		{"a long message", []string{`{"error":{"message":"` + long + `"}}`}, "", logos.CallError{Message: long[:512]}},
		{"a long message of odd length", []string{`{"error":{"message":"x` + long + `"}}`}, "", logos.CallError{Message: ("x" + long)[:511]}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := dialect.ReadUsage(metadata(t, c.events...))
			if diff := cmp.Diff(dialect.Usage{ServiceTier: c.tier, Error: c.err}, got); diff != "" {
				t.Errorf("it differs (-want +got):\n%s", diff)
			}
			if !utf8.ValidString(got.Error.Message) {
				t.Errorf("the message %q is cut within a character", got.Error.Message)
			}
		})
	}
}

// Each shape is where a provider puts input, output, cache reads, cache writes and reasoning. Cache counts
// stand beside the input only where writes have a place.
func FuzzReadUsage(f *testing.F) {
	shapes := [][5]string{
		{"usage.prompt_tokens", "usage.completion_tokens", "usage.prompt_tokens_details.cached_tokens", "", "usage.completion_tokens_details.reasoning_tokens"},
		{"usage.input_tokens", "usage.output_tokens", "usage.input_tokens_details.cached_tokens", "", "usage.output_tokens_details.reasoning_tokens"},
		{"response.usage.input_tokens", "response.usage.output_tokens", "response.usage.input_tokens_details.cached_tokens", "", "response.usage.output_tokens_details.reasoning_tokens"},
		{"usage.input_tokens", "usage.output_tokens", "usage.cache_read_input_tokens", "usage.cache_creation_input_tokens", ""},
		{"message.usage.input_tokens", "usage.output_tokens", "message.usage.cache_read_input_tokens", "message.usage.cache_creation_input_tokens", ""},
		{"message.usage.input_tokens", "message.usage.output_tokens", "message.usage.cache_read_input_tokens", "message.usage.cache_creation_input_tokens", ""},
	}
	for i := range shapes {
		f.Add(uint8(i), 10., 5., 4., 3., 2.)
		f.Add(uint8(i), 10., 5., 40., 30., 20.)
		f.Add(uint8(i), 1e300, 0., 1e19, -1., 0.5)
	}
	f.Fuzz(func(t *testing.T, shape uint8, input, output, read, write, reasoning float64) {
		keys := shapes[int(shape)%len(shapes)]
		event := make(map[string]any)
		for i, v := range []float64{input, output, read, write, reasoning} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return // JSON can't write it, so no provider can send it
			}
			place(event, keys[i], v)
		}
		encoded, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		fields := metadata(t, string(encoded))
		count := func(v float64) uint64 {
			if !(v >= 0 && v <= math.MaxInt64/4) {
				return 0
			}
			return uint64(v)
		}
		total := count(input) + count(output)
		if keys[3] != "" {
			total += count(read) + count(write)
		}
		usage := dialect.ReadUsage(fields)
		if usage.Reported != (len(usage.Meters) > 0) {
			t.Fatalf("%v gives %+v", fields, usage)
		}
		if !usage.Reported {
			if count(input)+count(output) > 0 {
				t.Errorf("%v gives no meters", fields)
			}
			return
		}
		var sum uint64
		seen := make(map[logos.Meter]bool)
		for _, m := range usage.Meters {
			if seen[m.Meter] || m.Quantity < 0 || m.Estimated {
				t.Errorf("%v gives %+v", fields, usage.Meters)
			}
			seen[m.Meter] = true
			sum += uint64(m.Quantity)
		}
		if sum != total && total < 1<<53 { // beyond, the floats of this test are not exact
			t.Errorf("%v gives %+v, which add up to %d, want %d", fields, usage.Meters, sum, total)
		}
	})
}

// FuzzUsageOfAnySort gives every field that is read any count: the meters never add up to less than what the
// provider calls input and output, are never negative, and are disjoint.
func FuzzUsageOfAnySort(f *testing.F) {
	f.Add(int64(10), int64(5), int64(4), int64(3), int64(2), int64(1), int64(7), int64(20), true)
	f.Add(int64(1), int64(1), int64(9), int64(9), int64(9), int64(9), int64(9), int64(-9), false)
	f.Fuzz(func(t *testing.T, input, output, cached, write, audio, reasoning, audioOut, total int64, stream bool) {
		usage := map[string]any{}
		for path, v := range map[string]int64{
			"prompt_tokens": input, "completion_tokens": output, "total_tokens": total, "prompt_tokens_details.cached_tokens": cached,
			"prompt_tokens_details.cache_write_tokens": write, "prompt_tokens_details.audio_tokens": audio,
			"completion_tokens_details.reasoning_tokens": reasoning, "completion_tokens_details.audio_tokens": audioOut,
		} {
			place(usage, path, v)
		}
		encoded, err := json.Marshal(map[string]any{"usage": usage})
		if err != nil {
			t.Fatal(err)
		}
		events := []string{string(encoded)}
		if stream {
			events = append(events, string(encoded))
		}
		got := dialect.ReadUsage(metadata(t, events...))
		valid := func(n int64) int64 {
			if n < 0 || n > math.MaxInt64/4 {
				return 0
			}
			return n
		}
		var in, out int64
		for _, m := range got.Meters {
			if m.Quantity < 0 {
				t.Errorf("%s gives %+v", encoded, got.Meters)
			}
			if m.Meter.Prompt() {
				in += m.Quantity
			} else {
				out += m.Quantity
			}
		}
		want := valid(output)
		if beside := valid(total) - valid(input) - want; beside > 0 && input >= 0 && input <= math.MaxInt64/4 {
			want += beside
		}
		if got.Reported && (in != valid(input) || out != want) {
			t.Errorf("%s gives %+v: %d and %d, want %d and %d", encoded, got.Meters, in, out, valid(input), want)
		}
	})
}

func TestNoUsageFieldIsReadTwice(t *testing.T) {
	lists := [][]dialect.UsageField{dialect.StreamFields(), dialect.AnswerFields()}
	for _, k := range dialect.StreamKinds() {
		lists = append(lists, k.Fields)
	}
	for _, list := range lists {
		paths := make(map[string]bool)
		for _, f := range list {
			path := strings.Join(f.Path, ".")
			if paths[path] || f.Key == "" || path == "" {
				t.Errorf("%q at %q is there twice or is empty", f.Key, path)
			}
			paths[path] = true
		}
	}
}

func TestKindsOfStreamsReadTheirUsageAndErrors(t *testing.T) {
	want := map[logos.API]string{
		logos.APIChat: "usage service_tier error", logos.APICompletions: "usage service_tier error",
		logos.APIMessages:  "usage message.usage error",
		logos.APIResponses: "response.usage response.service_tier response.status error response.error",
	}
	got := make(map[logos.API]string)
	for _, k := range dialect.StreamKinds() {
		var paths []string
		for _, f := range k.Fields {
			paths = append(paths, strings.Join(f.Path, "."))
		}
		for _, path := range k.Paths {
			got[dialect.ParsePath(path).API] = strings.Join(paths, " ")
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields by API differ (-want +got):\n%s", diff)
	}
}

func TestEstimateCountsBytes(t *testing.T) {
	for _, c := range []struct {
		api             logos.API
		stream          bool
		request, answer int64
		input, output   int64
	}{
		{logos.APIChat, false, 0, 0, 0, 0},
		{logos.APIChat, false, 1, 300, 1, 0},
		{logos.APIChat, false, 400, 700, 100, 100},
		{logos.APIChat, true, 401, 700, 101, 4},
		{logos.APIMessages, true, 4, 1, 1, 1},
		{logos.APIEmbeddings, false, 400, 50_000, 100, 0},
	} {
		want := []logos.MeterReading{{Meter: logos.MeterInput, Quantity: c.input, Estimated: true}, {Meter: logos.MeterOutput, Quantity: c.output, Estimated: true}}
		if diff := cmp.Diff(want, dialect.Estimate(c.api, c.stream, c.request, c.answer)); diff != "" {
			t.Errorf("%+v differs (-want +got):\n%s", c, diff)
		}
	}
}

// place puts a value at a dotted path of an object.
func place(object map[string]any, path string, v any) {
	if path == "" {
		return
	}
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		inner, ok := object[name].(map[string]any)
		if !ok {
			inner = make(map[string]any)
			object[name] = inner
		}
		object = inner
	}
	object[names[len(names)-1]] = v
}
