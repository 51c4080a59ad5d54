package logos

import (
	"slices"
	"time"

	"github.com/shopspring/decimal"
)

// A BudgetID names a budget.
type BudgetID int64

// A BudgetUnit is what a budget counts.
type BudgetUnit string

// The units.
const (
	UnitMoney    BudgetUnit = "money"
	UnitTokens   BudgetUnit = "tokens"
	UnitRequests BudgetUnit = "requests"
	UnitParallel BudgetUnit = "parallel" // calls under way
)

// BudgetUnits are all of them.
var BudgetUnits = []BudgetUnit{UnitMoney, UnitTokens, UnitRequests, UnitParallel}

// A BudgetEach says for what a budget has a counter of its own for each value, made when it is first seen.
type BudgetEach string

// What there can be a counter for each of. What has no such value shares one.
const (
	EachNone    BudgetEach = ""
	EachEndUser BudgetEach = "end_user"
	EachAPIKey  BudgetEach = "api_key"
	EachMember  BudgetEach = "member"
	EachProject BudgetEach = "project"
	EachTeam    BudgetEach = "team"
)

// BudgetEaches are all of them.
var BudgetEaches = []BudgetEach{EachNone, EachEndUser, EachAPIKey, EachMember, EachProject, EachTeam}

// A Budget limits what calls may use within a window: money or tokens, or how many there are. The calls that
// its selector matches count, also those that other budgets count.
type Budget struct {
	ID       BudgetID
	Name     string
	Revision int64 // of the configuration that changed it last
	Selector BudgetSelector
	Each     BudgetEach
	Unit     BudgetUnit
	Currency string // of money, ISO 4217; empty for other units
	Limit    decimal.Decimal
	Window   BudgetWindow   // of UnitParallel: WindowTotal
	Zone     *time.Location // where windows begin at midnight; nil: UTC

	// Hard budgets refuse what might exceed them; soft ones tell of it.
	Hard bool
	// ClampMaxTokens lowers the output limit of a call to what the budget still allows, instead of refusing it.
	ClampMaxTokens bool
	// Thresholds are the percentages of the limit, in order, of which is told when they are reached, once a window.
	Thresholds []int
	Webhook    string // URL that is told too; empty: none
	Labels     map[string]string
}

// A BudgetSelector says which calls count. Each list that is not empty must hold the call's value, and all
// labels must be among those of its team, project and API key. The zero value selects every call.
type BudgetSelector struct {
	Teams    []TeamID
	Projects []ProjectID
	APIKeys  []APIKeyID
	EndUsers []string // pseudonyms, see [Hasher.EndUser]
	Profiles []ProfileID
	Labels   map[string]string

	// Of targets: what other targets of a call use does not count.
	Models    []ModelID
	Providers []ProviderID
}

// OfTargets says whether the selector looks at where a call is sent.
func (s *BudgetSelector) OfTargets() bool { return len(s.Models)+len(s.Providers) > 0 }

// MatchesTarget says whether what a target uses counts.
func (s *BudgetSelector) MatchesTarget(model ModelID, provider ProviderID) bool {
	return (len(s.Models) == 0 || slices.Contains(s.Models, model)) && (len(s.Providers) == 0 || slices.Contains(s.Providers, provider))
}

// MoneyDigits is to how many decimals budgets count money: a billionth of a currency's unit is far below what
// any call costs, and eighteen digits still hold a billion. What is finer is rounded up.
const MoneyDigits = 9

// maxBudget bounds limits, in the unit's smallest parts.
const maxBudget = 1_000_000_000_000_000_000

// Amount converts a quantity of the unit, which must not be negative, to its smallest parts: billionths for
// money, ones for the rest. Fractions are rounded up; what is too much becomes the most that there is.
func (u BudgetUnit) Amount(d decimal.Decimal) int64 {
	if u == UnitMoney {
		d = d.Shift(MoneyDigits)
	}
	if d.Exponent() > 18 || d.GreaterThan(decimal.NewFromInt(maxBudget)) {
		return maxBudget
	}
	return max(0, d.Ceil().IntPart())
}

// Quantity is the inverse of Amount.
func (u BudgetUnit) Quantity(amount int64) decimal.Decimal {
	if u == UnitMoney {
		return decimal.New(amount, -MoneyDigits)
	}
	return decimal.NewFromInt(amount)
}

// CheckBudget says what is wrong with a budget. Who refers to what is not its matter.
func CheckBudget(b *Budget) error {
	wrong := func(what, right string) error { return Errorf(Invalid, "invalid_"+what, "%s", right) }
	money := b.Unit == UnitMoney
	switch {
	case !slices.Contains(BudgetUnits, b.Unit):
		return wrong("unit", "unit must be money, tokens, requests or parallel")
	case money != validCurrency(b.Currency) || !money && b.Currency != "":
		return wrong("currency", "currency must be three capital letters, e.g. EUR, for money, and empty for other units")
	case b.Limit.IsNegative() || b.Limit.Exponent() > 18 || b.Limit.Exponent() < -MoneyDigits || b.Limit.GreaterThan(decimal.NewFromInt(1_000_000_000)):
		return wrong("limit", "limit must be from 0 to 1000000000, and have at most nine decimals")
	case !money && !b.Limit.IsInteger():
		return wrong("limit", "limit must be a whole number of "+string(b.Unit))
	case !slices.Contains(BudgetEaches, b.Each):
		return wrong("each", "each must be end_user, api_key, member, project, team or empty")
	case !slices.Contains(BudgetWindows, b.Window):
		return wrong("window", "window must be minute, hour, day, week, month, year or total")
	case b.Unit == UnitParallel && b.Window != WindowTotal:
		return wrong("window", "window must be total for calls in parallel, which are not counted over time")
	case b.ClampMaxTokens && !(b.Hard && (money || b.Unit == UnitTokens)):
		return wrong("clamp_max_tokens", "clamp_max_tokens is for hard budgets of money or tokens")
	}
	return checkThresholds(b.Thresholds)
}

func checkThresholds(percent []int) error {
	for i, p := range percent {
		if p < 1 || p > 100 || i > 0 && p <= percent[i-1] || len(percent) > 10 {
			return Errorf(Invalid, "invalid_thresholds", "thresholds must be at most ten percentages from 1 to 100, each above the one before")
		}
	}
	return nil
}

func validCurrency(s string) bool {
	return len(s) == 3 && !slices.ContainsFunc([]byte(s), func(c byte) bool { return c < 'A' || c > 'Z' })
}
