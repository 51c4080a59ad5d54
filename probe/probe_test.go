package probe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/egress"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
	"github.com/ls1intum/edutelligence/logos/probe"
)

const (
	secret = "sk-canary"
	callID = logos.CallID("4c3648d3-45cf-4a39-9983-4ec0041b40d3")
)

// A plane stands for all that a probe needs.
type plane struct {
	*probe.Prober
	config  *logos.Config
	finding egress.Finding
	holdErr error
	answer  http.HandlerFunc // of Envoy
	call    *logos.Call      // its record; nil: there is none

	mu    sync.Mutex
	held  int
	asked []string // method, headers and body of what arrived
}

func (p *plane) Look(context.Context, string, string) egress.Finding { return p.finding }

func (p *plane) Hold(context.Context, *logos.Target) (func(), error) {
	if p.holdErr != nil {
		return nil, p.holdErr
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.held--
	}, nil
}

func (p *plane) Call(_ context.Context, id logos.CallID) (*logos.Call, error) {
	if p.call == nil || id != callID {
		return nil, errors.New("there is none")
	}
	return p.call, nil
}

// newPlane answers probes with a status and a body.
func newPlane(t *testing.T, status int, body string) *plane {
	t.Helper()
	p := &plane{config: config(t), finding: egress.Finding{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
	p.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
	envoy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.asked = append(p.asked, fmt.Sprintf("%s %s %s ticket=%d %s", r.Method, r.URL.Path, r.Header.Get("anthropic-version"), len(r.Header.Get(extproc.ProbeHeader)), text))
		p.mu.Unlock()
		w.Header().Set("x-request-id", string(callID))
		p.answer(w, r)
	}))
	t.Cleanup(envoy.Close)
	p.Prober = probe.New(func() *logos.Config { return p.config }, p, p, &extproc.Probes{}, p, envoy.URL)
	return p
}

// recorded gives the call's record one attempt.
func (p *plane) recorded(end logos.EndReason, status int, detail string) *plane {
	p.call = &logos.Call{ID: callID, End: end, Attempts: []logos.Attempt{{Number: 1, Status: status, Detail: detail}}}
	return p
}

