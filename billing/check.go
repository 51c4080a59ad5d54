package billing

import (
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// What a price may be. Amounts of these sizes are stored and multiplied exactly.
const (
	MaxDecimals = 18
	maxContext  = 1_000_000_000 // tokens
	maxName     = 256           // bytes
)

var maxAmount = decimal.NewFromInt(1_000_000)

// ParseAmount reads the amount of a price as people write it: digits, with a point where needed.
func ParseAmount(text string) (decimal.Decimal, error) {
	digits := strings.Trim(text, "0123456789")
	if text == "" || len(text) > 32 || digits != "" && digits != "." || strings.HasPrefix(text, ".") || strings.HasSuffix(text, ".") {
		return decimal.Zero, badAmount()
	}
	amount, err := decimal.NewFromString(text)
	if err != nil || !fits(amount) {
		return decimal.Zero, badAmount()
	}
	return amount, nil
}

func badAmount() error {
	return logos.Errorf(logos.Invalid, "invalid_amount", "must be from 0 to 1000000, in digits and with at most %d decimals, e.g. 2.50", MaxDecimals)
}

// fits looks at the exponent before it compares, since that may write out as many digits.
func fits(d decimal.Decimal) bool {
	return d.Exponent() >= -MaxDecimals && d.Exponent() <= 6 && !d.IsNegative() && d.LessThanOrEqual(maxAmount)
}

// Check says what is wrong with a price. Who refers to what is not its matter.
func Check(p *logos.Price) error {
	wrong := func(what, right string) error {
		return logos.Errorf(logos.Invalid, "invalid_"+what, "%s", right)
	}
	switch {
	case !slices.Contains(logos.Meters, p.Meter):
		return wrong("meter", "must be one of "+meterNames())
	case !fits(p.Amount):
		return badAmount()
	case p.Unit != 1 && p.Unit != 1000 && p.Unit != 1_000_000:
		return wrong("unit", "must be 1, 1000 or 1000000")
	case !currency(p.Currency):
		return wrong("currency", "must be three capital letters, e.g. EUR")
	case p.Deployment == 0 && p.Provider == 0:
		return wrong("provider", "must name a provider, or a deployment in its place")
	case p.Deployment != 0 && (p.Model != 0 || p.ProviderModel != ""), p.Model != 0 && p.ProviderModel != "":
		return wrong("model", "must be of one thing: a deployment, a model or a provider_model")
	case p.ContextFrom < 0 || p.ContextTo < 0 || p.ContextFrom > maxContext || p.ContextTo > maxContext || p.ContextTo > 0 && p.ContextTo < p.ContextFrom:
		return wrong("context_to", "must be the last number of tokens that it is for, not below context_from and at most 1000000000; 0: no bound")
	case len(p.ServiceTier) > maxName || len(p.ProviderModel) > maxName || len(p.Source) > maxName:
		return wrong("service_tier", "must have at most 256 bytes, as must provider_model and source")
	case p.ServiceTier != "" && p.ServiceTier != logos.ServiceTier(p.ServiceTier) || p.ServiceTier == AnyTier:
		return wrong("service_tier", `must be "standard" for calls that ask for none, a tier of the provider, or empty for all`)
	case !p.ValidTo.IsZero() && !p.ValidTo.After(p.ValidFrom):
		return wrong("valid_to", "must be after valid_from")
	}
	return nil
}

func meterNames() string {
	names := make([]string, len(logos.Meters))
	for i, m := range logos.Meters {
		names[i] = string(m)
	}
	return strings.Join(names, ", ")
}

func currency(s string) bool {
	return len(s) == 3 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}
