package extproc_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy"
)

type object = map[string]any

// expectRefusal checks everything that a refusal must be, in the shape of the API's clients.
func expectRefusal(t *testing.T, g *gateway, x exchange, anthropic bool, status int, code, kind string) {
	t.Helper()
	if x.err != nil || len(x.answers) == 0 {
		t.Fatalf("%d answers, then %v", len(x.answers), x.err)
	}
	answer := x.last()
	refusal := answer.GetImmediateResponse()
	if refusal == nil || int(refusal.GetStatus().GetCode()) != status {
		t.Fatalf("the answer is %v, want %d", answer, status)
	}
	if refusal.GetDetails() != "logos_"+code {
		t.Errorf("the details are %q, want logos_%s", refusal.GetDetails(), code)
	}
	set, _ := mutation(refusal.GetHeaders())
	want := map[string]string{"content-type": "application/json"}
	if status != 503 {
		want["x-should-retry"] = "false"
	}
	if anthropic {
		want["request-id"] = callID // where its clients look for it
	}
	if diff := cmp.Diff(want, set); diff != "" {
		t.Errorf("headers differ (-want +got):\n%s", diff)
	}
	var body object
	if err := json.Unmarshal(refusal.GetBody(), &body); err != nil {
		t.Fatalf("the body %s: %v", refusal.GetBody(), err)
	}
	inner, _ := body["error"].(object)
	message, _ := inner["message"].(string)
	if message == "" || strings.Contains(message, key) {
		t.Errorf("the message is %q", message)
	}
	shape := object{"error": object{"message": message, "type": kind, "param": nil, "code": code, "request_id": callID}}
	if anthropic {
		shape = object{"type": "error", "request_id": callID, "error": object{"type": kind, "message": message, "code": code}}
	}
	if diff := cmp.Diff(shape, body); diff != "" {
		t.Errorf("the body differs (-want +got):\n%s", diff)
	}
	if len(answer.GetTypedDynamicMetadata()) != 0 || len(g.intents.all()) != 0 {
		t.Errorf("a refused call is sent: %v, intents %v", answer, g.intents.all())
	}
}

// A request that must be refused. The key is sent unless other headers are given.
type refused struct {
	name    string
	change  func(*logos.Resources)
	method  string
	body    string
	headers []string

	status    int
	code      string
	openAI    string // type in OpenAI's shape
	anthropic string // in Anthropic's
	unknown   bool   // no key is known, so there is nothing to record
}

