package billing

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// RateCall gives each attempt of a call its charge, by the prices of the moment at which the call began.
func (b *Book) RateCall(c *logos.Call) {
	for i := range c.Attempts {
		a := &c.Attempts[i]
		a.Charge = b.Rate(b.Target(&a.Target, c.Decision.Model), c.ServiceTier, c.Decision.StartTime(), a.Meters)
	}
}

// Rate returns what a target charges at a time for what was used in a service tier. Where nothing was used,
// nothing is charged, a price for requests included.
func (b *Book) Rate(t Target, tier string, at time.Time, used []logos.MeterReading) *logos.Charge {
	c := &logos.Charge{}
	if len(used) == 0 {
		return c
	}
	readings := slices.Clone(used)
	l, context := b.at(t, at), promptTokens(used)
	tier = logos.ServiceTier(tier)
	if l.price(logos.MeterRequest, tier, context) != nil && !slices.ContainsFunc(used, func(r logos.MeterReading) bool { return r.Meter == logos.MeterRequest }) {
		readings = append(readings, logos.MeterReading{Meter: logos.MeterRequest, Quantity: 1})
	}
	slices.SortFunc(readings, readingOrder)
	for _, r := range readings {
		r.Quantity = max(0, r.Quantity)
		c.Lines = append(c.Lines, line(r, l.price(r.Meter, tier, context)))
	}
	for _, line := range c.Lines {
		c.Total = c.Total.Add(line.Cost)
		if line.Price == nil && line.Quantity > 0 && !slices.Contains(c.Missing, line.Meter) {
			c.Missing = append(c.Missing, line.Meter)
		}
	}
	c.Currency = l.currency
	return c
}

// readingOrder makes the order in which readings come not matter.
func readingOrder(a, b logos.MeterReading) int {
	return cmp.Or(
		cmp.Compare(slices.Index(logos.Meters, a.Meter), slices.Index(logos.Meters, b.Meter)),
		cmp.Compare(a.Meter, b.Meter), cmp.Compare(a.Quantity, b.Quantity), cmp.Compare(b2i(a.Estimated), b2i(b.Estimated)),
	)
}

func line(r logos.MeterReading, p *logos.Price) logos.ChargeLine {
	l := logos.ChargeLine{MeterReading: r, Price: p}
	if p != nil {
		l.Cost = Each(p).Mul(decimal.NewFromInt(r.Quantity))
	}
	return l
}

// Each returns a price for one of its meter. It is exact, since units are powers of ten.
func Each(p *logos.Price) decimal.Decimal {
	switch p.Unit {
	case 1_000_000:
		return p.Amount.Shift(-6)
	case 1000:
		return p.Amount.Shift(-3)
	}
	return p.Amount
}

// promptTokens returns how long a prompt was, however its tokens are charged.
func promptTokens(readings []logos.MeterReading) (n int64) {
	for _, r := range readings {
		if r.Meter.Prompt() {
			q := max(0, r.Quantity)
			if n > math.MaxInt64-q {
				return math.MaxInt64
			}
			n += q
		}
	}
	return n
}
