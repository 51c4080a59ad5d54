package extproc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/shopspring/decimal"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/budget"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
)

// Grants is a database that one gateway has for itself.
type grants struct {
	limits map[logos.BudgetID]int64
}

func (g *grants) Lease(_ context.Context, _ logos.Gateway, requests []logos.ShareRequest) ([]logos.Share, error) {
	var out []logos.Share
	for i := range requests {
		r := &requests[i]
		out = append(out, logos.Share{Counter: r.Counter, Granted: r.Grant(g.limits[r.Counter.Budget], logos.Share{}, 0, 1), Live: 1})
	}
	return out, nil
}

// budgetGateway serves a configuration with budgets, and prices of 1 EUR for each thousand tokens of provider 1's
// output, and half of it of provider 2's.
func budgetGateway(t testing.TB, edit func(*logos.Resources), budgets ...*logos.Budget) (*gateway, *budget.Counters) {
	t.Helper()
	g := &grants{limits: make(map[logos.BudgetID]int64)}
	for i, b := range budgets {
		b.ID = logos.BudgetID(i + 1)
		if b.Name == "" {
			b.Name = fmt.Sprint("budget ", b.ID)
		}
		if b.Window == "" {
			b.Window = logos.WindowTotal
		}
		g.limits[b.ID] = b.Unit.Amount(b.Limit)
	}
	c := budget.New(g, logos.Gateway{ID: "g"}, budget.Options{}, zap.NewNop(), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	gateway := newGatewayWith(t, config(t, func(r *logos.Resources) {
		r.Budgets = budgets
		for i, amount := range []int64{1000, 500} {
			id := logos.ProviderID(i + 1)
			r.Prices = append(r.Prices, pricedAt(int64(2*i+1), id, logos.MeterInput, 0, now.AddDate(-1, 0, 0)), pricedAt(int64(2*i+2), id, logos.MeterOutput, amount, now.AddDate(-1, 0, 0)))
		}
		if edit != nil {
			edit(r)
		}
	}), func(cfg *extproc.Config) { cfg.Budgets = c })
	return gateway, c
}

func hard(unit logos.BudgetUnit, limit string) *logos.Budget {
	b := &logos.Budget{Unit: unit, Limit: decimal.RequireFromString(limit), Hard: true}
	if unit == logos.UnitMoney {
		b.Currency = "EUR"
	}
	return b
}

func TestAnExhaustedBudgetRefusesInWordsThatHelp(t *testing.T) {
	t.Parallel()
	daily := hard(logos.UnitRequests, "1")
	daily.Window = logos.WindowDay
	money := hard(logos.UnitMoney, "0.14")
	money.Window = logos.WindowMonth
	for name, c := range map[string]struct {
		budget     *logos.Budget
		status     int
		code, text string
		retryAfter string
		retry      string
		limit      [3]string // limit, remaining and reset
	}{
		"money":    {money, 402, "budget_exceeded", `the budget "budget 1" allows 0.14 EUR a month; 0.04 EUR is left, 0.1 EUR is held by calls under way, and this call may use 0.1 EUR, until 2026-12-01 00:00:00 UTC. Try again when`, "1", "false", [3]string{}},
		"tokens":   {hard(logos.UnitTokens, "350"), 429, "rate_limit_exceeded", "350 tokens; 88 tokens is left, 262 tokens is held", "1", "", [3]string{"350", "88", ""}},
		"requests": {daily, 429, "rate_limit_exceeded", "1 requests a day; all of them are taken, until 2026-11-25 00:00:00 UTC", "43200", "false", [3]string{"1", "0", "12h0m0s"}},
		"parallel": {hard(logos.UnitParallel, "1"), 429, "rate_limit_exceeded", "1 calls at once", "1", "", [3]string{}},
	} {
		g, _ := budgetGateway(t, nil, c.budget)
		body := `{"model":"small","max_tokens":100}`
		g.decisionOf(g.chat(body).last())
		answer := g.chat(body).last().GetImmediateResponse()
		if answer == nil || int(answer.GetStatus().GetCode()) != c.status {
			t.Fatalf("%s: the answer is %v", name, answer)
		}
		headers := make(map[string]string)
		for _, h := range answer.GetHeaders().GetSetHeaders() {
			headers[h.GetHeader().GetKey()] = string(h.GetHeader().GetRawValue())
		}
		if text := string(answer.GetBody()); !strings.Contains(text, c.code) || !strings.Contains(strings.ReplaceAll(text, `\"`, `"`), c.text) {
			t.Errorf("%s: it says %s", name, text)
		}
		if headers["retry-after"] != c.retryAfter || headers["x-should-retry"] != c.retry {
			t.Errorf("%s: the headers are %v", name, headers)
		}
		for i, what := range []string{"limit", "remaining", "reset"} {
			if h := fmt.Sprintf("x-ratelimit-%s-%s", what, name); headers[h] != c.limit[i] {
				t.Errorf("%s is %q, want %q", h, headers[h], c.limit[i])
			}
		}
	}
}

func TestReservationsTravelInTheDecision(t *testing.T) {
	t.Parallel()
	money, users := hard(logos.UnitMoney, "5"), hard(logos.UnitRequests, "9")
	users.Each, users.Window = logos.EachEndUser, logos.WindowDay
	soft := &logos.Budget{Unit: logos.UnitTokens, Limit: decimal.NewFromInt(1)}
	g, _ := budgetGateway(t, nil, money, users, soft)
	d, _ := g.decisionOf(g.chat(`{"model":"small","max_tokens":100,"user":"ann","n":2}`).last())
	day, _ := logos.WindowDay.Bounds(now, nil)
	want := []logos.Reservation{
		{Budget: 1, Unit: logos.UnitMoney, Currency: "EUR", Amount: 200_000_000, Hard: true, Targets: 0b11},
		{Budget: 2, Key: "end_user:" + d.EndUser, Start: day.Unix(), End: day.AddDate(0, 0, 1).Unix(), Unit: logos.UnitRequests, Amount: 1, Hard: true, Targets: 0b11},
		{Budget: 3, Unit: logos.UnitTokens, Targets: 0b11},
	}
	if len(d.Reservations) == 3 {
		want[2].Amount = d.Reservations[2].Amount
	}
	if diff := cmp.Diff(want, d.Reservations); diff != "" || d.EndUser == "" {
		t.Errorf("the reservations differ (-want +got):\n%s", diff)
	}
	if d.Reservations[2].Amount < 200 {
		t.Errorf("of the soft budget %d tokens are noted", d.Reservations[2].Amount)
	}
}

// TestABudgetChoosesWhatItCanPay: a target that is too dear for what is left is left out, and the explanation says
// for which budget.
func TestABudgetChoosesWhatItCanPay(t *testing.T) {
	t.Parallel()
	g, _ := budgetGateway(t, nil, hard(logos.UnitMoney, "0.06"))
	d, _ := g.decisionOf(g.chat(`{"model":"small","max_tokens":100}`).last())
	if len(d.Targets) != 1 || d.Targets[0].Provider != 2 || d.Reservations[0].Amount != 50_000_000 {
		t.Errorf("it goes to %+v and holds %+v", d.Targets, d.Reservations)
	}
	if x := d.Candidates[0]; x.Excluded != "over_budget" || x.What != "budget 1" {
		t.Errorf("the dear one is %+v", x)
	}
}

func TestWhatHasNoPriceIsLeftOut(t *testing.T) {
	t.Parallel()
	unpriced := func(r *logos.Resources) { r.Prices = r.Prices[:2] }
	g, _ := budgetGateway(t, unpriced, hard(logos.UnitMoney, "5"))
	d, _ := g.decisionOf(g.chat(`{"model":"small","max_tokens":100}`).last())
	if len(d.Targets) != 1 || d.Targets[0].Provider != 1 || d.Candidates[1].Excluded != "no_price" || d.Candidates[1].What != "budget 1" {
		t.Errorf("it goes to %+v: %+v", d.Targets, d.Candidates)
	}
	g, _ = budgetGateway(t, func(r *logos.Resources) { r.Prices = nil }, hard(logos.UnitMoney, "5"))
	answer := g.chat(`{"model":"small","max_tokens":100}`).last().GetImmediateResponse()
	if answer.GetStatus().GetCode() != 403 || !strings.Contains(string(answer.GetBody()), "deployment_unpriced") {
		t.Errorf("without any price the answer is %v", answer)
	}
}

func TestABudgetLowersMaxTokens(t *testing.T) {
	t.Parallel()
	money := hard(logos.UnitMoney, "0.05")
	money.ClampMaxTokens = true
	g, _ := budgetGateway(t, nil, money)
	answer := g.chat(`{"model":"small"}`).last()
	d, _ := g.decisionOf(answer)
	fields := answer.GetDynamicMetadata().GetFields()[extproc.Namespace].GetStructValue().GetFields()
	if d.ClampedTo != 50 || d.Reservations[0].Amount != 50_000_000 {
		t.Errorf("the limit is %d, reserved is %+v", d.ClampedTo, d.Reservations)
	}
	for _, target := range d.Targets {
		if rewrite := fields[target.Cluster].GetStringValue(); !strings.Contains(rewrite, `50`) || !strings.Contains(rewrite, "max_") {
			t.Errorf("an attempt at %s changes %q", target.Cluster, rewrite)
		}
	}
}

func TestARefusedIntentHoldsNothing(t *testing.T) {
	t.Parallel()
	g, _ := budgetGateway(t, nil, hard(logos.UnitRequests, "1"))
	g.intents.err = logos.Errorf(logos.Unavailable, "gateway_unavailable", "no")
	for range 3 {
		if got := g.chat(`{"model":"small"}`).last().GetImmediateResponse().GetStatus().GetCode(); got != 503 {
			t.Fatalf("the status is %d", got)
		}
	}
	g.intents.err = nil
	g.decisionOf(g.chat(`{"model":"small"}`).last())
}

func TestACallThatPanicsHoldsNothing(t *testing.T) {
	t.Parallel()
	g, _ := budgetGateway(t, nil, hard(logos.UnitRequests, "1"))
	g.intents.before = func() { panic("a fault") }
	for range 2 {
		if x := g.chat(`{"model":"small"}`); x.err == nil {
			t.Fatalf("the answer is %v", x.last())
		}
	}
	g.intents.mu.Lock()
	g.intents.before = nil
	g.intents.mu.Unlock()
	if d, _ := g.decisionOf(g.chat(`{"model":"small"}`).last()); d.Refusal != "" {
		t.Errorf("after it calls are refused: %s", d.Refusal)
	}
}

// TestABudgetOfModelsCountsWhatPassesThrough: the body may name any model that its provider has.
func TestABudgetOfModelsCountsWhatPassesThrough(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		unit     logos.BudgetUnit
		model    logos.ModelID
		provider string
		refused  bool
	}{
		{logos.UnitTokens, 1, "one", true},
		{logos.UnitMoney, 1, "one", true},
		{logos.UnitTokens, 2, "one", false}, // which does not have it
		{logos.UnitTokens, 2, "two", true},
		{logos.UnitRequests, 1, "one", false},
	} {
		b := hard(c.unit, "100")
		b.Selector.Models = []logos.ModelID{c.model}
		g, _ := budgetGateway(t, func(r *logos.Resources) { r.Profiles[0].Models = nil }, b)
		answer := g.chat(`{"model":"small"}`, "x-logos-proxy", "1", "x-logos-provider", c.provider).last().GetImmediateResponse()
		if refused := strings.Contains(string(answer.GetBody()), "budget_needs_model"); refused != c.refused {
			t.Errorf("%s of model %d at %s: the answer is %v", c.unit, c.model, c.provider, answer)
		}
	}
	// Where the body was read, the model is known.
	for model, want := range map[logos.ModelID]int{1: 1, 2: 0} {
		b := hard(logos.UnitRequests, "100")
		b.Selector.Models = []logos.ModelID{model}
		g, _ := budgetGateway(t, nil, b)
		if d, _ := g.decisionOf(g.chat(`{"model":"small"}`, "x-logos-proxy", "1", "x-logos-provider", "one").last()); d.Refusal != "" || len(d.Reservations) != want {
			t.Errorf("a budget of model %d: %q %+v", model, d.Refusal, d.Reservations)
		}
	}
}

