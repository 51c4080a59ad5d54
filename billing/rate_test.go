package billing

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

func reading(m logos.Meter, n int64) logos.MeterReading {
	return logos.MeterReading{Meter: m, Quantity: n}
}

func TestChargesEachMeterExactly(t *testing.T) {
	t.Parallel()
	b := NewBook([]*logos.Price{
		price(logos.MeterInput, "2.5", listed), price(logos.MeterCachedInput, "1.25", listed), price(logos.MeterOutput, "10", listed),
		price(logos.MeterRequest, "0.0001", func(p *logos.Price) { p.Unit, p.Version = 1, 9 }),
	}, names)
	c := b.Rate(gptAt, "default", day, []logos.MeterReading{
		reading(logos.MeterReasoning, 7), reading(logos.MeterOutput, 3), reading(logos.MeterCachedInput, 1000), reading(logos.MeterInput, 1),
	})
	if !c.Known() || c.Currency != "USD" || c.Total.String() != "0.0014525" {
		t.Errorf("got %s %s, missing %v", c.Total, c.Currency, c.Missing)
	}
	if c.Version() != 9 || len(c.Lines) != 5 || c.Lines[4].Meter != logos.MeterRequest {
		t.Errorf("version %d, lines %+v", c.Version(), c.Lines)
	}
}

func TestUnpricedIsUnknownAndZeroIsAPrice(t *testing.T) {
	t.Parallel()
	used := []logos.MeterReading{reading(logos.MeterInput, 5), reading(logos.MeterOutput, 2)}
	if c := NewBook(nil, nil).Rate(gptAt, "", day, used); c.Known() || !slices.Equal(c.Missing, []logos.Meter{logos.MeterInput, logos.MeterOutput}) {
		t.Errorf("no price at all: %+v", c)
	}
	input := price(logos.MeterInput, "0", nil)
	if c := NewBook([]*logos.Price{input}, nil).Rate(gptAt, "", day, used); c.Known() || !slices.Equal(c.Missing, []logos.Meter{logos.MeterOutput}) {
		t.Errorf("no price of output: %+v", c)
	}
	b := NewBook([]*logos.Price{input, price(logos.MeterOutput, "0", nil)}, nil)
	if c := b.Rate(gptAt, "", day, used); !c.Known() || !c.Total.IsZero() || c.Currency != "USD" {
		t.Errorf("a price of 0: %+v", c)
	}
	if c := b.Rate(gptAt, "", day, []logos.MeterReading{reading(logos.MeterInput, 5), reading(logos.MeterImage, 0)}); !c.Known() {
		t.Errorf("what was not used needs no price: %+v", c)
	}
}

func TestNothingUsedIsNotCharged(t *testing.T) {
	t.Parallel()
	b := NewBook([]*logos.Price{price(logos.MeterRequest, "5", func(p *logos.Price) { p.Unit = 1 })}, nil)
	if c := b.Rate(gptAt, "", day, nil); !c.Known() || !c.Total.IsZero() || c.Currency != "" || len(c.Lines) != 0 {
		t.Errorf("a failed attempt: %+v", c)
	}
}

func TestLengthOfPromptCountsCachedTokens(t *testing.T) {
	t.Parallel()
	b := NewBook([]*logos.Price{
		price(logos.MeterInput, "3", nil), price(logos.MeterCacheWrite, "3", nil), price(logos.MeterOutput, "15", nil),
		price(logos.MeterOutput, "22.5", func(p *logos.Price) { p.ContextFrom = 200_001 }),
	}, nil)
	c := b.Rate(gptAt, "", day, []logos.MeterReading{
		reading(logos.MeterInput, 1), reading(logos.MeterCachedInput, 199_999), reading(logos.MeterCacheWrite, 1), reading(logos.MeterOutput, 1_000_000),
	})
	if want := "23.100003"; c.Total.String() != want {
		t.Errorf("got %s, want %s", c.Total, want)
	}
}

func TestCallIsRatedByThePricesOfItsStart(t *testing.T) {
	t.Parallel()
	b := NewBook([]*logos.Price{
		price(logos.MeterInput, "1", func(p *logos.Price) { p.ProviderModel, p.ValidTo = "gpt-4o", day }),
		price(logos.MeterInput, "2", func(p *logos.Price) { p.ProviderModel, p.ValidFrom = "gpt-4o", day }),
	}, names)
	used := []logos.MeterReading{reading(logos.MeterInput, 1_000_000)}
	call := &logos.Call{
		Decision: logos.Decision{Start: day.UnixMicro() - 1, Model: "house-model"},
		Attempts: []logos.Attempt{
			{Number: 1, Target: logos.DecisionTarget{Deployment: 7, Model: 3, Provider: 2}},
			{Number: 2, Target: logos.DecisionTarget{Deployment: 7, Model: 3, Provider: 2}, Start: day.AddDate(0, 0, 1), Meters: used},
		},
	}
	b.RateCall(call)
	if first, second := call.Attempts[0].Charge, call.Attempts[1].Charge; !first.Total.IsZero() || second.Total.String() != "1" {
		t.Errorf("got %+v, %+v", first, second)
	}
	passed := &logos.Call{
		Decision: logos.Decision{Start: day.UnixMicro(), Model: "gpt-4o"},
		Attempts: []logos.Attempt{{Number: 1, Target: logos.DecisionTarget{Provider: 2}, Meters: used}},
	}
	if b.RateCall(passed); passed.Attempts[0].Charge.Total.String() != "2" {
		t.Errorf("a call that passed through: %+v", passed.Attempts[0].Charge)
	}
}

