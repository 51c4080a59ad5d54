package extproc_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// local demands that calls stay on one's own machines, where the second provider is.
var local = logos.Policy{ID: 1, Name: "stay-home", Revision: 12, Constraints: logos.Constraints{MaxPrivacyZone: logos.ZoneLocal}}

func withPolicies(policies ...logos.Policy) func(*logos.Resources) {
	return func(r *logos.Resources) {
		r.Providers[1].PrivacyZone = logos.ZoneLocal
		for i := range policies {
			r.Policies = append(r.Policies, &policies[i])
		}
	}
}

func onRequest(p logos.Policy) logos.Policy {
	p.OnRequest = true
	return p
}

func TestSendsCallsWherePoliciesAllow(t *testing.T) {
	for name, c := range map[string]struct {
		policy   logos.Policy
		body     string
		headers  []string
		want     []logos.DeploymentID
		excluded string // of deployment 1
	}{
		"always":              {policy: local, body: `{"model":"small"}`, want: []logos.DeploymentID{2}, excluded: "privacy_zone"},
		"not named":           {policy: onRequest(local), body: `{"model":"small"}`, want: []logos.DeploymentID{1, 2}},
		"named by the header": {policy: onRequest(local), body: `{"model":"small"}`, headers: []string{"x-logos-policy", "stay-home"}, want: []logos.DeploymentID{2, 4}, excluded: "privacy_zone"},
		"named as the model":  {policy: onRequest(local), body: `{"model":"stay-home"}`, want: []logos.DeploymentID{2, 4}, excluded: "privacy_zone"},
		"any model":           {policy: local, body: `{"model":"auto"}`, want: []logos.DeploymentID{2, 4}, excluded: "privacy_zone"},
		"by what is said": {
			policy: logos.Policy{ID: 1, Rules: []logos.Rule{{Name: "secret", When: `"secret" in request.keywords`, Require: `candidate.zone == "local"`}}},
			body:   `{"model":"small","messages":[{"role":"user","content":"a Secret thing"}]}`, want: []logos.DeploymentID{2}, excluded: "rule",
		},
		"of another project": {policy: logos.Policy{ID: 1, Level: logos.LevelProject, Owner: 2, Constraints: local.Constraints}, body: `{"model":"small"}`, want: []logos.DeploymentID{1, 2}},
		"of the team":        {policy: logos.Policy{ID: 1, Level: logos.LevelTeam, Owner: 9, Constraints: local.Constraints}, body: `{"model":"small"}`, want: []logos.DeploymentID{2}, excluded: "privacy_zone"},
		"of the key":         {policy: logos.Policy{ID: 1, Level: logos.LevelAPIKey, Owner: 3, Constraints: local.Constraints}, body: `{"model":"small"}`, want: []logos.DeploymentID{2}, excluded: "privacy_zone"},
		"that can't be used": {policy: logos.Policy{ID: 1, Level: logos.LevelProject, Owner: 2, When: "no CEL"}, body: `{"model":"small"}`, want: []logos.DeploymentID{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, func(r *logos.Resources) {
				withPolicies(c.policy)(r)
				r.Tasks = []logos.TaskMatcher{{Name: "secret", Keywords: []string{"secret"}}}
			})
			g := newGateway(t, nil)
			present, err := extproc.NewSnapshot(cfg, nil)
			if (err != nil) != (name == "that can't be used") {
				t.Fatal(err)
			}
			g.current = func() *extproc.Snapshot { return present }
			d, _ := g.decisionOf(g.chat(c.body, c.headers...).last())
			var got []logos.DeploymentID
			for _, x := range d.Targets {
				got = append(got, x.Deployment)
			}
			if !slices.Equal(got, c.want) || d.Facts == nil || d.Candidates[0].Excluded != c.excluded {
				t.Errorf("it goes to %v, and deployment 1 is excluded for %q; want %v, %q", got, d.Candidates[0].Excluded, c.want, c.excluded)
			}
		})
	}
}

func TestALabelOfTheTeamIsNotTheKeysToChange(t *testing.T) {
	t.Parallel()
	g := newGateway(t, config(t, func(r *logos.Resources) {
		r.Teams = []*logos.Team{{ID: 9, Name: "red", Labels: map[string]string{"data": "secret"}}}
		r.Projects[0].Labels, r.APIKeys[0].Labels = map[string]string{"data": "open", "kind": "app"}, map[string]string{"data": "open", "kind": "toy"}
		withPolicies(logos.Policy{ID: 1, When: `caller.labels.data == "secret" && caller.labels.kind == "app"`, Constraints: local.Constraints})(r)
	}))
	if d, _ := g.decisionOf(g.chat(`{"model":"small"}`).last()); len(d.Targets) != 1 || d.Targets[0].Deployment != 2 {
		t.Errorf("it goes to %+v", d.Targets)
	}
}

