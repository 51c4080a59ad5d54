package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// withPlaces adds what policies name: two models at two providers, and two projects.
func (g *gateway) withPlaces() client {
	g.t.Helper()
	g.setup()
	root, places := g.as(g.root), rich()
	delete(places, "policies")
	root.must("POST", apply, object{"configuration": places})
	return root
}

// full is a policy with a value in each field, as it is sent.
func full() object {
	return object{
		"name": "full", "level": "project", "project": "course", "on_request": true, "when": `request.stream && caller.team == "red"`,
		"constraints": object{
			"max_privacy_zone": "eu_us",
			"allow": object{
				"models": object{"names": []any{"tiny", "gpt"}}, "providers": object{"names": []any{}},
				"deployments": object{"deployments": []any{object{"provider": "azure", "model": "gpt", "name": "west"}, object{"provider": "own", "model": "tiny", "name": ""}}},
			},
			"deny":         object{"models": []any{"tiny"}, "providers": []any{"custom"}, "deployments": []any{object{"provider": "azure", "model": "gpt", "name": "east"}}},
			"labels":       []any{object{"label": "tier", "operator": "in", "values": []any{"gold"}}, object{"label": "old", "operator": "not_exists", "values": []any{}}},
			"capabilities": []any{"tools"}, "require_used": true, "min_quality": 0.5, "min_accuracy": 0.25,
			"min_task_quality": object{"code": 0.75}, "min_task_accuracy": object{"law": 1.0},
			"max_cost": []any{object{"amount": "0.05", "currency": "EUR"}}, "deny_unpriced": true, "max_time_to_first_token": "1.500s",
		},
		"rules": []any{object{"name": "by-night", "kind": "preference", "when": "request.tools", "require": "candidate.load < 0.5"}, object{"name": "access", "kind": "", "when": "", "require": "true"}},
		"relax": []any{"max_cost", "rule:by-night"},
		"objective": object{
			"cost": 1.0, "latency": 2.0, "quality": 3.0, "load": 4.0, "cost_scale": object{"amount": "0.02", "currency": "EUR"}, "latency_scale": "2s",
			"session_bonus": 0.5, "prefix_bonus": 0.25, "hysteresis": 0.125, "tolerance": 0.0625, "exploration": 0.05,
			"canaries": []any{object{"targets": object{"models": []any{"gpt"}, "providers": []any{}, "deployments": []any{}}, "percent": 2.5}},
		},
		"attempts":   object{"max": 2.0, "on": []any{"reset", "silent"}, "total_time": "60s", "first_token": "10s"},
		"scheduling": object{"priority": -3.0, "max_queue_time": "2s", "deadline": "3600s"},
		"labels":     object{"a": "b"},
	}
}

// given are the fields of an answer that a request had.
func given(answer, request object) object {
	out := object{}
	for name := range request {
		out[name] = answer[name]
	}
	return out
}

func TestAPolicyIsShownAsItWasSent(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	root := g.withPlaces()
	want := decode[object](t, encode(t, full()))
	made := root.make("policies", full())
	if diff := cmp.Diff(want, given(made, want)); diff != "" {
		t.Errorf("the answer to the creation differs (-sent +shown):\n%s", diff)
	}
	if diff := cmp.Diff(made, root.get("policies", made)); diff != "" {
		t.Errorf("it is read otherwise (-made +read):\n%s", diff)
	}
	renamed := root.patch("policies", made, object{"name": "renamed"})
	want["name"] = "renamed"
	if diff := cmp.Diff(want, given(renamed, want)); diff != "" {
		t.Errorf("a change of the name changes more (-want +shown):\n%s", diff)
	}
	// What is named may be called otherwise meanwhile.
	model := root.list("models", `?filter=name="tiny"`)[0]
	root.patch("models", model, object{"name": "small"})
	text := encode(t, root.get("policies", made))
	if strings.Contains(text, "tiny") || strings.Count(text, `"small"`) != 3 {
		t.Errorf("after a model was renamed, the policy is %s", text)
	}
	if least := root.make("policies", object{"name": "least", "level": "installation"}); least["constraints"] != nil || least["objective"] != nil {
		t.Errorf("a policy that says nothing is shown as %v", least)
	}
}