var refusals = []refused{
	{name: "no key", headers: []string{"accept", "*/*"}, status: 401, code: "missing_api_key", openAI: "authentication_error", anthropic: "authentication_error", unknown: true},
	{name: "a provider's key alone", headers: []string{"authorization", "Bearer sk-x", "x-api-key", "sk-y"}, status: 401, code: "missing_api_key", openAI: "authentication_error", anthropic: "authentication_error", unknown: true},
	{name: "an unknown key", headers: []string{"x-api-key", "lg-another"}, status: 401, code: "invalid_api_key", openAI: "authentication_error", anthropic: "authentication_error", unknown: true},
	{name: "an endless key", headers: []string{"logos-key", "lg-" + strings.Repeat("x", 300)}, status: 401, code: "invalid_api_key", openAI: "authentication_error", anthropic: "authentication_error", unknown: true},
	{name: "an empty key", headers: []string{"logos-key", " "}, status: 401, code: "invalid_api_key", openAI: "authentication_error", anthropic: "authentication_error", unknown: true},
	{name: "two keys", headers: []string{"logos-key", key, "x-api-key", "lg-another"}, status: 400, code: "ambiguous_api_key", openAI: "invalid_request_error", anthropic: "invalid_request_error", unknown: true},
	{name: "a revoked key", change: func(r *logos.Resources) { r.APIKeys[0].Revoked = true }, status: 401, code: "revoked_api_key", openAI: "authentication_error", anthropic: "authentication_error", unknown: true},
	{name: "an expired key", change: func(r *logos.Resources) { r.APIKeys[0].ExpiresAt = now }, status: 401, code: "expired_api_key", openAI: "authentication_error", anthropic: "authentication_error", unknown: true},
	{name: "the key before an expired rotation", change: func(r *logos.Resources) { rotated(r, now) }, status: 401, code: "expired_api_key", openAI: "authentication_error", anthropic: "authentication_error", unknown: true},
	{name: "two keys, one of them imported", change: func(r *logos.Resources) { imported(r, "sk-imported") }, headers: []string{"x-api-key", key, "authorization", "Bearer sk-imported"},
		status: 400, code: "ambiguous_api_key", openAI: "invalid_request_error", anthropic: "invalid_request_error", unknown: true},
	{name: "a viewer's key", change: func(r *logos.Resources) { r.APIKeys[0].Role = logos.RoleViewer }, status: 403, code: "role_not_allowed", openAI: "permission_error", anthropic: "permission_error"},
	{name: "a key for other sources", change: func(r *logos.Resources) { r.APIKeys[0].Sources = sources("10.0.0.0/8") }, status: 403, code: "source_not_allowed", openAI: "permission_error", anthropic: "permission_error"},
	{name: "a key for other APIs", change: func(r *logos.Resources) { r.APIKeys[0].APIs = []string{"completions", "models", "passthrough"} }, status: 403, code: "api_not_allowed", openAI: "permission_error", anthropic: "permission_error"},
	{name: "a key for other models", change: func(r *logos.Resources) { r.APIKeys[0].Models = []logos.ModelID{2} }, status: 403, code: "model_not_allowed", openAI: "permission_error", anthropic: "permission_error"},
	{name: "a key for models that its profile has not", change: func(r *logos.Resources) { r.APIKeys[0].Models = []logos.ModelID{9} }, body: `{"model":"auto"}`,
		status: 403, code: "model_not_allowed", openAI: "permission_error", anthropic: "permission_error"},
	{name: "an upgrade", headers: []string{"x-api-key", key, "upgrade", "websocket"}, status: 501, code: "upgrade_not_supported", openAI: "invalid_request_error", anthropic: "invalid_request_error"},
	{name: "a body that says it is too large", headers: []string{"x-api-key", key, "content-length", "4097"}, status: 413, code: "request_too_large", openAI: "invalid_request_error", anthropic: "request_too_large"},
	{name: "a body that is too large", body: `{"model":"small","x":"` + strings.Repeat("x", maxBody) + `"}`, status: 413, code: "request_too_large", openAI: "invalid_request_error", anthropic: "request_too_large"},
	{name: "another's profile", headers: []string{"x-api-key", key, "x-logos-profile", "theirs"}, status: 403, code: "profile_not_allowed", openAI: "permission_error", anthropic: "permission_error"},
	{name: "a profile beside the key's own", change: func(r *logos.Resources) {
		r.Profiles = append(r.Profiles, &logos.Profile{ID: 5, ProjectID: 1, Name: "own"})
		r.APIKeys[0].ProfileID = 5
	}, headers: []string{"x-api-key", key, "x-logos-profile", "main"}, status: 403, code: "profile_not_allowed", openAI: "permission_error", anthropic: "permission_error"},
	{name: "GET", method: "GET", status: 400, code: "method_not_allowed", openAI: "invalid_request_error", anthropic: "invalid_request_error"},
	{name: "no body", body: "none", status: 400, code: "body_required", openAI: "invalid_request_error", anthropic: "invalid_request_error"},
	{name: "a body of no bytes", headers: []string{"x-api-key", key, "content-length", "0"}, status: 400, code: "body_required", openAI: "invalid_request_error", anthropic: "invalid_request_error"},
	{name: "no JSON", body: `{"model":"small"`, status: 400, code: "invalid_json", openAI: "invalid_request_error", anthropic: "invalid_request_error"},
	{name: "no object", body: `[]`, status: 400, code: "invalid_json", openAI: "invalid_request_error", anthropic: "invalid_request_error"},
	{name: "two models", body: `{"model":"small","model":"big"}`, status: 400, code: "invalid_json", openAI: "invalid_request_error", anthropic: "invalid_request_error"},
	{name: "no model", body: `{"messages":[]}`, status: 400, code: "model_required", openAI: "invalid_request_error", anthropic: "invalid_request_error"},
	{name: "an unknown model", body: `{"model":"huge"}`, status: 404, code: "model_not_found", openAI: "invalid_request_error", anthropic: "not_found_error"},
	{name: "a model that is not granted", change: func(r *logos.Resources) { r.Profiles[0].Models = r.Profiles[0].Models[1:] }, status: 403, code: "model_not_allowed", openAI: "permission_error", anthropic: "permission_error"},
	{name: "an unknown policy", headers: []string{"x-api-key", key, "x-logos-policy", "cheapest"}, status: 404, code: "policy_not_found", openAI: "invalid_request_error", anthropic: "not_found_error"},
	{name: "no model at all", change: func(r *logos.Resources) { r.Profiles[0].Models, r.Profiles[0].Passthrough = nil, false }, body: `{"model":"auto"}`,
		status: 403, code: "model_not_allowed", openAI: "permission_error", anthropic: "permission_error"},
	{name: "an API that no deployment serves", change: func(r *logos.Resources) {
		for _, d := range r.Deployments {
			d.APIs = []logos.API{logos.APIEmbeddings}
		}
		r.Deployments[2].Credential, r.Credentials = 3, append(r.Credentials, &logos.Credential{ID: 3, Provider: 3})
	}, status: 400, code: "api_not_supported", openAI: "invalid_request_error", anthropic: "invalid_request_error"},
	{name: "no deployment", change: func(r *logos.Resources) { r.Deployments = nil }, status: 503, code: "no_deployment", openAI: "server_error", anthropic: "overloaded_error"},
	{name: "no credential", change: func(r *logos.Resources) { r.Profiles[0].Grants = nil }, status: 503, code: "no_deployment", openAI: "server_error", anthropic: "overloaded_error"},
}

