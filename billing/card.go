package billing

import (
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// AnyTier asks for the worst of all service tiers.
const AnyTier = "*"

// A Card is what a target charges, before it is known what will be used: for choices and reservations.
type Card struct {
	Bands []Band    // in order of From; never empty
	Until time.Time // when it no longer holds; zero: never
}

// A Band is what is charged for a prompt of at least From tokens, up to the next band. Caching is not
// counted on: input is the price of what is neither read from a cache nor written to one.
type Band struct {
	From                   int64
	Currency               string
	Input, Output, Request decimal.Decimal // for each
	Missing                []logos.Meter   // of input and output, those that have no price
	// CacheWrite and Reasoning are the dearest prices of prompt tokens that are written to a cache, and of answer
	// tokens for reasoning; 0: they have none.
	CacheWrite, Reasoning decimal.Decimal
	// AudioInput and AudioOutput are those of tokens of audio; 0: they have none.
	AudioInput, AudioOutput decimal.Decimal
}

// Card returns what a target charges in a service tier from a time on; [AnyTier]: the worst of all tiers that
// have prices.
func (b *Book) Card(t Target, tier string, at time.Time) *Card {
	l := b.at(t, at)
	tiers := []string{logos.ServiceTier(tier)}
	if tier == AnyTier {
		tiers = l.tiers()
	}
	card := &Card{Until: b.until(t, at)}
	for _, from := range l.steps() {
		card.Bands = append(card.Bands, l.band(tiers, from))
	}
	return card
}

// Band returns the band for a prompt of that many tokens.
func (c *Card) Band(context int64) *Band {
	i := len(c.Bands) - 1
	for i > 0 && c.Bands[i].From > context {
		i--
	}
	return &c.Bands[i]
}

func (l *list) band(tiers []string, from int64) Band {
	b := Band{From: from, Currency: l.currency}
	for _, x := range []struct {
		to    *decimal.Decimal
		meter logos.Meter
	}{{&b.Input, logos.MeterInput}, {&b.Output, logos.MeterOutput}, {&b.Request, logos.MeterRequest}} {
		known := false
		for _, tier := range tiers {
			if p := l.price(x.meter, tier, from); p != nil {
				*x.to, known = decimal.Max(*x.to, Each(p)), true
			}
		}
		if !known && x.meter != logos.MeterRequest {
			b.Missing = append(b.Missing, x.meter)
		}
	}
	b.CacheWrite = decimal.Max(l.dearest(tiers, logos.MeterCacheWrite, from), l.dearest(tiers, logos.MeterCacheWrite1h, from))
	b.Reasoning = l.dearest(tiers, logos.MeterReasoning, from)
	b.AudioInput, b.AudioOutput = l.dearest(tiers, logos.MeterAudioInput, from), l.dearest(tiers, logos.MeterAudioOutput, from)
	return b
}

func (l *list) dearest(tiers []string, m logos.Meter, from int64) (most decimal.Decimal) {
	for _, tier := range tiers {
		if p := l.price(m, tier, from); p != nil {
			most = decimal.Max(most, Each(p))
		}
	}
	return most
}

// tiers returns every service tier that some price is of, and the standard one.
func (l *list) tiers() []string {
	out := []string{logos.StandardTier}
	l.each(func(p *logos.Price) {
		if p.ServiceTier != "" && !slices.Contains(out, p.ServiceTier) {
			out = append(out, p.ServiceTier)
		}
	})
	return out
}

// steps returns every length of the prompt from which other prices may hold, in order.
func (l *list) steps() []int64 {
	out := []int64{0}
	l.each(func(p *logos.Price) {
		out = append(out, p.ContextFrom)
		if p.ContextTo > 0 {
			out = append(out, p.ContextTo+1)
		}
	})
	slices.Sort(out)
	return slices.Compact(out)
}

func (l *list) each(f func(*logos.Price)) {
	for _, s := range l.sheets {
		for _, rows := range s {
			for _, p := range rows {
				f(p)
			}
		}
	}
}

// until returns when a price of a target next begins or ends after a time; zero: never.
func (b *Book) until(t Target, at time.Time) (next time.Time) {
	sooner := func(x time.Time) {
		if x.After(at) && (next.IsZero() || x.Before(next)) {
			next = x
		}
	}
	b.scopes(t, func(s sheet) {
		for _, rows := range s {
			for _, p := range rows {
				sooner(p.ValidFrom)
				sooner(p.ValidTo)
			}
		}
	})
	return next
}