func config(t *testing.T) *logos.Config {
	t.Helper()
	provider := func(id logos.ProviderID, d logos.Dialect, base string) *logos.Provider {
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		return &logos.Provider{ID: id, Name: string(d), BaseURL: u, Dialect: d, AuthHeader: "authorization", AuthFormat: "Bearer {}"}
	}
	c, err := logos.NewConfig(1, logos.Resources{
		Projects:    []*logos.Project{{ID: 1}},
		Providers:   []*logos.Provider{provider(1, logos.DialectOpenAI, "https://p.example"), provider(2, logos.DialectAnthropic, "https://a.example"), provider(3, logos.DialectAzure, "https://z.example")},
		Credentials: []*logos.Credential{{ID: 2, Provider: 1, Name: "second", Secret: "sk-2"}, {ID: 1, Provider: 1, Name: "first", Secret: secret}},
		Models:      []*logos.Model{{ID: 1, Name: "m"}, {ID: 2, Name: "embeds"}},
		Deployments: []*logos.Deployment{
			{ID: 2, Model: 1, Provider: 1}, {ID: 1, Model: 1, Provider: 1, ProviderModel: "m-2026"}, {ID: 3, Model: 1, Provider: 1},
			{ID: 4, Model: 2, Provider: 1, APIs: []logos.API{logos.APIEmbeddings}}, {ID: 5, Model: 1, Provider: 2},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func test(t *testing.T, p *plane, model string) probe.Result {
	t.Helper()
	got, err := p.Test(t.Context(), probe.Request{Key: &logos.APIKey{ID: 1, ProjectID: 1}, Provider: 1, Model: model})
	if err != nil {
		t.Fatalf("it can't be tried: %v", err)
	}
	if p.held != 0 {
		t.Error("the cluster stays held")
	}
	return got
}

func TestJudgesWhatTheProviderAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status int
		body   string
		model  string
		want   probe.Failure
		says   string
	}{
		{"a list", 200, `{"data":[]}`, "", "", "lists its models"},
		{"an answer", 200, `{"choices":[]}`, "m", "", "answers"},
		{"no list", 200, `{"status":"up"}`, "", probe.Path, "no list of models"},
		{"no object", 200, `[]`, "m", probe.Path, "no JSON object"},
		{"thought used up", 400, `{"error":{"message":"Could not finish the message because max_tokens or model output limit was reached."}}`, "m", "", "answers"},
		{"OpenAI's wrong key", 401, `{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}`, "", probe.Auth, "Incorrect API key"},
		{"a model that is not there, with 401", 401, `{"error":{"message":"no access to model m"}}`, "m", probe.Auth, "no access"},
		{"OpenAI's missing model", 404, `{"error":{"message":"The model 'm' does not exist","code":"model_not_found"}}`, "m", probe.Model, "does not exist"},
		{"Anthropic's", 404, `{"type":"error","error":{"type":"not_found_error","message":"model: m"}}`, "m", probe.Model, "model: m"},
		{"Azure's", 404, `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}`, "m", probe.Model, ""},
		{"vLLM's", 404, `{"object":"error","message":"The model m does not exist.","type":"NotFoundError","code":404}`, "m", probe.Model, ""},
		{"Gemini's", 400, `{"error":{"code":400,"message":"models/m is not found"}}`, "m", probe.Model, ""},
		{"a model's name where only the path was asked", 404, `{"error":{"message":"no model here"}}`, "", probe.Path, "/v1/models"},
		{"OpenAI's wrong path", 404, `{"error":{"message":"Invalid URL (POST /v1/v1/chat)","type":"invalid_request_error"}}`, "m", probe.Path, "Invalid URL"},
		{"FastAPI's", 404, `{"detail":"Not Found"}`, "m", probe.Path, "Not Found"},
		{"FastAPI's, as a list", 422, `{"detail":[{"loc":["body"]}]}`, "m", probe.Provider, "422"},
		{"nginx's", 404, "<html>\r\n<head><title>404</title>", "", probe.Path, "(<html> <head>"},
		{"nothing", 404, "", "", probe.Path, "/v1/models:"},
		{"a method", 405, "", "m", probe.Path, ""},
		{"a redirect", 307, "", "", probe.Path, "redirected"},
		{"nginx's TLS port", 400, "<html>The plain HTTP request was sent to HTTPS port", "", probe.TLS, "https://"},
		{"no quota", 429, `{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}`, "m", probe.RateLimit, "quota"},
		{"overloaded", 529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, "m", probe.Provider, "Overloaded"},
		{"an error as a text", 400, `{"error":"bad \u001b[31mrequest"}`, "", probe.Provider, "bad [31mrequest"},
		{"a long story", 500, `{"error":"` + strings.Repeat("x", 5000) + `"}`, "", probe.Provider, "…)"},
		{"what looks like ours", 503, `{"error":{"code":"upstream_unavailable","message":"x","request_id":"other"}}`, "", probe.Provider, "503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlane(t, c.status, c.body).recorded(logos.EndRejected, c.status, "")
			got := test(t, p, c.model)
			if got.Failed != c.want || got.Status != c.status || !strings.Contains(got.Message, c.says) || got.CallID != callID || len(got.Message) > 700 {
				t.Errorf("it is judged %+v, want %q that says %q", got, c.want, c.says)
			}
		})
	}
}

func TestJudgesWhatEnvoyAnswers(t *testing.T) {
	t.Parallel()
	ours := func(code string) string {
		return fmt.Sprintf(`{"error":{"code":%q,"message":"no provider","request_id":%q}}`, code, callID)
	}
	for _, c := range []struct {
		name   string
		end    logos.EndReason
		detail string
		code   string
		want   probe.Failure
		says   string
	}{
		{"refused", logos.EndUpstreamError, "UF  delayed_connect_error:_Connection_refused", "upstream_unavailable", probe.Connect, "192.0.2.1 can't be connected to (delayed connect error: Connection refused)"},
		{"self-signed", logos.EndUpstreamError, "UF  TLS_error:|268435581:SSL:CERTIFICATE_VERIFY_FAILED:self_signed_certificate:TLS_error_end", "upstream_unavailable", probe.TLS, "LOGOS_CA_FILE"},
		{"another name", logos.EndUpstreamError, "UF  TLS_error:|268435581:SSL:CERTIFICATE_VERIFY_FAILED:verify_SAN_list:TLS_error_end", "upstream_unavailable", probe.TLS, "not for p.example"},
		{"expired", logos.EndUpstreamError, "UF  TLS_error:|268435581:SSL:CERTIFICATE_VERIFY_FAILED:certificate_has_expired:TLS_error_end", "upstream_unavailable", probe.TLS, "expired"},
		{"no TLS", logos.EndUpstreamError, "UF  TLS_error:|268435703:SSL:WRONG_VERSION_NUMBER:TLS_error_end", "upstream_unavailable", probe.TLS, "http://"},
		{"another alert", logos.EndUpstreamError, "UF  TLS_error:|1:SSL:HANDSHAKE_FAILURE:TLS_error_end", "upstream_unavailable", probe.TLS, "HANDSHAKE_FAILURE"},
		{"silence", logos.EndTimeout, "", "upstream_timeout", probe.Timeout, "in time"},
		{"hung up", logos.EndUpstreamError, "UC", "upstream_unavailable", probe.Provider, "no answer in HTTP (UC)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlane(t, 503, ours(c.code)).recorded(c.end, 0, c.detail)
			if got := test(t, p, ""); got.Failed != c.want || got.Status != 0 || !strings.Contains(got.Message, c.says) {
				t.Errorf("it is judged %+v, want %q that says %q", got, c.want, c.says)
			}
		})
	}
	for code, want := range map[string]probe.Failure{"upstream_unavailable": probe.Connect, "upstream_timeout": probe.Timeout} {
		t.Run(code+" without a record", func(t *testing.T) {
			t.Parallel()
			if got := test(t, newPlane(t, 503, ours(code)), ""); got.Failed != want || got.Status != 0 {
				t.Errorf("it is judged %+v, want %q", got, want)
			}
		})
	}
	t.Run("the gateway's own refusal", func(t *testing.T) {
		t.Parallel()
		for _, record := range []*logos.Call{{ID: callID, End: logos.EndRefused}, nil} {
			p := newPlane(t, 503, ours("gateway_unavailable"))
			p.call = record
			if got, err := p.Test(t.Context(), probe.Request{Provider: 1}); logos.KindOf(err) != logos.Unavailable || !strings.Contains(err.Error(), "no provider") {
				t.Errorf("it is judged %+v, %v", got, err)
			}
		}
	})
}

