package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// An ending is a row of README's table of what is charged: how a call ends, what is on record, and what the provider
// has in its books.
type ending struct {
	name, end, charged string // as README has them
	providers          [][]act
	api                string // path; empty: chat
	stream             bool
	maxTokens          int                        // 0: 100
	leaves             string                     // the caller reads up to this, and leaves
	goes               func(leave func())         // calls leave once the caller shall leave, without an answer
	policy             object                     // what a policy says of attempts
	prepare            func(g *gateway, m string) // what forbids the call, for the model
	meters             []string                   // of each attempt: what is read of it, "input=" if reported and "input~" if estimated
	unseen             usage                      // what the provider charges that nobody can see
	unknown            bool                       // what it costs
	overruns           int                        // of budgets of money, and of tokens
	apart              bool                       // it is played by itself
}

const (
	asReported, nothing = "what the provider reports", "nothing"
	promptAndAnswer     = "prompt and answer so far, estimated"
	promptAlone         = "the prompt, estimated"
	both, bothReported  = "input~ output~", "input= output="
)

func endings(t *testing.T) []ending {
	one := func(acts ...act) [][]act { return [][]act{acts} }
	answer := says("an answer", spoken, usage.chat)
	reached := make(chan struct{})
	writes := func(u usage) object {
		o := u.chat()
		o["prompt_tokens_details"] = object{"cache_write_tokens": 8}
		return o
	}
	return []ending{
		{name: "is answered", end: "ok", charged: asReported, providers: one(answer), meters: []string{bothReported}},
		{name: "is answered in a stream", end: "ok", charged: asReported, stream: true, providers: one(speaks("a stream", whole)), meters: []string{bothReported}},
		{name: "is answered without usage", end: "ok", charged: "prompt and answer, estimated", maxTokens: 500, providers: one(says("an answer without usage", 400, nil)), meters: []string{both}},
		{name: "is answered in a stream that ends without usage", end: "ok", charged: "prompt and answer, estimated", stream: true,
			providers: one(speaks("a stream without usage", func(_ *provider, e events, _ asked, _ usage) { e.text(done) })), meters: []string{both}},
		{name: "uses something that has no price", end: "ok", charged: "what the provider reports, at an unknown cost: of money, what was reserved counts", unknown: true,
			providers: one(says("an answer, written to a cache", spoken, writes)), meters: []string{"cache_write= input= output="}},
		{name: "uses more than was reserved", end: "ok", charged: "what the provider reports; the excess is an overrun", maxTokens: 16, overruns: 1,
			providers: one(says("a long answer", 4000, usage.chat)), meters: []string{bothReported}},
		{name: "fails, and is answered by another target", end: "ok", charged: "the answer as reported; the failed attempt nothing",
			providers: [][]act{{status(429)}, {answer}}, meters: []string{"", bothReported}},
		{name: "fails where failures are charged, and is answered by another target", end: "ok", charged: "the answer as reported: what a failed attempt reports, nobody sees",
			providers: [][]act{{charging(429)}, {answer}}, meters: []string{"", bothReported}, unseen: usage{input: promptWords}},
		{name: "waits for a silent target, and is answered by another", end: "ok", charged: "the answer as reported, and the silent attempt's prompt, estimated",
			providers: [][]act{{reads(4, nil)}, {answer}}, meters: []string{both, bothReported}, unseen: usage{output: 4}},
		{name: "waits for a first token too long (`first_token`), and is answered by another", end: "ok", charged: "the answer as reported, and the silent attempt's prompt, estimated", stream: true,
			providers: [][]act{{act{"headers, no token", func(p *provider, w http.ResponseWriter, a asked) {
				prefill(p, a)
				openEvents(w)
				<-a.gone
			}}}, {speaks("a stream", whole)}}, meters: []string{both, bothReported}, policy: object{"first_token": "0.5s"}},
		{name: "is refused by a budget", end: "refused", charged: nothing, providers: one(answer), prepare: func(g *gateway, m string) {
			g.administer("POST", "budgets", object{"name": m, "selector": object{"models": []string{m}}, "unit": "requests", "amount": "0"})
		}},
		{name: "is refused by a policy", end: "refused", charged: nothing, providers: one(answer), prepare: func(g *gateway, m string) {
			g.administer("POST", "policies", object{"name": m, "level": "access_profile", "project": "default", "access_profile": "for " + m, "constraints": object{"max_privacy_zone": "local"}})
		}},
		{name: "is rejected by the provider (4xx)", end: "rejected", charged: nothing, providers: one(status(400)), meters: []string{""}},
		{name: "is rejected by Azure's content filter", end: "rejected", charged: "the prompt, estimated: Azure charges it", providers: one(act{"400 content_filter, charged", func(p *provider, w http.ResponseWriter, a asked) {
			prefill(p, a)
			refusal(400, refusedContent).do(p, w, a)
		}}), meters: []string{both}},
		{name: "fails at the provider (5xx, 429, no connection)", end: "upstream_error", charged: nothing, providers: [][]act{{status(500)}, nil, {status(429)}}, meters: []string{"", "", "", "", ""}},
		{name: "fails at the provider, with usage in the error", end: "upstream_error", charged: asReported, providers: one(charging(429)), meters: []string{bothReported}},
		{name: "fails within a stream", end: "upstream_error", charged: promptAndAnswer, stream: true, providers: one(speaks("an error event", func(_ *provider, e events, _ asked, _ usage) {
			e.send(object{"error": object{"message": "overloaded", "code": "overloaded"}})
		})), meters: []string{both}},
		{name: "loses its provider within an answer that is no stream", end: "upstream_error", charged: promptAlone, providers: one(act{"half an answer", func(p *provider, w http.ResponseWriter, a asked) {
			prefill(p, a)
			p.charge(usage{output: spoken})
			w.Header().Set("content-type", "application/json")
			_, _ = w.Write([]byte(`{"choices":[{"message":{"content":"` + words(spoken/2)))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}}), meters: []string{both}, unseen: usage{output: spoken}},
		{name: "is cancelled before a connection", end: "client_cancelled", charged: nothing, providers: [][]act{{}}, meters: []string{""}, apart: true},
		{name: "is cancelled before the first byte", end: "client_cancelled", charged: promptAlone, providers: one(reads(4, reached)), meters: []string{both}, unseen: usage{output: 4},
			goes: func(leave func()) { <-reached; leave() }},
		{name: "is cancelled within a stream", end: "client_cancelled", charged: promptAndAnswer, stream: true, leaves: "considerable", providers: one(speaks("a stream", waits)), meters: []string{both}},
		{name: "is cancelled within a stream that reported its prompt (Messages)", end: "client_cancelled", charged: "the prompt as reported, the answer so far estimated", stream: true, api: "/v1/messages", leaves: "considerable",
			providers: one(claudes("a stream of messages", func(_ events, a asked) { <-a.gone })), meters: []string{"input= output~"}},
		{name: "is cancelled after usage", end: "client_cancelled", charged: asReported, stream: true, leaves: "prompt_tokens", providers: one(speaks("a stream, no end", func(p *provider, e events, a asked, u usage) {
			e.send(report(u))
			<-a.gone
		})), meters: []string{bothReported}},
		{name: "loses its provider within a stream", end: "truncated", charged: promptAndAnswer, stream: true,
			providers: one(speaks("a stream that is cut", func(*provider, events, asked, usage) { panic(http.ErrAbortHandler) })), meters: []string{both}},
		{name: "has no first byte in time", end: "timeout", charged: promptAlone, providers: one(reads(4, nil)), meters: []string{both}, unseen: usage{output: 4}},
		{name: "stalls within a stream", end: "timeout", charged: promptAndAnswer, stream: true, providers: one(speaks("a stream that stalls", waits)), meters: []string{both}},
		{name: "takes longer than `LOGOS_MAX_DURATION`", end: "timeout", charged: promptAndAnswer, stream: true, providers: one(speaks("a stream without end", func(p *provider, e events, a asked, _ usage) {
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-a.gone:
					return
				case <-tick.C:
					p.speak(e, 1)
				}
			}
		})), meters: []string{both}},
		{name: "is lost with its gateway", end: "lost", charged: "the prompt, estimated; the answer is not guessed", stream: true, providers: one(speaks("a stream", waits)), meters: []string{both}, unseen: usage{output: spoken}, apart: true},
	}
}

// promptWords is how many tokens the prompt of a row has.
const promptWords = 60

// TestReadmeSaysWhatIsCharged: README's table has the rows that are played.
func TestReadmeSaysWhatIsCharged(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "| a call that | on record as | is charged |\n|---|---|---|\n")
	table, _, closed := strings.Cut(rest, "\n\n")
	if !found || !closed {
		t.Fatal("README has no table of what is charged")
	}
	var want []string
	for _, row := range endings(t) {
		want = append(want, fmt.Sprintf("| %s | `%s` | %s |", row.name, row.end, row.charged))
	}
	if table != strings.Join(want, "\n") {
		t.Errorf("README has\n%s\nwhat is played is\n%s", table, strings.Join(want, "\n"))
	}
}
