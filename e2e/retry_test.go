package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos/dialect"
)

const (
	tooLongOpenAI    = `{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","code":"context_length_exceeded"}}`
	tooLongAnthropic = `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9000 tokens > 8192 maximum"}}`
	refusedContent   = `{"error":{"message":"The response was filtered.","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}`
	event            = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n"
	malformed        = "data: {\"choices\":[}\n\nevent: ??\ndata\n\n: comment\n\n"
	done             = "data: [DONE]\n\n"
)

// A fault is a line of the fault suite: what providers do, and what must come of it.
type fault struct {
	name      string
	providers [][]act // in the order of the decision
	windows   []int64 // of their models, where they differ
	policy    object  // what a policy says of attempts
	stream    bool
	bytes     int    // that the prompt has, at least
	want      string // what the caller gets: the status, and the error code or what was wrong with the answer
	attempts  []int  // that each provider sees
	unseen    int    // attempts that none sees
	end       string // on record
	check     func(t *testing.T, r *reply, at [][]time.Duration)
}

// firstByteLimit and idleLimit are those of the gateway that the suite runs on.
const firstByteLimit, idleLimit = 1200 * time.Millisecond, 3 * time.Second

// notSooner says that the second attempt at the first provider came after d, and not much later.
func notSooner(d time.Duration) func(*testing.T, *reply, [][]time.Duration) {
	return func(t *testing.T, _ *reply, at [][]time.Duration) {
		if again := at[0][1] - at[0][0]; again < d || again > 2*d+time.Second {
			t.Errorf("the second attempt came after %v, asked for was %v", again, d)
		}
	}
}

// atOnce says that no attempt had to wait.
func atOnce(t *testing.T, r *reply, at [][]time.Duration) {
	for _, p := range at {
		if len(p) > 0 && p[len(p)-1] > 900*time.Millisecond {
			t.Errorf("an attempt came after %v", p)
		}
	}
}

