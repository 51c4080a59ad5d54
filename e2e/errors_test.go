package e2e_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestEachMistakeHasItsOwnAnswer(t *testing.T) {
	p := plain(t, usage{input: 1, output: 1})
	g := start(t, map[string]string{"LOGOS_MAX_BODY_BYTES": "1048576"})
	g.deploy("m", "", p.openai("p"))
	g.set("add_model", object{"name": "not-granted", "endpoint": ""})
	g.waitRevision()
	big := strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code                     string
	}{
		{"malformed JSON", "POST", "/v1/chat/completions", `{"model":"m",`, nil, 400, "invalid_json"},
		{"no JSON at all", "POST", "/v1/chat/completions", `hello`, nil, 400, "invalid_json"},
		{"two models", "POST", "/v1/chat/completions", `{"model":"m","model":"n"}`, nil, 400, "invalid_json"},
		{"no model", "POST", "/v1/chat/completions", `{"messages":[]}`, nil, 400, "model_required"},
		{"no body", "POST", "/v1/chat/completions", ``, nil, 400, "body_required"},
		{"unknown model", "POST", "/v1/chat/completions", `{"model":"nope"}`, nil, 404, "model_not_found"},
		{"model of others", "POST", "/v1/chat/completions", `{"model":"not-granted"}`, nil, 403, "model_not_allowed"},
		{"unknown path", "POST", "/v1/audio/speech", `{"model":"m"}`, nil, 404, "unknown_path"},
		{"wrong method", "GET", "/v1/chat/completions", ``, nil, 400, "method_not_allowed"},
		{"missing key", "POST", "/v1/chat/completions", `{"model":"m"}`, []string{"authorization:"}, 401, "missing_api_key"},
		{"wrong key", "POST", "/v1/chat/completions", `{"model":"m"}`, []string{"authorization: Bearer lg-wrong"}, 401, "invalid_api_key"},
		{"somebody else's key", "POST", "/v1/chat/completions", `{"model":"m"}`, []string{"authorization: Bearer sk-provider"}, 401, "missing_api_key"},
		{"two keys", "POST", "/v1/chat/completions", `{"model":"m"}`, []string{"x-api-key: lg-another"}, 400, "ambiguous_api_key"},
		{"unknown profile", "POST", "/v1/chat/completions", `{"model":"m"}`, []string{"x-logos-profile: nope"}, 403, "profile_not_allowed"},
		{"unknown policy", "POST", "/v1/chat/completions", `{"model":"m"}`, []string{"x-logos-policy: nope"}, 404, "policy_not_found"},
		{"too large", "POST", "/v1/chat/completions", `{"model":"m","x":"` + big + `"}`, nil, 413, "request_too_large"},
		{"Anthropic's API", "POST", "/v1/messages", `{"model":"nope"}`, nil, 404, "model_not_found"},
		{"Anthropic's API without a key", "POST", "/v1/messages", `{"model":"nope"}`, []string{"authorization:"}, 401, "missing_api_key"},
		{"too large for Anthropic's API", "POST", "/v1/messages", `{"model":"m","x":"` + big + `"}`, nil, 413, "request_too_large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := g.call(c.method, c.path, c.body, c.headers...)
			if r.status != c.status || r.code() != c.code {
				t.Errorf("answer %v, want %d %s", r, c.status, c.code)
			}
			checkErrorShape(t, r, c.path)
		})
	}
	t.Run("too large, in chunks", func(t *testing.T) {
		body := io.MultiReader(strings.NewReader(`{"model":"m","x":"`), strings.NewReader(big), strings.NewReader(`"}`))
		r := g.callBody("POST", "/v1/chat/completions", io.NopCloser(body))
		if r.status != 413 || r.code() != "request_too_large" {
			t.Errorf("answer %v", r)
		}
		checkErrorShape(t, r, "/v1/chat/completions")
	})
	t.Run("a refused call is on record", func(t *testing.T) {
		r := g.call("POST", "/v1/chat/completions", `{"model":"nope"}`)
		if rec := g.record(r.id()); rec.EndReason != "refused" || rec.Status != 404 || rec.Error == nil || rec.Error.Code != "model_not_found" || rec.Model != "nope" || len(rec.Attempts) != 0 {
			t.Errorf("record %+v", rec)
		}
	})
	if n := len(p.requests()); n != 0 {
		t.Errorf("%d requests reached the provider", n)
	}
	t.Run("internal headers of a caller change nothing", func(t *testing.T) {
		r := g.chat("m", "x-envoy-attempt-count: 9", "x-envoy-max-retries: 7", "x-envoy-upstream-rq-timeout-ms: 1", "x-logos-route: d9", "x-logos-secret: 1",
			"x-request-id: dup", "x-forwarded-for: 10.0.0.1", "x-envoy-original-path: /x", "x-logos-user: someone")
		r2 := g.chat("m", "x-request-id: dup")
		if r.status != 200 || r2.status != 200 || r.id() == "dup" || r.id() == r2.id() {
			t.Errorf("answers %v (%s), %v (%s)", r, r.id(), r2, r2.id())
		}
		if rec := g.record(r.id()); rec.EndUser == "" || rec.EndUser == "someone" {
			t.Errorf("end user %q", rec.EndUser)
		}
		g.record(r2.id())
		p.mustNotHold(t, "x-logos", "x-envoy", "x-forwarded", "dup", "someone", g.root)
	})
}

