package accesslog_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/accesslog"
)

// A plan is what one Envoy writes in a random run, and where it wrote it.
type plan struct {
	w       *world
	random  *rand.Rand
	p       *process
	todo    map[logos.CallID][]string // lines not written yet
	torn    string                    // the rest of the line that is being written
	mu      sync.Mutex                // of what the store's check needs
	started []place                   // of every line
	want    map[logos.CallID]callKey
}

// A place is where a line of a call begins.
type place struct {
	generation, offset int64
	id                 logos.CallID
}

// call plans another call, with an intent and lines in one of the orders in which Envoy writes them.
func (x *plan) call(n int) {
	d := x.w.begin(x.p, id(n), time.Hour, "one", "two")
	call := set(callLine, "d", string(encode(x.w.t, string(encode(x.w.t, d)))), "n", "2")
	log := []string{begun("one"), ended("one", 503, "-"), begun("two"), ended("two", 200, "-"), call}
	if x.random.IntN(2) == 0 {
		log[3], log[4] = log[4], log[3]
	}
	if x.random.IntN(3) == 0 {
		log = log[1:] // no connection
	}
	for i := range log {
		log[i] = strings.ReplaceAll(log[i], "4c3648d3-45cf-4a39-9983-4ec0041b40d3", string(id(n))) + "\n"
	}
	x.todo[id(n)] = log
	x.mu.Lock()
	defer x.mu.Unlock()
	x.want[id(n)] = callKey{d.Start, id(n)}
}

// write writes a line, or a part of one.
func (x *plan) write() {
	if x.torn == "" {
		open := slices.Sorted(maps.Keys(x.todo))
		call := open[x.random.IntN(len(open))]
		x.mu.Lock()
		x.started = append(x.started, place{x.p.generation, x.p.size, call})
		x.mu.Unlock()
		log := x.todo[call]
		x.torn, x.todo[call] = log[0], log[1:]
		if len(log) == 1 {
			delete(x.todo, call)
		}
	}
	n := len(x.torn)
	if x.random.IntN(2) == 0 {
		n = x.random.IntN(len(x.torn) + 1)
	}
	x.p.write(x.torn[:n])
	x.torn = x.torn[n:]
}

// check is called with each batch that is stored: no position may pass a line of a call that is not stored.
func (x *plan) check(b logos.LogBatch) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, p := range b.Positions {
		for _, at := range x.started {
			passed := at.generation < p.Generation || at.generation == p.Generation && at.offset < p.Offset
			if passed && x.w.store.calls[x.want[at.id]] == nil {
				x.w.t.Errorf("the position %+v passes a line of call %s, which is not stored", p, at.id)
			}
		}
	}
}

// turn does one thing at random.
func (x *plan) turn(next *int) {
	w, r := x.w, x.random
	switch n := r.IntN(100); {
	case n < 25:
		*next++
		x.call(*next)
	case n < 75:
		if len(x.todo) > 0 || x.torn != "" {
			x.write()
		}
	case n < 83:
		w.store.set(failure(r.IntN(3)))
	case n < 90:
		x.p.reopen()
	case n < 94:
		w.stop()
		w.start()
	case n < 97:
		w.crash()
		w.start()
	default:
		w.pass(time.Duration(r.IntN(400)) * time.Millisecond)
	}
	if r.IntN(2) == 0 {
		w.pass(20 * time.Millisecond)
	}
}

