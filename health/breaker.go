package health

import (
	"math"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

const (
	// failuresInRow open a breaker, as does half of what was tried lately, if that was enough.
	failuresInRow = 5
	enoughTried   = 10
	triedHalfLife = 10 * time.Second

	firstBackOff = time.Second
	// maxBackOff keeps a recovered target from waiting for more than five seconds, its probe included.
	maxBackOff = 4 * time.Second
	// steadyFor is how long a breaker must have been closed before it opens for as short as the first time.
	steadyFor = 30 * time.Second
	// leaseFor is how long a decision has to make a call the probe that it took. It is many times what
	// a decision takes; meanwhile no other call is offered it.
	leaseFor = 20 * time.Millisecond
	// A probe of a silent target costs a caller a long wait. So it is left to one of several calls, unless
	// there are few.
	silentProbeReads = 10
	silentProbeWait  = 30 * time.Second
)

// A breaker keeps calls from what fails: closed it counts, open it lets nothing through for a while, and then
// one call at a time, until one succeeds. What the end of a call says of the answer (that it broke off, or was
// an error) comes apart from how it began, so each has a count of its own.
//
// A breaker reads no clock and locks nothing.
type breaker struct {
	reason  string    // why it is open; empty: it is closed
	until   time.Time // it lets nothing through before; attempts from before say nothing of what is then
	opened  time.Time // when last
	closed  time.Time // when last
	backOff time.Duration

	silent bool         // what opened it was silence
	reads  int          // decisions that would have considered it since
	lease  time.Time    // until then a probe is one decision's
	probe  logos.CallID // under way; empty: none

	inRow, badAnswers int
	rowSince          time.Time // when the first of those in a row started
	good, bad         float64   // decayed, as of counted
	counted           time.Time
}

// A change is what became of a breaker by an event.
type change string

const (
	unchanged   change = ""
	opened      change = "open"
	reopened    change = "probe_failed"
	closedAgain change = "closed"
)

func (b *breaker) fade(now time.Time) {
	if elapsed := now.Sub(b.counted); elapsed > 0 {
		by := math.Exp2(-elapsed.Seconds() / triedHalfLife.Seconds())
		b.good, b.bad, b.counted = b.good*by, b.bad*by, now
	}
}

// succeed takes an attempt that was answered.
func (b *breaker) succeed(now, started time.Time) change {
	switch {
	case b.reason == "":
		b.fade(now)
		b.good++
		if !started.Before(b.rowSince) { // else it was under way when failing began
			b.inRow = 0
		}
		return unchanged
	case started.Before(b.until):
		return unchanged
	}
	b.reason, b.probe, b.closed = "", "", now
	b.inRow, b.good, b.bad = 0, 0, 0
	return closedAgain
}

// fail takes an attempt that failed, and why the breaker opens if it does.
func (b *breaker) fail(now, started time.Time, why string, silent bool) change {
	if b.reason != "" {
		return b.failAgain(now, started, why, silent)
	}
	b.fade(now)
	b.bad++
	if b.inRow++; b.inRow == 1 {
		b.rowSince = started
	}
	if b.inRow < failuresInRow && (b.good+b.bad < enoughTried || b.bad < b.good) {
		return unchanged
	}
	return b.open(now, why, silent, 0)
}

func (b *breaker) failAgain(now, started time.Time, why string, silent bool) change {
	if started.Before(b.until) {
		return unchanged
	}
	b.open(now, why, silent, 0)
	return reopened
}

// answer takes the end of an answer that had begun well. One that ended badly takes back that it was a success.
func (b *breaker) answer(now, started time.Time, ok bool, why string) change {
	switch {
	case ok:
		b.badAnswers = 0
		return unchanged
	case b.reason != "":
		return b.failAgain(now, started, why, false)
	}
	b.fade(now)
	b.good = max(0, b.good-1)
	b.bad++
	b.badAnswers++
	if b.badAnswers < failuresInRow && (b.good+b.bad < enoughTried || b.bad < b.good) {
		return unchanged
	}
	return b.open(now, why, false, 0)
}

// limit takes a refusal for too many calls, which opens at once, for as long as the provider asks.
func (b *breaker) limit(now, started time.Time, why string, wait time.Duration) change {
	if b.reason == "" {
		return b.open(now, why, false, wait)
	}
	if started.Before(b.until) { // a call that was under way
		if until := now.Add(wait); wait > 0 && until.After(b.until) {
			b.until = until
		}
		return unchanged
	}
	b.open(now, why, false, wait)
	return reopened
}

// open lets nothing through for wait, or for the back-off where that is 0.
func (b *breaker) open(now time.Time, why string, silent bool, wait time.Duration) change {
	if b.reason == "" && now.Sub(b.closed) > steadyFor || b.backOff == 0 {
		b.backOff = firstBackOff
	} else {
		b.backOff = min(2*b.backOff, maxBackOff)
	}
	if wait <= 0 {
		wait = b.backOff
	}
	b.reason, b.silent, b.opened, b.until = why, silent, now, now.Add(wait)
	b.reads, b.probe, b.lease = 0, "", time.Time{}
	return opened
}

// blocks returns why a call may not go through now; empty: it may.
func (b *breaker) blocks(now time.Time) string {
	if now.Before(b.lease) {
		return b.reason
	}
	return b.waits(now)
}

// waits is blocks without regard to what another decision took a moment ago.
func (b *breaker) waits(now time.Time) string {
	switch {
	case b.reason == "":
		return ""
	case now.Before(b.until), b.probe != "":
		return b.reason
	case b.silent && b.reads < silentProbeReads && now.Sub(b.opened) < silentProbeWait:
		return b.reason
	}
	return ""
}

// take keeps the probe for a decision. [breaker.blocks] was asked before.
func (b *breaker) take(now time.Time) {
	if b.reason != "" {
		b.lease = now.Add(leaseFor)
	}
}

// begin makes a call that is sent the probe, if one is due.
func (b *breaker) begin(now time.Time, id logos.CallID) (probes bool) {
	if b.reason == "" || b.probe != "" || now.Before(b.until) {
		return false
	}
	b.probe = id
	return true
}

// release gives up a probe that told nothing.
func (b *breaker) release(id logos.CallID) {
	if b.probe == id {
		b.probe = ""
	}
}
