package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// A series is what totals are of: a row of usage_series.
type series struct {
	team, project, key, profile, model, provider, deployment int64
	api, end, tier                                           string
}

// seriesOf returns what an attempt of a call belongs to; a nil attempt is that of a call that had none.
func seriesOf(c *logos.Call, a *logos.Attempt) series {
	d := &c.Decision
	s := series{
		team: int64(d.Team), project: int64(d.Project), key: int64(d.APIKey), profile: int64(d.Profile),
		api: clean(string(d.API)), end: clean(string(c.End)), tier: clean(c.ServiceTier),
	}
	if a != nil {
		s.model, s.provider, s.deployment = int64(a.Target.Model), int64(a.Target.Provider), int64(a.Target.Deployment)
	}
	return s
}

func (s series) compare(o series) int {
	return cmp.Or(
		cmp.Compare(s.team, o.team), cmp.Compare(s.project, o.project), cmp.Compare(s.key, o.key), cmp.Compare(s.profile, o.profile),
		cmp.Compare(s.model, o.model), cmp.Compare(s.provider, o.provider), cmp.Compare(s.deployment, o.deployment),
		cmp.Compare(s.api, o.api), cmp.Compare(s.end, o.end), cmp.Compare(s.tier, o.tier),
	)
}

// A cell is what one row of usage_hours is of, but for the gateway.
type cell struct {
	hour     int64 // seconds since 1970
	of       series
	currency string
}

// A total is what is to be added to a cell.
type total struct {
	calls, attempts, unknown int64
	cost, adjusted           decimal.Decimal
	first, last              time.Time
	meters                   map[logos.Meter]*meterTotal
}

// A meterTotal is the part of a total that one meter makes.
type meterTotal struct{ quantity, estimated, unpriced, cost decimal.Decimal }

// values returns the parts in the order of [meterColumns]; of nil they are zeros.
func (m *meterTotal) values() [4]decimal.Decimal {
	if m == nil {
		return [4]decimal.Decimal{}
	}
	return [4]decimal.Decimal{m.quantity, m.estimated, m.unpriced, m.cost}
}

// A tally adds up calls and adjustments before they are added to the totals that are stored.
type tally map[cell]*total

// at returns the total of a cell, for a call that began at a time.
func (t tally) at(start time.Time, of series, currency string) *total {
	c := cell{start.Truncate(time.Hour).Unix(), of, currency}
	x := t[c]
	if x == nil {
		x = &total{first: start, last: start, meters: make(map[logos.Meter]*meterTotal)}
		t[c] = x
	}
	if start.Before(x.first) {
		x.first = start
	}
	if start.After(x.last) {
		x.last = start
	}
	return x
}

func (x *total) meter(m logos.Meter) *meterTotal {
	of := x.meters[m]
	if of == nil {
		of = &meterTotal{}
		x.meters[m] = of
	}
	return of
}

// call adds a call with all of its attempts.
func (t tally) call(c *logos.Call) {
	start := c.Decision.StartTime()
	unknown := int64(0)
	for i := range c.Attempts {
		a := &c.Attempts[i]
		x := t.at(start, seriesOf(c, a), currencyOf(a))
		x.attempts++
		for _, l := range lines(a) {
			if x.line(l) {
				unknown = 1
			}
		}
	}
	x := t.home(c)
	x.calls++
	x.unknown += unknown
}

// home is the total in which a call counts as such: that of its last attempt.
func (t tally) home(c *logos.Call) *total {
	a, currency := lastAttempt(c), ""
	if a != nil {
		currency = currencyOf(a)
	}
	return t.at(c.Decision.StartTime(), seriesOf(c, a), currency)
}

func lastAttempt(c *logos.Call) *logos.Attempt {
	if len(c.Attempts) == 0 {
		return nil
	}
	return &c.Attempts[len(c.Attempts)-1]
}

func currencyOf(a *logos.Attempt) string {
	if a.Charge == nil {
		return ""
	}
	return a.Charge.Currency
}

// line adds what was used of one meter, and says whether its cost is unknown.
func (x *total) line(l logos.ChargeLine) (unknown bool) {
	m, n := x.meter(l.Meter), decimal.NewFromInt(l.Quantity)
	m.quantity = m.quantity.Add(n)
	if l.Estimated {
		m.estimated = m.estimated.Add(n)
	}
	if l.Price == nil {
		m.unpriced = m.unpriced.Add(n)
		return l.Quantity > 0
	}
	m.cost, x.cost = m.cost.Add(l.Cost), x.cost.Add(l.Cost)
	return false
}

// adjust adds an adjustment of a call. settles says that no cost of the call is unknown any more by it.
func (t tally) adjust(c *logos.Call, j *Adjustment, settles bool) {
	start, a := c.Decision.StartTime(), attemptOf(c, j.Attempt)
	x := t.at(start, seriesOf(c, a), j.Currency)
	x.cost, x.adjusted = x.cost.Add(j.Amount), x.adjusted.Add(j.Amount)
	if j.Meter != "" {
		m := x.meter(j.Meter)
		m.cost = m.cost.Add(j.Amount)
	}
	if j.makesKnown {
		m := t.at(start, seriesOf(c, a), currencyOf(a)).meter(j.Meter)
		m.unpriced = m.unpriced.Sub(decimal.NewFromInt(quantityOf(a, j.Meter)))
	}
	if settles {
		t.home(c).unknown--
	}
}

// attemptOf returns an attempt by its number, or the last one for 0.
func attemptOf(c *logos.Call, number int) *logos.Attempt {
	for i := range c.Attempts {
		if c.Attempts[i].Number == number {
			return &c.Attempts[i]
		}
	}
	return lastAttempt(c)
}

func quantityOf(a *logos.Attempt, m logos.Meter) int64 {
	for _, r := range a.Meters {
		if r.Meter == m {
			return r.Quantity
		}
	}
	return 0
}

// cells returns what there is in an order that is always the same.
func (t tally) cells() []cell {
	out := make([]cell, 0, len(t))
	for c := range t {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.hour, b.hour), a.of.compare(b.of), cmp.Compare(a.currency, b.currency))
	})
	return out
}

// meters returns which meters there are, in the order in which they are shown.
func (t tally) meters() (out []logos.Meter) {
	for _, m := range logos.Meters {
		for _, x := range t {
			if x.meters[m] != nil {
				out = append(out, m)
				break
			}
		}
	}
	return out
}

// used says of which parts of meters there is anything. Each is asked of all meters together, so that the statements
// that add totals are few.
func (t tally) used() (used [4]bool) {
	for _, x := range t {
		for _, m := range x.meters {
			for i, v := range m.values() {
				used[i] = used[i] || !v.IsZero()
			}
		}
	}
	return used
}
