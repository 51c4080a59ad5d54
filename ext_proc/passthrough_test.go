package extproc_test

import (
	"slices"
	"strings"
	"testing"

	extprocconfig "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/ls1intum/edutelligence/logos"
)

// passing makes a profile that grants no models, so that all its calls pass through.
func passing(r *logos.Resources) { r.Profiles[0].Models = nil }

func TestPassesACallThroughUnread(t *testing.T) {
	c := config(t, passing)
	g := newGateway(t, c)
	x := g.call("POST", "/v1/audio/speech?voice=x", "not JSON at all", "x-api-key", key, "x-logos-provider", "ONE", "content-length", "15")
	if x.err != nil || len(x.answers) != 1 {
		t.Fatalf("%d answers, then %v; want one and the end: the body is not for Logos", len(x.answers), x.err)
	}
	answer := x.last()
	want := &extprocconfig.ProcessingMode{
		RequestHeaderMode: extprocconfig.ProcessingMode_SEND, RequestBodyMode: extprocconfig.ProcessingMode_NONE,
		ResponseHeaderMode: extprocconfig.ProcessingMode_SKIP, ResponseBodyMode: extprocconfig.ProcessingMode_NONE,
		RequestTrailerMode: extprocconfig.ProcessingMode_SKIP, ResponseTrailerMode: extprocconfig.ProcessingMode_SKIP,
	}
	if diff := cmp.Diff(want, answer.GetModeOverride(), protocmp.Transform()); diff != "" {
		t.Errorf("the mode differs (-want +got):\n%s", diff)
	}
	cluster := passCluster(t, c, 1, 1)
	set, removed := mutation(answer.GetRequestHeaders().GetResponse().GetHeaderMutation())
	if set["x-envoy-max-retries"] != "0" || !slices.Equal(removed, []string{"x-api-key"}) || !answer.GetRequestHeaders().GetResponse().GetClearRouteCache() {
		t.Errorf("it sets %v and removes %v", set, removed)
	}
	if got := rewriteOf(t, answer, cluster, ""); got != (rewrite{"/v1/audio/speech?voice=x", "one.example", ""}) || !slices.Equal(routeOf(t, answer), []string{cluster}) {
		t.Errorf("the request is %+v at %v", got, routeOf(t, answer))
	}
	d, _ := g.decisionOf(answer)
	wantTargets := []logos.DecisionTarget{{Provider: 1, Credential: 1, Cluster: cluster}}
	if d == nil || d.API != logos.APINone || d.Profile != 4 || d.BodyBytes != 15 || !cmp.Equal(d.Targets, wantTargets) || len(g.intents.all()) != 1 {
		t.Errorf("the decision is %+v, intents %d", d, len(g.intents.all()))
	}
}

func TestChoosesTheProviderOfAPassThrough(t *testing.T) {
	one := func(r *logos.Resources) { passing(r); r.Profiles[0].Grants = r.Profiles[0].Grants[:1] }
	twoProfiles := func(r *logos.Resources) { // the first lets callers bring their own key, the second has one
		passing(r)
		r.Profiles[0].Grants = []logos.Grant{{Provider: 1}}
		r.Profiles = append(r.Profiles, &logos.Profile{ID: 5, ProjectID: 1, Name: "second", Passthrough: true, Grants: []logos.Grant{{Provider: 1, Credential: 1}}})
	}
	for _, c := range []struct {
		name                 string
		change               func(*logos.Resources)
		headers              []string
		provider             logos.ProviderID
		credential, inactive logos.CredentialID
		profile              logos.ProfileID
	}{
		{"the only one", one, nil, 1, 1, 0, 4},
		{"by name", passing, []string{"x-logos-provider", "Two"}, 2, 2, 0, 4},
		{"by id", passing, []string{"x-logos-provider", "2"}, 2, 2, 0, 4},
		{"without a credential of ours", passing, []string{"x-logos-provider", "claude"}, 3, 0, 0, 4},
		{"with the caller's authorization", one, []string{"authorization", "Bearer sk-of-the-caller"}, 1, 0, 0, 4},
		{"with the caller's x-api-key", one, []string{"x-api-key", "sk-of-the-caller"}, 1, 0, 0, 4},
		{"with the caller's api-key", one, []string{"api-key", "of-azure"}, 1, 0, 0, 4},
		{"with the caller's key for Google", one, []string{"x-goog-api-key", "AIza"}, 1, 0, 0, 4},
		{"the profile that has a credential", twoProfiles, nil, 1, 1, 0, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := config(t, c.change)
			g := newGateway(t, config)
			x := g.call("GET", "/v1/files", "", append([]string{"logos-key", key}, c.headers...)...)
			d, _ := g.decisionOf(x.last())
			if d == nil || len(d.Targets) != 1 {
				t.Fatalf("the answer is %v", x.last())
			}
			want := logos.DecisionTarget{Provider: c.provider, Credential: c.credential, Cluster: passCluster(t, config, c.provider, c.credential)}
			if d.Targets[0] != want || d.Profile != c.profile {
				t.Errorf("the target is %+v of profile %d, want %+v of %d", d.Targets[0], d.Profile, want, c.profile)
			}
			if _, removed := mutation(x.last().GetRequestHeaders().GetResponse().GetHeaderMutation()); !slices.Equal(removed, []string{"logos-key"}) {
				t.Errorf("it removes %v", removed)
			}
		})
	}
}