func TestRefusesInTheShapeOfTheCallersAPI(t *testing.T) {
	for _, c := range refusals {
		if c.method == "" {
			c.method = "POST"
		}
		switch c.body {
		case "":
			c.body = `{"model":"small"}`
		case "none":
			c.body = ""
		}
		if c.headers == nil {
			c.headers = []string{"x-api-key", key}
		}
		for path, kind := range map[string]string{chat: c.openAI, "/v1/embeddings": c.openAI, "/v1/messages": c.anthropic} {
			if c.code == "api_not_supported" && path == "/v1/embeddings" {
				continue
			}
			t.Run(c.name+path, func(t *testing.T) {
				g := newGateway(t, config(t, c.change))
				x := g.call(c.method, path, c.body, c.headers...)
				expectRefusal(t, g, x, path == "/v1/messages", c.status, c.code, kind)
				d, _ := g.decisionOf(x.last())
				switch {
				case c.unknown && d != nil:
					t.Errorf("a call of nobody is recorded: %+v", d)
				case !c.unknown && (d == nil || d.Refusal != c.code || d.Project != 1 || d.APIKey != 3 || d.Team != 9 || d.Start != now.UnixMicro() || len(d.Targets) != 0 || d.Deadline != 0):
					t.Errorf("the refusal is recorded as %+v", d)
				}
			})
		}
	}
}

func TestRefusesPathsThatAreNoAPI(t *testing.T) {
	for _, path := range []string{"/", "/v1/files", "/v2/chat/completions", "/v1/chat/completionsx?key=secret", "*"} {
		g := newGateway(t, config(t, nil))
		x := g.call("POST", path, `{"model":"small"}`, "x-api-key", key)
		expectRefusal(t, g, x, false, 404, "unknown_path", "invalid_request_error")
		if strings.Contains(string(x.last().GetImmediateResponse().GetBody()), "secret") {
			t.Errorf("the refusal of %s shows its query", path)
		}
	}
}

func TestRefusesAnthropicsClientsInTheirShapeEverywhere(t *testing.T) {
	g := newGateway(t, config(t, nil))
	expectRefusal(t, g, g.call("POST", "/v1/files", "{}", "x-api-key", key, "anthropic-version", "2023-06-01"), true, 404, "unknown_path", "not_found_error")
	expectRefusal(t, g, g.call("POST", "/v1/messages/count_tokens", "{}", "x-api-key", key), true, 404, "unknown_path", "not_found_error")
	expectRefusal(t, g, g.call("GET", "/v1/models/huge", "", "x-api-key", key, "anthropic-version", "2023-06-01"), true, 404, "model_not_found", "not_found_error")
}

func TestRefusesWithoutAConfiguration(t *testing.T) {
	g := newGateway(t, nil)
	expectRefusal(t, g, g.chat(`{"model":"small"}`), false, 503, "gateway_starting", "server_error")
	expectRefusal(t, g, g.call("POST", "/v1/messages", "{}", "x-api-key", key), true, 503, "gateway_starting", "overloaded_error")
	expectRefusal(t, g, g.call("GET", "/v1/models", "", "x-api-key", key), false, 503, "gateway_starting", "server_error")
}

func TestRefusesWhileClustersAreNotReady(t *testing.T) {
	c := config(t, nil)
	g := newGateway(t, c)
	g.inactive[clusterOf(t, c, 1)], g.inactive[clusterOf(t, c, 2)] = true, true
	x := g.chat(`{"model":"small"}`)
	expectRefusal(t, g, x, false, 503, "no_deployment", "server_error")
	if body := string(x.last().GetImmediateResponse().GetBody()); !strings.Contains(body, "deployment 1: not_active") || !strings.Contains(body, "deployment 3: no_credential") {
		t.Errorf("the refusal does not say why: %s", body)
	}
}