func TestMakesNoCallWhereThereIsNoAddress(t *testing.T) {
	t.Parallel()
	refused := &egress.Refusal{Host: "p.example", Address: netip.MustParseAddr("169.254.169.254"), Class: egress.Metadata}
	for _, c := range []struct {
		finding egress.Finding
		want    probe.Failure
		says    string
	}{
		{egress.Finding{Refused: refused}, probe.AllowList, "169.254.169.254"},
		{egress.Finding{Refused: refused, Failed: errors.New("no")}, probe.AllowList, "169.254.169.254"},
		{egress.Finding{Failed: errors.New("p.example does not resolve: no such host")}, probe.DNS, "no such host"},
		{egress.Finding{}, probe.DNS, "try again"},
	} {
		p := newPlane(t, 200, `{"data":[]}`)
		p.finding = c.finding
		if got := test(t, p, ""); got.Failed != c.want || !strings.Contains(got.Message, c.says) || got.CallID != "" || len(p.asked) != 0 {
			t.Errorf("%+v is judged %+v", c.finding, got)
		}
	}
	p := newPlane(t, 200, `{"data":[]}`)
	p.finding.Refused, p.finding.Failed = refused, errors.New("the last lookup failed")
	if got := test(t, p, ""); got.Failed != "" {
		t.Errorf("with an address that may be called, it is judged %+v", got)
	}
}