func TestSaysWhyPoliciesLeaveNothing(t *testing.T) {
	closed := logos.Policy{ID: 1, Name: "odd", Rules: []logos.Rule{{Name: "x", Require: "no CEL"}}}
	for name, c := range map[string]struct {
		change  func(*logos.Resources)
		body    string
		headers []string
		status  int
		code    string
		message string
	}{
		"privacy":    {withPolicies(logos.Policy{ID: 1, Revision: 12, Constraints: logos.Constraints{MaxPrivacyZone: logos.ZoneLocal, Deny: logos.Targets{Providers: []logos.ProviderID{2}}}}), `{"model":"small"}`, nil, 403, "policy_excludes_all", "deployment 1: privacy_zone: anywhere > local (policy 1, revision 12, of the installation); deployment 2: access: on the deny list"},
		"broken":     {withPolicies(closed), `{"model":"big"}`, nil, 403, "policy_excludes_all", "deployment 4: access: not on the allow list"},
		"too long":   {func(r *logos.Resources) { r.Models[1].ContextWindow = 100 }, `{"model":"big","max_tokens":99,"messages":[{"role":"user","content":"one two three"}]}`, nil, 400, "context_length_exceeded", "103 tokens > 100"},
		"a rule":     {withPolicies(logos.Policy{ID: 1, Rules: []logos.Rule{{Name: "r", Require: `candidate.zone == "eu_eu"`}}}), `{"model":"big"}`, nil, 403, "policy_excludes_all", "deployment 4: rule: r"},
		"busy":       {withPolicies(logos.Policy{ID: 1, Rules: []logos.Rule{{Name: "r", Require: `candidate.load < 0.0`}}}), `{"model":"big"}`, nil, 503, "no_deployment", "deployment 4: rule: r"},
		"no room":    {func(r *logos.Resources) { r.Models[0].ContextWindow = 100 }, `{"model":"small","max_tokens":99,"messages":[{"role":"user","content":"one two three"}]}`, nil, 400, "context_length_exceeded", "deployment 3: no_credential"},
		"unknown":    {withPolicies(local), `{"model":"small"}`, []string{"x-logos-policy", "other"}, 404, "policy_not_found", `no policy "other"`},
		"no model":   {withPolicies(local), `{"model":"nothing"}`, nil, 404, "model_not_found", "no model"},
		"unhealthy":  {withPolicies(logos.Policy{ID: 1, Constraints: logos.Constraints{MaxFirstToken: 1}}), `{"model":"big"}`, nil, 0, "", ""},
		"of another": {withPolicies(logos.Policy{ID: 1, Name: "theirs", Level: logos.LevelProject, Owner: 7, OnRequest: true}), `{"model":"theirs"}`, nil, 404, "model_not_found", "no model"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, nil)
			present, _ := extproc.NewSnapshot(config(t, c.change), nil)
			g.current = func() *extproc.Snapshot { return present }
			answer := g.chat(c.body, c.headers...).last().GetImmediateResponse()
			body := string(answer.GetBody())
			if int(answer.GetStatus().GetCode()) != c.status || !strings.Contains(body, c.code) || !strings.Contains(plain(body), c.message) {
				t.Errorf("the answer is %v %s, want %d %s: %s", answer.GetStatus(), body, c.status, c.code, c.message)
			}
		})
	}
}

// plain undoes the escapes of a JSON text that its reader would not see.
func plain(body string) string {
	return strings.NewReplacer(`\u003e`, ">", `\"`, `"`).Replace(body)
}

// What a call may cost is what its API reads of the request, for as many answers as it asks for.
func TestTheExpectedCostIsThatOfAllAnswers(t *testing.T) {
	t.Parallel()
	g := newGateway(t, config(t, func(r *logos.Resources) {
		withPolicies(logos.Policy{ID: 1, Objective: &logos.Objective{Cost: 1}})(r)
		r.Prices = append(r.Prices, pricedAt(1, 2, logos.MeterInput, 0, now.AddDate(-1, 0, 0)), pricedAt(2, 2, logos.MeterOutput, 1000, now.AddDate(-1, 0, 0)))
	}))
	for body, want := range map[string]int64{
		`{"model":"big","max_tokens":10}`:                                           10,
		`{"model":"big","max_tokens":10,"n":3}`:                                     30,
		`{"model":"big","max_tokens":1,"max_completion_tokens":100}`:                100,
		`{"model":"big","max_output_tokens":1}`:                                     500, // this API has no such limit
		`{"model":"big","max_tokens":100000000,"n":1000000000,"stop":["whatever"]}`: 500 << 20,
	} {
		if d, _ := g.decisionOf(g.chat(body).last()); d.Candidates[0].Output != want {
			t.Errorf("%s: %d tokens are expected, want %d", body, d.Candidates[0].Output, want)
		}
	}
}

