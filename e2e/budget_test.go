package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// budget makes a budget, and returns its id when all gateways have it.
func (g *gateway) budget(gateways []*gateway, b object) string {
	g.t.Helper()
	id := g.adminCall(g.root, "POST", "/admin/v1/budgets", b)["id"].(string)
	for _, other := range gateways {
		other.waitRevision()
	}
	return id
}

// counter returns the one counter of a budget.
func (g *gateway) counter(id string) object {
	g.t.Helper()
	list, _ := g.adminCall(g.root, "GET", "/admin/v1/budgets/"+id+"/counters", nil)["counters"].([]any)
	if len(list) != 1 {
		g.t.Fatalf("the counters are %v", list)
	}
	return list[0].(object)
}

// callAtOnce makes calls in parallel, each at the next gateway, and counts the answers by status.
func callAtOnce(gateways []*gateway, n int, body string) (passed, refused int64, last *reply) {
	var ok, no atomic.Int64
	var mu sync.Mutex
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			r := gateways[i%len(gateways)].call("POST", "/v1/chat/completions", body)
			switch r.status {
			case 200:
				ok.Add(1)
			case 402, 429:
				no.Add(1)
				mu.Lock()
				last = r
				mu.Unlock()
			}
		})
	}
	calls.Wait()
	return ok.Load(), no.Load(), last
}