func TestAnExplanationHoldsNothing(t *testing.T) {
	t.Parallel()
	g, _ := budgetGateway(t, nil, hard(logos.UnitRequests, "1"))
	for range 3 {
		d, err := g.server.Explain(t.Context(), extproc.ExplainRequest{Key: presentKey(t, g), Path: chat, Body: []byte(`{"model":"small"}`)})
		if err != nil || len(d.Reservations) != 1 {
			t.Fatalf("explained is %+v (%v)", d, err)
		}
	}
	g.decisionOf(g.chat(`{"model":"small"}`).last())
}

func presentKey(t testing.TB, g *gateway) *logos.APIKey {
	t.Helper()
	k, _ := g.current().FindKey(key)
	if k == nil {
		t.Fatal("there is no key")
	}
	return k
}

func TestWhatPassesThroughIsCountedOrRefused(t *testing.T) {
	t.Parallel()
	header := []string{"x-logos-proxy", "1", "x-logos-provider", "one"}
	g, _ := budgetGateway(t, nil, hard(logos.UnitRequests, "1"))
	if d, _ := g.decisionOf(g.chat(`{"model":"small"}`, header...).last()); d == nil || len(d.Reservations) != 1 || d.Refusal != "" {
		t.Fatalf("the decision is %+v", d)
	}
	if got := g.chat(`{"model":"small"}`, header...).last().GetImmediateResponse().GetStatus().GetCode(); got != 429 {
		t.Errorf("the second one gets %d", got)
	}
	g, _ = budgetGateway(t, nil, hard(logos.UnitMoney, "100"))
	answer := g.chat(`{"model":"small"}`, header...).last().GetImmediateResponse()
	if answer.GetStatus().GetCode() != 403 || !strings.Contains(string(answer.GetBody()), "budget_needs_model") {
		t.Errorf("under a budget of money the answer is %v", answer)
	}
}

// BenchmarkDecisionWithBudgets decides calls of a model with two deployments: what budgets add to that.
func BenchmarkDecisionWithBudgets(b *testing.B) {
	body := []byte(`{"model":"small","max_tokens":100,"user":"ann","messages":[{"role":"user","content":"` + strings.Repeat("word ", 200) + `"}]}`)
	for _, n := range []int{0, 1, 3} {
		b.Run(fmt.Sprint(n, "_budgets"), func(b *testing.B) {
			var budgets []*logos.Budget
			for i := range n {
				x := hard([]logos.BudgetUnit{logos.UnitMoney, logos.UnitTokens, logos.UnitRequests}[i], "1000000000")
				x.Window = []logos.BudgetWindow{logos.WindowMonth, logos.WindowDay, logos.WindowMinute}[i]
				x.Each = []logos.BudgetEach{logos.EachNone, logos.EachEndUser, logos.EachProject}[i]
				budgets = append(budgets, x)
			}
			g, _ := budgetGateway(b, nil, budgets...)
			r := extproc.ExplainRequest{Key: presentKey(b, g), Path: chat, Body: body}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.server.Explain(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
