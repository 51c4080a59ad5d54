package health

import (
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

const (
	firstTrialAfter = time.Second
	maxTrialAfter   = 10 * time.Second
	// A trial is offered to one of trialReads calls at most, unless there are few.
	trialReads = 10
	trialWait  = time.Minute
	// goodTrials in a row end slowness.
	goodTrials = 2
)

// Trials look whether a slow target is fast again. Policies leave it then, so calls would not show it: one at
// a time is shown what was usual, and may go there.
type trials struct {
	due     time.Time
	turned  time.Time
	backOff time.Duration
	reads   int
	lease   time.Time
	probe   logos.CallID
	good    int
}

// turn begins and ends slowness. What is slow again soon is tried as seldom as before.
func (t *trials) turn(now time.Time, slow bool) {
	if slow && (now.Sub(t.turned) > steadyFor || t.backOff == 0) {
		t.backOff = firstTrialAfter
	}
	*t = trials{due: now.Add(t.backOff), turned: now, backOff: t.backOff}
}

// offers says whether a decision may see what was usual.
func (t *trials) offers(now time.Time) bool { return !now.Before(t.lease) && t.awaited(now) }

// awaited is offers without regard to what another decision took a moment ago.
func (t *trials) awaited(now time.Time) bool {
	if t.probe != "" || now.Before(t.due) {
		return false
	}
	return t.reads >= trialReads || t.good > 0 || now.Sub(t.due) >= trialWait
}

// take keeps the trial for a decision for a moment, if there is one.
func (t *trials) take(now time.Time) bool {
	if !t.offers(now) {
		return false
	}
	t.lease = now.Add(leaseFor)
	return true
}

func (t *trials) begin(now time.Time, id logos.CallID) (tries bool) {
	if t.probe != "" || now.Before(t.due) {
		return false
	}
	t.probe = id
	return true
}

// end takes how a trial went, and says whether the target is fast again. One that tells little is repeated.
func (t *trials) end(now time.Time, ratio float64) (fast bool) {
	t.probe, t.reads = "", 0
	switch {
	case ratio < slowUntil:
		t.good++
	case ratio >= slowFrom:
		t.good, t.backOff = 0, min(2*t.backOff, maxTrialAfter)
		t.due = now.Add(t.backOff)
	}
	return t.good >= goodTrials
}

func (t *trials) release(id logos.CallID) {
	if t.probe == id {
		t.probe = ""
	}
}
