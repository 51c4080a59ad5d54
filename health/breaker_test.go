package health

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestABreakerOpensOnFailuresInARow(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, noon
	for i := range failuresInRow {
		if b.reason != "" {
			t.Fatalf("it is open after %d failures", i)
		}
		now = now.Add(time.Millisecond)
		b.fail(now, now, BreakerOpen, false)
	}
	if b.blocks(now) != BreakerOpen {
		t.Errorf("it is %+v, want it open", b)
	}
}

func TestABreakerOpensWhenHalfFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		good, of int
		opens    bool
	}{"two of three fail": {1, 3, true}, "one of four fails": {3, 4, false}} {
		b, now := &breaker{}, noon
		for i := range 1000 {
			now = now.Add(100 * time.Millisecond)
			if i%c.of < c.good {
				b.succeed(now, now)
			} else if b.fail(now, now, BreakerOpen, false) == opened {
				break
			}
		}
		if opened := b.reason != ""; opened != c.opens {
			t.Errorf("%s, and it is open: %v", name, opened)
		}
	}
}

// Calls that began before a target failed, and end well later, do not make it healthy.
func TestWhatBeganBeforeDoesNotCountAgainstFailures(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, noon
	for range failuresInRow {
		now = now.Add(100 * time.Millisecond)
		b.fail(now, now.Add(-time.Millisecond), BreakerOpen, false)
		b.succeed(now, noon)
	}
	if b.reason == "" {
		t.Error("it is closed")
	}
	if b.succeed(now.Add(time.Second), noon) != unchanged || b.fail(now.Add(time.Second), noon, BreakerOpen, false) != unchanged {
		t.Error("it changes by a call from before it opened")
	}
}

func TestAPauseIsAsLongAsAskedFor(t *testing.T) {
	t.Parallel()
	b := &breaker{}
	b.limit(noon, noon.Add(-time.Second), RateLimited, 30*time.Second)
	b.limit(noon.Add(time.Second), noon.Add(-time.Second), RateLimited, 40*time.Second) // was under way
	b.succeed(noon.Add(2*time.Second), noon.Add(time.Millisecond))                      // likewise
	if at := noon.Add(40 * time.Second); b.blocks(at) != RateLimited {
		t.Errorf("after 40 s it is %+v", b)
	}
	after := noon.Add(42 * time.Second)
	if b.blocks(after) != "" || !b.begin(after, "probe") {
		t.Errorf("after the pause no call may try it: %+v", b)
	}
	if b.succeed(after.Add(time.Second), after) != closedAgain {
		t.Errorf("it is still open: %+v", b)
	}
	// Without a time it is a back-off.
	if now := after.Add(2 * time.Second); b.limit(now, after, RateLimited, 0) != opened || b.until.Sub(now) > maxBackOff {
		t.Errorf("it pauses until %v", b.until)
	}
}

// Answers that begin well and end as errors open it too, and again as soon as one does after it has closed.
func TestAnswersThatEndBadlyOpen(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, noon
	for range failuresInRow {
		now = now.Add(time.Second)
		b.succeed(now, now)
		b.answer(now, now, false, BreakerOpen)
	}
	if b.reason == "" {
		t.Fatal("it is closed")
	}
	now = b.until.Add(time.Millisecond)
	if b.succeed(now, now) != closedAgain || b.answer(now, now, false, BreakerOpen) != opened {
		t.Errorf("it is %+v, want it open again", b)
	}
	now = b.until.Add(time.Millisecond)
	b.succeed(now, now)
	b.answer(now, now, true, BreakerOpen)
	if b.answer(now, now, false, BreakerOpen) != unchanged {
		t.Error("a good answer did not count")
	}
}

// Each probe that fails doubles the time to the next, to no more than leaves a recovered target waiting for
// five seconds.
func TestProbesBackOff(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, noon
	for range failuresInRow {
		b.fail(now, now, BreakerOpen, false)
	}
	for _, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second} {
		if got := b.until.Sub(now); got != want {
			t.Errorf("it waits for %v, want %v", got, want)
		}
		now = b.until
		b.begin(now, "probe")
		b.fail(now, now, BreakerOpen, false)
	}
	now = b.until
	b.succeed(now, now)
	for range failuresInRow {
		b.fail(now, now, BreakerOpen, false)
	}
	if got := b.until.Sub(now); got != maxBackOff {
		t.Errorf("one that fails again at once waits for %v", got)
	}
}

// A crowd makes decisions and calls at random, and keeps its own count of probes.
type crowd struct {
	*testing.T
	*rand.Rand
	b      breaker
	now    time.Time
	open   []crowdCall
	probes int
}

type crowdCall struct {
	id      logos.CallID
	started time.Time
	probe   bool
}

// decide is a decision that considers the target, and may send a call there.
func (c *crowd) decide(n int) {
	was := c.b
	if c.b.reads++; c.b.blocks(c.now) != "" {
		return
	}
	if was.reason != "" && (c.now.Before(was.until) || c.probes > 0) {
		c.Fatalf("a call goes through with %d probes under way, at %v: %+v", c.probes, c.now, was)
	}
	if c.b.take(c.now); was.reason != "" && c.IntN(3) == 0 {
		return // another target was chosen
	}
	call := crowdCall{id: logos.CallID(fmt.Sprint(n)), started: c.now}
	if call.probe = c.b.begin(c.now, call.id); call.probe {
		c.probes++
	}
	c.open = append(c.open, call)
}

// end ends some call somehow.
func (c *crowd) end() {
	if len(c.open) == 0 {
		return
	}
	i := c.IntN(len(c.open))
	call := c.open[i]
	if c.open = slices.Delete(c.open, i, i+1); call.probe {
		c.probes--
	}
	switch c.IntN(5) {
	case 0:
		c.b.succeed(c.now, call.started)
	case 1:
		c.b.limit(c.now, call.started, RateLimited, time.Duration(c.IntN(3))*time.Second)
	case 2, 3:
		c.b.fail(c.now, call.started, BreakerOpen, c.IntN(2) == 0)
	}
	c.b.release(call.id)
}

// Whatever happens, an open breaker lets one call through at a time, and none before its time.
func TestABreakerLetsOneProbeThrough(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		c := &crowd{T: t, Rand: rand.New(rand.NewPCG(seed, 3)), now: noon}
		for n := range 2000 {
			c.now = c.now.Add(time.Duration(c.IntN(int(60 * time.Millisecond))))
			if c.IntN(2) == 0 {
				c.decide(n)
			} else {
				c.end()
			}
		}
	}
}
