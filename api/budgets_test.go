package api_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestABudgetIsShownAsItWasMade(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	example(g)
	selector := object{
		"teams": []any{"x"}, "projects": []any{"x"}, "models": []any{"x"}, "providers": []any{"x"}, "end_users": []any{"0123456789abcdef0123456789abcdef"},
		"api_keys": []any{object{"project": "x", "api_key": "x"}}, "access_profiles": []any{object{"project": "x", "access_profile": "x"}}, "labels": object{"tier": "gold"},
	}
	made := root.make("budgets", object{
		"name": "all of it", "selector": selector, "each": "end_user", "unit": "money", "currency": "EUR", "amount": "0012.50", "window": "month",
		"time_zone": "Europe/Berlin", "clamp_max_tokens": true, "thresholds": []any{50, 90}, "webhook_url": "https://hooks.example/x",
	})
	if diff := cmp.Diff(selector, object(made["selector"].(map[string]any))); diff != "" {
		t.Errorf("the selector differs (-given +shown):\n%s", diff)
	}
	if made["amount"] != "12.5" || made["soft"] != false || made["time_zone"] != "Europe/Berlin" {
		t.Errorf("shown is %v", made)
	}
	changed := root.patch("budgets", made, object{"amount": "13"})
	if diff := cmp.Diff(made["selector"], changed["selector"]); diff != "" || changed["amount"] != "13" {
		t.Errorf("a change of the amount changes the selector (-before +after):\n%s", diff)
	}
	counters := decode[object](t, encode(t, root.must("GET", at("budgets", made)+"/counters", nil)))
	if list, _ := counters["counters"].([]any); len(list) != 0 {
		t.Errorf("before any call there are the counters %v", list)
	}
}

// TestAWebhookIsShownToThoseWhoMayChangeIt alone: such URLs hold secrets.
func TestAWebhookIsShownToThoseWhoMayChangeIt(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	root.make("teams", object{"name": "A"})
	root.make("projects", object{"name": "a", "team": "A"})
	const hook = "https://hooks.example/secret"
	theirs := root.make("budgets", object{"name": "the team's", "team": "A", "unit": "requests", "amount": "1", "webhook_url": hook})
	above := root.make("budgets", object{"name": "of the team", "selector": object{"teams": []any{"A"}}, "unit": "requests", "amount": "1", "webhook_url": hook})
	for role, sees := range map[string][2]bool{"team_owner": {true, false}, "member": {false, false}, "viewer": {false, false}} {
		root.make("members", object{"email": role + "@example.org", "role": role, "team": "A"})
		c := g.as(root.make("apiKeys", object{"project": "a", "member": role + "@example.org"})["secret"].(string))
		listed := make(map[any]any)
		for _, b := range c.list("budgets", "") {
			listed[b["id"]] = b["webhook_url"]
		}
		for i, b := range []object{theirs, above} {
			got := c.get("budgets", b)["webhook_url"]
			if want := map[bool]string{true: hook}[sees[i]]; got != want || listed[b["id"]] != want {
				t.Errorf("to a %s %v of %v is shown, and %v in the list", role, got, b["name"], listed[b["id"]])
			}
		}
	}
	if got := root.get("budgets", above)["webhook_url"]; got != hook {
		t.Errorf("to root it is %v", got)
	}
}

