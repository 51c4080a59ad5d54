package budget

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

// A Call is a call that budgets count, before it is sent.
type Call struct {
	counters *Counters
	caller   Caller
	now      time.Time
	entries  []*entry // of the caller
	claims   []claim  // of the last try
	size     *Size    // likewise
	tried    bool
	asked    bool // the database, in the last try
}

// A claim is what a call needs of one budget.
type claim struct {
	*entry
	reservation logos.Reservation
	left        int64     // that could be reserved in the last try, of a hard budget
	held        int64     // by open calls of this gateway then
	heard       time.Time // when the database last said what this gateway may use
	waiting     hold      // noted in the counter's need
	full        bool      // there are too many counters for one more
}

// Call begins with a call; nil: no budget counts it.
func (c *Counters) Call(x *Index, caller *Caller, now time.Time) *Call {
	entries := x.match(caller)
	if entries == nil {
		return nil
	}
	return &Call{counters: c, caller: *caller, now: now, entries: entries}
}

// Excludes says why a hard budget keeps a call from a target: it would have to count money there that nobody
// knows, or, after a try that failed, more than is left. profiles are those under which the call may be made.
func (c *Call) Excludes(t *Target, s *Size, profile logos.ProfileID) *Shortage {
	if c == nil {
		return nil
	}
	for _, e := range c.entries {
		if !e.Hard || !e.counts(t, profile) {
			continue
		}
		amount, known := e.worst(t, s, s.Output)
		switch {
		case !known:
			return e.unknown(t, s)
		case !c.tried:
		case amount > c.left(e) && !(e.ClampMaxTokens && e.affords(t, s, c.left(e)) >= leastOutput):
			return c.shortage(e, amount)
		}
	}
	return nil
}

// counts says whether a budget counts what a call does at a target.
func (e *entry) counts(t *Target, profile logos.ProfileID) bool {
	if !holds(e.Selector.Profiles, profile) {
		return false
	}
	model := logos.ModelID(0)
	if t.Model != nil {
		model = t.Model.ID
	}
	return e.Selector.MatchesTarget(model, t.Provider.ID) || e.mayCount(t)
}

// mayCount says whether a budget would have to count money or tokens of a call whose model nobody knows. It counts
// such a call as none of its own where it counts calls.
func (e *entry) mayCount(t *Target) bool {
	if t.Model != nil || t.MayServe == nil || e.Unit != logos.UnitMoney && e.Unit != logos.UnitTokens {
		return false
	}
	return slices.ContainsFunc(e.Selector.Models, func(m logos.ModelID) bool { return e.Selector.MatchesTarget(m, t.Provider.ID) && t.MayServe(m) })
}

// left returns what was left of a budget in the last try.
func (c *Call) left(e *entry) int64 {
	if x := c.lastTry(e); x != nil {
		return x.left
	}
	return e.limit
}

func (c *Call) lastTry(e *entry) *claim {
	for i := range c.claims {
		if c.claims[i].entry == e {
			return &c.claims[i]
		}
	}
	return nil
}

// A Grant is what a call holds.
type Grant struct {
	Reservations []logos.Reservation
	MaxTokens    int64 // the output limit that a budget sets for each answer; 0: none
	size         *Size // nil: no hard budget counts money or tokens
}

// Limit returns the output limit that an attempt at a target must say, for no answer to be longer than what is
// reserved; 0: it need not say one.
func (g *Grant) Limit(t *logos.Target) int64 {
	switch {
	case g.size == nil || g.size.NoOutput:
		return 0
	case g.MaxTokens > 0:
		return g.MaxTokens
	case t.Model == nil:
		return cmp.Or(g.size.Output, DefaultOutput)
	}
	limit := least(g.size.Output, t.Model.MaxOutputTokens)
	if limit == 0 && t.Model.ContextWindow == 0 {
		return DefaultOutput
	}
	return limit
}

// Reserve holds the most that the call can use at any of these targets, of every counter that counts it, or of
// none. Where this gateway's shares are too small, it asks the database.
func (c *Call) Reserve(ctx context.Context, id logos.CallID, profile logos.ProfileID, targets []Target, s *Size) (Grant, *Shortage) {
	if short := c.claim(profile, targets, s, s.Output); short != nil {
		return Grant{}, short
	}
	short, away := c.admit(ctx, id)
	if short == nil {
		return c.grant(0), nil
	}
	c.tried = true
	asked := c.claims
	if limit := c.clamp(targets, s); limit > 0 {
		if unknown := c.claim(profile, targets, s, limit); unknown == nil && c.counters.admit(id, c.claims) == nil {
			return c.grant(limit), nil
		}
	}
	if c.asked { // not for each of the many that are refused without
		c.counters.yield(asked)
	}
	c.counters.metrics.refused.WithLabelValues(string(short.Unit)).Inc()
	why := c.shortage(short.entry, short.reservation.Amount)
	why.Full, why.Away = short.full, away
	return Grant{}, why
}

