package policy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy/signals"
)

// parts are true, false or fail, and depend on all that an expression can speak of.
var parts = []string{
	"true", "false", "1 / 0 == 1", "request.stream", "request.tools", "request.input_tokens > 100", `caller.labels["none"] == "x"`,
	"candidate.quality >= 0.5", "candidate.accuracy < 0.5", "candidate.context_window > request.input_tokens * 3", `"tools" in candidate.capabilities`,
	`candidate.labels.exists(k, k == "tier" && candidate.labels[k] == request.length)`, "candidate.cost < 0.25", "candidate.load <= 0.5",
	`candidate.time_to_first_token > duration("1s")`, "candidate.load > candidate.quality", "candidate.priced", "candidate.cost >= 0.1 + 0.1",
	`request.api == "chat"`, `request.length != "short"`, `"law" in request.keywords`, `"tutor" in request.tags`, `request.max_tokens <= 5`, "request.max_tokens > 5.5",
	`caller.team == ""`, "caller.has_end_user", `"short" == request.length`, `request.language < "e"`,
	"candidate.profile_id < 5", `request.language.matches("^d")`, "candidate.context_window >= 9223372036854775807 + request.input_tokens",
}

func expressionOf(r *rand.Rand, depth int) string {
	if depth == 0 || r.IntN(4) == 0 {
		return parts[r.IntN(len(parts))]
	}
	next := func() string { return "(" + expressionOf(r, depth-1) + ")" }
	switch r.IntN(4) {
	case 0:
		return next() + " && " + next()
	case 1:
		return next() + " || " + next()
	case 2:
		return "!" + next()
	}
	return next() + " ? " + next() + " : " + next()
}

func TestAnExpressionInPartsMeansWhatItMeansAsAWhole(t *testing.T) {
	t.Parallel()
	env, err := newEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	targets := subjects()
	c := newCatalog(targets, nil)
	random := rand.New(rand.NewPCG(1, 2))
	seen := make(map[truth]int)
	for range 1500 {
		text := expressionOf(random, 3)
		x, found := env.compile(text, scopeCall|scopeStatic|scopeLive)
		if len(found) > 0 && strings.Contains(found[0].Message, "too long") {
			continue
		} else if len(found) > 0 {
			t.Fatalf("%s: %v", text, found)
		}
		checked, _ := env.cel.Compile(text)
		whole, err := env.cel.Program(checked)
		if err != nil {
			t.Fatal(err)
		}
		v := evaluation{index: env.index, request: &Request{
			API: []logos.API{logos.APIChat, logos.APIMessages}[random.IntN(2)], Stream: random.IntN(2) == 0, InputTokens: int64(random.IntN(900)), MaxTokens: int64(random.IntN(10)),
			Signals: signals.Signals{Language: "de", Keywords: [][]string{nil, {"x", "law"}}[random.IntN(2)], Tags: [][]string{{"tutor"}, {"x"}}[random.IntN(2)]},
		}, caller: &Caller{HasEndUser: random.IntN(2) == 0, TeamName: []string{"", "a"}[random.IntN(2)]}}
		v.grow(len(x.atoms))
		v.static = make([][]truth, len(x.atoms))
		v.fix(x, 0, c)
		v.prepare(x, 0)
		for i, f := range c.facts {
			v.facts, v.live = f, measured(targets[i], random)
			got, want := v.evaluate(x, x.root, 0, i), asAWhole(whole, &v)
			if got != want {
				t.Fatalf("in parts, %s is %d for deployment %d, as a whole %d", text, got, i, want)
			}
			seen[got]++
		}
		v.close()
	}
	if seen[isTrue] < 100 || seen[isFalse] < 100 || seen[failed] < 100 {
		t.Errorf("the expressions were %v: too few of some outcome to mean anything", seen)
	}
}

func subjects() (out []*logos.Target) {
	half, much := 0.5, 0.9
	for i, m := range []*logos.Model{
		{}, {Quality: &half, ContextWindow: 400}, {Quality: &much, Accuracy: &half, Capabilities: []string{"tools"}, ContextWindow: 1 << 40, Labels: map[string]string{"tier": "short"}},
	} {
		out = append(out, &logos.Target{Model: m, Provider: &logos.Provider{}, Deployment: &logos.Deployment{ID: logos.DeploymentID(i + 1)}})
	}
	return out
}