func TestABudgetThatCanNotHoldIsRefused(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	made := example(g)["budgets"]
	for field, change := range map[string]object{
		"budget.currency":                     {"unit": "money"},
		"budget.amount":                       {"amount": "1.5"},
		"budget.window":                       {"unit": "parallel", "window": "day"},
		"budget.time_zone":                    {"time_zone": "Mars/Olympus"},
		"budget.clamp_max_tokens":             {"clamp_max_tokens": true},
		"budget.thresholds":                   {"thresholds": []any{90, 50}},
		"budget.webhook_url":                  {"webhook_url": "ftp://x.example"},
		"budget.selector.projects[1]":         {"selector": object{"projects": []any{"default", "nobody's"}}},
		"budget.selector.teams":               {"team": "x", "selector": object{"teams": []any{"x"}}},
		"budget.selector.api_keys[0].api_key": {"selector": object{"api_keys": []any{object{"project": "x", "api_key": "none"}}}},
	} {
		body := object{"name": "new", "unit": "requests", "amount": "1"}
		for k, v := range change {
			body[k] = v
		}
		status, answer := root.do("POST", "/admin/v1/budgets", body)
		refused(t, field, status, answer, 400, "", field)
	}
	for _, field := range []string{"unit", "team"} {
		status, answer := root.do("PATCH", at("budgets", made), object{field: map[string]any{"unit": "tokens", "team": "x"}[field]})
		refused(t, "a change of "+field, status, answer, 400, "", "budget."+field)
	}
}

// TestADeletionWidensNoBudget: an empty list counts everything, so the last of one can't go; others do.
func TestADeletionWidensNoBudget(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	all := example(g)
	second := root.make("models", object{"name": "second"})
	b := root.make("budgets", object{"name": "two models", "unit": "requests", "amount": "1", "selector": object{"models": []any{"x", "second"}}})
	root.remove("models", second)
	if got := root.get("budgets", b)["selector"].(map[string]any)["models"]; len(got.([]any)) != 1 {
		t.Errorf("the budget counts %v", got)
	}
	for list, x := range map[string]struct {
		collection string
		named      any
	}{
		"models": {"models", "x"}, "providers": {"providers", "x"}, "projects": {"projects", "x"}, "teams": {"teams", "x"},
		"api_keys": {"apiKeys", object{"project": "x", "api_key": "x"}}, "access_profiles": {"accessProfiles", object{"project": "x", "access_profile": "x"}},
	} {
		b := root.make("budgets", object{"name": list, "unit": "requests", "amount": "1", "selector": object{list: []any{x.named}}})
		status, answer := root.do("DELETE", at(x.collection, all[x.collection]), nil)
		if status != 409 {
			t.Errorf("of %s the only one that a budget counts is deleted: %d %v", list, status, answer)
		}
		root.remove("budgets", b)
	}
	// What a project takes with it counts too.
	root.make("budgets", object{"name": "key", "unit": "requests", "amount": "1", "selector": object{"api_keys": []any{object{"project": "x", "api_key": "x"}}}})
	if status, answer := root.do("DELETE", at("projects", all["projects"]), nil); status != 409 || !strings.Contains(encode(t, answer), "budget") {
		t.Errorf("with its project the only key goes: %d %v", status, answer)
	}
}

func TestBudgetsAreDeclared(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	example(g)
	root.make("budgets", object{"name": "of a key", "unit": "money", "currency": "EUR", "amount": "5", "window": "day", "thresholds": []any{80},
		"selector": object{"api_keys": []any{object{"project": "x", "api_key": "x"}}}})
	root.make("budgets", object{"name": "a team's", "team": "x", "unit": "parallel", "amount": "5", "soft": true})
	exported := root.must("GET", "/admin/v1/configuration", nil)
	list, _ := exported["configuration"].(map[string]any)
	if list == nil {
		list = exported
	}
	answer := root.must("POST", "/admin/v1/configuration:apply", object{"configuration": object{"budgets": list["budgets"]}})
	if changes, _ := answer["changes"].([]any); len(changes) != 0 || len(list["budgets"].([]any)) != 3 {
		t.Errorf("what was exported changes %v", answer["changes"])
	}
	declared := object{"name": "new", "unit": "tokens", "amount": "1000", "each": "member"}
	for i, want := range []int{1, 0} {
		answer := root.must("POST", "/admin/v1/configuration:apply", object{"configuration": object{"budgets": []any{declared}}})
		if changes, _ := answer["changes"].([]any); len(changes) != want {
			t.Errorf("application %d changes %v", i, changes)
		}
	}
}