// Each of several prompts has a context of its own.
func TestABatchOfPromptsFitsIfEachDoes(t *testing.T) {
	t.Parallel()
	g := newGateway(t, config(t, func(r *logos.Resources) { r.Models[1].ContextWindow = 100 }))
	for body, want := range map[string]int{
		`{"model":"big","input":[` + strings.Repeat(`"`+strings.Repeat("word ", 60)+`",`, 9) + `"x"]}`: 0,
		`{"model":"big","input":[` + strings.Repeat(`[1,2,3,4,5,6,7,8,9],`, 40) + `[1]]}`:              0,
		`{"model":"big","input":["x","` + strings.Repeat("word ", 100) + `"]}`:                         400,
		`{"model":"big","input":[` + strings.TrimSuffix(strings.Repeat("1,", 101), ",") + `]}`:         400,
		`{"model":"big","input":"` + strings.Repeat("word ", 100) + `"}`:                               400,
	} {
		answer := g.call("POST", "/v1/embeddings", body, "x-api-key", key).last().GetImmediateResponse()
		if int(answer.GetStatus().GetCode()) != want {
			t.Errorf("%.60s…: %v %s, want %d", body, answer.GetStatus(), answer.GetBody(), want)
		}
	}
}

func TestAPauseOfAllProvidersIsTheCallersToo(t *testing.T) {
	for what, want := range map[string]int{policy.RateLimited: 429, "breaker_open": 503} {
		g := newGateway(t, config(t, nil))
		g.state = func(t *logos.Target, _ int64) policy.State { return policy.State{Unhealthy: what} }
		answer := g.chat(`{"model":"small"}`).last().GetImmediateResponse()
		set, _ := mutation(answer.GetHeaders())
		if int(answer.GetStatus().GetCode()) != want || set["x-should-retry"] == "false" {
			t.Errorf("where all are %s the answer is %v %v", what, answer.GetStatus(), set)
		}
	}
}

func TestListsPoliciesThatCallsMayName(t *testing.T) {
	theirs := logos.Policy{ID: 3, Name: "theirs", Level: logos.LevelProject, Owner: 7, OnRequest: true}
	always := logos.Policy{ID: 2, Name: "always"}
	g := newGateway(t, config(t, withPolicies(onRequest(local), always, theirs)))
	body := string(g.call("GET", "/v1/models", "", "x-api-key", key).last().GetImmediateResponse().GetBody())
	if !strings.Contains(body, `"stay-home"`) || !strings.Contains(body, `"small"`) || strings.Contains(body, "always") || strings.Contains(body, "theirs") {
		t.Errorf("the list is %s", body)
	}
}

func TestPoliciesCountForCallsThatPassThrough(t *testing.T) {
	for name, c := range map[string]struct {
		policy logos.Policy
		status int
	}{
		"zone":                     {local, 403},
		"zone, not named":          {onRequest(local), 0},
		"zone, not for such calls": {logos.Policy{ID: 1, When: `caller.project == "other"`, Constraints: local.Constraints}, 0},
		"if the request is so":     {logos.Policy{ID: 1, When: `"secret" in request.keywords`, Constraints: local.Constraints}, 403},
		"if both are so":           {logos.Policy{ID: 1, When: `request.stream && caller.project != "app"`, Constraints: local.Constraints}, 0},
		"a rule, if it is so":      {logos.Policy{ID: 1, Rules: []logos.Rule{{Name: "r", When: "request.images", Require: `candidate.zone == "local"`}}}, 403},
		"denied provider":          {logos.Policy{ID: 1, Constraints: logos.Constraints{Deny: logos.Targets{Providers: []logos.ProviderID{1}}}}, 403},
		"allowed provider":         {logos.Policy{ID: 1, Constraints: logos.Constraints{Allow: logos.Targets{Providers: []logos.ProviderID{1}}}}, 0},
		"allowed models":           {logos.Policy{ID: 1, Constraints: logos.Constraints{Allow: logos.Targets{Models: []logos.ModelID{1}}}}, 403},
		"a rule":                   {logos.Policy{ID: 1, Rules: []logos.Rule{{Name: "r", Require: "candidate.priced"}}}, 403},
		"a preference":             {logos.Policy{ID: 1, Rules: []logos.Rule{{Name: "r", Kind: logos.RulePreference, Require: "candidate.priced"}}}, 0},
		"quality":                  {logos.Policy{ID: 1, Constraints: logos.Constraints{MinQuality: 1}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, config(t, withPolicies(c.policy)))
			answer := g.chat(`{"model":"small"}`, "x-logos-proxy", "1", "x-logos-provider", "one").last().GetImmediateResponse()
			if int(answer.GetStatus().GetCode()) != c.status {
				t.Errorf("the answer is %v %s, want %d", answer.GetStatus(), answer.GetBody(), c.status)
			}
		})
	}
}