// A key that a client sends in several ways at once must reach no provider in any of them.
func TestKeepsTheKeyFromTheProviderWhereverItStands(t *testing.T) {
	c := config(t, passing)
	for _, stray := range [][]string{{"authorization", key}, {"authorization", "Basic " + key}, {"x-goog-api-key", key}, {"api-key", "Bearer " + key}} {
		for _, headers := range [][]string{append([]string{"logos-key", key}, stray...), append(slices.Clone(stray), "logos-key", key)} {
			g := newGateway(t, c)
			x := g.call("GET", "/v1/files", "", append(headers, "x-logos-provider", "two")...)
			d, _ := g.decisionOf(x.last())
			if d == nil || len(d.Targets) != 1 || d.Targets[0].Credential == 0 {
				t.Errorf("with %v the decision is %+v: %v", headers, d, x.last())
				continue
			}
			_, removed := mutation(x.last().GetRequestHeaders().GetResponse().GetHeaderMutation())
			if !slices.Contains(removed, stray[0]) || !slices.Contains(removed, "logos-key") {
				t.Errorf("with %v it removes %v", headers, removed)
			}
		}
	}
}

// TRACE asks a server to send the request back, and with it the stored credential; CONNECT has no end.
func TestPassesNoMethodThroughThatShowsOrTunnels(t *testing.T) {
	for name, change := range map[string]func(*logos.Resources){"without models": passing, "with models": nil} {
		for _, method := range []string{"TRACE", "CONNECT"} {
			g := newGateway(t, config(t, change))
			x := g.call(method, "/v1/files", "", "logos-key", key, "x-logos-proxy", "true", "x-logos-provider", "two")
			t.Run(name+" "+method, func(t *testing.T) {
				expectRefusal(t, g, x, false, 501, "method_not_supported", "invalid_request_error")
			})
		}
	}
}

// With x-logos-proxy, a profile that lists models passes their calls through, and those alone.
func TestChecksTheModelOfAPassThrough(t *testing.T) {
	c := config(t, nil)
	for _, header := range []string{"x-logos-proxy", "proxy"} {
		g := newGateway(t, c)
		const body = `{"model":"big","stream":true,"user":"eve"}`
		x := g.call("POST", chat, body, "x-api-key", key, header, "true", "x-logos-provider", "two")
		d, _ := g.decisionOf(x.last())
		if d == nil || len(x.answers) != 2 || d.Model != "big" || !d.Stream || d.BodyBytes != int64(len(body)) || d.EndUser == "" || len(d.Targets) != 1 || d.Targets[0].Deployment != 0 {
			t.Fatalf("with %s, the decision is %+v after %d answers: %v", header, d, len(x.answers), x.last())
		}
		if got := rewriteOf(t, x.last(), d.Targets[0].Cluster, body); got != (rewrite{"/base/v1/chat/completions?x=1", "two.example:81", body}) {
			t.Errorf("the request is %+v", got)
		}
	}
	t.Run("but asks for no body where there is none", func(t *testing.T) {
		g := newGateway(t, c)
		x := g.call("GET", "/v1/files", "", "x-api-key", key, "x-logos-proxy", "true", "x-logos-provider", "two")
		if len(x.answers) != 1 || len(g.intents.all()) != 1 || x.last().GetModeOverride() == nil {
			t.Errorf("the answers are %v", x.answers)
		}
	})
	for _, off := range []string{"", "0", "false", "FALSE"} {
		g := newGateway(t, c)
		if d, _ := g.decisionOf(g.chat(`{"model":"big"}`, "x-logos-proxy", off).last()); d == nil || d.Targets[0].Deployment != 4 {
			t.Errorf("x-logos-proxy: %q passes the call through: %+v", off, d)
		}
	}
}