func TestAMaskChangesAPartOfAPolicy(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	root := g.withPlaces()
	made := root.make("policies", full())
	want := decode[object](t, encode(t, full()))
	constraints := want["constraints"].(object)
	constraints["max_cost"] = []any{object{"amount": "1", "currency": "USD"}}
	constraints["allow"].(object)["models"] = nil
	want["scheduling"].(object)["deadline"] = nil
	changed := root.must("PATCH", at("policies", made)+"?update_mask=constraints.max_cost,constraints.allow.models,scheduling.deadline", object{
		"constraints": object{"max_cost": []any{object{"amount": "1.0", "currency": "USD"}}}})
	if diff := cmp.Diff(want, given(changed, want)); diff != "" {
		t.Errorf("it is changed to (-want +got):\n%s", diff)
	}
	for _, mask := range []string{"constraints.max_watts", "constraints.allow.models.names.x", "rules.name", "constraints.min_task_quality.code", "when.x"} {
		status, answer := root.do("PATCH", at("policies", made)+"?update_mask="+mask, object{"constraints": object{}})
		refused(t, "the mask "+mask, status, answer, 400, "", "update_mask")
	}
}

func TestWhatIsWrongInAPolicyIsSaid(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	root := g.withPlaces()
	for what, c := range map[string]struct {
		change object
		field  string
		says   string
	}{
		"a condition that is no CEL":      {object{"when": "request.stream &&"}, "policy.when", "line 1, column"},
		"a condition of another type":     {object{"when": "request.input_tokens"}, "policy.when", "line 1, column"},
		"a variable that there is not":    {object{"when": "request.stream &&\n  request.lenght == 'long'"}, "policy.when", "line 2, column 3: there is no request.lenght: there are request.api"},
		"a candidate in a condition":      {object{"when": "candidate.priced"}, "policy.when", "line 1, column 1"},
		"a rule that does not compile":    {object{"rules": []any{object{"name": "a", "require": "true"}, object{"name": "b", "require": "candidate.cost < 'x'"}}}, "policy.rules[1].require", "line 1, column"},
		"a rule of the same name":         {object{"rules": []any{object{"name": "a", "require": "true"}, object{"name": "a", "require": "true"}}}, "policy.rules[1].name", "too"},
		"privacy that is relaxed":         {object{"relax": []any{"privacy_zone"}}, "policy.relax[0]", "never relaxed"},
		"a constraint that it has not":    {object{"relax": []any{"max_cost"}}, "policy.relax[0]", "has no constraint"},
		"a rule on access that is":        {object{"rules": []any{object{"name": "a", "require": "true"}}, "relax": []any{"rule:a"}}, "policy.relax[0]", "never relaxed"},
		"an operator without values":      {object{"constraints": object{"labels": []any{object{"label": "a", "operator": "in"}}}}, "policy.constraints.labels[0]", "needs values"},
		"an unknown operator":             {object{"constraints": object{"labels": []any{object{"label": "a", "operator": "like"}}}}, "policy.constraints.labels[0].operator", "in list"},
		"an unknown zone":                 {object{"constraints": object{"max_privacy_zone": "moon"}}, "policy.constraints.max_privacy_zone", "in list"},
		"two limits in one currency":      {object{"constraints": object{"max_cost": []any{object{"amount": "1", "currency": "EUR"}, object{"amount": "2", "currency": "EUR"}}}}, "policy.constraints.max_cost[1]", "EUR already"},
		"an amount that is none":          {object{"constraints": object{"max_cost": []any{object{"amount": "1,5", "currency": "EUR"}}}}, "policy.constraints.max_cost[0].amount", "decimal number"},
		"canaries above all calls":        {object{"objective": object{"canaries": []any{object{"percent": 60}, object{"percent": 60}}}}, "policy.objective.canaries", "at most 100"},
		"too much exploration":            {object{"objective": object{"exploration": 0.5}}, "policy.objective.exploration", "0.1"},
		"a negative weight":               {object{"objective": object{"cost": -1}}, "policy.objective.cost", "0"},
		"a model that there is not":       {object{"constraints": object{"allow": object{"models": object{"names": []any{"gpt", "none"}}}}}, "policy.constraints.allow.models.names[1]", "no such"},
		"a provider that there is not":    {object{"constraints": object{"deny": object{"providers": []any{"none"}}}}, "policy.constraints.deny.providers[0]", "no such"},
		"a deployment that there is not":  {object{"constraints": object{"deny": object{"deployments": []any{object{"provider": "azure", "model": "gpt", "name": "south"}}}}}, "policy.constraints.deny.deployments[0]", "no such"},
		"a canary that there is not":      {object{"objective": object{"canaries": []any{object{"targets": object{"models": []any{"none"}}, "percent": 1}}}}, "policy.objective.canaries[0].targets.models[0]", "no such"},
		"no level":                        {object{"level": ""}, "policy.level", "installation, team"},
		"an owner of another level":       {object{"level": "team", "team": "red", "project": "course"}, "policy.project", "has none"},
		"an owner of the installation":    {object{"project": "course"}, "policy.project", "has none"},
		"a project's without a project":   {object{"level": "project"}, "policy.project", "must be given"},
		"a profile's without a project":   {object{"level": "access_profile", "access_profile": "default"}, "policy.project", "must be given"},
		"a profile's without a profile":   {object{"level": "access_profile", "project": "course"}, "policy.access_profile", "must be given"},
		"a key's of another project":      {object{"level": "api_key", "project": "lab", "api_key": "app"}, "policy.api_key", "no such"},
		"a name with a character for no-": {object{"name": "a\tb"}, "policy.name", "control characters"},
	} {
		request := object{"name": "x", "level": "installation"}
		for name, v := range c.change {
			request[name] = v
		}
		status, answer := root.do("POST", "/admin/v1/policies", request)
		refused(t, what, status, answer, 400, "", c.field)
		if said := fieldsIn(answer)[c.field]; !strings.Contains(said, c.says) {
			t.Errorf("%s: of %s it says %q, want %q in it", what, c.field, said, c.says)
		}
	}
	if got := root.list("policies", ""); len(got) != 0 {
		t.Errorf("there are policies: %v", got)
	}
}

