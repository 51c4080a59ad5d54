package api_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api"
)

// Explain decides like a gateway; sessions called "refuse" are refused, and without a session it is starting.
func (g *gateway) Explain(_ context.Context, c api.ExplainedCall) (*logos.Decision, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.explained = append(g.explained, c)
	d := decided()
	d.APIKey, d.Project = c.Key.ID, c.Key.ProjectID
	switch c.Session {
	case "":
		return nil, logos.Errorf(logos.Unavailable, "starting", "the gateway is starting")
	case "refuse":
		d.Targets, d.Refusal = nil, "policy_excludes_all"
		return d, logos.Errorf(logos.Denied, "policy_excludes_all", "policies leave no deployment")
	}
	return d, nil
}

var decidedAt = time.Date(2026, 11, 25, 12, 0, 0, 123456000, time.UTC)

// decided is a decision with something of everything, about the deployments 1 to 4 of rich.
func decided() *logos.Decision {
	return &logos.Decision{
		Start: decidedAt.UnixMicro(), Revision: 5, API: logos.APIChat, Stream: true, Model: "auto", Team: 1, Project: 2, APIKey: 3, Profile: 1, EndUser: "u", Session: "s",
		BodyBytes: 77, MaxTokens: 9, ClampedTo: 8,
		Reservations: []logos.Reservation{
			{Budget: 7, Key: "project:2", Start: decidedAt.Truncate(time.Hour).Unix(), Unit: logos.UnitMoney, Currency: "EUR", Amount: 2_500_000, Hard: true, Targets: 1},
			{Budget: 8, Unit: logos.UnitTokens, Amount: 57, Targets: 1},
		},
		Targets: []logos.DecisionTarget{{Deployment: 2, Model: 1, Provider: 3, Credential: 2, Cluster: "c"}},
		Explanation: logos.Explanation{
			MoreCandidates: 2,
			Candidates: []logos.DecisionCandidate{
				{Deployment: 2, Profile: 1, Rank: 1, Cost: 2_500_000_000, Currency: "EUR", Output: 300, FirstToken: 1_500_000, SlowToken: 3_000_000, Load: 0.25, Stale: true,
					Score: &logos.DecisionScore{Total: 1750, Cost: 800, Latency: 700, Quality: 600, Load: 500, Session: 100, Prefix: 50, Held: 25}},
				{Deployment: 1, Excluded: "privacy_zone", Policy: 1, Have: 4, Limit: 2},
				{Deployment: 4, Excluded: "quality", Policy: 1, Have: -1, Limit: 0.5, What: "code"},
				{Deployment: 999, Excluded: "no_credential"},
			},
			Facts: &logos.DecisionFacts{
				Seed: 1<<63 + 1, InputTokens: 40, OutputTokens: 500, Tools: true, Images: true, JSONSchema: true, Language: "de", Code: true, Keywords: []string{"law"}, Tags: []string{"tutor"},
				SessionHash: 1, PrefixHash: 2, SessionDeployment: 2, PrefixDeployment: 3, Incumbent: 4, Objective: 1, First: logos.FirstSpread,
				Policies: []logos.DecisionPolicy{
					{ID: 1, Revision: 4, Level: logos.LevelProject, Profile: 1, Relaxed: []logos.Constraint{logos.ConstraintMaxCost}}, {ID: 999, Revision: 2, Skipped: true},
				},
			},
		},
	}
}

// decision is how it is shown.
func decision() object {
	candidate := func(fields object) object {
		out := object{
			"deployment_id": "", "provider": "", "model": "", "deployment": "", "rank": 0.0, "excluded": "", "reason": "", "policy_id": "0", "access_profile_id": "0", "what": "",
			"expected_cost": "", "currency": "", "expected_output_tokens": "0", "time_to_first_token_p50": nil, "time_to_first_token_p95": nil, "load": 0.0, "stale": false, "score": nil,
		}
		for name, v := range fields {
			out[name] = v
		}
		return out
	}
	return object{
		"time": "2026-11-25T12:00:00.123456Z", "revision": "5", "api": "chat", "stream": true, "model": "auto", "team_id": "1", "project_id": "2", "api_key_id": "3", "access_profile_id": "1",
		"end_user": "u", "session": "s", "request_bytes": "77", "max_tokens": "9", "refusal": "", "refusal_message": "", "more_candidates": 2.0, "clamped_to": "8",
		"reservations": []any{
			object{"budget_id": "7", "key": "project:2", "window_start": "2026-11-25T12:00:00Z", "unit": "money", "currency": "EUR", "amount": "0.0025", "hard": true},
			object{"budget_id": "8", "key": "", "window_start": nil, "unit": "tokens", "currency": "", "amount": "57", "hard": false},
		},
		"targets": []any{object{"deployment_id": "2", "model_id": "1", "provider_id": "3", "credential_id": "2", "model": "gpt", "provider": "azure"}},
		"candidates": []any{
			candidate(object{"deployment_id": "2", "provider": "azure", "model": "gpt", "deployment": "west", "rank": 1.0, "access_profile_id": "1", "expected_cost": "0.0025", "currency": "EUR",
				"expected_output_tokens": "300", "time_to_first_token_p50": "1.500s", "time_to_first_token_p95": "3s", "load": 0.25, "stale": true,
				"score": object{"total": 1.75, "cost": 0.8, "latency": 0.7, "quality": 0.6, "load": 0.5, "session_bonus": 0.1, "prefix_bonus": 0.05, "hysteresis": 0.025}}),
			candidate(object{"deployment_id": "1", "provider": "openai", "model": "gpt", "excluded": "privacy_zone", "reason": "privacy_zone: anywhere > eu_eu (policy 1, revision 4, of the project)", "policy_id": "1", "have": 4.0, "limit": 2.0}),
			candidate(object{"deployment_id": "4", "provider": "own", "model": "tiny", "excluded": "quality", "reason": "quality: not declared < 0.5 for code (policy 1, revision 4, of the project)", "policy_id": "1", "limit": 0.5, "what": "code"}),
			candidate(object{"deployment_id": "999", "excluded": "no_credential", "reason": "no_credential"}),
		},
		"facts": object{
			"seed": "9223372036854775809", "input_tokens": "40", "output_tokens": "500", "tools": true, "images": true, "json_schema": true, "language": "de", "code": true, "keywords": []any{"law"}, "tags": []any{"tutor"},
			"session_deployment_id": "2", "prefix_deployment_id": "3", "incumbent_deployment_id": "4", "objective_policy_id": "1", "first": "spread",
			"policies": []any{
				object{"id": "1", "name": "one", "revision": "4", "level": "project", "access_profile_id": "1", "skipped": false, "relaxed": []any{"max_cost"}},
				object{"id": "999", "name": "", "revision": "2", "level": "installation", "access_profile_id": "0", "skipped": true, "relaxed": []any{}},
			},
		},
	}
}

