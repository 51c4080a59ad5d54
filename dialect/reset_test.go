package dialect_test

import (
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos/dialect"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestReadsWhenToComeBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dialect.Resets
		want time.Duration
	}{
		"nothing is said":                 {},
		"seconds":                         {dialect.Resets{RetryAfter: "7"}, 7 * time.Second},
		"parts of seconds":                {dialect.Resets{RetryAfter: "0.5"}, 500 * time.Millisecond},
		"a date":                          {dialect.Resets{RetryAfter: "Sun, 01 Mar 2026 12:00:30 GMT"}, 30 * time.Second},
		"a date that is past":             {dialect.Resets{RetryAfter: "Sun, 01 Mar 2026 11:00:30 GMT", Requests: "3s"}, 0},
		"milliseconds come first":         {dialect.Resets{RetryAfterMS: "1500", RetryAfter: "2"}, 1500 * time.Millisecond},
		"Retry-After comes before resets": {dialect.Resets{RetryAfter: "2", Requests: "6m0s"}, 2 * time.Second},
		"the later of two resets":         {dialect.Resets{Requests: "1s", Tokens: "6m0s"}, 6 * time.Minute},
		"a short reset":                   {dialect.Resets{Tokens: "12ms"}, 12 * time.Millisecond},
		"a reset in seconds":              {dialect.Resets{Tokens: "42"}, 42 * time.Second},
		"Anthropic's":                     {dialect.Resets{AnthropicRequests: "2026-03-01T12:00:05Z", AnthropicTokens: "2026-03-01T12:01:00Z"}, time.Minute},
		"none of these":                   {dialect.Resets{RetryAfter: "soon", Requests: "-1s", Tokens: "x", AnthropicTokens: "12"}, 0},
		"more than anybody waits":         {dialect.Resets{RetryAfter: "1e300"}, 24 * time.Hour},
		"less than nothing":               {dialect.Resets{RetryAfter: "-3"}, 0},
		"no number":                       {dialect.Resets{RetryAfter: "NaN", RetryAfterMS: "Inf"}, 24 * time.Hour},
	} {
		if got := c.After(noon); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func FuzzResets(f *testing.F) {
	f.Add("7", "1500", "6m0s", "2026-03-01T12:00:05Z")
	f.Add("Sun, 01 Mar 2026 12:00:30 GMT", "-1", "12ms", "x")
	f.Add("1e300", "NaN", "2562047h47m16s", "9999-12-31T23:59:59Z")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		for _, r := range []dialect.Resets{{RetryAfter: a, RetryAfterMS: b, Requests: c, AnthropicTokens: d}, {Requests: a, Tokens: c, AnthropicRequests: d}, {RetryAfter: d}} {
			if wait := r.After(noon); wait < 0 {
				t.Errorf("%+v waits for %v", r, wait)
			}
		}
	})
}