func measured(t *logos.Target, r *rand.Rand) *candidate {
	c := &candidate{Candidate: logos.Candidate{Target: t, Deployment: t.Deployment}, profile: &logos.Access{Profile: &logos.Profile{ID: logos.ProfileID(r.IntN(9))}}}
	c.state.Load = float64(r.IntN(3)) / 2
	c.state.FirstTokenP95 = time.Duration(r.IntN(3)) * time.Second
	if r.IntN(2) == 0 {
		c.state.Rates, _ = NewRates("EUR", decimal.Zero, decimal.Zero, decimal.Zero)
		c.cost = int64(r.IntN(4)) * 1e11
	}
	return c
}

func asAWhole(p cel.Program, v *evaluation) truth {
	return v.run(&atom{program: p, tracked: true})
}

func TestRefusesExpressionsInWords(t *testing.T) {
	t.Parallel()
	env, err := newEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{"candidate.cost < ", "line 1, column"},
		{"candidate.price < 1.0", "line 1, column 1: there is no candidate.price: there are candidate.deployment_id"},
		{"true &&\n  model == 'x'", "line 2, column 3: there is no model: there are request.…, caller.…, candidate.…"},
		{"candidate.cost", "this is of type double: it must be true or false"},
		{"candidate.zone < 2", "found no matching overload"},
		{`request.model.matches("(")`, "line 1, column 23: invalid matches argument"},
		{"request.keywords.all(a, request.keywords.all(b, request.keywords.all(c, a == b && b == c)))", "comprehension exceeds nesting limit"},
		{"request.keywords.all(a, request.tags.all(b, a.contains(b)))", "this can take too long"},
		{strings.Repeat("true || ", 1000) + "true", "expression code point size exceeds limit"},
	} {
		_, found := env.compile(c.text, scopeCall|scopeStatic|scopeLive)
		if len(found) == 0 || !strings.Contains(Problem{Line: found[0].Line, Column: found[0].Column, Message: found[0].Message}.String(), c.want) {
			t.Errorf("%.60s: the problems are %q, want %q", c.text, found, c.want)
		}
	}
	_, found := env.compile("request.tools &&\n candidate.priced", scopeCall)
	if len(found) != 1 || found[0].Line != 2 || found[0].Column != 2 || !strings.HasPrefix(found[0].Message, "candidate.priced can't be used here") {
		t.Errorf("a condition over the candidate has the problems %q", found)
	}
}

func TestEveryVariableHasTheTypeItDeclares(t *testing.T) {
	t.Parallel()
	env, err := newEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	v := evaluation{index: env.index, request: &Request{}, caller: &Caller{}}
	target := subjects()[2]
	v.facts, v.live = newFacts(target), measured(target, rand.New(rand.NewPCG(1, 1)))
	v.live.state.FirstTokenP95 = time.Second
	v.live.state.Rates, _ = NewRates("EUR", decimal.Zero, decimal.Zero, decimal.Zero)
	for _, x := range Variables() {
		value, ok := v.ResolveName(x.Name)
		if !ok {
			t.Errorf("%s has no value", x.Name)
			continue
		}
		if got := env.cel.CELTypeAdapter().NativeToValue(value).Type().TypeName(); got != x.typ.TypeName() || !strings.HasSuffix(strings.ToLower(x.typ.String()), x.Type) {
			t.Errorf("%s is a %s, and its type is %s, or %s", x.Name, got, x.Type, x.typ)
		}
	}
}

func FuzzCompilesOrRefuses(f *testing.F) {
	for _, text := range parts {
		f.Add(text)
	}
	env, err := newEnvironment()
	if err != nil {
		f.Fatal(err)
	}
	c := newCatalog(subjects(), nil)
	f.Fuzz(func(t *testing.T, text string) {
		x, found := env.compile(text, scopeCall|scopeStatic|scopeLive)
		if (x == nil) == (len(found) == 0) {
			t.Fatalf("%q compiles to %v with the problems %q", text, x, found)
		}
		if x == nil {
			return
		}
		v := evaluation{index: env.index, request: &Request{}, caller: &Caller{}, static: make([][]truth, len(x.atoms))}
		v.grow(len(x.atoms))
		v.fix(x, 0, c)
		v.prepare(x, 0)
		v.facts, v.live = c.facts[0], measured(subjects()[0], rand.New(rand.NewPCG(1, 1)))
		start := time.Now()
		if got := v.evaluate(x, x.root, 0, 0); got > failed || time.Since(start) > time.Second {
			t.Fatal(fmt.Sprint(got, " after ", time.Since(start)))
		}
		v.close()
	})
}
