package dialect_test

import (
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// A shape is an answer as a provider documents it, see testdata/README.md.
type shape struct {
	What          string
	Input, Output int64 // the provider's totals
	Meters        map[logos.Meter]int64
	Tier          string
	Events        []json.RawMessage
}

func TestMetersPartitionWhatEachProviderReports(t *testing.T) {
	files, err := filepath.Glob("testdata/usage/*.json")
	if err != nil || len(files) < 7 {
		t.Fatalf("there are %d files (%v)", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var shapes []shape
		if err := json.Unmarshal(text, &shapes); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, s := range shapes {
			t.Run(filepath.Base(file)+" "+s.What, func(t *testing.T) { s.check(t) })
		}
	}
}

func (s *shape) check(t *testing.T) {
	events := make([]string, len(s.Events))
	for i, e := range s.Events {
		events[i] = string(e)
	}
	if strings.Contains(s.What, "streamed") {
		events = append([]string{`{}`}, events...) // one event is no stream to metadata
	}
	fields := metadata(t, events...)
	if strings.Contains(s.What, "streamed") != (fields[dialect.Numbers] == "") {
		t.Errorf("it is not read as the stream, or the whole, that it is: %v", fields)
	}
	usage := dialect.ReadUsage(fields)
	got := make(map[logos.Meter]int64)
	var input, output int64
	for _, m := range usage.Meters {
		got[m.Meter] = m.Quantity
		switch {
		case m.Meter.Prompt():
			input += m.Quantity
		case m.Meter != logos.MeterWebSearch: // no tokens
			output += m.Quantity
		}
	}
	if diff := cmp.Diff(s.Meters, got); diff != "" {
		t.Errorf("meters differ (-want +got):\n%s", diff)
	}
	if input != s.Input || output != s.Output || usage.ServiceTier != s.Tier || usage.Partial {
		t.Errorf("input %d, output %d, tier %q, partial %t; want %d, %d, %q", input, output, usage.ServiceTier, usage.Partial, s.Input, s.Output, s.Tier)
	}
}

// FuzzUsageOfMessages gives Anthropic's counts any values, in an answer as a whole, in a stream that counts at its
// beginning alone and in one that counts again at its end: reads and writes are always beside the input, and what was
// written for an hour is a part of the writes.
func FuzzUsageOfMessages(f *testing.F) {
	f.Add(int64(2048), int64(1800), int64(556), int64(100), int64(503), int64(40), uint8(0))
	f.Add(int64(1), int64(0), int64(5), int64(9), int64(3), int64(9), uint8(1))
	f.Add(int64(-1), int64(math.MaxInt64), int64(7), int64(-7), int64(0), int64(1), uint8(2))
	f.Fuzz(func(t *testing.T, input, read, write, hour, output, thinking int64, form uint8) {
		prompt := map[string]any{}
		for path, v := range map[string]int64{
			"input_tokens": input, "cache_read_input_tokens": read, "cache_creation_input_tokens": write, "cache_creation.ephemeral_1h_input_tokens": hour,
		} {
			place(prompt, path, v)
		}
		whole := maps.Clone(prompt)
		place(whole, "output_tokens", output)
		place(whole, "output_tokens_details.thinking_tokens", thinking)
		start := map[string]any{"message": map[string]any{"usage": prompt}}
		events := [][]any{
			{map[string]any{"usage": whole}}, {start, map[string]any{"usage": whole}},
			{start, map[string]any{"usage": map[string]any{"output_tokens": output, "output_tokens_details": whole["output_tokens_details"]}}},
		}[form%3]
		texts := make([]string, len(events))
		for i, e := range events {
			encoded, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			texts[i] = string(encoded)
		}
		valid := func(n int64) int64 {
			if n < 0 || n > math.MaxInt64/4 {
				return 0
			}
			return n
		}
		got := make(map[logos.Meter]int64)
		usage := dialect.ReadUsage(metadata(t, texts...))
		for _, m := range usage.Meters {
			got[m.Meter] = m.Quantity
		}
		want := map[logos.Meter]int64{
			logos.MeterInput: valid(input), logos.MeterCachedInput: valid(read), logos.MeterCacheWrite1h: min(valid(hour), valid(write)),
			logos.MeterReasoning: min(valid(thinking), valid(output)),
		}
		want[logos.MeterCacheWrite] = valid(write) - want[logos.MeterCacheWrite1h]
		want[logos.MeterOutput] = valid(output) - want[logos.MeterReasoning]
		for _, m := range logos.Meters {
			if usage.Reported && got[m] != want[m] {
				t.Errorf("%s: %v, want %v", texts, got, want)
			}
		}
	})
}