// TestABudgetHoldsToTheCall has 200 callers at once against a budget for exactly 50 calls, by count and by the price
// of an output that is used up, on one gateway and on three that share a database.
func TestABudgetHoldsToTheCall(t *testing.T) {
	const most, output = 50, 40
	p := plain(t, usage{input: 6, output: output})
	db := startDatabase(t)
	env := map[string]string{"DATABASE_URL": db.url, "LOGOS_MASTER_KEY": testMasterKey}
	gateways := []*gateway{start(t, env), start(t, env), start(t, env)}
	g := gateways[0]
	g.deploy("m", "", p.openai("p"))
	for _, other := range gateways {
		other.root = g.root
	}
	if out, err := g.command(nil, "prices", "set", "--provider", "p", "--currency", "EUR", "--input", "0", "--output", "7.5"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	body := fmt.Sprintf(`{"model":"m","max_tokens":%d,"messages":[{"role":"user","content":"Say something."}]}`, output)
	for _, n := range []int{1, 3} {
		for name, b := range map[string]object{
			"calls": {"unit": "requests", "amount": "50"},
			"price": {"unit": "money", "currency": "EUR", "amount": "0.015"}, // 50 times 40 tokens of 7.50 EUR a million
		} {
			b["name"] = fmt.Sprint(name, " on ", n)
			id := g.budget(gateways, b)
			before := len(p.requests())
			passed, refused, last := callAtOnce(gateways[:n], 200, body)
			if passed != most || refused != 200-most || len(p.requests())-before != most {
				t.Errorf("%s: %d passed and %d were refused, of which the provider saw %d", b["name"], passed, refused, len(p.requests())-before)
			}
			if want := map[string]string{"calls": "rate_limit_exceeded", "price": "budget_exceeded"}[name]; last == nil || last.code() != want || last.header.Get("x-should-retry") != "false" {
				t.Errorf("%s: a refusal is %v", b["name"], last)
			}
			g.eventually("what was spent", waitLong, func() bool {
				c := g.counter(id)
				return c["spent"] == c["limit"] && c["overruns"] == "0"
			})
			g.adminCall(g.root, "DELETE", "/admin/v1/budgets/"+id, nil)
			for _, other := range gateways {
				other.waitRevision()
			}
		}
	}
}

// TestOpenCallsHoldTheirBudgetAcrossARestart kills `logos serve` while calls hold all of a limit of calls at once:
// its successor knows them, and lets others in when they have ended.
func TestOpenCallsHoldTheirBudgetAcrossARestart(t *testing.T) {
	release := make(chan struct{})
	p := newProvider(t, func(p *provider, w http.ResponseWriter, a asked) {
		e := openEvents(w)
		e.send(object{"id": "c", "object": "chat.completion.chunk", "choices": []object{{"index": 0, "delta": object{"content": "x"}}}})
		<-release
		e.text("data: [DONE]\n\n")
	})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	id := g.budget([]*gateway{g}, object{"name": "two at once", "unit": "parallel", "amount": "2"})
	var open []*http.Response
	for range 2 {
		r, err := g.open("POST", "/v1/chat/completions", strings.NewReader(chatBody("m", true)))
		if err != nil || r.StatusCode != 200 {
			t.Fatalf("a call gets %v (%v)", r, err)
		}
		open = append(open, r)
	}
	third := func() *reply { return g.call("POST", "/v1/chat/completions", chatBody("m", true)) }
	if r := third(); r.status != 429 || r.header.Get("retry-after") != "1" {
		t.Errorf("a third one gets %v", r)
	}
	g.killAndWait("serve")
	g.waitReady()
	g.waitRevision()
	if r := third(); r.status != 429 {
		t.Errorf("after a restart a third one gets %v", r)
	}
	close(release)
	for _, r := range open {
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	g.eventually("room for another one", waitLong, func() bool { return third().status == 200 })
	if c := g.counter(id); c["spent"] != "0" || c["limit"] != "2" {
		t.Errorf("the counter is %v", c)
	}
}

// TestMaxTokensIsLoweredToWhatIsLeft: the provider sees the limit that the budget still allows.
func TestMaxTokensIsLoweredToWhatIsLeft(t *testing.T) {
	p := plain(t, usage{input: 6, output: 30})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	if out, err := g.command(nil, "prices", "set", "--provider", "p", "--currency", "EUR", "--input", "0", "--output", "10"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	g.budget([]*gateway{g}, object{"name": "course", "unit": "money", "currency": "EUR", "amount": "0.0005", "window": "month", "clamp_max_tokens": true})
	r := g.chat("m")
	if r.status != 200 {
		t.Fatalf("the answer is %v", r)
	}
	seen := p.requests()[0].json()
	if seen["max_tokens"] != 50.0 && seen["max_completion_tokens"] != 50.0 {
		t.Errorf("the provider saw %v", seen)
	}
	g.eventually("what was used", waitLong, func() bool { return g.chat("m").status == 200 }) // 20 tokens are left
	g.eventually("a refusal", 10*time.Second, func() bool { r := g.chat("m"); return r.status == 402 && r.code() == "budget_exceeded" })
}

// TestASoftBudgetTellsAndRefusesNothing: its webhook is called once.
func TestASoftBudgetTellsAndRefusesNothing(t *testing.T) {
	events := make(chan []byte, 10)
	hook := newProvider(t, func(_ *provider, w http.ResponseWriter, a asked) {
		events <- a.body
		w.WriteHeader(204)
	})
	p := plain(t, usage{input: 6, output: 30})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	id := g.budget([]*gateway{g}, object{"name": "course", "unit": "tokens", "amount": "100", "window": "day", "soft": true, "webhook_url": hook.URL + "/hook"})
	for range 5 { // 36 tokens each
		if r := g.chat("m"); r.status != 200 {
			t.Fatalf("an answer is %v", r)
		}
	}
	select {
	case body := <-events:
		for _, want := range []string{`"percent":100`, `"budget":"course"`, `"budget_id":"` + id + `"`, `"limit":"100"`} {
			if !strings.Contains(string(body), want) {
				t.Errorf("the webhook gets %s, without %s", body, want)
			}
		}
	case <-time.After(waitLong):
		t.Fatal("the webhook gets nothing")
	}
	g.eventually("all that was spent", waitLong, func() bool { return g.counter(id)["spent"] == "180" })
	if n := g.metric("logos_budget_thresholds_total"); n != 1 || len(events) != 0 {
		t.Errorf("%v thresholds were told of, and %d more to the webhook", n, len(events))
	}
}
