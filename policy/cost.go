package policy

import (
	"math"
	"math/bits"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// Amounts are counted in whole picos, 1e-12 of a currency's unit: exact for prices of up to six decimals a
// million tokens, and fast enough to compare for each candidate of each call.
const picoDigits = 12

// maxPicos is a million units.
const maxPicos = 1_000_000 * 1_000_000_000_000

// Rates are what a deployment charges. They are immutable.
type Rates struct {
	Currency               string
	input, output, request int64 // picos, for each token and call
}

// NewRates returns the rates of a deployment for each input token, output token and call. What is finer than
// picos is rounded up.
func NewRates(currency string, input, output, request decimal.Decimal) (*Rates, error) {
	r := &Rates{Currency: currency}
	for _, x := range []struct {
		to   *int64
		from decimal.Decimal
	}{{&r.input, input}, {&r.output, output}, {&r.request, request}} {
		picos, ok := picosOf(x.from, decimal.Decimal.Ceil)
		if !ok || picos < 0 {
			return nil, logos.Errorf(logos.Invalid, "invalid_price", "a price must be from 0 to 1000000 of its currency")
		}
		*x.to = picos
	}
	return r, nil
}

// Cost returns what a call costs in picos, 1e-12 of the currency's unit, at most math.MaxInt64.
func (r *Rates) Cost(input, output int64) int64 {
	return addAmounts(addAmounts(multiply(r.input, input), multiply(r.output, output)), r.request)
}

// multiply and addAmounts expect no negative numbers, and stop at math.MaxInt64.
func multiply(a, b int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(max(b, 0)))
	if hi != 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(lo)
}

func addAmounts(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// picosOf converts an amount of at most a million; round is how to make it whole.
func picosOf(d decimal.Decimal, round func(decimal.Decimal) decimal.Decimal) (int64, bool) {
	if e := d.Exponent(); e > 6 || e < -60 || d.NumDigits() > 80 {
		return 0, d.IsZero()
	}
	shifted := round(d.Shift(picoDigits))
	if shifted.Abs().GreaterThan(decimal.NewFromInt(maxPicos)) {
		return 0, false
	}
	return shifted.IntPart(), true
}

// units returns picos as a number for scores and explanations; nothing is charged by it.
func units(picos int64) float64 { return float64(picos) / 1e12 }