var passRefusals = []struct {
	name         string
	change       func(*logos.Resources)
	method, path string
	body         string
	headers      []string
	status       int
	code, kind   string
}{
	{"no model", nil, "POST", chat, `{}`, nil, 400, "model_required", "invalid_request_error"},
	{"no JSON", nil, "POST", chat, `x`, nil, 400, "invalid_json", "invalid_request_error"},
	{"another model", nil, "POST", chat, `{"model":"huge"}`, nil, 403, "model_not_allowed", "permission_error"},
	{"another model in Azure's path", nil, "POST", "/openai/deployments/huge/chat/completions", `{"model":"big"}`, nil, 403, "model_not_allowed", "permission_error"},
	{"another model in Gemini's path", nil, "POST", "/v1beta/models/huge:generateContent", `{"model":"big"}`, nil, 403, "model_not_allowed", "permission_error"},
	{"another engine", nil, "GET", "/v1/engines/huge/x", "", nil, 403, "model_not_allowed", "permission_error"},
	{"another tuned model", nil, "GET", "/v1beta/tunedModels/huge", "", nil, 403, "model_not_allowed", "permission_error"},
	{"a path that leaves", nil, "GET", "/v1/../admin", "", nil, 400, "invalid_path", "invalid_request_error"},
	{"a path that leaves in disguise", nil, "GET", "/v1/%252e%252e/admin", "", nil, 400, "invalid_path", "invalid_request_error"},
	{"a provider of others", nil, "GET", "/v1/files", "", []string{"x-logos-provider", "three"}, 403, "provider_not_allowed", "permission_error"},
	{"no provider named", nil, "GET", "/v1/files", "", []string{"x-logos-provider", ""}, 400, "provider_ambiguous", "invalid_request_error"},
	{"no provider there", func(r *logos.Resources) { r.Profiles[0].Grants = nil }, "GET", "/v1/files", "", []string{"x-logos-provider", ""}, 503, "no_provider", "server_error"},
	{"a profile without pass-through", func(r *logos.Resources) { r.Profiles[0].Passthrough = false }, "GET", "/v1/files", "", nil, 403, "passthrough_not_allowed", "permission_error"},
	{"a body that is too large", nil, "POST", "/v1/files", `{"model":"big","x":"` + strings.Repeat("x", maxBody) + `"}`, nil, 413, "request_too_large", "invalid_request_error"},
}

func TestRefusesToPassThrough(t *testing.T) {
	for _, c := range passRefusals {
		t.Run(c.name, func(t *testing.T) {
			g := newGateway(t, config(t, c.change))
			if c.headers == nil {
				c.headers = []string{"x-logos-provider", "two"}
			}
			x := g.call(c.method, c.path, c.body, append([]string{"x-api-key", key, "x-logos-proxy", "1"}, c.headers...)...)
			expectRefusal(t, g, x, false, c.status, c.code, c.kind)
			if d, _ := g.decisionOf(x.last()); d == nil || d.Refusal != c.code {
				t.Errorf("the refusal is recorded as %+v", d)
			}
		})
	}
	t.Run("before the cluster is ready", func(t *testing.T) {
		c := config(t, passing)
		g := newGateway(t, c)
		g.inactive[passCluster(t, c, 2, 2)] = true
		x := g.call("GET", "/v1/files", "", "x-api-key", key, "x-logos-provider", "two")
		expectRefusal(t, g, x, false, 503, "no_deployment", "server_error")
	})
}

// Servers decode segments, and some compare them in any case.
func TestNoSpellingOfAPathGetsAroundTheListOfModels(t *testing.T) {
	for _, path := range []string{
		"/openai/%64eployments/huge/chat/completions", "/openai/Deployments/huge/chat/completions", "/v1beta/%6Dodels/huge:generateContent", "/v1beta/Models/huge:generateContent",
	} {
		g := newGateway(t, config(t, nil))
		x := g.call("POST", path, `{"model":"big"}`, "x-api-key", key, "x-logos-proxy", "1", "x-logos-provider", "two")
		if x.last().GetImmediateResponse().GetStatus().GetCode() != 403 || len(g.intents.all()) != 0 {
			t.Errorf("%s is passed through", path)
		}
	}
}

// Many servers decode a path before they split it, some decode twice, and some pass over parameters.
func TestNoSeparatorInDisguiseGetsAroundTheListOfModels(t *testing.T) {
	for _, path := range []string{
		"/openai/deployments%2Fhuge/chat/completions", "/openai%2Fdeployments%2fhuge/chat/completions", "/openai/%2564eployments/huge/chat/completions",
		"/openai/deployments;v=1/huge/chat/completions", "/v1beta/models%2Fhuge:generateContent", "/v1beta/models/huge%3AgenerateContent",
	} {
		g := newGateway(t, config(t, nil))
		x := g.call("POST", path, `{"model":"big"}`, "x-api-key", key, "x-logos-proxy", "1", "x-logos-provider", "two")
		if status := x.last().GetImmediateResponse().GetStatus().GetCode(); status != 403 && status != 400 || len(g.intents.all()) != 0 {
			t.Errorf("%s is passed through", path)
		}
	}
}

func TestPassesThroughAModelHoweverItsNameIsEscaped(t *testing.T) {
	c := config(t, func(r *logos.Resources) { r.Models[1].Name = "org/big" })
	g := newGateway(t, c)
	x := g.call("POST", "/v1/models/org%2Fbig:x", `{"model":"org/big"}`, "x-api-key", key, "x-logos-proxy", "1", "x-logos-provider", "two")
	if len(g.intents.all()) != 1 {
		t.Errorf("the call is refused: %v", x.last().GetImmediateResponse())
	}
}
