package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
)

const apply = "/admin/v1/configuration:apply"

// rich is an installation with something of everything, in every way in which it can be written.
func rich() object {
	return object{
		"settings": object{"egress_hosts": []string{"llm.internal"}, "call_retention_days": 90, "audit_retention_days": 0, "unknown_line_retention_days": 7, "claim_lifetime": "3600s",
			"task_matchers": []object{{"name": "law", "keywords": []string{"Court", "plaintiff"}}, {"name": "tutor", "system": true, "patterns": []string{"(?i)tutor"}}}},
		"teams":    []object{{"name": "red", "member_key_limit": 0, "member_key_max_age": "86400s", "labels": object{"a": "b"}}, {"name": "blue"}},
		"projects": []object{{"name": "course", "team": "red"}, {"name": "lab", "labels": object{"x": "y"}}},
		"members":  []object{{"email": "Ann@example.org", "name": "Ann", "team": "red", "role": "team_owner"}, {"email": "bob@example.org", "role": "admin"}},
		"providers": []object{
			{"name": "openai", "base_url": "https://api.openai.com/v1"}, {"name": "azure", "base_url": "https://x.openai.azure.com", "privacy_zone": "eu_us"},
			{"name": "own", "base_url": "HTTP://llm.internal:8000/v1", "auth_header": "none"}, {"name": "custom", "base_url": "https://c.example", "dialect": "openai-compatible", "auth_header": "X-Key", "auth_format": "Key {}"},
		},
		"credentials": []object{{"provider": "openai", "name": "main", "secret": "sk-1"}, {"provider": "azure", "name": "main", "secret": "sk-2"}, {"provider": "own", "name": "none"}},
		"models": []object{
			{"name": "gpt", "capabilities": []string{"vision", "tools"}, "context_window": 128000, "max_output_tokens": 16384, "quality": 0.75, "task_quality": object{"law": 0.5, "code": 1}, "task_accuracy": object{"law": 0}}, {"name": "tiny", "endpoint": "chat/completions", "quality": 0},
		},
		"deployments": []object{
			{"model": "gpt", "provider": "openai", "credential": "main", "provider_model": "gpt-x"}, {"model": "gpt", "provider": "azure", "name": "west", "apis": []string{"responses", "chat"}, "include_usage": false, "max_parallel": 4},
			{"model": "gpt", "provider": "azure", "name": "east", "service_tier": "flex", "drained": true}, {"model": "tiny", "provider": "own"},
		},
		"access_profiles": []object{
			{"name": "default", "project": "course", "models": []string{"tiny", "gpt"}, "grants": []object{{"provider": "openai", "credential": "main"}, {"provider": "azure"}, {"provider": "own", "credential": "none"}}},
			{"name": "default", "project": "lab", "passthrough": true, "grants": []object{{"provider": "own", "credential": "none"}}},
		},
		"api_keys": []object{
			{"name": "app", "project": "course", "access_profile": "default", "secret": "a-secret-brought-along-1", "scopes": object{"apis": []string{"chat"}, "models": []string{"tiny", "gpt"}, "source_cidrs": []string{"10.1.2.3", "10.0.0.1/8"}}},
			{"name": "ann", "project": "course", "member": "ANN@example.org", "secret_sha256": strings.Repeat("ab", 32), "expire_time": "2099-01-31T12:00:00.123456789Z"},
			{"name": "audit", "project": "lab", "role": "viewer", "secret": "a-secret-brought-along-2"},
		},
		"budgets": []object{
			{"name": "least", "unit": "parallel", "amount": "10", "selector": object{}},
			{"name": "most", "selector": object{"projects": []string{"lab", "course"}, "api_keys": []object{{"project": "course", "api_key": "app"}}, "access_profiles": []object{{"project": "lab", "access_profile": "default"}},
				"models": []string{"tiny"}, "providers": []string{"own", "azure"}, "labels": object{"x": "y"}}, "each": "member", "unit": "money", "currency": "EUR", "amount": "7.50", "window": "week", "time_zone": "Europe/Berlin",
				"soft": true, "thresholds": []int{50, 100}, "webhook_url": "https://hooks.example"},
			{"name": "red's", "team": "red", "unit": "tokens", "amount": "0010", "clamp_max_tokens": true},
		},
		"policies": []object{
			{"name": "least", "level": "installation", "constraints": object{}, "attempts": object{}, "scheduling": object{"deadline": "0s"}, "objective": object{}},
			{"name": "least", "level": "team", "team": "red", "constraints": object{"allow": object{"models": object{}}, "deny": object{}, "max_cost": []object{{"amount": "0.050", "currency": "EUR"}}}},
			{"name": "cheap", "level": "access_profile", "project": "course", "access_profile": "default", "objective": object{"cost": 1, "cost_scale": object{"amount": "1.0", "currency": "EUR"}, "canaries": []object{{"percent": 5}}}},
			{"name": "cheap", "level": "api_key", "project": "course", "api_key": "app", "constraints": object{"max_time_to_first_token": "1.50s"}, "rules": []object{{"name": "a", "require": "true"}}},
		},
	}
}

