package e2e_test

import (
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

// A streamShape is how a provider streams: with how many tokens an event, and how it reports them.
type streamShape struct {
	name, path string
	most       int64 // tokens an event
	event      func(text string) string
	first      func(prompt int64) string
	last       func(prompt, answer int64) string

	mu   sync.Mutex
	made map[string]int64 // tokens of each call, by its id at the provider
}

func data(o object) string { return eventText("", o) }

// eventText is an event as it goes out.
func eventText(name string, o object) string {
	var b strings.Builder
	if name != "" {
		b.WriteString("event: " + name + "\n")
		o["type"] = name
	}
	events{textAnswer{&b}}.send(o)
	return b.String()
}

// A textAnswer is an answer that is kept.
type textAnswer struct{ *strings.Builder }

func (textAnswer) Header() http.Header { return http.Header{} }
func (textAnswer) WriteHeader(int)     {}

func streamShapes() []*streamShape {
	none := func(int64) string { return "" }
	chat := func(prompt, answer int64) string { return data(report(usage{input: prompt, output: answer})) + done }
	return []*streamShape{
		{name: "OpenAI's chat, a token an event", path: "/v1/chat/completions", most: 1, first: none, last: chat, event: func(text string) string { return data(chunk(text)) }},
		{name: "short events of one or two tokens", path: "/v1/chat/completions", most: 2, first: none, last: chat, event: func(text string) string {
			return data(object{"choices": []object{{"index": 0, "delta": object{"content": text}}}})
		}},
		{name: "Anthropic's messages, one to six tokens an event", path: "/v1/messages", most: 6,
			first: func(prompt int64) string {
				return eventText("message_start", object{"message": object{"usage": object{"input_tokens": prompt, "output_tokens": 1}}})
			},
			last: func(_, answer int64) string {
				return eventText("message_delta", object{"usage": object{"output_tokens": answer}}) + eventText("message_stop", object{})
			},
			event: func(text string) string {
				return eventText("content_block_delta", object{"index": 0, "delta": object{"type": "text_delta", "text": text}})
			}},
	}
}

// answer streams as many tokens as the prompt has, until nobody listens any more.
func (s *streamShape) answer(_ *provider, w http.ResponseWriter, a asked) {
	prompt, n := int64(len(strings.Fields(a.prompt()))), int64(0)
	r, e := rand.New(rand.NewPCG(uint64(prompt), 7)), openEvents(w)
	e.text(s.first(prompt))
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	for n < prompt {
		select {
		case <-a.gone:
			return
		case <-tick.C:
		}
		text := ""
		for range 1 + r.Int64N(s.most) {
			text += " " + vocabulary[r.IntN(len(vocabulary))]
			n++
		}
		s.mu.Lock()
		s.made[a.header.Get("x-request-id")] = n
		s.mu.Unlock()
		e.text(s.event(text))
	}
	e.text(s.last(prompt, n))
}

// callShapes makes calls of each shape, each with so many words, and reads so many events; 0: all of them.
func (g *gateway) callShapes(shapes []*streamShape, n int, each func() (words, events int)) {
	for _, s := range shapes {
		var calls sync.WaitGroup
		for range n {
			long, most := each()
			body := fmt.Sprintf(`{"model":%q,"max_tokens":1000,"stream":true,"messages":[{"role":"user","content":%q}]}`, s.name, words(long))
			calls.Go(func() {
				seen := 0
				enough := func(line string) bool {
					if strings.HasPrefix(line, "data:") {
						seen++
					}
					return seen == most && most > 0
				}
				if err := g.readUntil(g.t.Context(), s.path, body, enough, "x-logos-profile: for "+s.name); err != nil {
					g.t.Error(err)
				}
			})
		}
		calls.Wait()
	}
	g.eventually("all records", waitLong, func() bool { return g.metric("logos_calls_in_flight") == 0 })
}

// TestEstimatesOfCancelledStreamsAreNear has callers leave streams of several shapes wherever they like, and compares
// what is estimated with what the providers made until they noticed. It prints how far off that is.
func TestEstimatesOfCancelledStreamsAreNear(t *testing.T) {
	t.Parallel()
	g, shapes, r := start(t, nil), streamShapes(), rand.New(rand.NewPCG(6, 7))
	for _, s := range shapes {
		s.made = make(map[string]int64)
		g.connect(s.name, "", newProvider(t, s.answer).openai(s.name))
	}
	g.waitRevision()
	const cancelled = 40
	g.callShapes(shapes, 9, func() (int, int) { return 30 + r.IntN(150), 0 })
	g.callShapes(shapes, cancelled, func() (int, int) { return 400, 8 + r.IntN(60) })
	for _, s := range shapes {
		off, total := g.errorsOf(s)
		if len(off) != cancelled {
			t.Fatalf("%s: %d streams are on record as cancelled", s.name, len(off))
		}
		t.Logf("%s: %+.1f %% in all; of one call: median %.0f %%, 95 in 100 below %.0f %%, at most %.0f %%", s.name, 100*total, 100*off[cancelled/2], 100*off[cancelled*95/100], 100*off[cancelled-1])
		if math.Abs(total) > 0.15 || off[cancelled/2] > 0.15 || off[cancelled*95/100] > 0.3 {
			t.Errorf("%s: the estimates are too far off", s.name)
		}
	}
}

// errorsOf returns by how much the answers on record of cancelled calls differ from those that were made: each,
// from the least on, and all together.
func (g *gateway) errorsOf(s *streamShape) (off []float64, total float64) {
	g.t.Helper()
	rows, err := g.db().Query(g.t.Context(), `select c.call_id::text, m.quantity, m.estimated from calls c join meters m using (start_at, call_id)
		where c.end_reason = 'client_cancelled' and m.meter = 'output' and c.model = $1`, s.name)
	if err != nil {
		g.t.Fatal(err)
	}
	defer rows.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got, made float64
	for rows.Next() {
		var id string
		var n float64
		var estimated bool
		if err := rows.Scan(&id, &n, &estimated); err != nil || !estimated {
			g.t.Fatalf("a cancelled stream is on record with %v tokens that are no estimate, %v", n, err)
		}
		truth := float64(s.made[id])
		got, made = got+n, made+truth
		off = append(off, math.Abs(n/truth-1))
	}
	slices.Sort(off)
	return off, got/made - 1
}