func TestAPolicyStaysItsOwners(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	root := g.withPlaces()
	key := root.list("apiKeys", `?filter=name="app"`)[0]
	for _, c := range []struct {
		made, moved object
		field       string
	}{
		{object{"level": "team", "team": "red"}, object{"team": "blue"}, "policy.team"},
		{object{"level": "project", "project": "course"}, object{"project": "lab"}, "policy.project"},
		{object{"level": "access_profile", "project": "course", "access_profile": "default"}, object{"project": "lab", "access_profile": "default"}, "policy.access_profile"},
		{object{"level": "api_key", "api_key_id": key["id"]}, object{"api_key": "ann"}, "policy.api_key"},
		{object{"level": "installation"}, object{"level": "team", "team": "red"}, "policy.level"},
	} {
		c.made["name"] = "x"
		made := root.make("policies", c.made)
		status, answer := root.do("PATCH", at("policies", made), c.moved)
		refused(t, encode(t, c.moved), status, answer, 400, "", c.field)
		status, answer = root.do("POST", "/admin/v1/policies", c.made)
		refused(t, "another of the same name", status, answer, 409, "EXISTS", "")
		if again := root.patch("policies", made, object{"labels": object{"a": "b"}}); again["level"] != c.made["level"] {
			t.Errorf("it is changed to %v", again)
		}
	}
	if got := len(root.list("policies", `?filter=project="course"`)); got != 3 {
		t.Errorf("%d policies are of the project or of something of it", got)
	}
}