// withSecrets adds to an export the secrets that it lacks.
func withSecrets(exported, from object) object {
	for _, list := range []string{"credentials", "api_keys"} {
		all, _ := exported[list].([]any)
		for _, x := range all {
			x := x.(object)
			for _, y := range from[list].([]object) {
				if x["name"] == y["name"] && (x["provider"] == y["provider"] && x["project"] == y["project"]) {
					for _, name := range []string{"secret", "secret_sha256"} {
						if s, ok := y[name]; ok {
							x[name] = s
						}
					}
				}
			}
		}
	}
	return exported
}

func TestAnExportAppliedElsewhereIsTheSame(t *testing.T) {
	t.Parallel()
	a, b := newGateway(t), newGateway(t)
	a.setup()
	b.setup()
	rootA, rootB := a.as(a.root), b.as(b.root)
	// Different ids there.
	for _, x := range []string{"one", "two"} {
		for _, collection := range []string{"teams", "models"} {
			rootB.remove(collection, rootB.make(collection, object{"name": x}))
		}
	}
	first := rootA.must("POST", apply, object{"configuration": rich()})
	if len(items(first)) != 32 || first["revision"] == "0" {
		t.Errorf("the first apply makes %d changes: %v", len(items(first)), first)
	}
	exported := rootA.must("GET", "/admin/v1/configuration", nil)
	text := encode(t, exported)
	for _, not := range []string{`"secret":"s`, "sk-", "brought-along", "create_time\":\"", `"etag":"1`} {
		if strings.Contains(text, not) {
			t.Errorf("the export holds %s: %s", not, text)
		}
	}
	declared := withSecrets(decode[object](t, text), rich())
	for what, c := range map[string]struct {
		root client
		file object
	}{"what was declared": {rootA, rich()}, "the export": {rootA, declared}, "the export, without secrets": {rootA, exported}} {
		if again := c.root.must("POST", apply, object{"configuration": c.file}); len(items(again)) != 0 || again["revision"] != "0" {
			t.Errorf("applied again, %s changes %v", what, again["changes"])
		}
	}
	rootB.must("POST", apply, object{"configuration": declared})
	if again := rootB.must("POST", apply, object{"configuration": declared, "prune": true}); len(items(again)) != 0 {
		t.Errorf("applied again elsewhere, it changes %v", again["changes"])
	}
	if diff := cmp.Diff(exported, rootB.must("GET", "/admin/v1/configuration", nil)); diff != "" {
		t.Errorf("the exports differ (-here +elsewhere):\n%s", diff)
	}
	if diff := cmp.Diff(a.compiled(), b.compiled()); diff != "" {
		t.Errorf("the compiled configurations differ (-here +elsewhere):\n%s", diff)
	}
}

