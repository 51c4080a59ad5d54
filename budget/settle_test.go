package budget

import (
	"testing"

	"github.com/ls1intum/edutelligence/logos"
)

// TestSettlesWhatWasUsed: of each end, what the counters are charged of a call that has reserved 100 tokens, a
// request, and 0.0000001 EUR at the first of two targets.
func TestSettlesWhatWasUsed(t *testing.T) {
	t.Parallel()
	one, two := logos.DecisionTarget{Cluster: "one"}, logos.DecisionTarget{Cluster: "two"}
	used := func(target logos.DecisionTarget, tokens int64, c *logos.Charge) logos.Attempt {
		a := logos.Attempt{Target: target, Charge: c}
		if tokens > 0 {
			a.Meters = []logos.MeterReading{{Meter: logos.MeterOutput, Quantity: tokens}, {Meter: logos.MeterRequest, Quantity: 1}}
		}
		return a
	}
	charge := func(total string) *logos.Charge { return &logos.Charge{Currency: "EUR", Total: number(total)} }
	unknown := &logos.Charge{Currency: "EUR", Total: number("0.00000001"), Missing: []logos.Meter{logos.MeterOutput}}
	for _, c := range []struct {
		name     string
		refusal  string
		attempts []logos.Attempt
		want     []int64 // tokens, requests, billionths of EUR
		overrun  int64   // of money
	}{
		{name: "refused", refusal: "budget_exceeded"},
		{name: "never sent", want: []int64{0, 0, 0}},
		{name: "failed", attempts: []logos.Attempt{used(one, 0, &logos.Charge{})}, want: []int64{0, 1, 0}},
		{name: "served", attempts: []logos.Attempt{used(one, 40, charge("0.00000004"))}, want: []int64{40, 1, 40}},
		{name: "served elsewhere", attempts: []logos.Attempt{used(one, 0, &logos.Charge{}), used(two, 40, charge("0.00000004"))}, want: []int64{40, 1, 0}},
		{name: "charged twice", attempts: []logos.Attempt{used(one, 60, charge("0.00000006")), used(one, 80, charge("0.00000008"))}, want: []int64{140, 1, 140}, overrun: 40},
		{name: "rounded up", attempts: []logos.Attempt{used(one, 1, charge("0.0000000001"))}, want: []int64{1, 1, 1}},
		{name: "of unknown price", attempts: []logos.Attempt{used(one, 40, unknown)}, want: []int64{40, 1, 100}},
		{name: "in another currency", attempts: []logos.Attempt{used(one, 40, &logos.Charge{Currency: "USD", Total: number("1")})}, want: []int64{40, 1, 100}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := Spent(&logos.Call{Attempts: c.attempts, Decision: logos.Decision{
				Refusal: c.refusal, Targets: []logos.DecisionTarget{one, two},
				Reservations: []logos.Reservation{
					{Budget: 1, Unit: logos.UnitTokens, Amount: 100, Hard: true, Targets: 0b11}, {Budget: 2, Unit: logos.UnitRequests, Amount: 1, Hard: true, Targets: 0b11},
					{Budget: 3, Unit: logos.UnitMoney, Currency: "EUR", Amount: 100, Hard: true, Targets: 0b01}, {Budget: 4, Unit: logos.UnitParallel, Amount: 1, Targets: 0b11},
				},
			}})
			if len(got) != len(c.want) {
				t.Fatalf("settled is %+v", got)
			}
			for i, want := range c.want {
				if got[i].Amount != want {
					t.Errorf("budget %d settles %d, want %d", got[i].Counter.Budget, got[i].Amount, want)
				}
			}
			if len(got) > 0 && got[2].Overrun != c.overrun {
				t.Errorf("the overrun is %d, want %d", got[2].Overrun, c.overrun)
			}
		})
	}
}