func TestSaysWhyAProviderCantBeCalled(t *testing.T) {
	for reason, words := range map[string]string{policy.HostNotResolved: "does not resolve", policy.HostNotAllowed: "not allowed", policy.NotActive: "not ready yet"} {
		c := config(t, nil)
		g := newGateway(t, c)
		g.reason = reason
		g.inactive[clusterOf(t, c, 1)], g.inactive[clusterOf(t, c, 2)] = true, true
		g.inactive[passCluster(t, c, 1, 1)] = true
		if body := string(g.chat(`{"model":"small"}`).last().GetImmediateResponse().GetBody()); !strings.Contains(body, "deployment 1: "+reason) {
			t.Errorf("%s is told by model as %s", reason, body)
		}
		x := g.call("GET", "/v1/files", "", "x-api-key", key, "x-logos-provider", "one", "x-logos-proxy", "1")
		expectRefusal(t, g, x, false, 503, "no_deployment", "server_error")
		if body := string(x.last().GetImmediateResponse().GetBody()); !strings.Contains(body, words) {
			t.Errorf("%s is told of a provider as %s", reason, body)
		}
	}
}

func TestSendsNothingWithoutAnIntent(t *testing.T) {
	paused := logos.Errorf(logos.Unavailable, "gateway_unavailable", "the gateway takes no calls for now")
	for _, path := range []string{chat, "/v1/messages"} {
		anthropic := path == "/v1/messages"
		g := newGateway(t, config(t, nil))
		g.intents.err = paused
		kind := map[bool]string{false: "server_error", true: "overloaded_error"}[anthropic]
		x := g.call("POST", path, `{"model":"small"}`, "x-api-key", key)
		expectRefusal(t, g, x, anthropic, 503, "gateway_unavailable", kind)
		if d, _ := g.decisionOf(x.last()); d == nil || d.Refusal != "gateway_unavailable" || len(d.Targets) != 0 {
			t.Errorf("the refusal is recorded as %+v", d)
		}
	}
	t.Run("nor passed through", func(t *testing.T) {
		g := newGateway(t, config(t, func(r *logos.Resources) { r.Profiles[0].Models = nil }))
		g.intents.err = paused
		expectRefusal(t, g, g.call("GET", "/v1/files", "", "x-api-key", key, "x-logos-provider", "one"), false, 503, "gateway_unavailable", "server_error")
	})
	t.Run("and tells nothing of an internal error", func(t *testing.T) {
		g := newGateway(t, config(t, nil))
		g.intents.err = errors.New("disk /dev/secret broke")
		x := g.chat(`{"model":"small"}`)
		expectRefusal(t, g, x, false, 500, "internal_error", "server_error")
		if strings.Contains(string(x.last().GetImmediateResponse().GetBody()), "secret") {
			t.Error("the caller is told of internals")
		}
	})
}

// Its record could not be stored, and would hold up all others.
func TestSendsNothingWithoutAUsableRequestID(t *testing.T) {
	for _, id := range []string{"", "x", callID + "0"} {
		g := newGateway(t, config(t, nil))
		x := g.chat(`{"model":"small"}`, "x-request-id", id)
		if len(g.intents.all()) != 0 || x.last().GetImmediateResponse().GetStatus().GetCode() < 400 {
			t.Errorf("a call with the request id %q is sent", id)
		}
	}
}

func TestAnExpiredKeyIsToldWhenItExpired(t *testing.T) {
	g := newGateway(t, config(t, func(r *logos.Resources) { r.APIKeys[0].ExpiresAt = now.Add(-time.Hour) }))
	if body := string(g.chat(`{"model":"small"}`).last().GetImmediateResponse().GetBody()); !strings.Contains(body, "2026-11-24 11:00 UTC") {
		t.Errorf("the refusal is %s", body)
	}
}

func TestARefusalIsRecordedWithWhatWasConsidered(t *testing.T) {
	g := newGateway(t, config(t, func(r *logos.Resources) { r.Profiles[0].Grants = nil }))
	d, _ := g.decisionOf(g.chat(`{"model":"small","stream":true}`).last())
	want := []logos.DecisionCandidate{{Deployment: 1, Excluded: "no_credential"}, {Deployment: 2, Excluded: "no_credential"}, {Deployment: 3, Excluded: "no_credential"}}
	if d == nil || d.Model != "small" || !d.Stream || !cmp.Equal(d.Candidates, want) {
		t.Errorf("the refusal is recorded as %+v, want its model and why each deployment was excluded", d)
	}
}