// compiled is what a gateway makes of its configuration, by name.
func (g *gateway) compiled() (out []string) {
	g.t.Helper()
	config, err := g.store.Load(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	model := func(id logos.ModelID) string {
		if m := config.ModelByID(id); m != nil {
			return m.Name
		}
		return ""
	}
	for _, p := range g.as(g.root).list("projects", "") {
		id := logos.ProjectID(decode[int64](g.t, p["id"].(string)))
		for _, access := range config.Profiles(id) {
			out = append(out, fmt.Sprint("profile ", p["name"], " ", access.Name, " ", access.Passthrough))
			for _, m := range access.Models {
				for i, c := range access.Candidates[m] {
					line := fmt.Sprint("model ", model(m), " ", i, " ", c.Excluded)
					if c.Target != nil {
						d := c.Target.Deployment
						line += fmt.Sprint(" ", c.Target.Provider.Name, " ", c.Target.Provider.BaseURL, " ", c.Target.Provider.AuthHeader, " ", c.Target.Provider.AuthFormat, " ", string([]byte(c.Target.Credential.Secret)), " ", d.ProviderModel, d.Endpoint, d.APIs, d.IncludeUsage, d.MaxParallel)
					}
					out = append(out, line)
				}
			}
			for _, r := range access.Routes {
				out = append(out, fmt.Sprint("route ", r.Own.Provider.Name, " ", r.Stored != nil))
			}
		}
	}
	for _, p := range config.Policies() {
		allowed := []string{}
		for _, id := range p.Constraints.Allow.Models {
			allowed = append(allowed, model(id))
		}
		out = append(out, fmt.Sprint("policy ", p.Level, " ", p.Name, p.Constraints.Allow.Models != nil, allowed, p.Constraints.MaxCost, p.Constraints.MaxFirstToken, p.Rules, p.Objective, p.Scheduling))
	}
	out = append(out, fmt.Sprint("tasks ", *config.Tasks()))
	for _, secret := range []string{"a-secret-brought-along-1", "a-secret-brought-along-2"} {
		k := config.APIKey(config.Hasher.APIKey(secret))
		if k == nil {
			g.t.Fatalf("there is no key with the secret %s", secret)
		}
		names := []string{}
		for _, m := range k.Models {
			names = append(names, model(m))
		}
		slices.Sort(names) // they are a set
		out = append(out, fmt.Sprint("key ", k.Role, k.ProfileID != 0, k.MemberID != 0, k.APIs, names, k.Sources, k.ExpiresAt))
	}
	return out
}

func TestAPlanShowsEachField(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	root.must("POST", apply, object{"configuration": rich()})
	conn := g.conn()
	before := dump(t, conn)
	next := rich()
	next["models"].([]object)[0]["quality"] = 0.8
	delete(next["models"].([]object)[0], "context_window")
	next["credentials"].([]object)[0]["secret"] = "sk-new"
	next["projects"].([]object)[0]["team"] = "blue"
	next["teams"] = append(next["teams"].([]object), object{"name": "green", "labels": object{"b": "2", "a": "1"}})
	next["access_profiles"].([]object)[0]["models"] = []string{"gpt", "tiny"}
	next["settings"].(object)["egress_hosts"] = []string{"llm.internal", "*.lab.internal"}
	next["providers"] = append(next["providers"].([]object), object{"name": "new", "base_url": "https://api.anthropic.com"})
	next["deployments"] = slices.Delete(next["deployments"].([]object), 2, 3)
	field := func(name, before, after string) any { return object{"field": name, "before": before, "after": after} }
	want := []any{
		object{"action": "update", "kind": "settings", "name": "settings", "fields": []any{field("egress_hosts", `["llm.internal"]`, `["llm.internal","*.lab.internal"]`)}},
		object{"action": "create", "kind": "team", "name": "green", "fields": []any{field("name", "", `"green"`), field("member_key_limit", "", "5"), field("member_key_max_age", "", `"31536000s"`), field("labels", "", `{"a":"1","b":"2"}`)}},
		object{"action": "update", "kind": "project", "name": "course", "fields": []any{field("team", `"red"`, `"blue"`)}},
		object{"action": "create", "kind": "provider", "name": "new", "fields": []any{field("name", "", `"new"`), field("base_url", "", `"https://api.anthropic.com"`), field("dialect", "", `"anthropic"`), field("auth_header", "", `"x-api-key"`), field("auth_format", "", `"{}"`)}},
		object{"action": "update", "kind": "credential", "name": "openai/main", "fields": []any{field("secret", "", `"***"`)}},
		object{"action": "update", "kind": "model", "name": "gpt", "fields": []any{field("context_window", `"128000"`, ""), field("quality", "0.75", "0.8")}},
		object{"action": "update", "kind": "access_profile", "name": "course/default", "fields": []any{field("models", `["tiny","gpt"]`, `["gpt","tiny"]`)}},
	}
	plan := root.must("POST", apply, object{"configuration": next, "dry_run": true})
	if diff := cmp.Diff(want, plan["changes"]); diff != "" || plan["revision"] != "0" {
		t.Errorf("the plan is (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, dump(t, conn)); diff != "" {
		t.Errorf("a dry run changes (-before +after):\n%s", diff)
	}
}

func TestPruningDeletesWhatIsNotMentionedOfKindsThatAre(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	root.must("POST", apply, object{"configuration": rich()})
	changes := func(answer object) (out []string) {
		for _, c := range items(answer) {
			out = append(out, fmt.Sprint(c.(object)["action"], " ", c.(object)["kind"], " ", c.(object)["name"]))
		}
		return out
	}
	// Deployments and credentials go with their providers, and are in the plan.
	some := rich()
	file := object{"providers": some["providers"].([]object)[2:], "teams": some["teams"]}
	for _, dry := range []bool{true, false} {
		got := changes(root.must("POST", apply, object{"configuration": file, "prune": true, "dry_run": dry}))
		slices.Sort(got)
		if diff := cmp.Diff([]string{
			"delete credential azure/main", "delete credential openai/main", "delete deployment azure/gpt/east", "delete deployment azure/gpt/west",
			"delete deployment openai/gpt/", "delete provider azure", "delete provider first", "delete provider openai",
		}, got); diff != "" {
			t.Errorf("pruning, dry %t (-want +got):\n%s", dry, diff)
		}
	}
	if got := len(root.list("providers", "")); got != 2 {
		t.Errorf("%d providers are left", got)
	}
	if got := len(root.list("models", "")); got != 2 {
		t.Errorf("%d models are left, which were not mentioned as a kind", got)
	}
	// API keys that work are never deleted, also not with what they belong to.
	for what, c := range map[string]struct {
		file  object
		field string
	}{
		"a project with keys": {object{"projects": []object{{"name": "default"}, {"name": "lab", "labels": object{"x": "y"}}}}, "configuration.projects"},
		"a member with keys":  {object{"members": []object{{"email": "bob@example.org", "role": "admin"}}}, "configuration.members"},
		"a team with members": {object{"teams": []object{{"name": "blue"}}}, "configuration.teams"},
	} {
		status, answer := root.do("POST", apply, object{"configuration": c.file, "prune": true})
		refused(t, "pruning "+what, status, answer, 409, "IN_USE", c.field)
	}
	keys := object{"api_keys": []object{{"name": "app", "project": "course"}}}
	if got := changes(root.must("POST", apply, object{"configuration": keys, "prune": true})); len(got) != 1 { // its scopes and profile
		t.Errorf("pruning keys changes %q", got)
	}
	if got := len(root.list("apiKeys", "")); got != 4 {
		t.Errorf("%d keys are left", got)
	}
	if got := changes(root.must("POST", apply, object{"configuration": object{}, "prune": true})); got != nil {
		t.Errorf("an empty configuration prunes %q", got)
	}
	// In capitals a member is the same one.
	if got := changes(root.must("POST", apply, object{"configuration": object{"members": []object{{"email": "ANN@example.org", "name": "Ann", "team": "red", "role": "team_owner"}, {"email": "BOB@example.org", "role": "admin"}}}, "prune": true})); got != nil {
		t.Errorf("members in capitals change %q", got)
	}
}

func TestAnApplyIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	conn := g.conn()
	before := dump(t, conn)
	long := strings.Repeat("x", 257)
	for what, c := range map[string]struct {
		file   object
		status int
		field  string
	}{
		"a missing reference":     {object{"teams": []object{{"name": "a"}}, "projects": []object{{"name": "p", "team": "a"}, {"name": "q", "team": "none"}}}, 400, "configuration.projects[1].team"},
		"a wrong value":           {object{"teams": []object{{"name": "a"}, {"name": long}}}, 400, "configuration.teams[1].name"},
		"a wrong value inside":    {object{"access_profiles": []object{{"name": "f", "project": "default", "grants": []object{{"provider": "first"}, {"provider": "none"}}}}}, 400, "configuration.access_profiles[0].grants[1].provider"},
		"a wrong scope":           {object{"api_keys": []object{{"name": "k", "project": "default", "secret": "a-secret-brought-along", "scopes": object{"source_cidrs": []string{"10.0.0.0/8", "x"}}}}}, 400, "configuration.api_keys[0].scopes.source_cidrs[1]"},
		"a wrong label":           {object{"models": []object{{"name": "m", "labels": object{"1": "x"}}}}, 400, `configuration.models[0].labels["1"]`},
		"a wrong URL":             {object{"providers": []object{{"name": "a", "base_url": "https://a.example"}, {"name": "b", "base_url": "ftp://b.example"}}}, 400, "configuration.providers[1].base_url"},
		"a wrong setting":         {object{"settings": object{"egress_cidrs": []string{"10.0.0.0/8", "x"}, "claim_lifetime": "60s"}}, 400, "configuration.settings.egress_cidrs[1]"},
		"twice":                   {object{"teams": []object{{"name": "a"}, {"name": "b"}, {"name": "a"}}}, 400, "configuration.teams[2]"},
		"twice in capitals":       {object{"members": []object{{"email": "a@example.org", "role": "viewer"}, {"email": "A@example.org", "role": "viewer"}}}, 400, "configuration.members[1]"},
		"by id":                   {object{"projects": []object{{"name": "p", "team_id": 1}}}, 400, "configuration.projects[0].team_id"},
		"without a provider":      {object{"credentials": []object{{"name": "c", "secret": "sk"}}}, 400, "configuration.credentials[0].provider"},
		"a credential of no name": {object{"credentials": []object{{"provider": "first", "secret": "sk"}}}, 400, "configuration.credentials[0].name"},
		"a key of no name":        {object{"api_keys": []object{{"project": "default", "secret": "a-secret-brought-along"}}}, 400, "configuration.api_keys[0].name"},
		"a key of no secret":      {object{"api_keys": []object{{"name": "k", "project": "default"}}}, 400, "configuration.api_keys[0].secret"},
		"a key's other secret":    {object{"api_keys": []object{{"name": "k", "project": "default", "secret": "a-secret-brought-along"}, {"name": "l", "project": "default", "secret": "a-secret-brought-along"}}}, 409, "configuration.api_keys[1].secret"},
		"a secret twice":          {object{"credentials": []object{{"provider": "first", "name": "a", "secret": "sk"}, {"provider": "first", "name": "b", "secret": "sk"}}}, 409, "configuration.credentials[1]"},
		"a credential elsewhere":  {object{"models": []object{{"name": "m"}}, "providers": []object{{"name": "p", "base_url": "https://p.example"}}, "credentials": []object{{"provider": "p", "name": "c", "secret": "sk"}}, "deployments": []object{{"model": "m", "provider": "first", "credential": "c"}}}, 400, "configuration.deployments[0].credential"},
		"an unknown kind":         {object{"quotas": []object{}}, 400, "configuration.quotas"},
		"an unknown field":        {object{"teams": []object{{"nme": "a"}}}, 400, "configuration.teams[0].nme"},
	} {
		for _, dry := range []bool{true, false} {
			status, answer := root.do("POST", apply, object{"configuration": c.file, "dry_run": dry})
			refused(t, what, status, answer, c.status, "", c.field)
		}
	}
	if diff := cmp.Diff(before, dump(t, conn)); diff != "" {
		t.Errorf("refused configurations leave (-before +after):\n%s", diff)
	}
	// Everything of one apply is one revision.
	was := scalar[int64](t, conn, "select revision from config_revision")
	root.must("POST", apply, object{"configuration": rich()})
	if now := scalar[int64](t, conn, "select revision from config_revision"); now != was+1 {
		t.Errorf("one apply leads from revision %d to %d", was, now)
	}
}

// Names of keys are those of keys that work: others with the same name are left alone, and out of exports.
func TestDeclaredKeysAreThoseThatWork(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	conn := g.conn()
	first := root.make("apiKeys", object{"project": "default", "name": "k", "secret": "a-secret-brought-along-1"})
	root.must("POST", at("apiKeys", first)+":revoke", object{})
	second := root.make("apiKeys", object{"project": "default", "name": "k", "secret": "a-secret-brought-along-2"})
	if _, err := conn.Exec(t.Context(), "update api_keys set expires_at = now() - interval '1 hour' where id = "+second["id"].(string)); err != nil {
		t.Fatal(err)
	}
	third := root.make("apiKeys", object{"project": "default", "name": "k", "secret": "a-secret-brought-along-3"})
	profile := root.make("accessProfiles", object{"name": "f", "project": "default"})
	unusable := root.make("apiKeys", object{"project": "default", "name": "unusable", "access_profile": "f"})
	root.remove("accessProfiles", profile)
	exported := root.must("GET", "/admin/v1/configuration", nil)["api_keys"].([]any)
	if len(exported) != 1 || exported[0].(object)["name"] != "k" {
		t.Errorf("exported are %v", exported)
	}
	answer := root.must("POST", apply, object{"configuration": object{"api_keys": []object{{"name": "k", "project": "default", "labels": object{"a": "b"}}}}})
	if len(items(answer)) != 1 || root.get("apiKeys", third)["labels"].(object)["a"] != "b" {
		t.Errorf("the key that works is %v, after %v", root.get("apiKeys", third), answer)
	}
	root.must("POST", at("apiKeys", third)+":revoke", object{})
	status, refusal := root.do("POST", apply, object{"configuration": object{"api_keys": []object{{"name": "unusable", "project": "default", "labels": object{"a": "b"}}}}})
	if status != 200 { // not bound to what is gone any more
		t.Errorf("declaring %v answers %d %v", unusable["name"], status, refusal)
	}
}

func TestPoliciesAreDeclaredByWhatTheyBelongTo(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	root := g.withPlaces()
	policies := []object{
		full(), {"name": "strict", "level": "installation"}, {"name": "strict", "level": "team", "team": "red"}, {"name": "strict", "level": "project", "project": "course"},
		{"name": "strict", "level": "access_profile", "project": "course", "access_profile": "default"}, {"name": "strict", "level": "api_key", "project": "course", "api_key": "app"},
	}
	var made []string
	for _, c := range items(root.must("POST", apply, object{"configuration": object{"policies": policies}})) {
		made = append(made, c.(object)["name"].(string))
	}
	if want := []string{"project/course/full", "installation/strict", "team/red/strict", "project/course/strict", "access_profile/course/default/strict", "api_key/course/app/strict"}; !slices.Equal(made, want) {
		t.Errorf("the changes are %q, want %q", made, want)
	}
	exported := root.must("GET", "/admin/v1/configuration", nil)
	for what, file := range map[string]object{"what was declared": {"policies": policies}, "the export": {"policies": exported["policies"]}} {
		if again := root.must("POST", apply, object{"configuration": file, "prune": true}); len(items(again)) != 0 {
			t.Errorf("applied again, %s changes %v", what, again["changes"])
		}
	}
	// A key that works no more is not declared, and neither are its policies. Another one may have its name.
	key := root.list("apiKeys", `?filter=name="app"`)[0]
	root.must("POST", at("apiKeys", key)+":revoke", nil)
	if got := len(root.must("GET", "/admin/v1/configuration", nil)["policies"].([]any)); got != 5 {
		t.Errorf("%d policies are exported", got)
	}
	root.make("apiKeys", object{"name": "app", "project": "course"})
	changes := items(root.must("POST", apply, object{"configuration": object{"policies": policies}, "prune": true}))
	if len(changes) != 1 || changes[0].(object)["action"] != "create" || changes[0].(object)["name"] != "api_key/course/app/strict" {
		t.Errorf("for the new key, it changes %v", changes)
	}
	changes = items(root.must("POST", apply, object{"configuration": object{"policies": policies[:1]}, "prune": true}))
	if len(changes) != 5 || changes[0].(object)["action"] != "delete" {
		t.Errorf("pruning changes %v", changes)
	}
	for what, c := range map[string]struct {
		policy object
		field  string
	}{
		"by id":             {object{"name": "x", "level": "project", "project_id": 1}, "configuration.policies[0].project_id"},
		"without a level":   {object{"name": "x"}, "configuration.policies[0].level"},
		"without a name":    {object{"level": "installation"}, "configuration.policies[0].name"},
		"without a profile": {object{"name": "x", "level": "access_profile", "project": "course"}, "configuration.policies[0].access_profile"},
		"of another level":  {object{"name": "x", "level": "team", "team": "red", "project": "course"}, "configuration.policies[0].project"},
		"with a bad rule":   {object{"name": "x", "level": "installation", "rules": []any{object{"name": "a", "require": "1"}}}, "configuration.policies[0].rules[0].require"},
	} {
		status, answer := root.do("POST", apply, object{"configuration": object{"policies": []any{c.policy}}})
		refused(t, "a declaration "+what, status, answer, 400, "", c.field)
	}
}