// checkErrorShape checks that an error has the shape of its API, and the request id.
func checkErrorShape(t *testing.T, r *reply, path string) {
	t.Helper()
	o := r.json()
	e, _ := o["error"].(object)
	if !strings.HasPrefix(r.header.Get("content-type"), "application/json") || e["message"] == "" || e["type"] == nil || r.id() == "" {
		t.Errorf("error is %v with %v", r, r.header)
	}
	id := e["request_id"]
	if path == "/v1/messages" {
		id = o["request_id"]
		if o["type"] != "error" {
			t.Errorf("error is not Anthropic's: %v", r)
		}
	}
	if id != r.id() {
		t.Errorf("the error names request %v, its header %s", id, r.id())
	}
}

func TestLargeBodiesPass(t *testing.T) {
	const answer = 40 << 20
	p := newProvider(t, func(p *provider, w http.ResponseWriter, a asked) {
		if strings.HasSuffix(a.uri, "/embeddings") {
			w.Header().Set("content-type", "application/json")
			_, _ = io.WriteString(w, `{"object":"list","usage":{"prompt_tokens":7,"total_tokens":7},"data":[{"embedding":"`)
			chunk := bytes.Repeat([]byte("A"), 1<<20)
			for range answer >> 20 {
				_, _ = w.Write(chunk)
			}
			_, _ = io.WriteString(w, `"}]}`)
			return
		}
		p.answerChat(w, a, usage{input: 5, output: 3}, 2)
	})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	t.Run("20 MiB to a provider, with another model's name spliced in", func(t *testing.T) {
		if _, err := g.db().Exec(t.Context(), "with r as (update config_revision set revision = revision + 1 returning revision) update deployments d set provider_model = 'renamed', revision = r.revision from r"); err != nil {
			t.Fatal(err)
		}
		g.waitRevision()
		body := `{"messages":[{"role":"user","content":"` + strings.Repeat("y", 20<<20) + `"}],"model":"m"}`
		r := g.call("POST", "/v1/chat/completions", body)
		if r.status != 200 {
			t.Fatalf("answer %v", r)
		}
		a := p.requests()[0]
		if want := strings.Replace(body, `"model":"m"`, `"model":"renamed"`, 1); string(a.body) != want {
			t.Errorf("the provider got %d bytes, want %d", len(a.body), len(want))
		}
		if rec := g.record(r.id()); rec.meters() != "input=5 output=3" {
			t.Errorf("recorded %s", rec.meters())
		}
	})
	t.Run("40 MiB from a provider", func(t *testing.T) {
		r := g.call("POST", "/v1/embeddings", `{"model":"m","input":"x"}`)
		if r.status != 200 || len(r.body) < answer || r.err != nil {
			t.Fatalf("%d, %d bytes, %v", r.status, len(r.body), r.err)
		}
		if rec := g.record(r.id()); rec.meters() != "input=7 output=0" {
			t.Errorf("recorded %s", rec.meters())
		}
	})
}
