package extproc_test

import (
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
)

// rewritesOf returns what the attempts of an answer change, by provider.
func rewritesOf(t *testing.T, g *gateway, body string) (*logos.Decision, map[logos.ProviderID]string) {
	t.Helper()
	answer := g.chat(body).last()
	d, _ := g.decisionOf(answer)
	if d.Refusal != "" {
		t.Fatalf("%s is refused: %s", body, d.Refusal)
	}
	fields := answer.GetDynamicMetadata().GetFields()[extproc.Namespace].GetStructValue().GetFields()
	out := make(map[logos.ProviderID]string)
	for _, target := range d.Targets {
		out[target.Provider] = fields[target.Cluster].GetStringValue()
	}
	return d, out
}

// TestProvidersAreToldTheLimitThatIsReserved: where nothing else makes them keep to it.
func TestProvidersAreToldTheLimitThatIsReserved(t *testing.T) {
	t.Parallel()
	soft := hard(logos.UnitTokens, "1000000")
	soft.Hard = false
	window := func(r *logos.Resources) { r.Models[0].ContextWindow = 8000 }
	for name, c := range map[string]struct {
		budget          *logos.Budget
		edit            func(*logos.Resources)
		body            string
		openai, another string // what an attempt at each says; empty: nothing of it
	}{
		"no limit, of tokens":    {hard(logos.UnitTokens, "1000000"), nil, `{"model":"small"}`, `"max_completion_tokens":16384`, `"max_tokens":16384`},
		"no limit, of money":     {hard(logos.UnitMoney, "100"), nil, `{"model":"small"}`, `"max_completion_tokens":16384`, `"max_tokens":16384`},
		"no limit, of requests":  {hard(logos.UnitRequests, "9"), nil, `{"model":"small"}`, "", ""},
		"no limit, softly":       {soft, nil, `{"model":"small"}`, "", ""},
		"no limit, but a window": {hard(logos.UnitTokens, "1000000"), window, `{"model":"small"}`, "", ""},
		"a limit of the model": {hard(logos.UnitTokens, "1000000"), func(r *logos.Resources) { r.Models[0].MaxOutputTokens = 4096 },
			`{"model":"small"}`, `"max_completion_tokens":4096`, `"max_tokens":4096`},
		"a limit that all know":     {hard(logos.UnitTokens, "1000000"), nil, `{"model":"small","max_tokens":70}`, "", ""},
		"a limit that OpenAI knows": {hard(logos.UnitTokens, "1000000"), window, `{"model":"small","max_completion_tokens":70}`, "", `"max_tokens":70`},
	} {
		g, _ := budgetGateway(t, c.edit, c.budget)
		_, rewrites := rewritesOf(t, g, c.body)
		for provider, want := range map[logos.ProviderID]string{1: c.openai, 2: c.another} {
			if got := rewrites[provider]; want == "" && strings.Contains(got, "max_") || !strings.Contains(got, want) {
				t.Errorf("%s: an attempt at provider %d changes %q, want %q", name, provider, got, want)
			}
		}
	}
}

// TestWhatNothingBoundsIsRefused under hard budgets of tokens and money, and bounded by the context window where that
// helps.
func TestWhatNothingBoundsIsRefused(t *testing.T) {
	t.Parallel()
	const stored, search = `"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]`, `"tools":[{"type":"web_search"}]`
	for name, c := range map[string]struct {
		unit   logos.BudgetUnit
		window int64
		body   string
		tokens int64  // reserved; 0: refused
		text   string // of the refusal
	}{
		"what is stored":                  {logos.UnitTokens, 0, stored, 0, `"file" adds to its input nobody knows before`},
		"what is stored, for money":       {logos.UnitMoney, 0, stored, 0, "context_window"},
		"what is stored, within a window": {logos.UnitTokens, 8000, stored, 8010, ""},
		"what providers do":               {logos.UnitTokens, 8000, search, 0, `"tools of type web_search" nothing bounds`},
		"a long prompt in a short window": {logos.UnitTokens, 500, `"messages":[{"role":"user","content":"` + strings.Repeat("x", 900) + `"}]`, 510, ""},
		"what only counts calls":          {logos.UnitRequests, 0, stored + "," + search, 1, ""},
	} {
		g, _ := budgetGateway(t, func(r *logos.Resources) { r.Models[0].ContextWindow = c.window }, hard(c.unit, "100000"))
		answer := g.chat(`{"model":"small","max_tokens":10,` + c.body + `}`).last()
		if c.tokens == 0 {
			refusal := answer.GetImmediateResponse()
			if text := strings.ReplaceAll(string(refusal.GetBody()), `\"`, `"`); refusal.GetStatus().GetCode() != 403 || !strings.Contains(text, "budget_needs_bound") || !strings.Contains(text, c.text) {
				t.Errorf("%s: the answer is %d %s", name, refusal.GetStatus().GetCode(), text)
			}
			continue
		}
		if d, _ := g.decisionOf(answer); d.Refusal != "" || d.Reservations[0].Amount != c.tokens {
			t.Errorf("%s: the decision is %q %+v", name, d.Refusal, d.Reservations)
		}
	}
}

// TestMoneyIsReservedAtTheDearestOfWhatACallMayUse.
func TestMoneyIsReservedAtTheDearestOfWhatACallMayUse(t *testing.T) {
	t.Parallel()
	edit := func(r *logos.Resources) {
		r.Models[0].ContextWindow = 1000
		since := now.AddDate(-1, 0, 0)
		r.Prices = []*logos.Price{
			pricedAt(11, 1, logos.MeterInput, 1, since), pricedAt(12, 1, logos.MeterOutput, 1, since), pricedAt(13, 1, logos.MeterCacheWrite, 2, since),
			pricedAt(14, 1, logos.MeterAudioInput, 5, since), pricedAt(15, 1, logos.MeterAudioOutput, 7, since),
		}
	}
	for body, want := range map[string]string{
		`"max_tokens":1000`: "0.003", // a thousand each of input, which may be cached, and of output; prices are of a million
		`"max_tokens":1000,"modalities":["text","audio"],"messages":[{"role":"user","content":[{"input_audio":{"data":"x"}}]}]`: "0.012",
	} {
		g, _ := budgetGateway(t, edit, hard(logos.UnitMoney, "100"))
		d, _ := g.decisionOf(g.chat(`{"model":"small","x":"` + strings.Repeat("x", 1000) + `",` + body + `}`).last())
		if got := logos.UnitMoney.Quantity(d.Reservations[0].Amount); !got.Equal(decimal.RequireFromString(want)) {
			t.Errorf("%s: reserved is %s, want %s", body, got, want)
		}
	}
}
