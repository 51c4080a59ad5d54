package e2e_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// everyAPI answers each of the model APIs as their references show, streamed and not.
func everyAPI(p *provider, w http.ResponseWriter, a asked) {
	u := usage{input: 20, cached: 8, output: 10, reasoning: 4}
	responses := func() object {
		return object{"id": "r", "object": "response", "status": "completed", "service_tier": "flex", "usage": object{
			"input_tokens": u.input, "input_tokens_details": object{"cached_tokens": u.cached},
			"output_tokens": u.output, "output_tokens_details": object{"reasoning_tokens": u.reasoning}, "total_tokens": u.input + u.output}}
	}
	path, _, _ := strings.Cut(a.uri, "?")
	switch {
	case strings.HasSuffix(path, "/chat/completions"), strings.HasSuffix(path, "/completions"):
		p.answerChat(w, a, u, 5)
	case strings.HasSuffix(path, "/embeddings"):
		answerJSON(w, 200, object{"object": "list", "data": []object{{"embedding": []float64{1}}}, "usage": object{"prompt_tokens": 20, "total_tokens": 20}})
	case strings.HasSuffix(path, "/responses") && a.streams():
		e := openEvents(w)
		e.text("event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"status\":\"in_progress\",\"usage\":null}}\n\n")
		encoded, _ := json.Marshal(object{"type": "response.completed", "response": responses()})
		e.text("event: response.completed\ndata: " + string(encoded) + "\n\n")
	case strings.HasSuffix(path, "/responses"):
		answerJSON(w, 200, responses())
	case strings.HasSuffix(path, "/messages") && a.streams():
		e := openEvents(w)
		e.text("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":12,\"cache_read_input_tokens\":8,\"cache_creation_input_tokens\":3,\"output_tokens\":1}}}\n\n")
		e.text("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n")
		e.text("event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":10}}\n\n")
		e.text("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
	case strings.HasSuffix(path, "/messages"):
		answerJSON(w, 200, object{"type": "message", "usage": object{"input_tokens": 12, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 3, "output_tokens": 10}})
	default:
		answerJSON(w, 200, object{"path": a.uri, "usage": object{"prompt_tokens": 2, "completion_tokens": 1}})
	}
}

func TestEveryWayToCallIsMetered(t *testing.T) {
	p := newProvider(t, everyAPI)
	g := start(t, nil)
	g.deploy("the-model", "", p.openai("everything"))
	const openAI = "input=12 cached_input=8 output=6 reasoning=4"
	const anthropic = "cache_write=3 cached_input=8 input=12 output=10"
	for _, c := range []struct {
		name, path, body string
		wantPath         string
		want             string
	}{
		{"chat", "/v1/chat/completions", `{"model":"the-model","messages":[]}`, "/v1/chat/completions", openAI},
		{"chat streamed", "/v1/chat/completions", `{"model":"the-model","stream":true}`, "/v1/chat/completions", openAI},
		{"chat streamed against its will", "/v1/chat/completions", `{"stream":true,"stream_options":{"include_usage":false},"model":"the-model"}`, "/v1/chat/completions", openAI},
		{"completions", "/v1/completions", `{"model":"the-model","prompt":"x"}`, "/v1/completions", openAI},
		{"completions streamed", "/v1/completions", `{"model":"the-model","stream":true}`, "/v1/completions", openAI},
		{"responses", "/v1/responses", `{"model":"the-model","input":"x"}`, "/v1/responses", openAI},
		{"responses streamed", "/v1/responses", `{"model":"the-model","stream":true}`, "/v1/responses", openAI},
		{"embeddings", "/v1/embeddings", `{"model":"the-model","input":"x"}`, "/v1/embeddings", "input=20 output=0"},
		{"messages", "/v1/messages", `{"model":"the-model"}`, "/v1/messages", anthropic},
		{"messages streamed", "/v1/messages", `{"model":"the-model","stream":true}`, "/v1/messages", anthropic},
		{"Azure's path", "/openai/deployments/the-model/chat/completions?api-version=2024-10-21", `{"messages":[]}`, "/v1/chat/completions", openAI},
		{"Azure's newer path", "/openai/v1/chat/completions", `{"model":"the-model"}`, "/v1/chat/completions", openAI},
		{"automatic", "/v1/chat/completions", `{"model":"auto"}`, "/v1/chat/completions", openAI},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(p.requests())
			r := g.call("POST", c.path, c.body, "accept-encoding: gzip")
			if r.status != 200 || r.err != nil {
				t.Fatalf("answer: %v %v", r, r.err)
			}
			got := p.requests()[before:]
			if len(got) != 1 || got[0].uri != c.wantPath || got[0].json()["model"] != "the-model" {
				t.Errorf("the provider was asked: %v", got)
			}
			rec := g.record(r.id())
			meters := strings.Fields(rec.meters())
			slices.Sort(meters)
			want := strings.Fields(c.want)
			slices.Sort(want)
			if !slices.Equal(meters, want) || rec.EndReason != "ok" {
				t.Errorf("recorded %v (%s), want %v", meters, rec.EndReason, want)
			}
			if r.header.Get("x-logos-model") != "the-model" || r.header.Get("x-logos-provider") != "everything" || r.header.Get("x-logos-attempts") != "1" {
				t.Errorf("headers: %v", r.header)
			}
		})
	}
	t.Run("models", func(t *testing.T) {
		if r := g.call("GET", "/v1/models", ""); r.status != 200 || !strings.Contains(string(r.body), `"id":"the-model"`) {
			t.Errorf("models: %v", r)
		}
		if r := g.call("GET", "/v1/models/the-model", ""); r.status != 200 || r.json()["id"] != "the-model" {
			t.Errorf("one model: %v", r)
		}
		if r := g.call("GET", "/v1/models/another", ""); r.status != 404 || r.code() != "model_not_found" {
			t.Errorf("another model: %v", r)
		}
	})
	t.Run("a provider that reports nothing is estimated", func(t *testing.T) {
		if _, err := g.db().Exec(t.Context(), "with r as (update config_revision set revision = revision + 1 returning revision) update deployments d set include_usage = false, revision = r.revision from r"); err != nil {
			t.Fatal(err)
		}
		g.waitRevision()
		r := g.call("POST", "/v1/chat/completions", chatBody("the-model", true))
		if rec := g.record(r.id()); !strings.Contains(rec.meters(), "input~") || !strings.Contains(rec.meters(), "output~") {
			t.Errorf("recorded %s", rec.meters())
		}
		asked := p.requests()
		if asked[len(asked)-1].wantsUsage() {
			t.Error("the provider was asked for usage")
		}
	})
	p.mustNotHold(t, g.root, "x-logos", "x-envoy", "accept-encoding")
}