func faults(t *testing.T) []fault {
	one := func(acts ...act) [][]act { return [][]act{acts} }
	nothing := func(http.ResponseWriter, asked) {}
	cut := func(http.ResponseWriter, asked) { panic(http.ErrAbortHandler) }
	hang := func(_ http.ResponseWriter, a asked) { <-a.gone }
	return []fault{
		{name: "429 with Retry-After, and another target", providers: [][]act{{status(429, "retry-after: 30")}, {ok()}}, want: "200", attempts: []int{1, 1}, end: "ok", check: atOnce},
		{name: "429 with a short Retry-After, one target", providers: one(status(429, "retry-after: 1"), ok()), want: "200", attempts: []int{2}, end: "ok", check: notSooner(time.Second)},
		{name: "429 with retry-after-ms, one target", providers: one(status(429, "retry-after-ms: 700"), ok()), want: "200", attempts: []int{2}, end: "ok", check: notSooner(time.Second)},
		{name: "429 with a long Retry-After, one target", providers: one(status(429, "retry-after: 60"), ok()), want: "429 some_code", attempts: []int{1}, end: "upstream_error", check: func(t *testing.T, r *reply, at [][]time.Duration) {
			if r.header.Get("retry-after") != "60" {
				t.Errorf("headers %v", r.header)
			}
		}},
		{name: "429 with Retry-After as a date, one target", providers: one(status(429, "retry-after: "+time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), ok()), want: "429 some_code", attempts: []int{1}, end: "upstream_error"},
		{name: "429 with a date that comes, one target", providers: one(act{"429, retry-after: in a second", func(p *provider, w http.ResponseWriter, a asked) {
			status(429, "retry-after: "+time.Now().Add(time.Second).UTC().Format(http.TimeFormat)).do(p, w, a)
		}}, ok()), want: "200", attempts: []int{2}, end: "ok"},
		{name: "429 with a date that is past, one target", providers: one(status(429, "retry-after: "+time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)), ok()), want: "200", attempts: []int{2}, end: "ok", check: atOnce},
		{name: "429 without a time, one target", providers: one(status(429), ok()), want: "429 some_code", attempts: []int{1}, end: "upstream_error"},
		{name: "429 with Retry-After, and a target that fails", providers: [][]act{{status(429, "retry-after: 1"), ok()}, {status(500)}}, want: "200", attempts: []int{2, 2}, end: "ok", check: notSooner(time.Second)},
		{name: "a single 503", providers: [][]act{{status(503), ok()}, {ok()}}, want: "200", attempts: []int{2, 0}, end: "ok", check: atOnce},
		{name: "two 500", providers: [][]act{{status(500)}, {ok()}}, want: "200", attempts: []int{2, 1}, end: "ok", check: atOnce},
		{name: "500 everywhere", providers: [][]act{{status(500)}, {status(502)}, {status(503)}}, want: "503 some_code", attempts: []int{2, 2, 2}, end: "upstream_error"},
		{name: "a single reset", providers: [][]act{{reset(), ok()}, {ok()}}, want: "200", attempts: []int{2, 0}, end: "ok", check: atOnce},
		{name: "two resets", providers: [][]act{{reset()}, {ok()}}, want: "200", attempts: []int{2, 1}, end: "ok", check: atOnce},
		{name: "resets everywhere", providers: [][]act{{reset()}, {reset()}}, want: "503 upstream_unavailable", attempts: []int{2, 2}, end: "upstream_error"},
		{name: "a reset, then 500", providers: [][]act{{reset(), status(500)}, {ok()}}, want: "200", attempts: []int{2, 1}, end: "ok"},
		{name: "a reset, then 503, then another, with 2 MB", bytes: 2 << 20, providers: [][]act{{reset(), status(503)}, {ok()}}, want: "200", attempts: []int{2, 1}, end: "ok"},
		{name: "a silent target", providers: [][]act{{silence(t)}, {ok()}}, want: "200", attempts: []int{1, 1}, end: "ok", check: func(t *testing.T, _ *reply, at [][]time.Duration) {
			if at[1][0] < firstByteLimit || at[1][0] > firstByteLimit+time.Second {
				t.Errorf("the next target is asked at %v", at[1])
			}
		}},
		{name: "a silent target, then one that fails", providers: [][]act{{silence(t)}, {status(500)}}, want: "500 some_code", attempts: []int{1, 2}, end: "upstream_error"},
		{name: "silence everywhere", providers: [][]act{{silence(t)}, {silence(t)}}, want: "504 upstream_timeout", attempts: []int{1, 1}, end: "timeout"},
		{name: "a reset, then silence", providers: [][]act{{reset(), silence(t)}, {ok()}}, want: "200", attempts: []int{2, 1}, end: "ok"},
		{name: "a malformed request", providers: [][]act{{status(400)}, {ok()}}, want: "400 some_code", attempts: []int{1, 0}, end: "rejected"},
		{name: "a malformed request, with headers that are the gateway's", providers: [][]act{{status(400, "x-logos-again: 1", "x-logos-again-in: 1")}, {ok()}}, want: "400 some_code", attempts: []int{1, 0}, end: "rejected"},
		{name: "an answer with headers that are the gateway's", providers: [][]act{{refusal(200, `{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`, "x-logos-again: 1", "x-logos-again-in: 1")}, {ok()}}, want: "200", attempts: []int{1, 0}, end: "ok", check: atOnce},
		{name: "a refusal of the content", providers: [][]act{{refusal(400, refusedContent)}, {ok()}}, want: "400 content_filter", attempts: []int{1, 0}, end: "rejected"},
		{name: "an unknown model", providers: [][]act{{status(404)}, {ok()}}, want: "404 some_code", attempts: []int{1, 0}, end: "rejected"},
		{name: "too long for two of three windows", windows: []int64{8192, 8192, 128000}, providers: [][]act{{refusal(400, tooLongOpenAI)}, {ok()}, {ok()}}, want: "200", attempts: []int{1, 0, 1}, end: "ok", check: atOnce},
		{name: "too long, no room elsewhere", windows: []int64{8192, 4096}, providers: [][]act{{refusal(400, tooLongOpenAI)}, {ok()}}, want: "400 context_length_exceeded", attempts: []int{1, 0}, end: "rejected"},
		{name: "too long, windows unknown", providers: [][]act{{refusal(400, tooLongAnthropic)}, {ok()}}, want: "200", attempts: []int{1, 1}, end: "ok"},
		{name: "a stream that is cut", stream: true, providers: [][]act{{stream("events, then cut", event, cut)}, {ok()}}, want: "200 broken off", attempts: []int{1, 0}, end: "truncated"},
		{name: "a stream that stalls", stream: true, providers: [][]act{{stream("events, then silence", event, hang)}, {ok()}}, want: "200 broken off", attempts: []int{1, 0}, end: "timeout"},
		{name: "a malformed event", stream: true, providers: one(stream("a malformed event", event+malformed+event+done, nothing)), want: "200", attempts: []int{1}, end: "ok", check: func(t *testing.T, r *reply, _ [][]time.Duration) {
			if string(r.body) != event+malformed+event+done {
				t.Errorf("the caller got %q", r.body)
			}
		}},
	}
}

