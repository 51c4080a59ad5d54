package extproc

import (
	"slices"
	"sync"
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/billing"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// prices are those of a snapshot, with what each target charges worked out once.
type prices struct {
	book  *billing.Book
	cards sync.Map // *logos.Target or worstKey: *card
}

// A card is a billing.Card as policies read it.
type card struct {
	bands []band
	until time.Time // zero: for ever
}

// A band is what a target charges for prompts of at least from tokens.
type band struct {
	from          int64
	rates         *policy.Rates // nil: input has no price
	withoutOutput bool          // output has none
}

// newPrices takes over those of a snapshot before, which may be nil, if nothing has changed in them.
func newPrices(config *logos.Config, previous *Snapshot) *prices {
	if previous != nil && sameSlice(previous.Prices(), config.Prices()) && previous.SameRoutes(config) {
		return previous.prices
	}
	return &prices{book: billing.NewBook(config.Prices(), config.ProviderModels())}
}

// Book returns the prices of the snapshot.
func (s *Snapshot) Book() *billing.Book { return s.prices.book }

// rates returns what a target charges for calls of an API with that much input; nil: that is not known.
func (p *prices) rates(t *logos.Target, api logos.API, inputTokens int64, now time.Time) *policy.Rates {
	c, ok := p.cards.Load(t)
	if !ok || !c.(*card).until.IsZero() && !now.Before(c.(*card).until) {
		c = p.card(t, now)
		p.cards.Store(t, c)
	}
	return c.(*card).rates(api, inputTokens)
}

// rates returns those for a prompt of that length.
func (c *card) rates(api logos.API, inputTokens int64) *policy.Rates {
	i := len(c.bands) - 1
	for i > 0 && c.bands[i].from > inputTokens {
		i--
	}
	if c.bands[i].withoutOutput && api != logos.APIEmbeddings {
		return nil
	}
	return c.bands[i].rates
}

// card works out what a target charges from now on. It is the standard tier's: who asks for another one, asks
// for it of every target.
func (p *prices) card(t *logos.Target, now time.Time) *card {
	list := p.book.Card(p.book.Target(targetOf(t), ""), logos.StandardTier, now)
	out := &card{until: list.Until}
	for _, b := range list.Bands {
		x := band{from: b.From, withoutOutput: slices.Contains(b.Missing, logos.MeterOutput)}
		if !slices.Contains(b.Missing, logos.MeterInput) {
			x.rates, _ = policy.NewRates(b.Currency, b.Input, b.Output, b.Request) // one that can't be compared counts as unknown
		}
		out.bands = append(out.bands, x)
	}
	return out
}