// admit reserves the claims, for which it asks the database where that may help. Another call may take what was
// asked for, so it asks again as long as the database does not say that there is no more. It says too whether nobody
// knows that, since the database is away.
func (c *Call) admit(ctx context.Context, id logos.CallID) (short *claim, away bool) {
	c.asked = false
	short = c.counters.admit(id, c.claims)
	if short == nil {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, c.counters.opt.AskWait)
	defer cancel()
	for ctx.Err() == nil {
		said := c.counters.ask(ctx, c.claims)
		if said == pointless {
			return short, false
		}
		c.asked = true
		if short = c.counters.admit(id, c.claims); short == nil {
			return nil, false
		}
		if said == failed || said == unanswered && c.counters.opt.Now().Sub(short.heard) > leaseTimeout {
			return short, true
		}
	}
	return short, false
}

// claim works out what the call needs with an output limit. It fails where a hard budget counts what is not known.
func (c *Call) claim(profile logos.ProfileID, targets []Target, s *Size, limit int64) *Shortage {
	claims := make([]claim, 0, len(c.entries))
	for _, e := range c.entries {
		x := claim{entry: e}
		for i := range targets {
			if !e.counts(&targets[i], profile) {
				continue
			}
			amount, known := e.worst(&targets[i], s, limit)
			if !known && e.Hard {
				return e.unknown(&targets[i], s)
			}
			x.reservation.Targets |= 1 << i
			x.reservation.Amount = max(x.reservation.Amount, amount)
		}
		if x.reservation.Targets != 0 {
			x.fill(&c.caller, c.now)
			claims = append(claims, x)
		}
	}
	c.claims, c.size = claims, s
	return nil
}

// fill says of which counter a claim is.
func (x *claim) fill(caller *Caller, now time.Time) {
	r := &x.reservation
	r.Budget, r.Key, r.Unit, r.Currency, r.Hard = x.ID, x.key(caller), x.Unit, x.Currency, x.Hard
	r.Start, r.End = x.window(now)
}

func (c *Call) grant(limit int64) Grant {
	c.counters.metrics.admitted.Inc()
	g := Grant{Reservations: make([]logos.Reservation, len(c.claims)), MaxTokens: limit}
	for i := range c.claims {
		x := &c.claims[i]
		g.Reservations[i] = x.reservation
		if x.Hard && (x.Unit == logos.UnitMoney || x.Unit == logos.UnitTokens) {
			g.size = c.size
		}
	}
	return g
}

// clamp returns the greatest output limit that what is left allows, where every budget that is short may set
// one; 0: there is none.
func (c *Call) clamp(targets []Target, s *Size) int64 {
	limit := int64(0)
	for i := range c.claims {
		x := &c.claims[i]
		if !x.Hard || x.reservation.Amount <= x.left {
			continue
		}
		if !x.ClampMaxTokens {
			return 0
		}
		for j := range targets {
			if x.reservation.Targets&(1<<j) == 0 {
				continue
			}
			n := x.affords(&targets[j], s, x.left)
			if n < leastOutput {
				return 0
			}
			if limit == 0 || n < limit {
				limit = n
			}
		}
	}
	return limit
}

// admit reserves claims, all or none. It returns the first for which there is no room, and notes in each what is
// left.
func (c *Counters) admit(id logos.CallID, claims []claim) (short *claim) {
	var room [4]*counter // as many as most calls need
	counters, now := room[:0], c.opt.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range claims {
		x := &claims[i]
		if x.waiting.counter != nil {
			x.waiting.need -= x.waiting.amount
			x.waiting = hold{}
		}
		if !x.Hard {
			counters = append(counters, nil)
			continue
		}
		n := c.counter(x.reservation.Counter(), x.reservation.End, x.Unit, now)
		counters = append(counters, n)
		if x.full = n == nil; x.full {
			x.left = 0
		} else {
			x.left, x.held, x.heard = c.spendable(n, now), n.reserved, n.leasedAt
			n.active = now
		}
		if x.left < x.reservation.Amount && short == nil {
			short = x
		}
	}
	if short == nil {
		c.hold(id, claims, counters, now)
	}
	return short
}

// hold notes what a call has reserved. c.mu is held.
func (c *Counters) hold(id logos.CallID, claims []claim, counters []*counter, now time.Time) {
	held := make([]hold, 0, len(claims))
	for i, x := range counters {
		if x != nil {
			amount := claims[i].reservation.Amount
			x.reserved += amount
			x.use(amount, now)
			held = append(held, hold{x, amount})
		}
	}
	if len(held) > 0 {
		c.holds[id] = append(c.holds[id], held...)
	}
}