// policyFaults are the lines in which a policy limits attempts.
func policyFaults(t *testing.T) []fault {
	streams := stream("events", event+done, func(http.ResponseWriter, asked) {})
	headers := func(then time.Duration) act {
		return stream(fmt.Sprintf("headers, events after %v", then), "", func(w http.ResponseWriter, a asked) {
			select {
			case <-a.gone:
			case <-time.After(then):
				events{w}.text(event + done)
			}
		})
	}
	later := func(d time.Duration) func(*testing.T, *reply, [][]time.Duration) {
		return func(t *testing.T, _ *reply, at [][]time.Duration) {
			if at[1][0] < d || at[1][0] > d+time.Second {
				t.Errorf("the next target is asked at %v", at[1])
			}
		}
	}
	first := object{"first_token": "0.5s"}
	on := func(conditions ...string) object { return object{"on": conditions} }
	return []fault{
		{name: "first_token 0.5 s: silence", policy: first, stream: true, providers: [][]act{{silence(t)}, {streams}}, want: "200", attempts: []int{1, 1}, end: "ok", check: later(500 * time.Millisecond)},
		{name: "first_token 0.5 s: headers, and no token", policy: first, stream: true, providers: [][]act{{headers(10 * time.Second)}, {streams}}, want: "200", attempts: []int{1, 1}, end: "ok", check: later(500 * time.Millisecond)},
		{name: "first_token 0.5 s: headers, then tokens in time", policy: first, stream: true, providers: [][]act{{headers(300 * time.Millisecond)}, {streams}}, want: "200", attempts: []int{1, 0}, end: "ok"},
		{name: "first_token 0.5 s: no stream, an answer after 0.7 s", policy: first, providers: [][]act{{act{"200 after 0.7 s", func(p *provider, w http.ResponseWriter, a asked) {
			<-time.After(700 * time.Millisecond)
			ok().do(p, w, a)
		}}}, {ok()}}, want: "200", attempts: []int{1, 0}, end: "ok"},
		{name: "no policy: headers, tokens after the first-byte limit", stream: true, providers: [][]act{{headers(1500 * time.Millisecond)}, {streams}}, want: "200", attempts: []int{1, 0}, end: "ok"},
		{name: "max 1: 503", policy: object{"max": 1}, providers: [][]act{{status(503)}, {ok()}}, want: "503 some_code", attempts: []int{1, 0}, end: "upstream_error"},
		{name: "max 3: 500 everywhere", policy: object{"max": 3}, providers: [][]act{{status(500)}, {status(500)}, {ok()}}, want: "500 some_code", attempts: []int{2, 1, 0}, end: "upstream_error"},
		{name: "max 1: a reset", policy: object{"max": 1}, providers: [][]act{{reset()}, {ok()}}, want: "503 upstream_unavailable", attempts: []int{1, 0}, end: "upstream_error"},
		{name: "on rate_limited: 503", policy: on("rate_limited"), providers: [][]act{{status(503)}, {ok()}}, want: "503 some_code", attempts: []int{1, 0}, end: "upstream_error"},
		{name: "on rate_limited: a reset", policy: on("rate_limited"), providers: [][]act{{reset()}, {ok()}}, want: "503 upstream_unavailable", attempts: []int{1, 0}, end: "upstream_error"},
		{name: "on server_error: 429", policy: on("server_error"), providers: [][]act{{status(429)}, {ok()}}, want: "429 some_code", attempts: []int{1, 0}, end: "upstream_error"},
		{name: "on server_error: a prompt that is too long", policy: on("server_error"), providers: [][]act{{refusal(400, tooLongOpenAI)}, {ok()}}, want: "400 context_length_exceeded", attempts: []int{1, 0}, end: "rejected"},
		{name: "on connect_failure: a reset", policy: on("connect_failure"), providers: [][]act{{reset()}, {ok()}}, want: "503 upstream_unavailable", attempts: []int{1, 0}, end: "upstream_error"},
		{name: "on connect_failure: nobody listens", policy: on("connect_failure"), providers: [][]act{nil, {ok()}}, want: "200", attempts: []int{0, 1}, unseen: 2, end: "ok"},
		{name: "on reset: silence", policy: on("reset"), providers: [][]act{{silence(t)}, {ok()}}, want: "504 upstream_timeout", attempts: []int{1, 0}, end: "timeout"},
		{name: "on silent: a reset", policy: on("silent"), providers: [][]act{{reset()}, {ok()}}, want: "503 upstream_unavailable", attempts: []int{1, 0}, end: "upstream_error"},
		{name: "total_time 0.3 s: silence", policy: object{"total_time": "0.3s"}, providers: [][]act{{silence(t)}, {ok()}}, want: "504 upstream_timeout", attempts: []int{1, 0}, end: "timeout"},
		{name: "total_time 1 s: 429 with Retry-After 1, one target", policy: object{"total_time": "1s"}, providers: [][]act{{status(429, "retry-after: 1"), ok()}}, want: "429 some_code", attempts: []int{1}, end: "upstream_error", check: atOnce},
		{name: "total_time 1.2 s: 429 with retry-after-ms 700, one target", policy: object{"total_time": "1.2s"}, providers: [][]act{{status(429, "retry-after-ms: 700"), ok()}}, want: "429 some_code", attempts: []int{1}, end: "upstream_error", check: atOnce},
		{name: "total_time 2 s: 429 with Retry-After 1, one target", policy: object{"total_time": "2s"}, providers: [][]act{{status(429, "retry-after: 1"), ok()}}, want: "200", attempts: []int{2}, end: "ok", check: notSooner(time.Second)},
	}
}

