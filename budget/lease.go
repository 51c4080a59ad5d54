package budget

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
)

const (
	leaseEvery = time.Second
	maxBatch   = 500 // counters in one transaction
	// leaseParts is into how many parts a lease is cut: when one of them is over, or used up, it is renewed.
	leaseParts = 4
	// leaseTimeout bounds a transaction; calls wait for it no longer than Options.AskWait.
	leaseTimeout = 3 * time.Second
)

// A round is one transaction of leases, for those who wait for it.
type round struct {
	done   chan struct{}
	failed bool // known when it is done
}

func newRound() *round { return &round{done: make(chan struct{})} }

// An answer is what became of asking the database for more.
type answer int

const (
	pointless  answer = iota // it said a moment ago that there is nothing
	answered                 // it said what there is
	unanswered               // it was not in time
	failed                   // it can't be asked
)

// ask waits until the database has been asked for what claims are short of, or ctx ends.
func (c *Counters) ask(ctx context.Context, claims []claim) answer {
	r := c.wait(claims)
	if r == nil {
		return pointless
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
	select {
	case <-r.done:
		if r.failed {
			return failed
		}
		return answered
	case <-ctx.Done():
		c.metrics.asksTimedOut.Inc()
		return unanswered
	}
}

// wait notes what claims wait for, until they are admitted or refused. It returns the round that asks for it; nil:
// none would get it.
func (c *Counters) wait(claims []claim) *round {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fenced || c.closed || !c.worthAsking(claims) {
		return nil
	}
	for i := range claims {
		x := &claims[i]
		if n := c.counters[x.reservation.Counter()]; n != nil && x.Hard && x.left < x.reservation.Amount {
			x.waiting = hold{n, x.wanted()}
			n.need += x.waiting.amount
			c.needy[n] = true
		}
	}
	return c.next
}

// yield has what a refused call was granted, and can't use, given back at once: calls elsewhere may need less.
func (c *Counters) yield(claims []claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range claims {
		x := &claims[i]
		if n := c.counters[x.reservation.Counter()]; n != nil && x.Hard && x.left > 0 && x.left < x.reservation.Amount {
			n.yields, c.needy[n] = true, true
		}
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// worthAsking says whether the database may have what claims are short of. c.mu is held.
func (c *Counters) worthAsking(claims []claim) bool {
	now := c.opt.Now()
	for i := range claims {
		x := &claims[i]
		if !x.Hard || x.left >= x.reservation.Amount {
			continue
		}
		n := c.counters[x.reservation.Counter()]
		if n == nil || x.left >= x.limit || now.Before(n.dry) && x.wanted() > satAdd(x.left, n.free) {
			return false
		}
	}
	return true
}

// wanted is what a call asks for: where it needs more than the whole budget, another target may need less.
func (x *claim) wanted() int64 { return min(x.reservation.Amount, x.limit) }

func satAdd(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Run leases until ctx ends, and then gives back what is not held.
func (c *Counters) Run(ctx context.Context) error {
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
			defer cancel()
			c.mu.Lock()
			c.closed = true
			c.mu.Unlock()
			for c.lease(last, true) {
			}
			return nil
		case <-tick.C:
			for c.lease(ctx, true) && ctx.Err() == nil {
			}
		case <-c.kick:
			for c.lease(ctx, false) && ctx.Err() == nil {
			}
		}
	}
}

// lease makes one transaction, for what calls wait for and, where all is set, for whatever is due. It says
// whether another one is needed at once.
func (c *Counters) lease(ctx context.Context, all bool) (more bool) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	began := c.opt.Now()
	requests, r, more := c.plan(began, all)
	defer close(r.done)
	gateway, silent := c.contact(began)
	if len(requests) == 0 && !(all && silent) {
		return false
	}
	shares, err := c.leases.Lease(ctx, gateway, requests)
	if err != nil {
		r.failed = true
		c.fail(err)
		return false
	}
	c.apply(requests, shares, began)
	c.metrics.leases.WithLabelValues("ok").Inc()
	return more
}

// contact returns the gateway as it leases now, and whether the database was not asked for a while. It is then asked
// for nothing: so this process hears of its successor, and knows how long the database has been there.
func (c *Counters) contact(now time.Time) (g logos.Gateway, silent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g = c.gateway
	g.Steady = !c.failing && !c.steady.IsZero() && now.Sub(c.steady) >= settleGrace
	return g, now.Sub(c.answered) >= g.Lease/leaseParts
}

func (c *Counters) fail(err error) {
	c.metrics.leases.WithLabelValues("failed").Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := errors.AsType[*logos.Error](err); ok && e.Kind == logos.Conflict {
		if !c.fenced {
			c.log.Error("another process runs as this gateway; this one spends no budget any more", zap.Error(err))
		}
		c.fenced = true
		return
	}
	if !c.failing {
		c.log.Error("budgets can't be leased; calls go on with what is leased already", zap.Error(err))
	}
	c.failing = true
}

// plan returns what is to be asked of the database now, what calls wait for first. What is to be given back is
// not spent from here on, whatever becomes of the transaction. Who waits from here on waits for the next round.
func (c *Counters) plan(now time.Time, all bool) (requests []logos.ShareRequest, r *round, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, c.next = c.next, newRound()
	planned := make([]*counter, 0, len(c.needy))
	for x := range c.needy {
		if x.need > 0 || x.yields {
			planned = append(planned, x)
		}
	}
	clear(c.needy)
	if all {
		planned = append(planned, c.due(now)...)
	}
	if more = len(planned) > maxBatch; more {
		for _, x := range planned[maxBatch:] {
			if x.need > 0 || x.yields {
				c.needy[x] = true
			}
		}
		planned = planned[:maxBatch]
	}
	for _, x := range planned {
		x.yields = false
		slack := x.slack(now, c.gateway.Lease, c.closed)
		x.granted = min(x.granted, satAdd(x.settled+x.reserved+x.need, slack))
		requests = append(requests, logos.ShareRequest{Counter: x.id, End: x.end, Reserved: x.reserved, Held: x.granted, Need: x.need, Slack: slack, Step: x.last})
	}
	slices.SortFunc(requests, func(a, b logos.ShareRequest) int { return a.Counter.Compare(b.Counter) }) // as all gateways do
	return requests, r, more
}

// due returns the counters that nobody waits for and whose shares are to be brought up to date, and forgets
// those that are over. c.mu is held.
func (c *Counters) due(now time.Time) (out []*counter) {
	for id, x := range c.counters {
		switch {
		case x.need > 0 || x.yields:
		case x.over(now):
			delete(c.counters, id)
		case x.due(now, c.gateway.Lease, c.closed):
			out = append(out, x)
		}
	}
	return out
}

// over says whether a counter holds nothing any more that others could miss.
func (x *counter) over(now time.Time) bool {
	return x.reserved == 0 && (x.granted <= x.settled || x.ended(now)) && now.Sub(x.active) > idleAfter
}

func (x *counter) ended(now time.Time) bool { return x.end > 0 && now.Unix() >= x.end }

// due says whether a counter's share is to be brought up to date.
func (x *counter) due(now time.Time, lease time.Duration, closed bool) bool {
	x.measure(now)
	if x.ended(now) {
		return false // what is left of it is of no use to anyone
	}
	slack, free := x.slack(now, lease, closed), x.granted-x.settled-x.reserved
	switch {
	case closed:
		return free > 0
	case x.reserved == 0 && slack == 0 && free <= 0:
		return false
	case now.Sub(x.leasedAt) > lease/leaseParts:
		return true
	}
	return free > 2*slack || free < slack-slack/leaseParts
}

// measure brings the rate of demand up to date.
func (x *counter) measure(now time.Time) {
	passed := now.Sub(x.rated)
	if passed < leaseEvery {
		return
	}
	weight := 1 - math.Exp(-passed.Seconds()/rateOver.Seconds())
	x.rate += weight * (float64(x.used)/passed.Seconds() - x.rate)
	x.used, x.rated = 0, now
}

// slack returns how much more than open calls hold a counter should have, so that the next calls, also of an
// outage of the database, need not ask: what present demand uses within a lease, at most a fair part of what is
// left. One that is idle gives all of it back.
func (x *counter) slack(now time.Time, lease time.Duration, closed bool) int64 {
	if closed || now.Sub(x.active) > idleAfter || x.ended(now) {
		return 0
	}
	want := saturate(min(x.last, math.MaxInt64/64), 4)
	if x.parallel {
		want = max(want, x.reserved/2)
	} else { // what was used since demand was measured doubles the share of a new counter, which else would ask at every few calls
		ahead := min(x.rate*lease.Seconds(), math.MaxInt64/4)
		want = max(want, int64(ahead), x.used)
	}
	spare := max(0, x.granted-x.settled-x.reserved)
	want = min(want, satAdd(x.free, spare)/int64(2*max(1, x.live)))
	return want - want%max(1, x.last)
}

// apply takes the answer of the database to requests that were made at began.
func (c *Counters) apply(requests []logos.ShareRequest, shares []logos.Share, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing {
		c.failing = false
		c.log.Info("budgets are leased again")
		c.steady = time.Time{}
	}
	c.answered = began
	if c.steady.IsZero() {
		c.steady = began
	}
	for i := range shares {
		s, r := &shares[i], &requests[i]
		x := c.counters[s.Counter]
		if x == nil {
			continue
		}
		x.settle(s)
		x.granted, x.free, x.live = s.Granted, s.Free, s.Live
		x.leasedAt, x.until = began, began.Add(c.gateway.Lease)
		if r.Need > 0 && x.granted-x.settled-x.reserved < r.Need {
			x.dry = c.opt.Now().Add(dryFor)
		}
	}
}
