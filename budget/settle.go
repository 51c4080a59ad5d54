package budget

import (
	"math"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// Spent returns what a call that has ended and was rated has used of the counters that counted it. Where it used
// something that has no price, all that was reserved counts.
func Spent(c *logos.Call) []logos.Spending {
	if c.Decision.Refusal != "" {
		return nil
	}
	var out []logos.Spending
	for i := range c.Decision.Reservations {
		r := &c.Decision.Reservations[i]
		if r.Unit == logos.UnitParallel {
			continue // it is over
		}
		s := logos.Spending{Counter: r.Counter(), End: r.End, Amount: used(c, r)}
		if r.Hard {
			s.Overrun = max(0, s.Amount-r.Amount)
		}
		out = append(out, s)
	}
	return out
}

func used(c *logos.Call, r *logos.Reservation) int64 {
	switch r.Unit {
	case logos.UnitRequests:
		return requests(c, r)
	case logos.UnitTokens:
		n := int64(0)
		eachAttempt(c, r, func(a *logos.Attempt) { n = satAdd(n, tokens(a.Meters)) })
		return n
	}
	total, known := decimal.Zero, true
	eachAttempt(c, r, func(a *logos.Attempt) {
		switch {
		case a.Charge == nil:
			known = known && len(a.Meters) == 0
		case a.Charge.Currency != "" && a.Charge.Currency != r.Currency:
			known = false
		default:
			total, known = total.Add(a.Charge.Total), known && a.Charge.Known()
		}
	})
	amount := r.Unit.Amount(total)
	if !known {
		amount = max(amount, r.Amount)
	}
	return amount
}

// requests counts a call of which there was an attempt at a target that counts.
func requests(c *logos.Call, r *logos.Reservation) (n int64) {
	eachAttempt(c, r, func(*logos.Attempt) { n = 1 })
	return n
}

// eachAttempt visits the attempts at targets that count.
func eachAttempt(c *logos.Call, r *logos.Reservation, visit func(*logos.Attempt)) {
	for i := range c.Attempts {
		a := &c.Attempts[i]
		for j := range c.Decision.Targets {
			if r.Targets&(1<<j) != 0 && c.Decision.Targets[j].Cluster == a.Target.Cluster {
				visit(a)
				break
			}
		}
	}
}

// tokens adds up the meters that count tokens, in prompt and answer.
func tokens(meters []logos.MeterReading) (n int64) {
	for _, m := range meters {
		if m.Meter.Tokens() {
			n = min(satAdd(n, max(0, m.Quantity)), math.MaxInt64/4)
		}
	}
	return n
}