// got describes what the caller got, in the words of a fault.
func got(r *reply) string {
	switch {
	case r.err != nil && r.status != 0 && !strings.Contains(string(r.body), "[DONE]"):
		return fmt.Sprintf("%d broken off", r.status)
	case r.err != nil:
		return r.err.Error()
	case r.status >= 400:
		return fmt.Sprintf("%d %s", r.status, r.code())
	}
	return fmt.Sprint(r.status)
}

// A played is a line whose call is made or being made.
type played struct {
	fault
	scripts []*script
	reply   *reply
}

// play sets a line up and returns what makes its call. Where windows are given, each provider has a model of its
// own, and the call leaves the choice to the gateway.
func (g *gateway) play(t *testing.T, n int, f fault) (p *played, call func()) {
	var scripts []*script
	var targets []target
	for i, acts := range f.providers {
		s := newScript(t, acts...)
		if acts == nil {
			s.Close()
		}
		scripts, targets = append(scripts, s), append(targets, s.openai(fmt.Sprintf("p%d-%d", n, i)))
	}
	model, profile := fmt.Sprintf("m%d", n), fmt.Sprintf("for m%d", n)
	if f.windows == nil {
		g.connect(model, "", targets...)
	} else {
		g.connectEach(profile, targets, f.windows)
		model = "auto"
	}
	if f.policy != nil {
		g.administer("POST", "policies", object{"name": model, "level": "access_profile", "project": "default", "access_profile": profile, "attempts": f.policy})
	}
	p = &played{fault: f, scripts: scripts}
	return p, func() {
		for _, s := range scripts {
			s.starts()
		}
		body := strings.Replace(chatBody(model, f.stream), "Say something.", "Say something."+strings.Repeat(" please", f.bytes/7), 1)
		p.reply = g.call("POST", "/v1/chat/completions", body, "x-logos-profile: "+profile, dialect.ClusterHeader+": "+dialect.BetweenAttempts, "x-envoy-max-retries: 0", "x-envoy-retry-on: 5xx")
	}
}

