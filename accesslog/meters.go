package accesslog

import (
	"slices"
	"strings"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// meter gives the attempts of a call that ended what they used: the last one what was reported. What was not is
// estimated where the provider is likely to have charged, and not guessed where it is not: README has the table.
func (p *pending) meter(c *logos.Call, tries []try, u *dialect.Usage, known samples) {
	stream := strings.HasPrefix(p.end.ContentType, "text/event-stream")
	for i := range c.Attempts {
		a := &c.Attempts[i]
		switch {
		case i == len(tries)-1:
			a.Meters = known.meters(c, a, stream, tries[i].sent(), u)
			known.learn(c, a, stream, u)
		case a.End == logos.EndTimeout && tries[i].sent():
			// It took the prompt, and was given up: providers charge that, and nobody sees their report.
			a.Meters = known.estimate(&c.Decision, a, c.Decision.Stream, 0)
		}
	}
}

// sent says whether the request may have gone out: an attempt of which only the end is told had no connection.
func (t *try) sent() bool { return t.start != nil || t.end == nil }

// refusedContent is the code of Azure's content filter, the one refusal whose prompt is charged: it was evaluated.
const refusedContent = "content_filter"

// meters returns what the last attempt used.
func (s samples) meters(c *logos.Call, a *logos.Attempt, stream, sent bool, u *dialect.Usage) []logos.MeterReading {
	broken := c.End == logos.EndClientCancelled || c.End == logos.EndTruncated || c.End == logos.EndTimeout
	switch {
	case u.Reported && !u.Partial:
		return u.Meters
	case u.Reported:
		return s.complete(c, a, stream, u.Meters)
	case !sent, c.Decision.API == logos.APINone:
		return nil
	case c.Status >= 200 && c.Status < 300:
		return s.estimate(&c.Decision, a, stream, c.AnswerBytes)
	case broken, a.Status >= 200 && a.Status < 300:
		// The prompt was sent, and what the caller got is Envoy's: also where an answer that is not streamed broke off,
		// of which it passes nothing on.
		return s.estimate(&c.Decision, a, c.Decision.Stream, 0)
	case c.End == logos.EndRejected && c.Error.Code == refusedContent:
		return s.estimate(&c.Decision, a, false, 0)
	}
	return nil
}

// complete replaces an output that was counted only as the answer began: its input is known, how far it came is
// not.
func (s samples) complete(c *logos.Call, a *logos.Attempt, stream bool, reported []logos.MeterReading) []logos.MeterReading {
	readings := slices.Clone(reported)
	for i := range readings {
		if r := &readings[i]; r.Meter == logos.MeterOutput {
			r.Quantity, r.Estimated = max(r.Quantity, s.output(&c.Decision, a, stream, c.AnswerBytes)), true
		}
	}
	return readings
}
