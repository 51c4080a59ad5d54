package extproc

import (
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/billing"
	"github.com/ls1intum/edutelligence/logos/dialect"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// A worstKey names what the dearest prices depend on, beside the length of the prompt.
type worstKey struct {
	target *logos.Target
	tier   bool // the request asks for a service tier
	caches bool // it may write to a cache
	audio  bool // it may hold audio, or ask for it
}

// worst returns the dearest that a target may charge for each token of a call within bounds, whose input is at most
// so long there; nil: that is not known.
func (p *prices) worst(t *logos.Target, api logos.API, b *dialect.Bounds, input int64, now time.Time) *policy.Rates {
	key := worstKey{t, b.Tier, b.Caches, b.Audio}
	c, ok := p.cards.Load(key)
	if !ok || !c.(*card).until.IsZero() && !now.Before(c.(*card).until) {
		c = p.worstCard(key, now)
		p.cards.Store(key, c)
	}
	return c.(*card).rates(api, input)
}

// worstCard works out the dearest of the bands up to each, since a prompt may be shorter than its bound.
func (p *prices) worstCard(k worstKey, now time.Time) *card {
	tier := logos.StandardTier
	if k.tier {
		tier = billing.AnyTier
	}
	list := p.book.Card(p.book.Target(targetOf(k.target), ""), tier, now)
	out, most := &card{until: list.Until}, billing.Band{}
	for i := range list.Bands {
		b := &list.Bands[i]
		input := b.Input
		if k.caches {
			input = decimal.Max(input, b.CacheWrite)
		}
		output := decimal.Max(b.Output, b.Reasoning)
		if k.audio {
			input, output = decimal.Max(input, b.AudioInput), decimal.Max(output, b.AudioOutput)
		}
		most.Input, most.Output, most.Request = decimal.Max(most.Input, input), decimal.Max(most.Output, output), decimal.Max(most.Request, b.Request)
		most.Missing = append(most.Missing, b.Missing...)
		x := band{from: b.From, withoutOutput: slices.Contains(most.Missing, logos.MeterOutput)}
		if !slices.Contains(most.Missing, logos.MeterInput) {
			x.rates, _ = policy.NewRates(b.Currency, most.Input, most.Output, most.Request)
		}
		out.bands = append(out.bands, x)
	}
	return out
}

// targetOf names a target as prices know it.
func targetOf(t *logos.Target) *logos.DecisionTarget {
	return &logos.DecisionTarget{Deployment: t.Deployment.ID, Model: t.Deployment.Model, Provider: t.Provider.ID}
}