// connectEach makes a model with a context window at each target, and a profile that may use them all.
func (g *gateway) connectEach(profile string, targets []target, windows []int64) {
	process := g.set("get_process_id", object{})["result"]
	id := g.set("add_profile", object{"profile_name": profile, "process_id": process})["profile-id"]
	for i, t := range targets {
		model := g.set("add_model", object{"name": fmt.Sprintf("%s, %d", profile, i), "endpoint": ""})["model_id"]
		added := g.set("add_provider", object{"provider_name": t.provider, "base_url": t.baseURL, "api_key": t.secret, "auth_name": t.authName, "auth_format": t.authFormat})
		g.set("connect_process_provider", object{"profile_id": id, "api_id": added["api-id"]})
		g.set("connect_model_provider", object{"model_id": model, "provider_id": added["provider-id"]})
		g.set("connect_model_api", object{"model_id": model, "api_id": added["api-id"]})
		g.set("connect_process_model", object{"profile_id": id, "model_id": model})
		g.administer("PATCH", fmt.Sprintf("models/%v", model), object{"context_window": windows[i]})
	}
}

// TestFaults plays what providers do wrong, on an Envoy, and prints what became of it.
func TestFaults(t *testing.T) {
	g := start(t, map[string]string{"LOGOS_FIRST_BYTE_TIMEOUT": firstByteLimit.String(), "LOGOS_IDLE_TIMEOUT": idleLimit.String()})
	var lines []*played
	var calls []func()
	for i, f := range append(faults(t), policyFaults(t)...) {
		p, call := g.play(t, i, f)
		lines, calls = append(lines, p), append(calls, call)
	}
	g.waitRevision()
	var wg sync.WaitGroup
	for _, call := range calls {
		wg.Go(call)
	}
	wg.Wait()
	var rows []string
	for _, p := range lines {
		t.Run(p.name, func(t *testing.T) { rows = append(rows, g.of(t).expectFault(p)) })
	}
	t.Logf("\n| fault | the providers saw | the caller got | on record |\n|---|---|---|---|\n%s", strings.Join(rows, "\n"))
}

// expectFault checks and describes what became of a line.
func (g *gateway) expectFault(p *played) (row string) {
	t, r := g.t, p.reply
	var attempts []int
	var at [][]time.Duration
	var saw []string
	total := p.unseen
	for i, s := range p.scripts {
		n, text, when := s.saw()
		attempts, at, total = append(attempts, n), append(at, when), total+n
		s.mustNotHold(t, "x-logos", "x-envoy", dialect.BetweenAttempts)
		for _, a := range s.requests() {
			if len(a.body) < p.bytes || !strings.HasSuffix(string(a.body), "}") {
				t.Errorf("%c got %d bytes", 'A'+i, len(a.body))
			}
		}
		if text != "" {
			saw = append(saw, fmt.Sprintf("%c: %s", 'A'+i, text))
		}
	}
	if got(r) != p.want || !slices.Equal(attempts, p.attempts) {
		t.Errorf("the caller got %q (%v), providers saw %v; want %q and %v", got(r), r, saw, p.want, p.attempts)
	} else if p.check != nil {
		p.check(t, r, at)
	}
	if r.header.Get(dialect.AgainHeader)+r.header.Get(dialect.AgainInHeader) != "" {
		t.Errorf("the caller got the headers %v", r.header)
	}
	rec := g.record(r.id())
	if rec.EndReason != p.end || len(rec.Attempts) != total || r.header.Get("x-logos-attempts") != fmt.Sprint(total) {
		t.Errorf("on record %+v, %s attempts in the header, want %s after %d", rec, r.header.Get("x-logos-attempts"), p.end, total)
	}
	return fmt.Sprintf("| %s | %s | %s | %s after %d |", p.name, strings.Join(saw, "<br>"), got(r), rec.EndReason, len(rec.Attempts))
}