func TestTellsNoCredential(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"error":{"message":"bad key Bearer ` + secret + `!"}}`, strings.Repeat("x", 295) + secret, secret} {
		if got := test(t, newPlane(t, 401, body).recorded(logos.EndRejected, 401, ""), ""); strings.Contains(got.Message, "canary") || strings.Contains(got.Message, secret[:5]) {
			t.Errorf("it is told: %s", got.Message)
		}
	}
}

func TestAsksAsTheDeploymentIsAsked(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 200, `{}`)
	test(t, p, "m")
	test(t, p, "embeds")
	want := []string{
		`POST /  ticket=26 {"max_completion_tokens":1,"messages":[{"content":"Hi","role":"user"}],"model":"m"}`,
		`POST /  ticket=26 {"input":"Hi","model":"embeds"}`,
	}
	if !slices.Equal(p.asked, want) {
		t.Errorf("it asks\n%s", strings.Join(p.asked, "\n"))
	}
}

func TestListsModelsWithTheirDeployments(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 200, `{"data":[{"id":"m"},{"id":"m-2026"},{"id":"new"},{"id":"m"}]}`)
	got, err := p.Discover(t.Context(), probe.Request{Provider: 1, Credential: "second"})
	want := []probe.FoundModel{{"m", []logos.DeploymentID{2, 3}}, {"m-2026", []logos.DeploymentID{1}}, {"new", nil}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the models are %v, %v, want %v", got, err, want)
	}
	pages := newPlane(t, 200, "")
	n := 0
	pages.answer = func(w http.ResponseWriter, _ *http.Request) {
		n++
		fmt.Fprintf(w, `{"data":[{"id":"a%d"}],"has_more":true,"last_id":"a%d"}`, n, n)
	}
	if got, err := pages.Discover(t.Context(), probe.Request{Provider: 2}); err != nil || len(got) != 10 || n != 10 {
		t.Errorf("a list without end gives %d models of %d pages, %v", len(got), n, err)
	}
	if got, err := p.Discover(t.Context(), probe.Request{Provider: 3}); logos.KindOf(err) != logos.Unsupported {
		t.Errorf("Azure gives %v, %v", got, err)
	}
	broken := newPlane(t, 500, "").recorded(logos.EndUpstreamError, 500, "")
	if got, err := broken.Discover(t.Context(), probe.Request{Provider: 1}); !isError(err, logos.Unavailable, "provider_provider") {
		t.Errorf("a provider that fails gives %v, %v", got, err)
	}
	broken = newPlane(t, 401, "").recorded(logos.EndRejected, 401, "")
	if got, err := broken.Discover(t.Context(), probe.Request{Provider: 1}); !isError(err, logos.Invalid, "provider_auth") {
		t.Errorf("a wrong key gives %v, %v", got, err)
	}
}

func isError(err error, kind logos.Kind, code string) bool {
	e, ok := errors.AsType[*logos.Error](err)
	return ok && e.Kind == kind && e.Code == code
}

func TestBoundsWhatItReadsAndWaitsFor(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 200, "").recorded(logos.EndOK, 200, "")
	p.answer = func(w http.ResponseWriter, _ *http.Request) {
		chunk := []byte(strings.Repeat(" ", 1<<20))
		for range 20 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
	if got := test(t, p, ""); got.Failed != probe.Provider || !strings.Contains(got.Message, "larger") {
		t.Errorf("an answer of 20 MiB is judged %+v", got)
	}
	for name, before := range map[string]bool{"before": true, "after": false} { // its first byte
		slow := newPlane(t, 200, "")
		slow.answer = func(w http.ResponseWriter, r *http.Request) {
			if !before {
				w.WriteHeader(200)
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2100*time.Millisecond)
		defer cancel()
		begin := time.Now()
		got, err := slow.Test(ctx, probe.Request{Provider: 1})
		if took := time.Since(begin); err != nil || got.Failed != probe.Timeout || took > 6*time.Second {
			t.Errorf("silence %s the first byte is judged %+v, %v after %v", name, got, err, took)
		}
	}
}

func TestTriesAFewAtOnce(t *testing.T) {
	t.Parallel()
	arrived, leave := make(chan struct{}), make(chan struct{})
	p := newPlane(t, 200, "")
	p.answer = func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-leave
		_, _ = io.WriteString(w, `{"data":[]}`)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := p.Test(t.Context(), probe.Request{Provider: 1}); err != nil {
				t.Error(err)
			}
		})
		<-arrived
	}
	if _, err := p.Test(t.Context(), probe.Request{Provider: 1}); logos.KindOf(err) != logos.Exhausted {
		t.Errorf("a fifth gives %v", err)
	}
	close(leave)
	all.Wait()
	p.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"data":[]}`) }
	test(t, p, "")
}

func TestRefusesWhatCantBeTried(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 200, `{}`)
	for name, c := range map[string]struct {
		r    probe.Request
		want logos.Kind
	}{
		"no such provider":                 {probe.Request{Provider: 9}, logos.NotFound},
		"no such credential":               {probe.Request{Provider: 1, Credential: "third"}, logos.NotFound},
		"a credential where there is none": {probe.Request{Provider: 2, Credential: "first"}, logos.NotFound},
	} {
		if _, err := p.Test(t.Context(), c.r); logos.KindOf(err) != c.want {
			t.Errorf("%s gives %v", name, err)
		}
		if _, err := p.Discover(t.Context(), c.r); logos.KindOf(err) != c.want {
			t.Errorf("%s gives %v", name, err)
		}
	}
	p.holdErr = logos.Errorf(logos.Unavailable, "gateway_unavailable", "no Envoy")
	if _, err := p.Test(t.Context(), probe.Request{Provider: 1}); !errors.Is(err, p.holdErr) {
		t.Errorf("without an Envoy, it gives %v", err)
	}
	p.config = nil
	if _, err := p.Test(t.Context(), probe.Request{Provider: 1}); logos.KindOf(err) != logos.Unavailable {
		t.Errorf("without a configuration, it gives %v", err)
	}
	gone := probe.New(func() *logos.Config { return config(t) }, newPlane(t, 200, ""), newPlane(t, 200, ""), &extproc.Probes{}, p, "http://127.0.0.1:1")
	if _, err := gone.Test(t.Context(), probe.Request{Provider: 1}); logos.KindOf(err) != logos.Unavailable {
		t.Errorf("without a data plane, it gives %v", err)
	}
}