func TestVersionsOfAPolicyShowWhatItSaid(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	root := g.withPlaces()
	made := root.make("policies", object{"name": "one", "level": "installation", "constraints": object{"deny": object{"models": []any{"tiny"}}}})
	other := root.make("policies", object{"name": "other", "level": "installation"})
	changed := root.patch("policies", made, object{"when": "request.stream", "constraints": object{}})
	gone := root.remove("policies", made)
	got := root.must("GET", at("policies", made)+"/versions", nil)["versions"].([]any)
	type version struct {
		revision, when any
		deleted        bool
	}
	var have []version
	for _, v := range got {
		p := v.(object)["policy"].(object)
		if v.(object)["time"] != p["update_time"] {
			t.Errorf("the time of %v is not that of its policy", v)
		}
		have = append(have, version{v.(object)["revision"], p["when"], p["delete_time"] != nil})
	}
	want := []version{{gone["etag"], "request.stream", true}, {changed["etag"], "request.stream", false}, {made["etag"], "", false}}
	if diff := cmp.Diff(want, have, cmp.AllowUnexported(version{})); diff != "" {
		t.Errorf("the versions are (-want +got):\n%s", diff)
	}
	if deny := got[2].(object)["policy"].(object)["constraints"].(object)["deny"].(object)["models"]; !cmp.Equal(deny, []any{"tiny"}) {
		t.Errorf("the first one denied %v", deny)
	}
	page := root.must("GET", at("policies", made)+"/versions?page_size=2", nil)
	next := root.must("GET", at("policies", made)+"/versions?page_size=2&page_token="+page["next_page_token"].(string), nil)
	if len(page["versions"].([]any)) != 2 || len(next["versions"].([]any)) != 1 || next["next_page_token"] != "" {
		t.Errorf("the pages are %v and %v", page, next)
	}
	if got := root.must("GET", at("policies", other)+"/versions", nil)["versions"].([]any); len(got) != 1 {
		t.Errorf("the other one has %d versions", len(got))
	}
	status, answer := root.do("GET", "/admin/v1/policies/999/versions", nil)
	refused(t, "versions of nothing", status, answer, 404, "NOT_FOUND", "")
}

func TestAnOwnerHasABoundedNumberOfStandingPolicies(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	a := g.as(g.root)
	a.make("teams", object{"name": "red"})
	a.make("teams", object{"name": "blue"})
	policy := func(n int, team string, onRequest bool) object {
		return object{"name": fmt.Sprint("p", n), "level": "team", "team": team, "on_request": onRequest}
	}
	for n := range 100 {
		a.make("policies", policy(n, "red", false))
	}
	status, answer := a.do("POST", "/admin/v1/policies", policy(100, "red", false))
	refused(t, "one more", status, answer, 409, "TOO_MANY_POLICIES", "")
	named := a.make("policies", policy(100, "red", true))
	a.make("policies", policy(100, "blue", false))
	status, answer = a.do("PATCH", at("policies", named), object{"on_request": false})
	refused(t, "one that need not be named any more", status, answer, 409, "TOO_MANY_POLICIES", "")
}

func TestAPolicyOfANewerGatewayIsNotChanged(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	root := g.withPlaces()
	made := root.make("policies", object{"name": "one", "level": "installation", "when": "request.stream"})
	if _, err := g.conn().Exec(t.Context(), `update policies set spec = spec || '{"curfew": {"from": "22:00"}, "constraints": {"allow": {"models": 7}, "deny": []}, "objective": {"canaries": 5}}'`); err != nil {
		t.Fatal(err)
	}
	status, answer := root.do("PATCH", at("policies", made), object{"labels": object{"a": "b"}})
	refused(t, "a change of what is not understood", status, answer, 409, "NEWER_POLICY", "")
	root.remove("policies", made)
}

