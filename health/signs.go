package health

import (
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

// An outcome is what the end of an attempt says of a target.
type outcome int

const (
	nothing outcome = iota // it says nothing of it: the caller went away, or the request was refused for what it is
	good
	bad
	silent  // it was left because no answer began
	limited // too many calls
	refused // the credential is not accepted
)

// outcomeOf judges the end of an attempt. What a provider says of the request itself is no sign of its health,
// and an attempt without status and failure is one that the caller left.
func outcomeOf(s *logos.AttemptSign) outcome {
	switch {
	case s.TimedOut:
		return silent
	case s.Broken, s.Status >= 500, s.Status == 408:
		return bad
	case s.Status == 429:
		return limited
	case s.Status == 401, s.Status == 403:
		return refused
	case s.Status >= 200 && s.Status < 400 && s.FirstByte >= 0:
		return good
	}
	return nothing
}

// tooOld is what the present is no longer told by.
const tooOld = 10 * time.Second

// Attempt takes a sign of an attempt. It is called by one goroutine.
func (m *Monitor) Attempt(s logos.AttemptSign) {
	t := (*m.targets.Load())[s.Cluster]
	now := m.now()
	if t == nil || now.Sub(s.At()) > tooOld {
		return
	}
	m.calls.mu.Lock()
	defer m.calls.mu.Unlock()
	call := m.calls.move(now, &s, t)
	t.mu.Lock()
	m.follow(t, call, &s, now)
	outcome := nothing
	if s.Ended {
		outcome = m.finish(t, call, &s, now)
	}
	t.ring()
	t.mu.Unlock()
	if !s.Ended {
		return
	}
	if outcome == good {
		m.calls.drop(s.Call, call)
		return
	}
	call.leave() // another attempt may follow
	t.release(s.Call)
}

// follow takes what a sign says of the time to the first byte. t.mu is held, as in all that follow uses.
func (m *Monitor) follow(t *target, call *openCall, s *logos.AttemptSign, now time.Time) {
	answered := s.FirstByte >= 0 && s.Status >= 200 && s.Status < 400
	switch {
	case call.answering || call.unknown:
	case answered:
		call.answering = true
		call.quiet()
		m.try(t, s.Call, t.pace.ratio(call.kind, call.class, s.FirstByte), now)
		t.pace.sample(now, call.kind, call.class, s.FirstByte)
	case s.Status < 400:
		m.wait(t, call, s, now)
	}
	if answered && !s.Ended && t.alarmed() { // a probe need not end to tell what it was to find out
		if t.breaker.reason != "" {
			m.tell(t, t.breaker.succeed(now, s.Start), "")
		}
		m.accept(t, s, now)
	}
}

// probePatience is how long a probe may be silent where nobody knows what is usual.
const probePatience = 30 * time.Second

// wait takes that an attempt has no first byte yet: it takes at least so long.
func (m *Monitor) wait(t *target, call *openCall, s *logos.AttemptSign, now time.Time) {
	ratio := t.pace.ratio(call.kind, call.class, s.Age)
	if s.Ended {
		call.quiet()
		if ratio >= 1 {
			t.pace.remember(now, ratio)
		}
		return
	}
	if call.target == t {
		call.waits = t.pace.wait(s.Start, call.waits, ratio)
	}
	if ratio >= slowFrom {
		m.try(t, s.Call, ratio, now)
	}
	limit := t.pace.patience(call.kind, call.class)
	if limit == 0 && t.breaker.probe == s.Call {
		limit = probePatience
	}
	if limit > 0 && s.Age > limit {
		m.blame(t, call, s, BreakerOpen, true, now)
	}
}

// try takes what a call says that tries whether a slow target is fast again.
func (m *Monitor) try(t *target, id logos.CallID, ratio float64, now time.Time) {
	if !t.pace.slow || t.pace.trials.probe != id {
		return
	}
	if ratio <= 0 { // nothing is known to compare it with
		t.pace.trials.release(id)
		return
	}
	if t.pace.trials.end(now, ratio) {
		t.pace.recover(now)
		m.metrics.paceTurned(t, false, ratio)
	}
}

// finish takes the end of an attempt.
func (m *Monitor) finish(t *target, call *openCall, s *logos.AttemptSign, now time.Time) outcome {
	o := outcomeOf(s)
	switch o {
	case good:
		m.tell(t, t.breaker.succeed(now, s.Start), "")
		m.accept(t, s, now)
	case bad:
		m.blame(t, call, s, BreakerOpen, false, now)
	case silent:
		if m.tooSilent(t, call, s.Age) {
			m.blame(t, call, s, BreakerOpen, true, now)
		}
	case limited:
		wait := min(s.Wait, maxWait)
		m.tell(t, t.breaker.limit(now, s.Start, RateLimited, wait), RateLimited)
		m.limitAll(t, s.Start, wait, now)
	case refused:
		m.blame(t, call, s, CredentialRefused, false, now)
		m.refuse(t, s.Start, now)
	}
	return o
}

// blame counts a failure of a target, once for each call: what makes a provider fail may be the request, which is
// tried twice and often sent again.
func (m *Monitor) blame(t *target, call *openCall, s *logos.AttemptSign, why string, silent bool, now time.Time) {
	if call.blamed == t {
		return
	}
	call.blamed = t
	m.tell(t, t.breaker.fail(now, s.Start, why, silent), why)
}

// tooSilent says whether an attempt that was left was silent for long enough to be a failure of the target. A
// policy may leave one sooner than it usually answers.
func (m *Monitor) tooSilent(t *target, call *openCall, age time.Duration) bool {
	limit := tooLong
	if !call.unknown {
		limit = max(limit, t.pace.patience(call.kind, call.class))
	}
	return age >= min(limit, m.firstByte-early)
}

// early is by how much Envoy's timers may seem to be early.
const early = 10 * time.Millisecond

// accept, limitAll and refuse take what an attempt says of its credential.
func (m *Monitor) accept(t *target, s *logos.AttemptSign, now time.Time) {
	m.onCredential(t, "", func(c *credential) change {
		c.limited = nil
		return c.breaker.succeed(now, s.Start)
	})
}

func (m *Monitor) limitAll(t *target, started time.Time, wait time.Duration, now time.Time) {
	m.onCredential(t, RateLimited, func(c *credential) change {
		other := c.limited != nil && c.limited != t
		c.limited = t
		if !other && c.breaker.reason == "" {
			return unchanged
		}
		return c.breaker.limit(now, started, RateLimited, wait)
	})
}

func (m *Monitor) refuse(t *target, started time.Time, now time.Time) {
	m.onCredential(t, CredentialRefused, func(c *credential) change {
		return c.breaker.fail(now, started, CredentialRefused, false)
	})
}

func (m *Monitor) onCredential(t *target, why string, do func(*credential) change) {
	c := t.credential
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	became := do(c)
	c.alarm.Store(c.breaker.reason != "")
	m.metrics.breakerChanged(ids{credential: c.id}, became, why)
}

func (m *Monitor) tell(t *target, became change, why string) {
	m.metrics.breakerChanged(t.ids, became, why)
}

// Settled takes how a call ended, for what no sign of an attempt can tell: that an answer which began well was
// an error or stalled, and how long it was.
func (m *Monitor) Settled(c *logos.Call) {
	if len(c.Attempts) == 0 {
		return
	}
	last := &c.Attempts[len(c.Attempts)-1]
	if last.Status < 200 || last.Status >= 300 || last.Target.Deployment == 0 {
		return
	}
	// A call that reached its longest duration ended by our word, not by the target's.
	whole := c.Duration >= c.Decision.DeadlineTime().Sub(c.Decision.StartTime())-time.Second && c.Decision.Deadline > 0
	stalled := c.End == logos.EndTimeout && !whole || c.End == logos.EndUpstreamError
	now := m.now()
	if t := (*m.targets.Load())[last.Target.Cluster]; t != nil && now.Sub(last.Start.Add(last.Duration)) <= tooOld {
		t.mu.Lock()
		if stalled || c.End == logos.EndOK {
			m.tell(t, t.breaker.answer(now, last.Start, !stalled, BreakerOpen), BreakerOpen)
			t.ring()
		}
		t.mu.Unlock()
	}
	if c.End == logos.EndOK {
		m.outputs.take(c.Decision.Project, last)
	}
}

// take takes the length of an answer, where the provider reported it.
func (o *outputs) take(project logos.ProjectID, a *logos.Attempt) {
	n := int64(0)
	for _, r := range a.Meters {
		if r.Estimated {
			return
		}
		if r.Meter == logos.MeterOutput || r.Meter == logos.MeterReasoning {
			n += r.Quantity
		}
	}
	if n > 0 {
		o.add(project, a.Target.Model, n)
	}
}