func TestStoresEachCallOnceWhateverHappens(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	first := rand.Uint64()
	for round := range rounds {
		seed := first + uint64(round)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			inWorld(t, accesslog.Options{RotateBytes: 5000}, func(t *testing.T, w *world) {
				x := &plan{w: w, random: rand.New(rand.NewPCG(seed, 0)), p: w.envoy("e"), todo: make(map[logos.CallID][]string), want: make(map[logos.CallID]callKey)}
				w.store.stored = x.check
				x.p.prompt = false
				w.start()
				calls := 0
				for range 250 {
					x.turn(&calls)
				}
				for len(x.todo) > 0 || x.torn != "" {
					x.write()
				}
				w.store.set(works)
				x.p.reopen()
				w.pass(4 * time.Second)
				for call, k := range x.want {
					c := w.store.calls[k]
					if c == nil {
						t.Errorf("call %s is not stored", call)
					} else if got, want := describe(c), "ok 200; 1 one upstream_error 503; 2 two ok 200 input=1 output=14"; got != want {
						t.Errorf("call %s is stored as %s, want %s", call, got, want)
					}
				}
				if len(w.store.calls) != calls || len(w.store.unknown) != 0 {
					t.Errorf("%d calls are stored and %d lines kept aside, want %d and none", len(w.store.calls), len(w.store.unknown), calls)
				}
				if n := w.calls.Len(); n != 0 {
					t.Errorf("%d intents are open after all calls are stored", n)
				}
			})
		})
	}
}

func TestStoresABatchAgainAfterACommitOfUnknownOutcome(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		w.store.set(forgets)
		w.start()
		p.write(callText(1))
		w.pass(time.Second)
		if w.store.attempted < 2 {
			t.Errorf("a batch that failed was stored %d times", w.store.attempted)
		}
		p.write(callText(2))
		w.store.set(works)
		w.pass(time.Second)
		w.expectCalls(2)
		if got := w.store.positions["e"].Offset; got != int64(len(callText(1)+callText(2))) {
			t.Errorf("the stored position is %d", got)
		}
	})
}

func TestWaitsForAStoreThatIsAway(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		w.start()
		w.pass(time.Second)
		w.store.set(refuses)
		const n = 6000 // more than one batch
		for i := range n {
			p.write(callText(i + 1))
		}
		w.pass(5 * time.Second)
		w.store.set(works)
		w.pass(5 * time.Second)
		w.expectCalls(n)
		if w.store.largest > 2500 { // a thousand, and what a mebibyte holds
			t.Errorf("a batch has %d calls: what waits for the store grows without bound", w.store.largest)
		}
		w.store.set(refuses)
		p.write(callText(n + 1))
		w.pass(time.Second)
		w.store.set(works)
		w.pass(time.Second)
		w.expectCalls(n + 1)
	})
}

func TestReadsToTheEndWhenItIsStopped(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		p.write(callText(1))
		w.start()
		w.pass(time.Second)
		const n = 4000 // more than is read at once
		for i := 1; i < n; i++ {
			p.write(callText(i + 1))
		}
		w.stop()
		w.expectCalls(n)
	})
}

// The last attempt's line comes long after its call was settled without it, and is of no use any more.
func TestWaitsForNothingOnceACallIsSettled(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		log := of(1, startLine) + of(1, callLine)
		p.write(log)
		w.start()
		w.pass(2 * time.Second)
		log += of(1, endLine) + callText(2)
		p.write(of(1, endLine))
		w.pass(time.Second)
		p.write(callText(2))
		w.pass(time.Second)
		w.expectCalls(2)
		if got := w.store.positions["e"].Offset; got != int64(len(log)) {
			t.Errorf("the stored position is %d, want the end at %d", got, len(log))
		}
	})
}

// The call's own line is not readable, so that nothing will ever settle it.
func TestWaitsForNothingThatCannotCome(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		log := of(1, startLine) + of(1, endLine) + of(1, set(callLine, "d", `"{"`)) + callText(2)
		w.envoy("e").write(log)
		w.start()
		w.pass(2 * time.Second)
		if got := w.store.positions["e"].Offset; got != int64(len(log)) {
			t.Errorf("the stored position is %d, want the end at %d", got, len(log))
		}
		if len(w.store.calls) != 1 || len(w.store.unknown) != 1 {
			t.Errorf("%d calls are stored and %d lines kept aside, want one and one", len(w.store.calls), len(w.store.unknown))
		}
	})
}