// checkCharge holds for whatever was used, at whatever prices.
func checkCharge(t *testing.T, b *Book, tier string, used []logos.MeterReading) {
	t.Helper()
	c := b.Rate(gptAt, tier, day, used)
	sum := decimal.Zero
	for _, l := range c.Lines {
		if l.Cost.IsNegative() || l.Quantity < 0 {
			t.Errorf("negative: %+v", l)
		}
		if l.Price != nil {
			// Exactly, in integers that share nothing with how the cost was made.
			want := decimal.NewFromBigInt(l.Price.Amount.Coefficient(), 0).Mul(decimal.NewFromInt(l.Quantity))
			have := l.Cost.Mul(decimal.NewFromInt(l.Price.Unit)).Shift(-l.Price.Amount.Exponent())
			if !have.Equal(want) {
				t.Errorf("%d at %s for %d is not %s", l.Quantity, l.Price.Amount, l.Price.Unit, l.Cost)
			}
		} else if !l.Cost.IsZero() || c.Known() && l.Quantity > 0 {
			t.Errorf("charged or called known without a price: %+v", l)
		}
		sum = sum.Add(l.Cost)
	}
	if !sum.Equal(c.Total) {
		t.Errorf("lines add up to %s, not %s", sum, c.Total)
	}
	turned := slices.Clone(used)
	slices.Reverse(turned)
	if again := b.Rate(gptAt, tier, day, turned); !again.Total.Equal(c.Total) || !slices.Equal(again.Missing, c.Missing) || len(again.Lines) != len(c.Lines) {
		t.Errorf("in another order: %s and %s", c.Total, again.Total)
	}
}

// randomPrices are valid, and of all kinds.
func randomPrices(r *rand.Rand) (out []*logos.Price) {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	for i := range r.IntN(40) {
		p := price(logos.Meters[r.IntN(len(logos.Meters))], "1", nil)
		p.Amount = decimal.New(r.Int64N(1_000_000), -r.Int32N(MaxDecimals+1))
		p.Unit = []int64{1, 1000, 1_000_000}[r.IntN(3)]
		p.Currency, p.ServiceTier, p.Source = pick("USD", "EUR"), pick("", "standard", "flex"), pick("", "list")
		p.ContextFrom = []int64{0, 100, 100_000}[r.IntN(3)]
		[]func(*logos.Price){func(*logos.Price) {}, named, modelled, deployment}[r.IntN(4)](p)
		if r.IntN(4) == 0 {
			p.ValidFrom = day.AddDate(0, 0, r.IntN(3)-1)
		}
		p.Version = int64(i) + 1
		out = append(out, p)
	}
	return out
}

func TestRatingIsExactAndOrderFree(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(6, 1))
	for range 3000 {
		prices := randomPrices(r)
		for _, p := range prices {
			if err := Check(p); err != nil {
				t.Fatal(err)
			}
		}
		var used []logos.MeterReading
		for range r.IntN(12) {
			n := []int64{0, 1, 99, 250_000, math.MaxInt64, math.MaxInt64 / 4, r.Int64(), -5}[r.IntN(8)]
			used = append(used, logos.MeterReading{Meter: logos.Meters[r.IntN(len(logos.Meters))], Quantity: n, Estimated: r.IntN(2) == 0})
		}
		tier := []string{"", "flex", "scale"}[r.IntN(3)]
		checkCharge(t, NewBook(prices, nil), tier, used)
		shuffled := slices.Clone(prices)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		a, b := NewBook(prices, nil).Rate(gptAt, tier, day, used), NewBook(shuffled, nil).Rate(gptAt, tier, day, used)
		if !a.Total.Equal(b.Total) || !slices.Equal(a.Missing, b.Missing) {
			t.Fatalf("the order of prices matters: %s and %s", a.Total, b.Total)
		}
	}
}

func TestMoreUseNeverCostsLess(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(6, 2))
	for range 2000 {
		b := NewBook(randomPrices(r), nil)
		m, n := logos.Meters[5+r.IntN(5)], r.Int64N(1_000_000) // not of the prompt, whose length may change the tier
		less := b.Rate(gptAt, "", day, []logos.MeterReading{reading(m, n)})
		more := b.Rate(gptAt, "", day, []logos.MeterReading{reading(m, n+r.Int64N(1000))})
		if more.Total.LessThan(less.Total) {
			t.Fatalf("%s of %s, and %s of less", more.Total, m, less.Total)
		}
	}
}

func FuzzRate(f *testing.F) {
	f.Add(uint64(1), "flex", []byte("seventeen readings"))
	f.Fuzz(func(t *testing.T, seed uint64, tier string, data []byte) {
		var used []logos.MeterReading
		for len(data) >= 9 && len(used) < 20 {
			m := logos.Meter("unheard of")
			if i := int(data[0]); i < len(logos.Meters) {
				m = logos.Meters[i]
			}
			used = append(used, reading(m, int64(binary.LittleEndian.Uint64(data[1:]))))
			data = data[9:]
		}
		checkCharge(t, NewBook(randomPrices(rand.New(rand.NewPCG(seed, 0))), nil), tier, used)
	})
}

func BenchmarkRate(b *testing.B) {
	book := NewBook([]*logos.Price{price(logos.MeterInput, "2.5", listed), price(logos.MeterCachedInput, "1.25", listed), price(logos.MeterOutput, "10", listed)}, names)
	used := []logos.MeterReading{reading(logos.MeterInput, 1000), reading(logos.MeterCachedInput, 100), reading(logos.MeterOutput, 200)}
	b.ReportAllocs()
	for b.Loop() {
		book.Rate(gptAt, "default", day, used)
	}
}
