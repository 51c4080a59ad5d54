package extproc_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ls1intum/edutelligence/logos"
)

func sources(list ...string) (out []netip.Prefix) {
	for _, text := range list {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// apis holds a call of everything that a scope of APIs can name.
var apis = map[string]struct{ method, path, body, proxy string }{
	"chat":        {"POST", chat, `{"model":"small"}`, ""},
	"completions": {"POST", "/v1/completions", `{"model":"small"}`, ""},
	"responses":   {"POST", "/v1/responses", `{"model":"small"}`, ""},
	"embeddings":  {"POST", "/v1/embeddings", `{"model":"small"}`, ""},
	"messages":    {"POST", "/v1/messages", `{"model":"small"}`, ""},
	"models":      {"GET", "/v1/models", "", ""},
	"passthrough": {"POST", chat, `{"model":"small"}`, "true"},
}

func TestAKeyIsForTheAPIsOfItsScopeAlone(t *testing.T) {
	for scope := range apis {
		for name, call := range apis {
			g := newGateway(t, config(t, func(r *logos.Resources) { r.APIKeys[0].APIs = []string{scope} }))
			x := g.call(call.method, call.path, call.body, "x-api-key", key, "x-logos-proxy", call.proxy, "x-logos-provider", "two")
			refusal := x.last().GetImmediateResponse()
			if name == scope {
				if x.err != nil || refusal.GetStatus().GetCode() >= 400 {
					t.Errorf("a key for %s may not: %v", scope, x.answers)
				}
				continue
			}
			kind := "permission_error"
			expectRefusal(t, g, x, name == "messages", 403, "api_not_allowed", kind)
			if text := string(refusal.GetBody()); !strings.Contains(text, "may not be used for "+name+": it may be for "+scope) {
				t.Errorf("the refusal is %s", text)
			}
			if name != "passthrough" && len(x.answers) != 1 {
				t.Errorf("%s is refused after its body was read", name)
			}
		}
	}
}

// Where all calls of a profile pass through, they do so whatever their path.
func TestAScopeOfModelAPIsIsNotForPassThrough(t *testing.T) {
	g := newGateway(t, config(t, func(r *logos.Resources) { passing(r); r.APIKeys[0].APIs = []string{"chat", "models"} }))
	for _, path := range []string{chat, "/v1/models", "/v1/files"} {
		expectRefusal(t, g, g.call("GET", path, "", "x-api-key", key, "x-logos-provider", "two"), false, 403, "api_not_allowed", "permission_error")
	}
}

func TestAScopeOfAPIsLeavesWhatIsNone(t *testing.T) {
	g := newGateway(t, config(t, func(r *logos.Resources) { r.APIKeys[0].APIs = []string{"chat"} }))
	expectRefusal(t, g, g.call("POST", "/v1/files", "{}", "x-api-key", key), false, 404, "unknown_path", "invalid_request_error")
}

func TestAScopeOfModelsNarrowsEveryChoice(t *testing.T) {
	two := func(r *logos.Resources) {
		r.APIKeys[0].Models = []logos.ModelID{2, 9} // and one that is gone
		r.Models = append(r.Models, &logos.Model{ID: 3, Name: "secret"})
		r.Profiles = append(r.Profiles, &logos.Profile{ID: 5, ProjectID: 1, Name: "second", Models: []logos.ModelID{1, 2}, Grants: []logos.Grant{{Provider: 2, Credential: 2}}})
	}
	g := newGateway(t, config(t, two))
	for _, c := range []struct{ body, policy string }{{`{"model":"big"}`, ""}, {`{"model":"auto"}`, ""}, {`{"model":"small"}`, "auto"}} {
		d, _ := g.decisionOf(g.chat(c.body, "x-logos-policy", c.policy).last())
		if d == nil || len(d.Targets) != 1 || d.Targets[0].Model != 2 || slices.ContainsFunc(d.Candidates, func(x logos.DecisionCandidate) bool { return x.Deployment != 4 }) {
			t.Errorf("for %s with the policy %q, the decision is %+v", c.body, c.policy, d)
		}
	}
	var list struct{ Data []struct{ ID string } }
	if err := json.Unmarshal(g.call("GET", "/v1/models", "", "x-api-key", key).last().GetImmediateResponse().GetBody(), &list); err != nil || len(list.Data) != 1 || list.Data[0].ID != "big" {
		t.Errorf("models listed are %+v, %v", list, err)
	}
	g = newGateway(t, config(t, two))
	expectRefusal(t, g, g.call("GET", "/v1/models/small", "", "x-api-key", key), false, 404, "model_not_found", "invalid_request_error")
	for _, path := range []string{chat, "/openai/deployments/small/chat/completions"} {
		x := g.call("POST", path, `{"model":"small"}`, "x-api-key", key)
		expectRefusal(t, g, x, false, 403, "model_not_allowed", "permission_error")
		if text := string(x.last().GetImmediateResponse().GetBody()); !strings.Contains(text, `it may use big"`) || strings.Contains(text, "secret") {
			t.Errorf("the refusal is %s, want the one model that the key may use", text)
		}
	}
}

func TestAScopeOfModelsHoldsForPassThrough(t *testing.T) {
	scoped := func(r *logos.Resources) { r.APIKeys[0].Models = []logos.ModelID{2} }
	unlisted := func(r *logos.Resources) { passing(r); scoped(r) }
	for _, c := range []struct {
		name       string
		change     func(*logos.Resources)
		path, body string
		status     int
		code       string
	}{
		{"the model of both lists", scoped, chat, `{"model":"big"}`, 0, ""},
		{"a model of the profile's list alone", scoped, chat, `{"model":"small"}`, 403, "model_not_allowed"},
		{"a model of no list", scoped, chat, `{"model":"huge"}`, 403, "model_not_allowed"},
		{"a model of the key, where the profile lists none", unlisted, chat, `{"model":"big"}`, 0, ""},
		{"another model, where the profile lists none", unlisted, chat, `{"model":"small"}`, 403, "model_not_allowed"},
		{"no model, where the profile lists none", unlisted, chat, `{"x":1}`, 400, "model_required"},
		{"no JSON, where the profile lists none", unlisted, "/v1/audio/speech", `x`, 400, "invalid_json"},
		{"no body, where the profile lists none", unlisted, "/v1/files", ``, 0, ""},
		{"another model in the path, where the profile lists none", unlisted, "/v1beta/models/small:generateContent", ``, 403, "model_not_allowed"},
		{"the key's model in the path", scoped, "/openai/deployments/big/chat/completions", ``, 0, ""},
		{"the profile's other model in the path", scoped, "/openai/deployments/small/chat/completions", ``, 403, "model_not_allowed"},
		{"a model that is gone", func(r *logos.Resources) { unlisted(r); r.APIKeys[0].Models = []logos.ModelID{9} }, chat, `{"model":"big"}`, 403, "model_not_allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGateway(t, config(t, c.change))
			x := g.call("POST", c.path, c.body, "x-api-key", key, "x-logos-proxy", "true", "x-logos-provider", "two")
			if c.status == 0 {
				if len(g.intents.all()) != 1 {
					t.Errorf("refused: %v", x.last().GetImmediateResponse())
				}
				return
			}
			kind := map[int]string{400: "invalid_request_error", 403: "permission_error"}[c.status]
			expectRefusal(t, g, x, false, c.status, c.code, kind)
		})
	}
}

func TestAKeyWorksFromItsSourcesAlone(t *testing.T) {
	g := newGateway(t, config(t, func(r *logos.Resources) { r.APIKeys[0].Sources = sources("10.1.0.0/16", "2001:db8::/32") }))
	for address, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "2001:db8::7": true, "10.2.0.1": false, "2001:db9::7": false, "": false, "unknown": false, "10.1.2.3:80": false} {
		g.source = address
		x := g.chat(`{"model":"small"}`)
		if sent := x.last().GetRequestBody() != nil; sent != want {
			t.Errorf("from %q, the call is sent: %t, want %t", address, sent, want)
		}
		if text := string(x.last().GetImmediateResponse().GetBody()); !want && !strings.Contains(text, "it may be from 10.1.0.0/16, 2001:db8::/32") {
			t.Errorf("from %q, the refusal is %s", address, text)
		}
	}
	// What the caller itself says of its address counts for nothing.
	g = newGateway(t, config(t, func(r *logos.Resources) { r.APIKeys[0].Sources = sources("10.1.0.0/16") }))
	for _, header := range []string{"x-forwarded-for", "x-logos-source", "x-real-ip", "forwarded", "x-envoy-external-address"} {
		expectRefusal(t, g, g.chat(`{"model":"small"}`, header, "10.1.2.3"), false, 403, "source_not_allowed", "permission_error")
	}
}

func TestARefusalListsNotWithoutEnd(t *testing.T) {
	g := newGateway(t, config(t, func(r *logos.Resources) {
		for id := logos.ModelID(10); id < 1000; id++ {
			r.Models = append(r.Models, &logos.Model{ID: id, Name: fmt.Sprintf("model-%d", id)})
			r.Profiles[0].Models = append(r.Profiles[0].Models, id)
		}
		r.Models = append(r.Models, &logos.Model{ID: 2000, Name: "another"})
	}))
	x := g.chat(`{"model":"another"}`)
	expectRefusal(t, g, x, false, 403, "model_not_allowed", "permission_error")
	if text := string(x.last().GetImmediateResponse().GetBody()); len(text) > 1000 {
		t.Errorf("the refusal has %d bytes: %s", len(text), text)
	}
}
