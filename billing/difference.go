package billing

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// The reasons why a person should look at how a catalogue's price differs.
const (
	HeldChange   = "change"   // it is more than the limit
	HeldRemoval  = "removal"  // the catalogue has it no more
	HeldZero     = "zero"     // catalogues also write 0 where they do not know
	HeldUnit     = "unit"     // a hundredfold or more, as if it were for another quantity
	HeldCurrency = "currency" // another one
)

// A Difference is how a catalogue's price differs from what it was.
type Difference struct {
	Before, After *logos.Price // nil: there is none
	Wanted        *logos.Price // that After was made of
	Held          []string     // why a person should look at it; empty: nothing is odd
}

// unitJump is a change that looks like another unit, either way.
var unitJump = decimal.NewFromInt(100)

// Compare returns how what a catalogue says differs from the prices of catalogues that there are, at a moment: first
// those that are new or other, in the order in which they are wanted, then those of the same catalogue that are gone.
// Of several for the same calls the first counts. A change of more than maxPercent is held.
func Compare(there, wanted []*logos.Price, catalogue string, at time.Time, maxPercent int64) []Difference {
	present, known := make(map[string]*logos.Price, len(there)), make(map[string]bool, len(there))
	for _, p := range there {
		if p.Source == "" {
			continue
		}
		key := subject(p)
		known[key] = true
		if was := present[key]; valid(p, at) && (was == nil || precedence(p, was) < 0) {
			present[key] = p
		}
	}
	var out []Difference
	seen := make(map[string]bool, len(wanted))
	for _, p := range wanted {
		key := subject(p)
		if was := present[key]; !seen[key] && (was == nil || !sameCharge(was, p)) {
			out = append(out, Difference{was, imported(p, catalogue, at, known[key]), p, held(was, p, maxPercent)})
		}
		seen[key] = true
	}
	for _, p := range there {
		if key := subject(p); present[key] == p && p.Source == catalogue && !seen[key] {
			out = append(out, Difference{Before: p, Held: []string{HeldRemoval}})
		}
	}
	return out
}

// imported returns a price as it is stored. The first that a catalogue says of something is believed to have always
// been so; another one begins now.
func imported(p *logos.Price, catalogue string, at time.Time, known bool) *logos.Price {
	out := *p
	out.Source, out.ImportedAt, out.ValidFrom, out.ValidTo = catalogue, at, time.Time{}, time.Time{}
	if known {
		out.ValidFrom = at
	}
	return &out
}

// subject tells what a price is of, and for which calls.
func subject(p *logos.Price) string {
	n := func(n int64) string { return strconv.FormatInt(n, 10) }
	return strings.Join([]string{n(int64(p.Deployment)), n(int64(p.Provider)), n(int64(p.Model)), string(p.Meter), n(p.ContextFrom), n(p.ContextTo), p.ServiceTier, p.ProviderModel}, "\x00")
}

func sameCharge(a, b *logos.Price) bool {
	return a.Currency == b.Currency && Each(a).Equal(Each(b))
}

func held(was, now *logos.Price, maxPercent int64) (why []string) {
	after := Each(now)
	if after.IsZero() {
		why = append(why, HeldZero)
	}
	if was == nil {
		return why
	}
	if was.Currency != now.Currency {
		return append(why, HeldCurrency)
	}
	before := Each(was)
	low, high := decimal.Min(before, after), decimal.Max(before, after)
	limit := before.Mul(decimal.NewFromInt(maxPercent)).Shift(-2)
	if high.Sub(low).GreaterThan(limit) {
		why = append(why, HeldChange)
	}
	if !low.IsZero() && high.GreaterThanOrEqual(low.Mul(unitJump)) {
		why = append(why, HeldUnit)
	}
	return slices.Clip(why)
}
