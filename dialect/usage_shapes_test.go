package dialect_test

import (
	"encoding/json"
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
		if m.Meter.Prompt() {
			input += m.Quantity
		} else {
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
