package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// A provider imitates a paid one, and keeps its own books of what it was asked and what it charges.
type provider struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []asked
	charged usage
}

// asked is one request that reached the provider.
type asked struct {
	method, uri, host string
	header            http.Header
	body              []byte
	gone              <-chan struct{} // closed when the caller has hung up
}

// usage is what a provider reports.
type usage struct{ input, cached, output, reasoning int64 }

func (u usage) chat() object {
	return object{"prompt_tokens": u.input, "completion_tokens": u.output, "total_tokens": u.input + u.output,
		"prompt_tokens_details":     object{"cached_tokens": u.cached},
		"completion_tokens_details": object{"reasoning_tokens": u.reasoning}}
}

// newProvider serves with the handler, after the request was read and booked.
func newProvider(t *testing.T, handle func(p *provider, w http.ResponseWriter, a asked)) *provider {
	t.Helper()
	p := &provider{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		a := asked{method: r.Method, uri: r.URL.RequestURI(), host: r.Host, header: r.Header, body: body, gone: r.Context().Done()}
		p.mu.Lock()
		p.asked = append(p.asked, a)
		p.mu.Unlock()
		handle(p, w, a)
	}))
	t.Cleanup(func() {
		p.CloseClientConnections()
		p.Close()
	})
	return p
}

// requests returns what reached the provider so far.
func (p *provider) requests() []asked {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]asked(nil), p.asked...)
}

// charge notes what is charged for an answer.
func (p *provider) charge(u usage) usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.charged.input += u.input
	p.charged.cached += u.cached
	p.charged.output += u.output
	p.charged.reasoning += u.reasoning
	return u
}

func (p *provider) books() usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.charged
}

func (a asked) json() object {
	o := object{}
	_ = json.Unmarshal(a.body, &o)
	return o
}

func (a asked) streams() bool { return a.json()["stream"] == true }

func (a asked) wantsUsage() bool {
	options, _ := a.json()["stream_options"].(object)
	return options["include_usage"] == true
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// answerChat answers a chat call, streamed where it asks for that, in n chunks.
func (p *provider) answerChat(w http.ResponseWriter, a asked, u usage, n int) {
	w.Header().Set("x-request-id", fmt.Sprintf("req-%d", len(a.body)))
	model := a.json()["model"]
	if !a.streams() {
		p.charge(u)
		answerJSON(w, 200, object{"id": "c", "object": "chat.completion", "model": model, "usage": u.chat(),
			"choices": []object{{"index": 0, "finish_reason": "stop", "message": object{"role": "assistant", "content": "Something."}}}})
		return
	}
	e := openEvents(w)
	for range n {
		e.send(object{"id": "c", "object": "chat.completion.chunk", "model": model, "usage": nil, "choices": []object{{"index": 0, "delta": object{"content": "x"}}}})
	}
	p.charge(u)
	if a.wantsUsage() {
		e.send(object{"id": "c", "object": "chat.completion.chunk", "model": model, "choices": []object{}, "usage": u.chat()})
	}
	e.text("data: [DONE]\n\n")
}

// events writes server-sent events.
type events struct{ w http.ResponseWriter }

func openEvents(w http.ResponseWriter) events {
	w.Header().Set("content-type", "text/event-stream")
	w.WriteHeader(200)
	e := events{w}
	e.text("")
	return e
}

func (e events) send(v any) {
	encoded, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	e.text("data: " + string(encoded) + "\n\n")
}

func (e events) text(s string) {
	_, _ = io.WriteString(e.w, s)
	_ = http.NewResponseController(e.w).Flush()
}

// plain is a provider that answers every chat call with the same usage.
func plain(t *testing.T, u usage) *provider {
	t.Helper()
	return newProvider(t, func(p *provider, w http.ResponseWriter, a asked) { p.answerChat(w, a, u, 5) })
}

// openai describes a target of the usual kind.
func (p *provider) openai(name string) target {
	return target{provider: name, baseURL: p.URL + "/v1", secret: "sk-" + name, authName: "authorization", authFormat: "Bearer {}"}
}

// mustNotHold fails if any request that reached the provider holds one of the texts anywhere.
func (p *provider) mustNotHold(t *testing.T, texts ...string) {
	t.Helper()
	for _, a := range p.requests() {
		all := a.uri + "\n" + fmt.Sprint(a.header) + "\n" + string(a.body)
		for _, text := range texts {
			if strings.Contains(strings.ToLower(all), strings.ToLower(text)) {
				t.Errorf("%q reached the provider: %s", text, all)
			}
		}
	}
}
