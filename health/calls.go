package health

import (
	"sync"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

// forgetAfter is how long a call is remembered of which there is no sign: Envoy gives one of each attempt every
// second. So what is counted as under way corrects itself, whatever was missed.
const forgetAfter = 5 * time.Second

// calls are those under way, as far as they are known.
type calls struct {
	mu   sync.Mutex
	open map[logos.CallID]*openCall
}

// An openCall is a call that was sent, with its present attempt.
type openCall struct {
	unknown     bool // it was sent by an earlier process, so nobody knows its kind and class
	kind, class int
	seen        time.Time // when there was a sign of it
	target      *target   // at which it counts as under way; nil: between attempts
	start       time.Time // of the attempt; zero: there was no sign of it yet
	answering   bool      // its first byte was seen
	waits       int       // see [pace.wait]
	blamed      *target   // whose failure it was counted as
	first       *target   // that it was sent to first, and may try
}

// begin notes a call that is being sent to a target.
func (c *calls) begin(now time.Time, id logos.CallID, t *target, kind, class int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[id] = &openCall{kind: kind, class: class, seen: now, target: t, first: t}
	t.deployment.calls.Add(1)
}

// move notes a sign of an attempt at a target, and returns its call. A sign that comes late, when the call has
// left that attempt, gets a call of its own.
func (c *calls) move(now time.Time, s *logos.AttemptSign, t *target) *openCall {
	call := c.open[s.Call]
	if call == nil {
		call = &openCall{unknown: true}
		if s.Ended {
			return call
		}
		c.open[s.Call] = call
	}
	call.seen = now
	switch {
	case s.Start.Before(call.start), s.Start.Equal(call.start) && call.target != t:
		return &openCall{kind: call.kind, class: call.class, unknown: call.unknown}
	case s.Start.Equal(call.start):
		return call
	}
	if first := call.start.IsZero() && call.target == t; !first {
		call.leave()
		call.target = t
		t.deployment.calls.Add(1)
	}
	call.start, call.answering = s.Start, false
	return call
}

// leave ends the present attempt's part in the counts. The target's lock is not held.
func (o *openCall) leave() {
	t := o.target
	if t == nil {
		return
	}
	t.mu.Lock()
	o.quiet()
	t.mu.Unlock()
	t.deployment.calls.Add(-1)
	o.target = nil
}

// quiet ends an attempt's part in what is waiting. The target's lock is held.
func (o *openCall) quiet() {
	if o.target != nil {
		o.waits = o.target.pace.wait(o.start, o.waits, 0)
	}
}

// forget drops calls of which there was no sign for long.
func (c *calls) forget(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, call := range c.open {
		if now.Sub(call.seen) > forgetAfter {
			c.drop(id, call)
		}
	}
}

// drop ends a call. c.mu is held.
func (c *calls) drop(id logos.CallID, call *openCall) {
	call.leave()
	if call.first != nil {
		call.first.release(id)
	}
	if c.open[id] == call {
		delete(c.open, id)
	}
}