func TestVariablesOfPoliciesAreListed(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	got := make(map[string]object)
	for _, v := range g.as(g.root).must("GET", "/admin/v1/policies:variables", nil)["variables"].([]any) {
		got[v.(object)["name"].(string)] = v.(object)
	}
	want := object{"name": "candidate.zone", "type": "string", "description": "local, eu_eu, eu_us or anywhere, which is also what is not known"}
	if diff := cmp.Diff(want, got["candidate.zone"]); diff != "" || len(got) < 30 {
		t.Errorf("there are %d, and one is (-want +got):\n%s", len(got), diff)
	}
}

func TestImportsTheOriginalSystemsPolicies(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	root := g.withPlaces()
	answer := root.must("POST", "/admin/v1/policies:importThresholds", object{"project": "course", "policies": []object{
		{"name": "law", "threshold_privacy": "CLOUD_IN_EU_BY_US_PROVIDER", "threshold_latency": 2, "threshold_quality": -1, "priority": 7, "topic": "law"},
		{"name": "private"},
	}})
	got := answer["policies"].([]any)
	first := got[0].(object)
	want := object{
		"name": "law", "level": "project", "project": "course", "on_request": true, "labels": object{"topic": "law"},
		"rules": []any{
			object{"name": "latency", "kind": "preference", "when": "", "require": `int(candidate.labels["weight_latency"]) >= 2`},
			object{"name": "quality", "kind": "preference", "when": "", "require": `int(candidate.labels["weight_quality"]) >= -1`},
		},
	}
	if diff := cmp.Diff(want, given(first, want)); diff != "" || len(got) != 2 {
		t.Errorf("the first one is (-want +got):\n%s", diff)
	}
	if first["constraints"].(object)["max_privacy_zone"] != "eu_us" || first["scheduling"].(object)["priority"] != 7.0 || got[1].(object)["constraints"].(object)["max_privacy_zone"] != "local" {
		t.Errorf("they are %v", got)
	}
	status, refusal := root.do("POST", "/admin/v1/policies:importThresholds", object{"project": "course", "policies": []object{{"name": "new"}, {"name": "law"}}})
	refused(t, "an import of a name that is there", status, refusal, 409, "EXISTS", "policies[1]")
	if got := len(root.list("policies", "")); got != 2 {
		t.Errorf("there are %d policies", got)
	}
	status, refusal = root.do("POST", "/admin/v1/policies:importThresholds", object{"project": "none", "policies": []object{{"name": "new"}}})
	refused(t, "an import for no project", status, refusal, 400, "", "project")
}

func TestAListThatEmptiesAllowsNothing(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	root := g.withPlaces()
	made := root.make("policies", object{"name": "one", "level": "installation", "constraints": object{
		"allow": object{"deployments": object{"deployments": []any{object{"provider": "own", "model": "tiny"}}}}}})
	denies := root.make("policies", object{"name": "two", "level": "installation", "constraints": object{
		"deny": object{"deployments": []any{object{"provider": "own", "model": "tiny"}}}}})
	deployment := root.list("deployments", `?filter=provider="own"`)[0]
	status, answer := root.do("DELETE", at("deployments", deployment), nil)
	refused(t, "deleting what is denied", status, answer, 409, "IN_USE", "")
	status, answer = root.do("DELETE", at("providers", deployment["provider_id"]), nil)
	refused(t, "deleting the provider of what is denied", status, answer, 409, "IN_USE", "")
	root.patch("policies", denies, object{"constraints": object{}})
	root.remove("deployments", deployment)
	for what, p := range map[string]object{"read": root.get("policies", made), "changed": root.patch("policies", made, object{"labels": object{"a": "b"}})} {
		if got := p["constraints"].(object)["allow"]; !cmp.Equal(got, object{"models": nil, "providers": nil, "deployments": object{"deployments": []any{}}}) {
			t.Errorf("%s, it allows %v", what, got)
		}
	}
	config, err := g.store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if allow := config.Policies()[0].Constraints.Allow; allow.Deployments == nil || len(allow.Deployments) != 0 || allow.Models != nil {
		t.Errorf("what is in force allows %+v", allow)
	}
}
