package health

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// A target is what is known of a deployment with a credential, reached by one cluster. Decisions read the
// view, and only where something is the matter lock it.
type target struct {
	cluster    string
	ids        ids
	provider   logos.ProviderID
	model      logos.ModelID
	deployment *deployment
	credential *credential // nil: none

	view atomic.Pointer[view]
	// alarm says that the view is not all: the breaker is not closed, or the target is slow.
	alarm atomic.Bool

	mu      sync.Mutex // after that of calls, before that of the credential
	breaker breaker
	pace    pace
	staleAt time.Time
}

// ids name a target in logs and metrics.
type ids struct {
	deployment logos.DeploymentID // 0: it is about the credential alone
	credential logos.CredentialID
}

// A view is what decisions see of a target at all times.
type view struct {
	first [classes + 1]expected
	stale bool
	like  bool // what is usual of others like it: it was never measured
}

type expected struct{ median, p95 time.Duration }

var unmeasured = &view{stale: true}

// A deployment counts the calls that this gateway has under way there, whatever their credential.
type deployment struct {
	calls atomic.Int64
	// carried is the most calls that it was seen to carry well lately; for those without a limit.
	carried atomic.Int64
}

// unlimitedCalls is how many calls at once a deployment without a limit is taken to bear at least. One that has
// carried more without becoming slow or failing is taken to bear twice as many as that.
const unlimitedCalls = 32

// load returns the share of its capacity that is in use.
func (d *deployment) load(limit int) float64 {
	capacity := float64(limit)
	if limit <= 0 {
		capacity = float64(max(unlimitedCalls, 2*d.carried.Load()))
	}
	return float64(d.calls.Load()) / capacity
}

// learn notes what it carries now, and forgets slowly what it once did.
func (d *deployment) learn(well bool) {
	now, was := d.calls.Load(), d.carried.Load()
	switch {
	case well && now >= was:
		d.carried.Store(now)
	case was > unlimitedCalls/2:
		d.carried.Store(was - was/1024 - 1)
	}
}

// A credential has a breaker of its own, for what concerns all its targets: refusals of the credential itself,
// and of too many calls where more than one target is told so. Limits are often those of one model alone.
type credential struct {
	id    logos.CredentialID
	alarm atomic.Bool

	mu      sync.Mutex
	breaker breaker
	limited *target // was told last that there are too many calls, with no success anywhere since
}

// state returns what decisions see, for inputs of a class. judge looks closer where something is the matter.
func (t *target) state(class, limit int, now func() time.Time, judge func(*target, *policy.State, time.Time)) policy.State {
	v := t.view.Load()
	s := policy.State{FirstToken: v.first[class].median, FirstTokenP95: v.first[class].p95, Stale: v.stale, Load: t.deployment.load(limit)}
	if t.alarmed() {
		judge(t, &s, now())
	}
	return s
}

// alarmed says whether decisions have to look closer.
func (t *target) alarmed() bool {
	return t.alarm.Load() || t.credential != nil && t.credential.alarm.Load()
}

// judge looks closer at a target with which something is the matter. Where a call may go through to find out
// whether it still is, the decision that makes it a target has to claim it.
func (t *target) judge(s *policy.State, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.breaker.reads++
	t.pace.trials.reads++
	s.Unhealthy = t.breaker.blocks(now)
	c := t.credential
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.breaker.reads++
		s.Unhealthy = cmp.Or(s.Unhealthy, c.breaker.blocks(now))
	}
	trial := t.pace.slow && t.pace.trials.offers(now)
	t.show(s, trial)
	s.Offered = s.Unhealthy == "" && (trial || t.breaker.reason != "" || c.open())
}

// peek is judge for what takes nothing: what another decision took for a moment does not count.
func (t *target) peek(s *policy.State, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Unhealthy = t.breaker.waits(now)
	if c := t.credential; c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		s.Unhealthy = cmp.Or(s.Unhealthy, c.breaker.waits(now))
	}
	t.show(s, t.pace.slow && t.pace.trials.awaited(now))
}

// show adds to the figures by how much slower the target is than usual, unless a call may try whether it still is.
func (t *target) show(s *policy.State, trial bool) {
	if t.pace.slow && (s.Unhealthy != "" || !trial) {
		s.FirstToken = times(s.FirstToken, t.pace.slowness)
		s.FirstTokenP95 = times(s.FirstTokenP95, t.pace.slowness)
	}
}

// claim keeps for a decision what it was offered. False: another one was quicker.
func (t *target) claim(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.credential
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.breaker.blocks(now) != "" {
			return false
		}
	}
	if t.breaker.blocks(now) != "" {
		return false
	}
	tries := t.pace.slow && t.pace.trials.take(now)
	if t.breaker.reason == "" && !c.open() {
		return tries || !t.pace.slow
	}
	t.breaker.take(now)
	if c != nil {
		c.breaker.take(now)
	}
	return true
}

// open says whether the credential's breaker is. c.mu is held; there may be no credential.
func (c *credential) open() bool { return c != nil && c.breaker.reason != "" }

func times(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

// begin takes a call that is sent here first.
func (t *target) begin(now time.Time, id logos.CallID) {
	if !t.alarmed() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.breaker.begin(now, id)
	if t.pace.slow {
		t.pace.trials.begin(now, id)
	}
	if c := t.credential; c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.breaker.begin(now, id)
	}
}

// release gives up what a call was to find out.
func (t *target) release(id logos.CallID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.breaker.release(id)
	t.pace.trials.release(id)
	if c := t.credential; c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.breaker.release(id)
	}
}

// look brings the view up to date.
func (t *target) look(now time.Time, m *metrics) {
	t.mu.Lock()
	defer t.mu.Unlock()
	measured := t.pace.dirty
	if t.pace.look(now) {
		m.paceTurned(t, t.pace.slow, t.pace.slowness)
		t.ring()
	}
	if stale := !now.Before(t.staleAt); measured || stale != t.view.Load().stale {
		t.measure(now)
	}
	t.deployment.learn(t.breaker.reason == "" && !t.pace.slow)
}

// measure makes a new view. t.mu is held.
func (t *target) measure(now time.Time) {
	v := &view{}
	for class := range v.first {
		s := t.pace.first(class)
		v.first[class] = expected{seconds(s.median), seconds(s.p95)}
	}
	t.staleAt = now.Add(paceHalfLife * time.Duration(1000*log2(t.pace.weight(now)/enough)) / 1000)
	v.stale = !now.Before(t.staleAt)
	t.view.Store(v)
}

// ring says whether decisions have to look closer. t.mu is held.
func (t *target) ring() { t.alarm.Store(t.breaker.reason != "" || t.pace.slow) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
