package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cost waits for the record of a call, and returns what it cost.
func (g *gateway) cost(id string) (cost string) {
	g.t.Helper()
	g.record(id)
	return g.adminCall(g.root, http.MethodGet, "/admin/v1/calls/"+id, nil)["cost"].(string)
}

// TestACallCostsWhatItsPricesSay goes the way of an operator: what has no price, the command that gives it one, and
// what calls cost before and after, whole and streamed.
func TestACallCostsWhatItsPricesSay(t *testing.T) {
	t.Parallel()
	p := plain(t, usage{input: 1000, cached: 400, output: 30, reasoning: 10})
	g := start(t, nil)
	g.deploy("m", "chat/completions", target{"local", p.URL + "/v1", "sk", "authorization", "Bearer {}"})
	run := func(want string, args ...string) string {
		t.Helper()
		out, err := g.command(nil, append([]string{"prices"}, args...)...)
		if err != nil || !strings.Contains(out, want) {
			t.Fatalf("logos prices %v gives %v, want %q:\n%s", args, err, want, out)
		}
		return out
	}
	if cost := g.cost(g.chat("m").id()); cost != "unknown" {
		t.Errorf("without prices a call costs %s", cost)
	}
	_, command, _ := strings.Cut(run("local/m/ has no price of input and output", "unpriced"), "logos prices ")
	args := strings.Fields(strings.NewReplacer("--input AMOUNT", "--input 2.50", "--output AMOUNT", "--output 10").Replace(command))
	run("+ price local/m/input", args...)
	run("everything has a price", "unpriced")
	// 600 and, for want of a price of their own, 400 cached tokens at 2.50 and 30 at 10 for a million.
	for _, id := range []string{g.chat("m").id(), g.call("POST", "/v1/chat/completions", `{"model":"m","stream":true,"messages":[]}`).id()} {
		if cost := g.cost(id); cost != "0.0028 EUR" {
			t.Errorf("a call costs %s", cost)
		}
	}
	run("+ price local/m/cached_input", append(args[:7:7], "--cached-input", "1.25")...)
	id := g.chat("m").id()
	if cost := g.cost(id); cost != "0.0023 EUR" {
		t.Errorf("with a price for the cache a call costs %s", cost)
	}
	run("~ price local/m/input", append(args[:7:7], "--input", "250")...)
	if cost := g.cost(id); cost != "0.0023 EUR" {
		t.Errorf("a later price changes what a call costs to %s", cost)
	}
	if known, unknown := g.metric("logos_rated_calls_total", `cost="known"`), g.metric("logos_rated_calls_total", `cost="unknown"`); known < 3 || unknown != 1 {
		t.Errorf("the metric counts %v calls whose cost is known, and %v others", known, unknown)
	}
}

func TestImportsAListForWhatIsDeployed(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	g.setup("first", "https://first.example")
	g.administer("POST", "providers", object{"name": "OpenAI", "base_url": "https://api.openai.com/v1"})
	g.administer("POST", "providers", object{"name": "ours", "base_url": "https://vllm.example/v1"})
	for _, model := range []string{"gpt-x", "no-such-model"} {
		g.administer("POST", "models", object{"name": model})
		g.administer("POST", "deployments", object{"provider": "OpenAI", "model": model})
	}
	g.administer("POST", "deployments", object{"provider": "ours", "model": "gpt-x"})
	list := filepath.Join(t.TempDir(), "list.json")
	run := func(text string, args ...string) (string, error) {
		t.Helper()
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return g.command(nil, append([]string{"prices", "import", list}, args...)...)
	}
	first := `{"gpt-x": {"litellm_provider": "openai", "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05}}`
	out, err := run(first)
	for _, want := range []string{"+ OpenAI/gpt-x/input/standard (litellm): 2.5 USD per 1000000", "+ OpenAI/gpt-x/output/standard (litellm): 10 USD", "? OpenAI/no-such-model: litellm knows no price of it", "logos prices unpriced says how", "2 done"} {
		if err != nil || !strings.Contains(out, want) || strings.Contains(out, "ours") {
			t.Errorf("the import gives %v, want %q:\n%s", err, want, out)
		}
	}
	if out, err := run(first); err != nil || !strings.Contains(out, "nothing to do") {
		t.Errorf("again it gives %v:\n%s", err, out)
	}
	odd := strings.Replace(first, "1e-05", "1e-02", 1)
	if out, err := run(odd); err == nil || !strings.Contains(out, "! change, unit") || !strings.Contains(out, "--approve") {
		t.Errorf("a price a thousand times as high gives %v:\n%s", err, out)
	}
	if out, err := run(odd, "--dry-run"); err != nil || !strings.Contains(out, "without --dry-run 0 would be, and 1 wait for a person") {
		t.Errorf("looking at it gives %v:\n%s", err, out)
	}
	if out, err := run(odd, "--approve"); err != nil || !strings.Contains(out, "10 USD per 1000000 -> 10000 USD per 1000000") {
		t.Errorf("approved it gives %v:\n%s", err, out)
	}
	if out, err := g.command(nil, "prices", "import", "--builtin", "--dry-run"); err != nil || !strings.Contains(out, "? OpenAI/gpt-x: catwalk knows no price of it") {
		t.Errorf("the list that is built in gives %v:\n%s", err, out)
	}
	if out, err := run(odd, "--as", "ours=openai"); err != nil || !strings.Contains(out, "+ ours/gpt-x/input/standard (litellm): 2.5 USD") || !strings.Contains(out, "2 done") {
		t.Errorf("for a provider that the list is told to know the import gives %v:\n%s", err, out)
	}
	for _, args := range [][]string{{"import", list, "--as", "ours=nobody"}, {"import", list, "--as", "theirs=openai"}, {"import", list, "--as", "openai"}, {"import"}, {"set"}, {"import", "/does/not/exist"}, {"import", list, "--builtin"}, {"set", "--provider", "ours", "--currency", "EUR", "--input", "x"}} {
		if out, err := g.command(nil, append([]string{"prices"}, args...)...); err == nil {
			t.Errorf("logos prices %v works:\n%s", args, out)
		}
	}
}
