// Package billing knows what calls cost: the prices that hold for a call, what a usage record is charged,
// and what a target would charge. Money is decimal and exact; a price that is not known is never taken as
// zero. It is pure: it does no I/O and reads no clock, and never changes what it is given. The access log's
// reader rates calls with it, and decisions compare targets by it.
package billing

import (
	"cmp"
	"slices"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

// A Target is what a price can be of.
type Target struct {
	Deployment    logos.DeploymentID // 0: a call that passed through
	Provider      logos.ProviderID
	Model         logos.ModelID // 0: not known
	ProviderModel string        // what the provider calls the model; empty: not known
}

// A Book holds prices for lookups. It is immutable.
//
// Of the prices that hold for a call, those of operators count more than those of catalogues, and then those
// of a deployment more than those of a model at a provider, of a name at a provider, and of a whole provider.
// What counts most is looked for first under the meter and then under the one that it falls back on, before
// anything that counts less: who sets the price of input sets that of cached input too, unless they say
// otherwise. The price that counts most decides about the currency; those in others do not hold.
type Book struct {
	sheets map[scope]sheet
	names  map[logos.DeploymentID]string
}

// A scope is what prices are of, and who set them.
type scope struct {
	Target
	catalogue bool
}

// A sheet is the prices of one scope by meter, those that count most first.
type sheet map[logos.Meter][]*logos.Price

// NewBook makes a book of prices; names is what providers call the models of deployments.
func NewBook(prices []*logos.Price, names map[logos.DeploymentID]string) *Book {
	b := &Book{sheets: make(map[scope]sheet), names: names}
	for _, p := range prices {
		s := scopeOf(p)
		if b.sheets[s] == nil {
			b.sheets[s] = make(sheet)
		}
		b.sheets[s][p.Meter] = append(b.sheets[s][p.Meter], p)
	}
	for _, s := range b.sheets {
		for _, rows := range s {
			slices.SortFunc(rows, precedence)
		}
	}
	return b
}

// Believed returns those of all versions that were believed at a time.
func Believed(versions []*logos.Price, at time.Time) (out []*logos.Price) {
	for _, p := range versions {
		if !p.RecordedAt.After(at) && (p.ReplacedAt.IsZero() || p.ReplacedAt.After(at)) {
			out = append(out, p)
		}
	}
	return out
}

func scopeOf(p *logos.Price) scope {
	s := scope{catalogue: p.Source != ""}
	if p.Deployment != 0 {
		s.Deployment = p.Deployment
		return s
	}
	s.Provider, s.Model, s.ProviderModel = p.Provider, p.Model, p.ProviderModel
	return s
}

// precedence orders prices of one meter in one scope: the narrower first, then the later.
func precedence(a, b *logos.Price) int {
	return cmp.Or(
		cmp.Compare(b2i(a.ServiceTier == ""), b2i(b.ServiceTier == "")),
		cmp.Compare(b.ContextFrom, a.ContextFrom),
		cmp.Compare(uint64(a.ContextTo)-1, uint64(b.ContextTo)-1), // no bound comes last
		b.ValidFrom.Compare(a.ValidFrom),
		cmp.Compare(b.Version, a.Version),
		cmp.Compare(b.ID, a.ID),
	)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Target returns what the prices for an attempt are of; model is what the caller named.
func (b *Book) Target(t *logos.DecisionTarget, model string) Target {
	out := Target{Deployment: t.Deployment, Provider: t.Provider, Model: t.Model, ProviderModel: model}
	if t.Deployment != 0 {
		out.ProviderModel = b.names[t.Deployment] // a deployment that is gone has none
	}
	return out
}

// A list is the prices that a target has at a time, the sheet that counts most first.
type list struct {
	at       time.Time
	currency string // empty: there are none
	sheets   []sheet
}

// at returns the prices that a target has at a time.
func (b *Book) at(t Target, at time.Time) list {
	l := list{at: at}
	b.scopes(t, l.add)
	return l
}

// scopes calls f with every sheet that a target has, the one that counts most first.
func (b *Book) scopes(t Target, f func(sheet)) {
	for _, catalogue := range [...]bool{false, true} {
		look := func(is bool, of Target) {
			if s := b.sheets[scope{of, catalogue}]; is && s != nil {
				f(s)
			}
		}
		look(t.Deployment != 0, Target{Deployment: t.Deployment})
		look(t.Model != 0, Target{Provider: t.Provider, Model: t.Model})
		look(t.ProviderModel != "", Target{Provider: t.Provider, ProviderModel: t.ProviderModel})
		look(true, Target{Provider: t.Provider})
	}
}

// add adds a sheet, unless none of it holds.
func (l *list) add(s sheet) {
	holds := false
	for _, m := range logos.Meters { // in an order that is always the same
		for _, p := range s[m] {
			if !valid(p, l.at) {
				continue
			}
			if l.currency == "" {
				l.currency = p.Currency
			}
			holds = holds || p.Currency == l.currency
		}
	}
	if holds {
		l.sheets = append(l.sheets, s)
	}
}

func valid(p *logos.Price, at time.Time) bool {
	return !p.ValidFrom.After(at) && (p.ValidTo.IsZero() || p.ValidTo.After(at))
}

// fallbacks says which other meter's price counts for one that has none of its own. What is not here has
// none, since the other would be too low: writing to a cache and audio cost more than input.
var fallbacks = map[logos.Meter]logos.Meter{
	logos.MeterCachedInput: logos.MeterInput,  // a provider that states no discount gives none
	logos.MeterReasoning:   logos.MeterOutput, // providers bill reasoning as output; few give it a price of its own
}

// price returns the price for a meter in calls of a tier and with that many tokens of prompt; nil: it has
// none.
func (l *list) price(m logos.Meter, tier string, context int64) *logos.Price {
	other, falls := fallbacks[m]
	for _, s := range l.sheets {
		p := l.pick(s[m], tier, context)
		if p == nil && falls {
			p = l.pick(s[other], tier, context)
		}
		if p != nil {
			return p
		}
	}
	return nil
}

func (l *list) pick(rows []*logos.Price, tier string, context int64) *logos.Price {
	for _, p := range rows {
		if valid(p, l.at) && p.Currency == l.currency && (p.ServiceTier == "" || p.ServiceTier == tier) &&
			p.ContextFrom <= context && (p.ContextTo == 0 || context <= p.ContextTo) {
			return p
		}
	}
	return nil
}