func TestACallThatPassesThroughIsUnderThePolicyThatItNames(t *testing.T) {
	t.Parallel()
	g := newGateway(t, config(t, withPolicies(onRequest(local))))
	for _, c := range []struct {
		provider, policy string
		status           int
	}{{"one", "stay-home", 403}, {"two", "stay-home", 0}, {"one", "auto", 0}, {"two", "no-such", 404}} {
		answer := g.chat(`{"model":"small"}`, "x-logos-proxy", "1", "x-logos-provider", c.provider, "x-logos-policy", c.policy).last().GetImmediateResponse()
		if int(answer.GetStatus().GetCode()) != c.status {
			t.Errorf("to %s under %s: %v %s", c.provider, c.policy, answer.GetStatus(), answer.GetBody())
		}
	}
}

func TestExplainsWhatACallWouldGet(t *testing.T) {
	ordered := logos.Policy{ID: 2, Name: "spread", Objective: &logos.Objective{Load: 1, Tolerance: 1, SessionBonus: .1}}
	g := newGateway(t, config(t, withPolicies(ordered, local)))
	const body = `{"model":"small","messages":[{"role":"user","content":"hello"}]}`
	g.chat(body, "x-logos-session", "s") // so that there is one that was chosen last
	made, _ := g.decisionOf(g.chat(body, "x-logos-session", "s").last())
	key := g.current().Config.APIKey(g.current().Hasher.APIKey(key))
	explained, err := g.server.Explain(t.Context(), extproc.ExplainRequest{Key: key, Path: chat, Session: "s", Body: []byte(body), Seed: made.Facts.Seed})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, explained); diff != "" {
		t.Errorf("the explanation is another decision (-made +explained):\n%s", diff)
	}
	if n := len(g.intents.all()); n != 2 {
		t.Errorf("%d calls were sent, want the two that were made", n)
	}
	refused, err := g.server.Explain(t.Context(), extproc.ExplainRequest{Key: key, Path: chat, Body: []byte(`{"model":"none"}`)})
	if err == nil || refused == nil || refused.Refusal != "model_not_found" {
		t.Errorf("a call that would be refused gives %+v, %v", refused, err)
	}
}