func TestPassThrough(t *testing.T) {
	p := newProvider(t, everyAPI)
	g := start(t, nil)
	g.setup("plain", p.URL+"/v1?tenant=7")
	g.waitRevision()
	t.Run("with the caller's own credential", func(t *testing.T) {
		r := g.call("POST", "/v1/anything/else?x=1", `{ "any":  "bytes" }`, "authorization: Bearer sk-mine", "logos-key: "+g.root)
		a := p.requests()
		last := a[len(a)-1]
		if r.status != 200 || last.uri != "/v1/anything/else?tenant=7&x=1" || string(last.body) != `{ "any":  "bytes" }` || last.header.Get("authorization") != "Bearer sk-mine" {
			t.Errorf("answer %v; asked %+v", r, last)
		}
		if rec := g.record(r.id()); rec.meters() != "input=2 output=1" {
			t.Errorf("recorded %q", rec.meters())
		}
	})
	t.Run("without any", func(t *testing.T) {
		r := g.call("GET", "/v1/files", "")
		a := p.requests()
		if last := a[len(a)-1]; r.status != 200 || last.header.Get("authorization") != "" {
			t.Errorf("answer %v; asked %+v", r, last)
		}
	})
	t.Run("paths that leave the base are refused", func(t *testing.T) {
		for _, path := range []string{"/v1/%2e%2e/admin", "/v1/..%2fadmin", "/v1/%252e%252e/admin", "/v1/x%5c..%5cadmin"} {
			before := len(p.requests())
			if r := g.call("GET", path, ""); r.status != 400 || r.code() != "invalid_path" {
				t.Errorf("%s: %v", path, r)
			}
			if len(p.requests()) != before {
				t.Errorf("%s reached the provider", path)
			}
		}
	})
	t.Run("WebSocket upgrades", func(t *testing.T) {
		r := g.call("GET", "/v1/realtime", "", "connection: upgrade", "upgrade: websocket", "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==", "sec-websocket-version: 13")
		if r.status != 501 || r.code() != "upgrade_not_supported" {
			t.Errorf("answer %v", r)
		}
	})
	t.Run("the first model turns calls to by-model, and a header back", func(t *testing.T) {
		g.deploy("m", "", p.openai("second"))
		if r := g.call("POST", "/v1/anything", `{}`); r.status != 404 || r.code() != "unknown_path" {
			t.Errorf("without the header: %v", r)
		}
		r := g.call("POST", "/v1/anything", `{}`, "x-logos-proxy: true", "x-logos-provider: plain", "x-logos-profile: default")
		if r.status != 200 {
			t.Errorf("with the header: %v", r)
		}
		r = g.call("POST", "/v1/anything", `{"model":"other"}`, "x-logos-proxy: true", "x-logos-profile: for m")
		if r.status != 403 || r.code() != "model_not_allowed" {
			t.Errorf("another model: %v", r)
		}
		r = g.call("POST", "/v1/anything", `{"model":"m"}`, "x-logos-proxy: true", "x-logos-profile: for m")
		a := p.requests()
		if last := a[len(a)-1]; r.status != 200 || last.header.Get("authorization") != "Bearer sk-second" {
			t.Errorf("with the stored credential: %v; asked %+v", r, last)
		}
	})
	p.mustNotHold(t, g.root, "x-logos", "x-envoy")
}

// A change is in force well within half a second; the figure itself is measured by `make bench`.
func TestAChangeTakesEffectWithoutARestart(t *testing.T) {
	p := plain(t, usage{input: 1, output: 1})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	for i := range 20 {
		g.set("add_model", object{"name": "extra" + strings.Repeat("i", i), "endpoint": ""})
	}
	g.waitRevision()
	if n := g.metric("logos_config_propagation_seconds_count"); n < 1 {
		t.Errorf("%v changes were measured", n)
	}
	if slow := g.metric("logos_config_propagation_seconds_count") - g.metric("logos_config_propagation_seconds_bucket", `le="5"`); slow > 0 {
		t.Errorf("%v changes took longer than five seconds", slow)
	}
}
