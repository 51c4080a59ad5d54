package e2e_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// A mixedBook is what the providers of the mix know of each call, by the request id that they see.
type mixedBook struct {
	t    *testing.T
	seed uint64

	mu       sync.Mutex
	attempts map[string][]*bookEntry
	leave    map[int]context.CancelFunc // of calls whose caller leaves when the provider says so
	held     int
	released chan struct{} // closed when streams that are held go on
	busy     int
}

// A bookEntry is one attempt as the provider saw it.
type bookEntry struct {
	provider string
	call     *mixedCall
	charged  charges
	taken    bool // it is charged for
	told     bool // all of the usage
	began    time.Time
}

// maxHeld bounds how many streams are under way at once when something is killed.
const maxHeld = 16

func newMixedBook(t *testing.T, seed uint64) *mixedBook {
	return &mixedBook{t: t, seed: seed, attempts: make(map[string][]*bookEntry), leave: make(map[int]context.CancelFunc), released: make(chan struct{})}
}

// provider serves the mix under a name, and says whether it is the first of a model's.
func (b *mixedBook) provider(name string, first func(model string) bool) *provider {
	return newProvider(b.t, func(_ *provider, w http.ResponseWriter, a asked) {
		var asks struct {
			Call          int `json:"call"`
			StreamOptions struct {
				IncludeUsage bool `json:"include_usage"`
			} `json:"stream_options"`
		}
		if err := json.Unmarshal(a.body, &asks); err != nil {
			b.t.Errorf("provider %s gets %v", name, err)
		}
		c := planCall(b.seed, asks.Call)
		if c.stream && (c.api == "chat" || c.api == "completions") && !asks.StreamOptions.IncludeUsage {
			b.t.Errorf("the provider is asked for no usage of call %d", c.n)
		}
		e, before := b.note(a.header.Get("x-request-id"), &bookEntry{provider: name, call: c, began: time.Now()})
		defer b.noted()
		if b.fails(e, first(c.model), before, w, a) {
			return
		}
		if c.stream {
			b.stream(e, w, a)
		} else {
			b.whole(e, w, a)
		}
	})
}

// note opens an entry, and returns how many attempts of the call the same provider has seen before.
func (b *mixedBook) note(id string, e *bookEntry) (*bookEntry, int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := 0
	for _, other := range b.attempts[id] {
		if other.provider == e.provider {
			before++
		}
	}
	b.attempts[id] = append(b.attempts[id], e)
	b.busy++
	return e, before
}

func (b *mixedBook) noted() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy--
}

// charge is what the attempt is charged from now on.
func (b *mixedBook) charge(e *bookEntry, t charges, told bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.charged, e.told, e.taken = t, told, true
}

// fails does what comes in the place of an answer, if anything does.
func (b *mixedBook) fails(e *bookEntry, first bool, before int, w http.ResponseWriter, a asked) bool {
	switch fate := e.call.fate; {
	case fate == fateOnce && first && before == 0, fate == fateFallback && first:
		fails(503)(nil, w, a)
	case fate == fateLimited && first:
		w.Header().Set("retry-after-ms", "20")
		fails(429)(nil, w, a)
	case fate == fateReset && first && before == 0:
		resets(nil, w, a)
	case fate == fateSilent && first:
		b.charge(e, e.call.promptOnly(), false)
		b.untilGone(a)
	case fate == fateEverywhere:
		fails(500)(nil, w, a)
	case fate == fateRejected:
		fails(400)(nil, w, a)
	case fate == fateLeft:
		b.charge(e, e.call.promptOnly(), false)
		b.callerLeaves(e.call, a)
	default:
		return false
	}
	return true
}

// callerLeaves tells the caller to leave, and waits until it has.
func (b *mixedBook) callerLeaves(c *mixedCall, a asked) {
	b.mu.Lock()
	leave := b.leave[c.n]
	b.mu.Unlock()
	if leave != nil {
		leave()
	}
	b.untilGone(a)
}

func (b *mixedBook) untilGone(a asked) {
	select {
	case <-a.gone:
	case <-b.t.Context().Done():
	}
}

// whole answers in JSON.
func (b *mixedBook) whole(e *bookEntry, w http.ResponseWriter, a asked) {
	c := e.call
	text := c.answer()
	w.Header().Set("content-type", "application/json")
	if c.fate != fateLeftMid && c.fate != fateCut {
		b.charge(e, c.used, c.fate != fateQuiet)
		_, _ = w.Write([]byte(text))
		return
	}
	b.charge(e, c.used, false)
	_, _ = w.Write([]byte(text[:len(text)/2]))
	_ = http.NewResponseController(w).Flush()
	if c.fate == fateCut {
		panic(http.ErrAbortHandler)
	}
	b.callerLeaves(c, a)
}

// stream answers in events.
func (b *mixedBook) stream(e *bookEntry, w http.ResponseWriter, a asked) {
	c := e.call
	out := openEvents(w)
	all := c.events()
	for i, text := range all[:c.breakAt] {
		charged, told := c.sent(i + 1) // before the caller can know
		b.charge(e, charged, told)
		out.text(text)
	}
	if c.breakAt == 0 {
		charged, told := c.sent(0)
		b.charge(e, charged, told)
	}
	switch c.fate {
	case fateLeftBegun, fateLeftFirst, fateLeftMid, fateLeftUsage, fateStalled:
		b.untilGone(a)
	case fateCut, fateCutUsage:
		panic(http.ErrAbortHandler)
	case fateErrs:
		out.send(object{"error": object{"message": "overloaded", "type": "server_error", "code": "overloaded"}})
	case fateHeld:
		if b.hold(out, a) {
			charged, told := c.sent(len(all))
			b.charge(e, charged, told)
			out.text(all[c.breakAt])
			for _, text := range all[c.breakAt+1:] {
				out.text(text)
			}
		}
	}
}

// hold keeps a stream open, with comments, until streams are released. It says whether the caller is still there.
func (b *mixedBook) hold(out events, a asked) bool {
	b.mu.Lock()
	released := b.released
	full := b.held >= maxHeld
	if !full {
		b.held++
	}
	b.mu.Unlock()
	if full {
		return true
	}
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.held--
	}()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-a.gone:
			return false
		case <-released:
			return true
		case <-tick.C:
			out.text(": wait\n\n")
		}
	}
}

// release lets the held streams go on; for good, if there is nothing more to come.
func (b *mixedBook) release(forGood bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.released)
	if !forGood {
		b.released = make(chan struct{})
	}
}

func (b *mixedBook) holds() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

func (b *mixedBook) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.busy == 0
}

// entries returns what is known of a call, in the order of attempts.
func (b *mixedBook) entries(id string) []*bookEntry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.attempts[id])
}

func (b *mixedBook) ids() (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.attempts {
		out = append(out, id)
	}
	return out
}