func TestExplainsWhatPassesThrough(t *testing.T) {
	t.Parallel()
	g := newGateway(t, config(t, func(r *logos.Resources) {
		r.Profiles[0].Models, r.Profiles[0].Grants = nil, r.Profiles[0].Grants[:1]
	}))
	made, _ := g.decisionOf(g.chat(`{"model":"x"}`).last())
	if made == nil || made.Targets[0].Deployment != 0 {
		t.Fatalf("the call is %+v", made)
	}
	made.BodyBytes = int64(len(`{"model":"x"}`)) // the call came without a content-length
	explained, err := g.server.Explain(t.Context(), extproc.ExplainRequest{Key: presentKey(t, g), Path: chat, Body: []byte(`{"model":"x"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, explained); diff != "" {
		t.Errorf("the explanation is another decision (-made +explained):\n%s", diff)
	}
}

func TestASessionStaysWhereItWasServed(t *testing.T) {
	sticky := logos.Policy{ID: 1, Name: "sticky", Objective: &logos.Objective{Load: 1, SessionBonus: .5}}
	g := newGateway(t, config(t, withPolicies(sticky)))
	first, _ := g.decisionOf(g.chat(`{"model":"small"}`, "x-logos-session", "s").last())
	other := first.Targets[1]
	g.server.Served(&logos.Call{Decision: *first, End: logos.EndOK, Attempts: []logos.Attempt{{Target: first.Targets[0]}, {Target: other}}})
	for session, want := range map[string]logos.DeploymentID{"s": other.Deployment, "": 1} { // without one by id
		d, _ := g.decisionOf(g.chat(`{"model":"small"}`, "x-logos-session", session).last())
		if d.Targets[0].Deployment != want {
			t.Errorf("the session %q goes to deployment %d, want %d", session, d.Targets[0].Deployment, want)
		}
	}
	for i := range uint64(100_000) { // what is not used is forgotten
		g.server.Served(&logos.Call{Decision: logos.Decision{Explanation: logos.Explanation{Facts: &logos.DecisionFacts{SessionHash: i + 1}}}, End: logos.EndOK, Attempts: []logos.Attempt{{Target: other}}})
	}
	d, _ := g.decisionOf(g.chat(`{"model":"small"}`, "x-logos-session", "s").last())
	if d.Facts.SessionDeployment != 0 {
		t.Error("a session is remembered for ever")
	}
}

func TestADecisionAmongManyIsBounded(t *testing.T) {
	many := func(r *logos.Resources) {
		withPolicies(logos.Policy{ID: 1, Name: "last-first", Objective: &logos.Objective{Quality: 1}})(r)
		for i := range 1000 {
			r.Deployments = append(r.Deployments, &logos.Deployment{ID: logos.DeploymentID(100 + i), Model: 1, Provider: 2})
		}
		quality := 0.9
		r.Models = append(r.Models, &logos.Model{ID: 3, Name: "best", Quality: &quality})
		r.Profiles[0].Models = append(r.Profiles[0].Models, 3)
		r.Deployments = append(r.Deployments, &logos.Deployment{ID: 5000, Model: 3, Provider: 2})
	}
	g := newGateway(t, config(t, many))
	d, encoded := g.decisionOf(g.chat(`{"model":"auto"}`).last())
	if len(encoded) > 32<<10 || len(d.Targets) != 3 || d.Targets[0].Deployment != 5000 {
		t.Errorf("the decision has %d bytes and the targets %+v", len(encoded), d.Targets)
	}
	if got := len(d.Candidates) + d.MoreCandidates; got != 1005 {
		t.Errorf("it tells of %d candidates, want 1005", got)
	}
	for _, x := range d.Targets {
		if !slices.ContainsFunc(d.Candidates, func(c logos.DecisionCandidate) bool {
			return c.Deployment == x.Deployment && c.Rank > 0 && c.Score != nil
		}) {
			t.Errorf("the record of target %d is cut", x.Deployment)
		}
	}
}

// BenchmarkDecide decides a call of 1 KB among ten deployments, without policies and with three.
func BenchmarkDecide(b *testing.B) {
	policies := []logos.Policy{
		{ID: 1, Constraints: logos.Constraints{MaxPrivacyZone: logos.ZoneAnywhere, MinQuality: 0.1}, Rules: []logos.Rule{
			{Name: "a", When: `request.input_tokens > 100`, Require: `candidate.context_window >= 1000`},
			{Name: "b", Require: `candidate.provider != "three" || request.tools == false`},
		}, Objective: &logos.Objective{Cost: 1, Latency: 1, Quality: 1, Load: 1, Hysteresis: .02}},
		{ID: 2, Level: logos.LevelTeam, Owner: 9, When: `request.api == "chat"`, Rules: []logos.Rule{{Name: "c", Require: `candidate.labels.tier in ["gold", "silver"]`}}},
		{ID: 3, Level: logos.LevelProject, Owner: 1, Rules: []logos.Rule{{Name: "d", Require: `candidate.load < 0.9`}}},
	}
	for name, change := range map[string]func(*logos.Resources){"none": func(*logos.Resources) {}, "three": withPolicies(policies...)} {
		b.Run(name, func(b *testing.B) {
			cfg := config(b, func(r *logos.Resources) {
				change(r)
				quality := .5
				r.Models[0].Quality, r.Models[0].ContextWindow = &quality, 100_000
				for i := range 8 {
					r.Deployments = append(r.Deployments, &logos.Deployment{ID: logos.DeploymentID(100 + i), Model: 1, Provider: 2})
				}
				for _, d := range r.Deployments {
					d.Labels = map[string]string{"tier": "gold"}
				}
			})
			g := newGateway(b, cfg)
			r := extproc.ExplainRequest{Key: cfg.APIKey(cfg.Hasher.APIKey(key)), Path: chat, Body: []byte(`{"model":"small","messages":[{"role":"user","content":"` + strings.Repeat("what is this, and what is that? ", 32) + `"}]}`)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.server.Explain(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
