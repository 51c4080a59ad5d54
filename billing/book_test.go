package billing

import (
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

var (
	day    = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	names  = map[logos.DeploymentID]string{7: "gpt-4o"}
	gptAt  = Target{Deployment: 7, Provider: 2, Model: 3, ProviderModel: "gpt-4o"}
	noTier = ""
)

// price makes a price a million; edit says how it differs from one of provider 2's.
func price(meter logos.Meter, amount string, edit func(*logos.Price)) *logos.Price {
	p := &logos.Price{Provider: 2, Meter: meter, Amount: decimal.RequireFromString(amount), Unit: 1_000_000, Currency: "USD"}
	if edit != nil {
		edit(p)
	}
	return p
}

func named(p *logos.Price)      { p.ProviderModel = "gpt-4o" }
func deployment(p *logos.Price) { p.Provider, p.Deployment = 0, 7 }
func modelled(p *logos.Price)   { p.Model = 3 }
func listed(p *logos.Price)     { p.ProviderModel, p.Source = "gpt-4o", "list" }
func all(edits ...func(*logos.Price)) func(*logos.Price) {
	return func(p *logos.Price) {
		for _, e := range edits {
			e(p)
		}
	}
}

func found(t *testing.T, prices []*logos.Price, meter logos.Meter, tier string, context int64, at time.Time) string {
	t.Helper()
	l := NewBook(prices, names).at(gptAt, at)
	p := l.price(meter, logos.ServiceTier(tier), context)
	if p == nil {
		return "none"
	}
	return p.Amount.String() + " " + p.Currency
}

func TestMostSpecificPriceWins(t *testing.T) {
	t.Parallel()
	prices := []*logos.Price{
		price(logos.MeterInput, "1", nil),
		price(logos.MeterInput, "2", named),
		price(logos.MeterInput, "3", modelled),
		price(logos.MeterInput, "4", deployment),
	}
	for n := len(prices); n > 0; n-- {
		want := string(rune('0'+n)) + " USD"
		if got := found(t, prices[:n], logos.MeterInput, noTier, 10, day); got != want {
			t.Errorf("of %d prices: got %s, want %s", n, got, want)
		}
	}
	if got := found(t, []*logos.Price{price(logos.MeterInput, "1", func(p *logos.Price) { p.Provider = 9 })}, logos.MeterInput, noTier, 10, day); got != "none" {
		t.Errorf("another provider's price holds: %s", got)
	}
}

func TestOperatorsPriceBeatsCatalogue(t *testing.T) {
	t.Parallel()
	list := []*logos.Price{price(logos.MeterInput, "2.5", listed), price(logos.MeterCachedInput, "1.25", listed), price(logos.MeterOutput, "10", listed)}
	free := append(list, price(logos.MeterInput, "0", nil))
	for _, c := range []struct {
		meter logos.Meter
		want  string
	}{{logos.MeterInput, "0 USD"}, {logos.MeterCachedInput, "0 USD"}, {logos.MeterOutput, "10 USD"}, {logos.MeterReasoning, "10 USD"}} {
		if got := found(t, free, c.meter, noTier, 10, day); got != c.want {
			t.Errorf("%s: got %s, want %s", c.meter, got, c.want)
		}
	}
	if got := found(t, list, logos.MeterCachedInput, noTier, 10, day); got != "1.25 USD" {
		t.Errorf("a price of its own: got %s", got)
	}
}

func TestOnlyHarmlessMetersFallBack(t *testing.T) {
	t.Parallel()
	prices := []*logos.Price{price(logos.MeterInput, "2", nil), price(logos.MeterOutput, "8", nil)}
	for meter, want := range map[logos.Meter]string{
		logos.MeterCachedInput: "2 USD", logos.MeterReasoning: "8 USD", logos.MeterCacheWrite: "none", logos.MeterCacheWrite1h: "none",
		logos.MeterAudioInput: "none", logos.MeterAudioOutput: "none", logos.MeterImage: "none", logos.MeterRequest: "none",
	} {
		if got := found(t, prices, meter, noTier, 10, day); got != want {
			t.Errorf("%s: got %s, want %s", meter, got, want)
		}
	}
}

func TestPriceHoldsInItsTime(t *testing.T) {
	t.Parallel()
	prices := []*logos.Price{
		price(logos.MeterInput, "1", func(p *logos.Price) { p.ValidTo = day.AddDate(0, 1, 0) }),
		price(logos.MeterInput, "2", func(p *logos.Price) { p.ValidFrom, p.ValidTo = day, day.AddDate(0, 2, 0) }),
	}
	for at, want := range map[time.Time]string{
		{}: "1 USD", day.Add(-time.Microsecond): "1 USD", day: "2 USD", day.AddDate(0, 1, 5): "2 USD", day.AddDate(0, 2, 0): "none",
	} {
		if got := found(t, prices, logos.MeterInput, noTier, 10, at); got != want {
			t.Errorf("at %v: got %s, want %s", at, got, want)
		}
	}
}

func TestPriceIsTheOneBelievedThen(t *testing.T) {
	t.Parallel()
	versions := []*logos.Price{
		price(logos.MeterInput, "1", func(p *logos.Price) { p.Version, p.RecordedAt, p.ReplacedAt = 1, day, day.AddDate(0, 0, 3) }),
		price(logos.MeterInput, "2", func(p *logos.Price) { p.Version, p.RecordedAt = 2, day.AddDate(0, 0, 3) }),
	}
	for days, want := range map[int]string{-1: "none", 0: "1 USD", 2: "1 USD", 3: "2 USD", 9: "2 USD"} {
		if got := found(t, Believed(versions, day.AddDate(0, 0, days)), logos.MeterInput, noTier, 10, day); got != want {
			t.Errorf("as believed after %d days: got %s, want %s", days, got, want)
		}
	}
}

func TestTiersAreRows(t *testing.T) {
	t.Parallel()
	standard := func(p *logos.Price) { p.ServiceTier = logos.StandardTier }
	long := func(p *logos.Price) { p.ContextFrom = 200_001 }
	flex := func(p *logos.Price) { p.ServiceTier = "flex" }
	prices := []*logos.Price{
		price(logos.MeterInput, "2", all(listed, standard)), price(logos.MeterInput, "4", all(listed, standard, long)),
		price(logos.MeterInput, "1", all(listed, flex)),
	}
	for _, c := range []struct {
		tier    string
		context int64
		want    string
	}{
		{"", 200_000, "2 USD"}, {"default", 200_000, "2 USD"}, {"auto", 200_001, "4 USD"}, {"flex", 900_000, "1 USD"},
		{"priority", 1, "none"}, // dearer than what is known
	} {
		if got := found(t, prices, logos.MeterInput, c.tier, c.context, day); got != c.want {
			t.Errorf("tier %q, %d tokens: got %s, want %s", c.tier, c.context, got, c.want)
		}
	}
	any := append(prices, price(logos.MeterInput, "9", listed))
	if got := found(t, any, logos.MeterInput, "priority", 1, day); got != "9 USD" {
		t.Errorf("a price of no tier is for all: got %s", got)
	}
	if got := found(t, any, logos.MeterInput, "", 1, day); got != "2 USD" {
		t.Errorf("a price of the tier is more specific: got %s", got)
	}
}

func TestCurrenciesDoNotMix(t *testing.T) {
	t.Parallel()
	euros := func(p *logos.Price) { p.Currency = "EUR" }
	prices := []*logos.Price{
		price(logos.MeterInput, "2.5", listed), price(logos.MeterOutput, "10", listed), price(logos.MeterInput, "2", all(named, euros)),
	}
	if got := found(t, prices, logos.MeterInput, noTier, 1, day); got != "2 EUR" {
		t.Errorf("input: got %s", got)
	}
	if got := found(t, prices, logos.MeterOutput, noTier, 1, day); got != "none" {
		t.Errorf("a price in another currency holds: %s", got)
	}
}

func TestCardKnowsBandsAndEnd(t *testing.T) {
	t.Parallel()
	end := day.AddDate(0, 1, 0)
	b := NewBook([]*logos.Price{
		price(logos.MeterInput, "2", nil), price(logos.MeterOutput, "8", func(p *logos.Price) { p.ValidTo = end }),
		price(logos.MeterInput, "4", func(p *logos.Price) { p.ContextFrom = 1001 }),
		price(logos.MeterInput, "6", func(p *logos.Price) { p.ServiceTier = "priority" }),
		price(logos.MeterRequest, "0.01", func(p *logos.Price) { p.Unit = 1 }),
	}, nil)
	card := b.Card(gptAt, "", day)
	if !card.Until.Equal(end) {
		t.Errorf("holds until %v, want %v", card.Until, end)
	}
	for context, want := range map[int64]string{0: "0.000002", 1000: "0.000002", 1001: "0.000004", 1 << 50: "0.000004"} {
		band := card.Band(context)
		if band.Input.String() != want || band.Output.String() != "0.000008" || band.Request.String() != "0.01" || len(band.Missing) > 0 {
			t.Errorf("%d tokens: %+v, want input %s", context, band, want)
		}
	}
	if worst := b.Card(gptAt, AnyTier, day).Band(5); worst.Input.String() != "0.000006" {
		t.Errorf("the worst of all tiers: %v", worst.Input)
	}
	if later := b.Card(gptAt, "", end); !later.Until.IsZero() || len(later.Band(0).Missing) != 1 {
		t.Errorf("after its end the price of output is missing: %+v", later)
	}
	if none := b.Card(Target{Provider: 8}, AnyTier, day); len(none.Band(9).Missing) != 2 {
		t.Errorf("no price at all: %+v", none)
	}
}

func TestPriceThatCanNotHoldIsRefused(t *testing.T) {
	t.Parallel()
	if err := Check(price(logos.MeterInput, "0", nil)); err != nil {
		t.Errorf("an explicit 0 is a price: %v", err)
	}
	for name, edit := range map[string]func(*logos.Price){
		"meter": func(p *logos.Price) { p.Meter = "tea" }, "unit": func(p *logos.Price) { p.Unit = 7 },
		"negative": func(p *logos.Price) { p.Amount = decimal.NewFromInt(-1) }, "vast": func(p *logos.Price) { p.Amount = decimal.New(1, 2_000_000_000) },
		"fine": func(p *logos.Price) { p.Amount = decimal.New(1, -19) }, "currency": func(p *logos.Price) { p.Currency = "€" },
		"of nothing": func(p *logos.Price) { p.Provider = 0 }, "of two": func(p *logos.Price) { p.Model, p.ProviderModel = 1, "x" },
		"of three": func(p *logos.Price) { p.Deployment, p.Model = 1, 1 }, "backwards": func(p *logos.Price) { p.ContextFrom, p.ContextTo = 5, 4 },
		"time": func(p *logos.Price) { p.ValidFrom, p.ValidTo = day, day }, "alias": func(p *logos.Price) { p.ServiceTier = "default" },
	} {
		if err := Check(price(logos.MeterInput, "1", edit)); logos.KindOf(err) != logos.Invalid {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAmountsAreReadAsWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"0": "0", "2.50": "2.5", "0.000000000000000001": "0.000000000000000001", "1000000": "1000000"} {
		if got, err := ParseAmount(text); err != nil || got.String() != want {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-1", "1e9", "1,5", ".5", "5.", "1000000.1", "0.0000000000000000001", "NaN", "+1", "0x1", "1.2.3"} {
		if got, err := ParseAmount(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}
