package accesslog

import (
	"slices"
	"strings"
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// A pending call is one of which some lines were read.
type pending struct {
	id       logos.CallID
	first    position // of its first line
	seen     time.Time
	attempts []attempt
	end      *line
	endSeen  time.Time
	decision *logos.Decision
}

// An attempt is told by a line at its start, by one at its end, or by both; one that got no connection
// has no start.
type attempt struct{ start, end *line }

func (a attempt) cluster() string {
	if a.start != nil {
		return a.start.Cluster
	}
	return a.end.Cluster
}

// add takes an attempt's line. Attempts of a call run one after another, so an end belongs to the last
// start of the same cluster that has none; lines do not number them.
func (p *pending) add(l *line) {
	if l.Type == attemptStart {
		p.attempts = append(p.attempts, attempt{start: l})
		return
	}
	for i := range p.attempts {
		if a := &p.attempts[i]; a.end == nil && a.start.Cluster == l.Cluster {
			a.end = l
			return
		}
	}
	p.attempts = append(p.attempts, attempt{end: l})
}

// whole says whether every line of the call was read.
func (p *pending) whole() bool {
	if p.end == nil {
		return false
	}
	ended := 0
	for _, a := range p.attempts {
		if a.end != nil {
			ended++
		}
	}
	return ended == len(p.attempts) && ended >= int(p.end.Attempts)
}

// settle makes the record of a call whose end was read.
func (p *pending) settle(known samples) *logos.Call {
	l, d := p.end, p.decision
	usage := dialect.ReadUsage(l.Usage)
	c := &logos.Call{
		ID: p.id, Decision: *d, Method: l.Method, Status: int(l.Status),
		Duration: millis(l.Duration), FirstByte: millis(l.FirstByte),
		RequestBytes: l.RequestBytes, AnswerBytes: l.AnswerBytes,
		ServiceTier: usage.ServiceTier, Error: usage.Error,
	}
	c.End = l.endReason(d, &usage)
	if c.Error == (logos.CallError{}) && c.End != logos.EndOK {
		c.Error.Code = errorCode(l, d)
	}
	if d.Refusal != "" || len(d.Targets) == 0 {
		return c
	}
	tries := p.tries(int(l.Attempts))
	for i := range tries {
		c.Attempts = append(c.Attempts, p.attempt(i, tries, c.End))
	}
	p.meter(c, tries, &usage, known)
	return c
}

// A try is an attempt at a target, with the lines that tell of it, if any do.
type try struct {
	attempt
	target logos.DecisionTarget
}

// tries returns the attempts at targets, of a call for which Envoy counts so many attempts, fewer than there are
// lines for or none. Lines name their cluster; where they are missing, targets follow in the decision's order,
// which is the order of all attempts where the decision has no plan. Attempts between those were at no target.
func (p *pending) tries(counted int) (out []try) {
	targets, next, between := p.decision.Targets, 0, 0
	for _, a := range p.attempts {
		cluster := a.cluster()
		if cluster == dialect.BetweenAttempts {
			between++
			continue
		}
		if i := slices.IndexFunc(targets, func(t logos.DecisionTarget) bool { return t.Cluster == cluster }); i >= 0 {
			out, next = append(out, try{a, targets[i]}), i+1
		}
	}
	missing := min(counted-between-len(out), len(targets)-next)
	for range missing {
		out, next = append(out, try{target: targets[next]}), next+1
	}
	return out
}

// attempt makes the record of try i.
func (p *pending) attempt(i int, tries []try, end logos.EndReason) logos.Attempt {
	lines, last := tries[i], i == len(tries)-1
	a := logos.Attempt{Number: i + 1, Target: lines.target, Start: p.decision.StartTime(), End: logos.EndUpstreamError}
	if last {
		a.End = end
		if p.end != nil {
			a.Status, a.Duration, a.Detail = int(p.end.Status), millis(p.end.Duration), detail(p.end)
		}
	}
	for _, l := range []*line{lines.start, lines.end} {
		if l == nil {
			continue
		}
		if start := l.started(); !start.IsZero() {
			a.Start = start
		}
	}
	if l := lines.end; l != nil {
		a.Status, a.Duration, a.Detail = int(l.Status), millis(l.Duration), detail(l)
		a.ProviderRequestID = l.RequestID
		if a.ProviderRequestID == "" {
			a.ProviderRequestID = l.APIMRequestID
		}
		switch {
		case last:
		case l.has("UT", "SI", "UMSDR"):
			a.End = logos.EndTimeout
		case l.Status >= 400 && l.Status < 500 && l.Status != 429: // a prompt that was too long
			a.End = logos.EndRejected
		}
	}
	return a
}

// endReason says how a call ended. Flags are Envoy's, see "Response flags" in its access-log reference.
func (l *line) endReason(d *logos.Decision, u *dialect.Usage) logos.EndReason {
	switch {
	case d.Refusal != "":
		return logos.EndRefused
	case l.has("DC", "DR"):
		return logos.EndClientCancelled
	case l.has("UT", "SI", "DT", "UMSDR"), l.Details == cutOff, l.decidedBetween() && l.Status == 504:
		return logos.EndTimeout
	case l.Status == 0, l.Status == 429, l.Status >= 500:
		return logos.EndUpstreamError
	case l.Status >= 400:
		return logos.EndRejected
	case l.has("UC", "UR", "LR", "UPE"):
		return logos.EndTruncated
	case u.Error != logos.CallError{}:
		return logos.EndUpstreamError // inside an answer that began well
	}
	return logos.EndOK
}

// cutOff is how Envoy tells of a call that reached its longest duration; it sets no flag then.
const cutOff = "max_duration_timeout"

// decidedBetween says whether the call ended after a target that did not answer, by a decision against another
// attempt. Flags tell nothing then, the status does.
func (l *line) decidedBetween() bool { return l.Details == "lua_response" }

// errorCode names an error that no answer told of.
func errorCode(l *line, d *logos.Decision) string {
	switch {
	case d.Refusal != "":
		return d.Refusal
	case l.decidedBetween() && l.Status == 504:
		return "upstream_timeout" // as the caller was told
	case l.decidedBetween():
		return "upstream_unavailable"
	}
	if code, _, _ := strings.Cut(l.Details, "{"); code != "" && code != "via_upstream" {
		return clip(code, 128)
	}
	return ""
}

func detail(l *line) string {
	text := l.Details
	if l.Failure != "" {
		text += " " + l.Failure
	}
	if l.Flags != "" && l.Flags != "-" {
		text = l.Flags + " " + text
	}
	return clip(strings.TrimSpace(text), 512)
}

// lose makes the record of a call whose end will never be read. ran says that an attempt may have run of
// which there is no line either; what such a call may have cost is estimated.
func (p *pending) lose(ran bool, known samples, now time.Time) *logos.Call {
	d := p.decision
	c := &logos.Call{
		ID: p.id, Decision: *d, End: logos.EndLost,
		Duration: max(0, now.Sub(d.StartTime())), RequestBytes: d.BodyBytes,
	}
	tries := p.tries(0)
	if len(tries) == 0 && ran && len(d.Targets) > 0 {
		tries = []try{{target: d.Targets[0]}}
	}
	for i := range tries {
		a := p.attempt(i, tries, logos.EndLost)
		if (i == len(tries)-1 || a.End == logos.EndTimeout) && tries[i].sent() && d.API != logos.APINone {
			a.Meters = known.estimate(d, &a, d.Stream, 0)
		}
		c.Attempts = append(c.Attempts, a)
	}
	return c
}

func millis(n int64) time.Duration { return time.Duration(max(0, n)) * time.Millisecond }

// clip cuts a text to at most n bytes.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
