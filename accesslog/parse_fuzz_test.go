package accesslog

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ls1intum/edutelligence/logos"
)

// FuzzParseLine checks that no line panics, and that what is made of one can be stored: one record that the
// database refuses would hold up all others.
func FuzzParseLine(f *testing.F) {
	for _, l := range []string{
		`{"c":0,"f":"-","id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","k":"d1-c1-f8e8a281","ms":0,"s":"1795486584.492945","t":"UpstreamPoolReady","w":null}`,
		`{"c":503,"f":"UF","id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","k":"d1-c1-f8e8a281","ms":9,"r":"demo-e044","r2":"x","s":"1795486584.492945","t":"UpstreamEnd","w":"TLS","x":"a{b}"}`,
		`{"c":200,"ct":"text/event-stream","d":"{\"s\":1795486584488422,\"e\":1795490184488422,\"r\":1,\"a\":\"chat\",\"st\":true,\"m\":\"demo\",\"p\":1,\"k\":1,\"tg\":[{\"d\":1,\"p\":1,\"n\":\"x\"}],\"b\":77}","ee":"{\"code\":5,\"message\":\"m","f":"DC","i":77,"id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","m":"POST","ms":14,"n":1,"o":1e+05,"rs":"failed","st":"flex","t":"DownstreamEnd","tb":13,"mu":"{\"input_tokens\":14,\"output_tokens\":1}","x":"via_upstream"}`,
		`{"t":"DownstreamEnd","id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","c":1e308,"d":"{\"s\":1,\"a\":\"messages\",\"tg\":[{},{}]}","u":{"prompt_tokens":1e5,"cached_tokens":3},"o":0}`,
		// What no count and no time may do to a record.
		`{"t":"DownstreamEnd","id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","c":200,"d":"{\"s\":1,\"a\":\"chat\",\"b\":-1000,\"tg\":[{}]}","n":1}`,
		`{"t":"DownstreamEnd","id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","c":200,"s":"1.9223372036854775807","d":"{\"s\":1,\"a\":\"chat\",\"tg\":[{}]}","n":1}`,
		`{"t":"DownstreamEnd","id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","c":200,"ms":1e17,"tb":1e17,"d":"{\"s\":1,\"a\":\"chat\",\"tg\":[{}]}","n":1}`,
		`{"t":"DownstreamEnd","id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","c":200,"o":4e18,"i":4e18,"d":"{\"s\":1,\"a\":\"chat\",\"b\":9223372036854775807,\"tg\":[{}]}","n":1}`,
		`{`, `[]`, `null`,
	} {
		f.Add([]byte(l))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := parseLine(raw)
		if err != nil {
			return
		}
		if !logos.ValidCallID(l.ID) && !l.unrouted() || l.Type != callEnd && l.Type != attemptStart && l.Type != attemptEnd {
			t.Fatalf("takes %q, of type %q and id %q", raw, l.Type, l.ID)
		}
		checkAgainstJSON(t, raw, l)
		if start := l.started(); start.Year() > 9999 || start.Year() < 1 {
			t.Errorf("%q starts in the year %d", raw, start.Year())
		}
		d, err := l.decision()
		if err != nil || d == nil {
			return
		}
		if d.StartTime().Year() > 9999 {
			t.Errorf("%q is decided in the year %d", raw, d.StartTime().Year())
		}
		p := &pending{id: l.ID, end: l, decision: d}
		if l.Attempts > 0 {
			p.add(&line{Type: attemptStart, Cluster: "x", Start: l.Start})
			p.add(l)
		}
		checkStorable(t, raw, p.settle(make(samples)))
		checkStorable(t, raw, p.lose(true, make(samples), time.Now()))
	})
}

// checkAgainstJSON compares the quick reading of a line with the general decoder's, where names have no
// escapes, which Envoy's never have.
func checkAgainstJSON(t *testing.T, raw []byte, l *line) {
	t.Helper()
	var all map[string]any
	if !utf8.Valid(raw) || bytes.Contains(raw, []byte(`\u`)) || json.Unmarshal(raw, &all) != nil {
		return
	}
	for key, got := range map[string]string{"t": l.Type, "id": string(l.ID), "f": l.Flags, "x": l.Details, "k": l.Cluster, "s": l.Start, "w": l.Failure, "uu": l.Usage["uu"]} {
		if want, _ := all[key].(string); got != want {
			t.Errorf("%q: the field %s is %q, want %q", raw, key, got, want)
		}
	}
	for key, got := range map[string]int64{"c": l.Status, "ms": l.Duration, "o": l.AnswerBytes, "n": l.Attempts} {
		if want, _ := all[key].(float64); math.Abs(float64(got)-want) > 1+want*1e-9 {
			t.Errorf("%q: the field %s is %d, want %v", raw, key, got, want)
		}
	}
}

func checkStorable(t *testing.T, raw []byte, c *logos.Call) {
	t.Helper()
	if c.End == "" || c.Duration < 0 || c.FirstByte < 0 || len(c.Attempts) > len(c.Decision.Targets) {
		t.Errorf("%q is settled as %+v", raw, c)
	}
	for i, a := range c.Attempts {
		if a.Number != i+1 || a.End == "" || a.Duration < 0 || a.Start.Year() < 1 || a.Start.Year() > 9999 {
			t.Errorf("%q has the attempt %+v", raw, a)
		}
		for _, m := range a.Meters {
			if m.Quantity < 0 {
				t.Errorf("%q has a meter of %d", raw, m.Quantity)
			}
		}
	}
}
