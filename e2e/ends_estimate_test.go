package e2e_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestEstimatesOfCancelledStreamsAreNear has callers leave streams of different shapes wherever they like, and compares
// what is estimated with what the providers have made until they noticed. It prints the error.
func TestEstimatesOfCancelledStreamsAreNear(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	var mu sync.Mutex
	made := map[string]int64{} // tokens of each call, by its id at the provider
	shapes := map[string]struct {
		path string
		p    *provider
	}{}
	for name, shape := range map[string]struct {
		path        string
		event       func(text string) string
		most        int // tokens an event
		first, last func(prompt, tokens int64) string
	}{
		"OpenAI's chat, a token an event": {"/v1/chat/completions", func(text string) string { return encoded(chunk(text)) }, 1,
			func(int64, int64) string { return "" }, func(prompt, n int64) string { return encoded(report(usage{input: prompt, output: n})) + done }},
		"a short chat, up to two tokens an event": {"/v1/chat/completions", func(text string) string { return encoded(object{"choices": []object{{"index": 0, "delta": object{"content": text}}}}) }, 2,
			func(int64, int64) string { return "" }, func(prompt, n int64) string { return encoded(report(usage{input: prompt, output: n})) + done }},
		"Anthropic's messages, up to six tokens an event": {"/v1/messages", func(text string) string {
			return "event: content_block_delta\n" + encoded(object{"type": "content_block_delta", "index": 0, "delta": object{"type": "text_delta", "text": text}})
		}, 6, func(prompt, _ int64) string {
			return "event: message_start\n" + encoded(object{"type": "message_start", "message": object{"usage": object{"input_tokens": prompt, "output_tokens": 1}}})
		}, func(_, n int64) string {
			return "event: message_delta\n" + encoded(object{"type": "message_delta", "usage": object{"output_tokens": n}}) + "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
		}},
	} {
		p := newProvider(t, func(p *provider, w http.ResponseWriter, a asked) {
			prompt, id := int64(len(strings.Fields(a.prompt()))), a.header.Get("x-request-id")
			r, e, n := rand.New(rand.NewPCG(uint64(prompt), 7)), openEvents(w), int64(0)
			e.text(shape.first(prompt, 0))
			tick := time.NewTicker(4 * time.Millisecond)
			defer tick.Stop()
			for n < prompt { // an answer is as long as its prompt
				select {
				case <-a.gone:
					return
				case <-tick.C:
				}
				text := ""
				for range 1 + r.IntN(shape.most) {
					text += " " + strings.Fields(vocabulary)[r.IntN(19)]
					n++
				}
				mu.Lock()
				made[id] = n
				mu.Unlock()
				e.text(shape.event(text))
			}
			e.text(shape.last(prompt, n))
		})
		shapes[name] = struct {
			path string
			p    *provider
		}{shape.path, p}
		g.connect(name, "", p.openai(name))
	}
	g.waitRevision()
	call := func(name, path string, words, until int) {
		body := fmt.Sprintf(`{"model":%q,"max_tokens":1000,"stream":true,"messages":[{"role":"user","content":%q}]}`, name, strings.Join(strings.Fields(strings.Repeat(vocabulary, words/19+1))[:words], " "))
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		req, err := http.NewRequestWithContext(ctx, "POST", "http://"+g.data+path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("authorization", "Bearer "+g.root)
		req.Header.Set("x-logos-profile", "for "+name)
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		buffer := make([]byte, 1024)
		for events := 0; until == 0 || events < until; {
			n, err := resp.Body.Read(buffer)
			if events += strings.Count(string(buffer[:n]), "data:"); err != nil {
				return
			}
		}
	}
	play := func(n int, each func(r *rand.Rand) (words, until int)) {
		var wg sync.WaitGroup
		r := rand.New(rand.NewPCG(6, 7))
		for name, shape := range shapes {
			for range n {
				words, until := each(r)
				wg.Go(func() { call(name, shape.path, words, until) })
			}
			wg.Wait()
		}
		g.eventually("records", waitLong, func() bool { return g.metric("logos_calls_in_flight") == 0 })
	}
	play(9, func(r *rand.Rand) (int, int) { return 30 + r.IntN(150), 0 })
	play(40, func(r *rand.Rand) (int, int) { return 400, 8 + r.IntN(60) })
	rows, err := g.db().Query(t.Context(), `select c.call_id::text, c.model, m.quantity, m.estimated from calls c join meters m using (start_at, call_id) where c.end_reason = 'client_cancelled' and m.meter = 'output'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	off, sums := map[string][]float64{}, map[string][2]int64{}
	for rows.Next() {
		var id, model string
		var got int64
		var estimated bool
		if err := rows.Scan(&id, &model, &got, &estimated); err != nil || !estimated {
			t.Fatalf("a cancelled stream is on record with %d tokens that are no estimate, %v", got, err)
		}
		off[model] = append(off[model], math.Abs(float64(got-made[id]))/float64(made[id]))
		sums[model] = [2]int64{sums[model][0] + got, sums[model][1] + made[id]}
	}
	for name := range shapes {
		all, sum := slices.Sorted(slices.Values(off[name])), sums[name]
		if len(all) != 40 {
			t.Fatalf("%s: %d streams were cancelled", name, len(all))
		}
		total := float64(sum[0])/float64(sum[1]) - 1
		t.Logf("%s: %d of %d tokens (%+.1f %%); error of one call: median %.0f %%, 95 in 100 below %.0f %%, at most %.0f %%", name, sum[0], sum[1], 100*total, 100*all[20], 100*all[38], 100*all[39])
		if math.Abs(total) > 0.15 || all[20] > 0.15 || all[38] > 0.4 {
			t.Errorf("%s: the estimates are too far off", name)
		}
	}
}

func encoded(o object) string {
	var b strings.Builder
	events{discard{&b}}.send(o)
	return b.String()
}

// discard is an answer that is a text.
type discard struct{ *strings.Builder }

func (discard) Header() http.Header { return http.Header{} }
func (discard) WriteHeader(int)     {}
