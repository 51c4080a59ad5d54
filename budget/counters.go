// Package budget keeps calls within budgets and limits. Before a call is sent, the most that it can use is
// reserved of every counter that counts it, all or nothing; after it, what it has used is settled. A counter of
// a hard budget may be spent as far as the database has granted this gateway a share of it: shares together are
// never more than the limit, so no number of gateways overshoots it. Shares are leased: [Counters.Run] renews
// them about once a second, ahead of demand, so that a call waits for the database only where a share is used up.
//
// The package knows no SQL, sends no calls and reads no answers: ext_proc reserves, inflight says when a call has
// ended, and what the database keeps comes through [logos.Leases].
package budget

import (
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
)

// Options says how to lease; the zero value works.
type Options struct {
	Lease       time.Duration    // for how long shares may be used without the database; 0: 80 s
	MaxCall     time.Duration    // the longest that a call runs; 0: an hour
	AskWait     time.Duration    // how long a call waits for the database before it is refused; 0: 200 ms
	MaxCounters int              // in memory; 0: 200,000
	Now         func() time.Time // nil: time.Now
}

const (
	// settleGrace is how long after a call's deadline its record may still come.
	settleGrace = time.Minute
	// dryFor is how long an answer of the database that nothing is left stands.
	dryFor = 50 * time.Millisecond
	// idleAfter is how long after its last use a counter keeps what it was granted ahead of demand.
	idleAfter = 10 * time.Second
	// rateOver is the time over which demand is averaged.
	rateOver = 10 * time.Second
)

// Counters holds what this gateway may use, and what open calls hold of it. Its methods may be called from any
// goroutine.
type Counters struct {
	opt     Options
	leases  logos.Leases
	gateway logos.Gateway
	log     *zap.Logger
	metrics *metrics

	mu       sync.Mutex
	counters map[logos.CounterID]*counter
	holds    map[logos.CallID][]hold
	fenced   bool // another process runs as this gateway
	closed   bool // shares are given back, and nothing is reserved any more
	next     *round
	needy    map[*counter]bool // that calls wait for
	kick     chan struct{}
	failing  bool
	answered time.Time // when the database answered last
	steady   time.Time // since when it has always answered
}

// A counter is this gateway's share of one counter, in the unit's smallest parts.
type counter struct {
	id       logos.CounterID
	end      int64 // of the window, seconds since 1970; 0: none
	parallel bool

	granted, settled, reserved int64
	version                    int64     // of settled
	until                      time.Time // until when more may be reserved
	leasedAt                   time.Time
	free                       int64 // what was left for all, when last heard
	live                       int   // and how many gateways had a share
	dry                        time.Time

	need   int64     // of calls that wait for the database
	yields bool      // a call has waited for more than it got
	last   int64     // reserved last by one call
	used   int64     // reserved since ratedAt
	rate   float64   // reserved a second
	rated  time.Time // when rate was worked out
	active time.Time // when it was asked for last
}

// A hold is what an open call has reserved of a counter.
type hold struct {
	*counter
	amount int64
}

// New makes counters that lease as a gateway, whose ID and Epoch are given.
func New(leases logos.Leases, gateway logos.Gateway, opt Options, log *zap.Logger, reg prometheus.Registerer) *Counters {
	or := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	or(&opt.Lease, 80*time.Second) // renewed when a quarter of it is over, so that an outage of a minute is covered
	or(&opt.MaxCall, time.Hour)
	or(&opt.AskWait, 200*time.Millisecond)
	if opt.MaxCounters == 0 {
		opt.MaxCounters = 200_000
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	gateway.Lease, gateway.Hold = opt.Lease, opt.Lease+opt.MaxCall+settleGrace
	c := &Counters{
		opt: opt, leases: leases, gateway: gateway, log: log,
		counters: make(map[logos.CounterID]*counter), holds: make(map[logos.CallID][]hold),
		needy: make(map[*counter]bool), next: newRound(), kick: make(chan struct{}, 1),
	}
	c.metrics = newMetrics(reg, c)
	return c
}

// spendable is what may be reserved now.
func (c *Counters) spendable(x *counter, now time.Time) int64 {
	if c.fenced || c.closed || !now.Before(x.until) {
		return 0
	}
	return max(0, x.granted-x.settled-x.reserved)
}

// counter returns a counter, made if it is not known. It is nil if there are too many. c.mu is held.
func (c *Counters) counter(id logos.CounterID, end int64, unit logos.BudgetUnit, now time.Time) *counter {
	x := c.counters[id]
	if x == nil {
		if len(c.counters) >= c.opt.MaxCounters {
			return nil
		}
		x = &counter{id: id, end: end, parallel: unit == logos.UnitParallel, rated: now, free: math.MaxInt64, live: 1}
		c.counters[id] = x
	}
	return x
}

// Restore takes up what calls hold that a process before this one has sent.
func (c *Counters) Restore(id logos.CallID, reservations []logos.Reservation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.opt.Now()
	var held []hold
	for i := range reservations {
		if r := &reservations[i]; r.Hard && c.holds[id] == nil {
			if x := c.counter(r.Counter(), r.End, r.Unit, now); x != nil {
				x.reserved += r.Amount
				held = append(held, hold{x, r.Amount})
			}
		}
	}
	if held != nil {
		c.holds[id] = held
	}
}

// Release gives back what a call holds: it has ended and is settled, or was not sent.
func (c *Counters) Release(ids ...logos.CallID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		for _, h := range c.holds[id] {
			h.reserved -= h.amount
		}
		delete(c.holds, id)
	}
}

// Settled takes note of what the database has settled.
func (c *Counters) Settled(shares []logos.Share) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range shares {
		if x := c.counters[shares[i].Counter]; x != nil {
			x.settle(&shares[i])
		}
	}
}

// settle takes what is settled from the database, whose versions say which of two answers is the later one.
func (x *counter) settle(s *logos.Share) {
	if s.Version > x.version {
		x.settled, x.version = s.Settled, s.Version
	}
}

// use counts demand. Counters.mu is held.
func (x *counter) use(amount int64, now time.Time) {
	x.last, x.active = amount, now
	x.used += amount
}