func TestACallShowsItsDecision(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	root := g.withPlaces()
	root.make("policies", object{"name": "one", "level": "installation"})
	if err := g.store.RecordCalls(t.Context(), "gateway-1", logos.LogBatch{Calls: []*logos.Call{{ID: callID, Decision: *decided(), End: logos.EndOK}}}); err != nil {
		t.Fatal(err)
	}
	call := root.get("calls", callID)
	if diff := cmp.Diff(decision(), call["decision"]); diff != "" {
		t.Errorf("the decision is (-want +got):\n%s", diff)
	}
	if listed := root.list("calls", "")[0]; listed["decision"] != nil {
		t.Errorf("a list shows the decision %v", listed["decision"])
	}
}

func TestExplainsACallThatIsNotMade(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	root := g.withPlaces()
	root.make("policies", object{"name": "one", "level": "installation"})
	key := root.list("apiKeys", `?filter=name="app"`)[0]
	explain := func(fields object) (int, object) {
		fields["api_key_id"] = key["id"]
		return root.do("POST", "/admin/v1/decisions:explain", fields)
	}
	status, got := explain(object{"path": "/v1/responses", "profile": "p", "policy": "q", "user": "u", "session": "s", "seed": "7", "body": object{"model": "<auto>", "n": 2, "x": []any{nil}}})
	want := decision()
	want["api_key_id"], want["project_id"] = key["id"], key["project_id"]
	if diff := cmp.Diff(want, got); diff != "" || status != 200 {
		t.Errorf("it answers %d (-want +got):\n%s", status, diff)
	}
	c := g.explained[0]
	if c.Key.Name != "app" || c.Path != "/v1/responses" || c.Profile != "p" || c.Policy != "q" || c.User != "u" || c.Session != "s" || c.Seed != 7 || string(c.Body) != `{"model":"<auto>","n":2,"x":[null]}` {
		t.Errorf("the gateway is asked to explain %+v with the body %s", c, c.Body)
	}
	// A refusal is an answer.
	status, got = explain(object{"session": "refuse"})
	if status != 200 || got["refusal"] != "policy_excludes_all" || got["refusal_message"] != "policies leave no deployment" || len(got["targets"].([]any)) != 0 || len(got["candidates"].([]any)) != 4 {
		t.Errorf("a refusal answers %d %v", status, got)
	}
	if c := g.explained[1]; c.Path != "/v1/chat/completions" || string(c.Body) != "{}" {
		t.Errorf("without path and body it explains %s %s", c.Path, c.Body)
	}
	status, got = explain(object{})
	refused(t, "a gateway that starts", status, got, 503, "STARTING", "")
	status, got = root.do("POST", "/admin/v1/decisions:explain", object{"api_key_id": 999, "session": "s"})
	refused(t, "a key that there is not", status, got, 404, "NOT_FOUND", "")
	for body, field := range map[string]string{`5`: "body", `{"a":1,"a":2}`: "body.a", `{"a":[{"b":1e999}]}`: "body.a[0].b", `{"a":"\ud800"}`: "body.a"} {
		status, got = root.do("POST", "/admin/v1/decisions:explain", `{"api_key_id":1,"session":"s","body":`+body+`}`)
		refused(t, "the body "+body, status, got, 400, "", field)
		if said := fieldsIn(got)[field]; strings.Contains(said, "no such field") {
			t.Errorf("of the body %s it says %q", body, said)
		}
	}
	root.must("POST", at("apiKeys", key)+":revoke", nil)
	status, got = explain(object{"session": "s"})
	refused(t, "a revoked key", status, got, 409, "UNUSABLE_API_KEY", "")
}
