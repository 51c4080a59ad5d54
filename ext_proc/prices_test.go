package extproc_test

import (
	"slices"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
)

// pricedAt makes the price of a provider for a million tokens.
func pricedAt(id int64, provider logos.ProviderID, m logos.Meter, amount int64, from time.Time) *logos.Price {
	return &logos.Price{ID: logos.PriceID(id), Version: id, Provider: provider, Meter: m, Amount: decimal.NewFromInt(amount), Unit: 1_000_000, Currency: "EUR", ValidFrom: from}
}

func TestPoliciesSeeThePricesOfTheMoment(t *testing.T) {
	t.Parallel()
	cheapest := logos.Policy{ID: 1, Objective: &logos.Objective{Cost: 1, CostScale: logos.Money{Amount: decimal.NewFromInt(1), Currency: "EUR"}}}
	later := now.Add(time.Hour)
	prices := []*logos.Price{
		pricedAt(1, 1, logos.MeterInput, 2, time.Time{}), pricedAt(2, 1, logos.MeterOutput, 8, time.Time{}),
		pricedAt(3, 2, logos.MeterInput, 1, time.Time{}), pricedAt(4, 2, logos.MeterOutput, 4, time.Time{}),
		pricedAt(5, 2, logos.MeterOutput, 400_000, later),
	}
	priced := logos.Policy{ID: 1, Constraints: logos.Constraints{DenyUnpriced: true}}
	for name, c := range map[string]struct {
		policy logos.Policy
		prices []*logos.Price
		want   []logos.DeploymentID
	}{
		"the cheapest first":    {cheapest, prices, []logos.DeploymentID{2, 1}},
		"all are priced":        {priced, prices, []logos.DeploymentID{1, 2}},
		"one is not":            {priced, prices[2:], []logos.DeploymentID{2}},
		"its output is not":     {priced, prices[1:], []logos.DeploymentID{2}},
		"input alone is priced": {priced, prices[:3], []logos.DeploymentID{1}},
	} {
		g := newGateway(t, config(t, func(r *logos.Resources) {
			withPolicies(c.policy)(r)
			r.Prices = c.prices
		}))
		d, _ := g.decisionOf(g.chat(`{"model":"small"}`).last())
		var got []logos.DeploymentID
		for _, x := range d.Targets {
			got = append(got, x.Deployment)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: it goes to %v, want %v: %+v", name, got, c.want, d.Candidates)
		}
	}
}

func TestASnapshotTakesOverWhatHasNotChanged(t *testing.T) {
	t.Parallel()
	compiler := logos.NewCompiler(logos.Hasher{})
	apply := func(revision int64, ch logos.Changes, previous *extproc.Snapshot) *extproc.Snapshot {
		t.Helper()
		cfg, err := compiler.Apply(revision, ch)
		if err != nil {
			t.Fatal(err)
		}
		s, err := extproc.NewSnapshot(cfg, previous)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := apply(1, logos.Changes{Resources: logos.Resources{Prices: []*logos.Price{pricedAt(1, 1, logos.MeterInput, 2, time.Time{})}}}, nil)
	second := apply(2, logos.Changes{Resources: logos.Resources{Teams: []*logos.Team{{ID: 1}}}}, first)
	third := apply(3, logos.Changes{Resources: logos.Resources{Prices: []*logos.Price{pricedAt(1, 1, logos.MeterInput, 3, time.Time{})}}}, second)
	if first.Book() != second.Book() || second.Book() == third.Book() {
		t.Error("the prices are compiled anew without need, or not where they changed")
	}
}
