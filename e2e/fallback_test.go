package e2e_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
)

func fails(status int) func(*provider, http.ResponseWriter, asked) {
	return func(_ *provider, w http.ResponseWriter, _ asked) {
		w.Header().Set("x-request-id", "failed-here")
		answerJSON(w, status, object{"error": object{"message": "no", "type": "some_error", "code": "some_code"}})
	}
}

// resets breaks the connection before the first byte.
func resets(_ *provider, w http.ResponseWriter, _ asked) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
}

// rateLimitedByEnvoy is what a provider behind an Envoy answers. Ours would obey the header.
func rateLimitedByEnvoy(p *provider, w http.ResponseWriter, a asked) {
	w.Header().Set("x-envoy-ratelimited", "true")
	fails(429)(p, w, a)
}

func answers(u usage) func(*provider, http.ResponseWriter, asked) {
	return func(p *provider, w http.ResponseWriter, a asked) { p.answerChat(w, a, u, 3) }
}

// threeTargets deploys a model at three providers that differ in all that can differ.
func threeTargets(g *gateway, first, second, third *provider) {
	g.t.Helper()
	g.deploy("m", "",
		target{"one", first.URL + "/v1", "secret-one", "authorization", "Bearer {}"},
		target{"two-azure", second.URL, "secret-two", "api-key", "{}"},
		target{"three", third.URL + "/deep/api", "secret-three", "x-api-key", "Key {}"})
	conn := g.db()
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), "with r as (update config_revision set revision = revision + 1 returning revision) update deployments d set provider_model = 'name-at-' || provider_id, revision = r.revision from r"); err != nil {
		g.t.Fatal(err)
	}
	g.waitRevision()
}

func TestThreeDifferentTargetsAnswerInTurnWithServeKilledAfterItsDecision(t *testing.T) {
	arrived, killed := make(chan struct{}, 2), make(chan struct{})
	first := newProvider(t, func(p *provider, w http.ResponseWriter, a asked) {
		arrived <- struct{}{}
		<-killed
		fails(503)(p, w, a)
	})
	second := newProvider(t, fails(429))
	third := newProvider(t, answers(usage{input: 11, output: 5}))
	g := start(t, nil)
	threeTargets(g, first, second, third)
	go func() {
		<-arrived
		old := g.kill("serve")
		g.eventually("end of serve", waitLong, func() bool { return g.pid("serve") != old })
		close(killed)
	}()
	r := g.call("POST", "/v1/chat/completions", chatBody("m", true))
	if r.status != 200 || r.header.Get("x-logos-attempts") != "4" || r.header.Get("x-logos-provider") != "three" {
		t.Fatalf("answer %v %v", r, r.header)
	}
	for _, c := range []struct {
		p                       *provider
		uri, model, header, own string
		times                   int
	}{
		{first, "/v1/chat/completions", "name-at-2", "authorization", "Bearer secret-one", 2}, // a single 5xx is tried once more
		{second, "/openai/v1/chat/completions", "name-at-3", "api-key", "secret-two", 1},
		{third, "/deep/api/chat/completions", "name-at-4", "x-api-key", "Key secret-three", 1},
	} {
		asked := c.p.requests()
		if len(asked) != c.times {
			t.Fatalf("%s was asked %d times", c.uri, len(asked))
		}
		a := asked[c.times-1]
		if a.uri != c.uri || a.json()["model"] != c.model || a.header.Get(c.header) != c.own || !a.wantsUsage() || "http://"+a.host != c.p.URL {
			t.Errorf("asked %s at %s with %v: %s", a.uri, a.host, a.header, a.body)
		}
		for _, secret := range []string{"secret-one", "secret-two", "secret-three", g.root, "x-logos", "x-envoy"} {
			if !strings.Contains(c.own, secret) {
				c.p.mustNotHold(t, secret)
			}
		}
	}
	rec := g.record(r.id())
	if len(rec.Attempts) != 4 || rec.EndReason != "ok" || rec.meters() != "input=11 output=5" {
		t.Fatalf("record %+v", rec)
	}
	for i, want := range []struct {
		status int
		end    string
		id     string
		at     int64
	}{{503, "upstream_error", "failed-here", 2}, {503, "upstream_error", "failed-here", 2}, {429, "upstream_error", "failed-here", 3}, {200, "ok", "req-", 4}} {
		if a := rec.Attempts[i]; a.Status != want.status || a.EndReason != want.end || !strings.HasPrefix(a.ProviderRequestID, want.id) || a.ProviderID != want.at {
			t.Errorf("attempt %+v, want %+v", a, want)
		}
	}
	if n := g.scalar("select count(*) from calls"); n != 1 {
		t.Errorf("%d calls are on record", n)
	}
}

func TestFallsBackOnWhatAnotherTargetMayCure(t *testing.T) {
	ok := newProvider(t, answers(usage{input: 2, output: 1}))
	for _, c := range []struct {
		name     string
		answer   func(*provider, http.ResponseWriter, asked)
		status   int
		attempts int
		end      string
	}{
		{"reset before the first byte", resets, 200, 3, "ok"},
		{"429", fails(429), 200, 2, "ok"},
		{"429 of an Envoy's rate limit", rateLimitedByEnvoy, 200, 2, "ok"},
		{"500", fails(500), 200, 3, "ok"},
		{"503", fails(503), 200, 3, "ok"},
		{"400 is the caller's", fails(400), 400, 1, "rejected"},
		{"404 too", fails(404), 404, 1, "rejected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bad := newProvider(t, c.answer)
			g := start(t, nil)
			g.deploy("m", "", bad.openai("bad"), ok.openai("ok"))
			r := g.chat("m")
			rec := g.record(r.id())
			if r.status != c.status || len(rec.Attempts) != c.attempts || rec.EndReason != c.end {
				t.Errorf("answer %v, record %+v", r, rec)
			}
			if c.status == 400 && (rec.Error == nil || rec.Error.Code != "some_code" || rec.Error.Type != "some_error" || rec.Error.Message != "no") {
				t.Errorf("error on record: %+v", rec.Error)
			}
		})
	}
}

func TestNoProviderInReach(t *testing.T) {
	g := start(t, nil)
	closed := freePorts(t, 2)
	g.deploy("m", "", target{"a", "http://" + closed[0], "k", "authorization", "Bearer {}"}, target{"b", "http://" + closed[1], "k", "authorization", "Bearer {}"})
	for _, path := range []string{"/v1/chat/completions", "/v1/messages"} {
		r := g.call("POST", path, `{"model":"m"}`)
		if r.status != 503 || r.code() != "upstream_unavailable" {
			t.Errorf("answer %v", r)
		}
		checkErrorShape(t, r, path)
		rec := g.record(r.id())
		if rec.EndReason != "upstream_error" || len(rec.Attempts) != 4 || rec.meters() != "" || rec.Attempts[0].Detail == "" {
			t.Errorf("record %+v", rec)
		}
	}
}

func TestParallelCallsAllFallBack(t *testing.T) {
	bad, ok := newProvider(t, fails(503)), newProvider(t, answers(usage{input: 2, output: 1}))
	g := start(t, nil)
	g.deploy("m", "", bad.openai("bad"), ok.openai("ok"))
	var wg sync.WaitGroup
	for range 60 {
		wg.Go(func() {
			if r := g.chat("m"); r.status != 200 {
				t.Errorf("answer %v", r)
			}
		})
	}
	wg.Wait()
}
