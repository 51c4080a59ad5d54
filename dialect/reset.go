package dialect

import (
	"strconv"
	"strings"
	"time"
)

// Resets are the headers in which a provider that is asked too much says when to come back, as they stand.
type Resets struct {
	RetryAfter   string // retry-after: seconds, or a date
	RetryAfterMS string // retry-after-ms: milliseconds, as Azure and OpenAI send
	// x-ratelimit-reset-requests and -tokens: durations such as 1s, 6m0s or 12ms, or seconds.
	Requests, Tokens string
	// anthropic-ratelimit-…-reset of requests, and of tokens: RFC 3339.
	AnthropicRequests, AnthropicTokens string
}

// After returns how long it is from now until calls are taken again; 0: the provider does not say. What is said
// for just that goes before the times at which a limit is whole again, of which the later one counts.
func (r Resets) After(now time.Time) time.Duration {
	if wait := number(r.RetryAfterMS, time.Millisecond); wait > 0 {
		return wait
	}
	if wait := number(r.RetryAfter, time.Second); wait > 0 {
		return wait
	}
	for _, layout := range dates {
		if at, err := time.Parse(layout, r.RetryAfter); err == nil {
			return min(max(0, at.Sub(now)), longest)
		}
	}
	wait := max(spell(r.Requests), spell(r.Tokens))
	for _, text := range []string{r.AnthropicRequests, r.AnthropicTokens} {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			wait = min(max(wait, at.Sub(now)), longest)
		}
	}
	return wait
}

// dates are the three forms of a date in HTTP.
var dates = [...]string{"Mon, 02 Jan 2006 15:04:05 GMT", time.RFC850, time.ANSIC}

// longest is beyond what any provider asks for; a number that is larger is taken for it.
const longest = 24 * time.Hour

// number reads a number of units; 0: it is none, or none above 0.
func number(text string, unit time.Duration) time.Duration {
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(n > 0) {
		return 0
	}
	return time.Duration(min(n*float64(unit), float64(longest)))
}

// spell reads a duration, or a number of seconds.
func spell(text string) time.Duration {
	if wait := number(text, time.Second); wait > 0 {
		return wait
	}
	wait, err := time.ParseDuration(text)
	if err != nil {
		return 0
	}
	return min(max(0, wait), longest)
}
