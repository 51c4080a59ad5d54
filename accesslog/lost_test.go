package accesslog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/accesslog"
)

// of returns a line as one of call n.
func of(n int, line string) string {
	return strings.ReplaceAll(line, "4c3648d3-45cf-4a39-9983-4ec0041b40d3", string(id(n))) + "\n"
}

// callOf is the line of the end of a call with that decision.
func callOf(t *testing.T, n int, d *logos.Decision) string {
	return of(n, set(callLine, "d", string(encode(t, string(encode(t, d))))))
}

// stored describes call n, or says that it is not stored.
func (w *world) stored(n int, d *logos.Decision) string {
	w.t.Helper()
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	c := w.store.calls[callKey{d.Start, id(n)}]
	if c == nil {
		return "not stored"
	}
	return describe(c)
}

func (w *world) expect(when string, n int, d *logos.Decision, want string) {
	w.t.Helper()
	if got := w.stored(n, d); got != want {
		w.t.Errorf("%s call %d is: %s; want: %s", when, n, got, want)
	}
	if _, open := w.calls.Get(id(n)); open != (want == "not stored") {
		w.t.Errorf("%s the intent of call %d is open: %t", when, n, open)
	}
}

func TestLosesACallSomeTimeAfterItsDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		log  string
		want string
	}{
		"no attempt wrote a line, and Envoy lives: nothing was sent": {"", "lost 0"},
		"an attempt is under way":                                    {of(1, begun("one")), "lost 0; 1 one lost 0 input~20 output~0"},
		"an attempt has ended":                                       {of(1, begun("one")) + of(1, ended("one", 503, "-")), "lost 0; 1 one lost 503 input~20 output~0"},
		"a second is under way":                                      {of(1, ended("one", 0, "UF")) + of(1, begun("two")), "lost 0; 1 one upstream_error 0; 2 two lost 0 input~20 output~0"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
				p := w.envoy("e")
				w.start()
				d := w.begin(p, id(1), time.Minute, "one", "two")
				p.write(callText(9) + c.log)
				w.pass(time.Minute + 9*time.Second)
				w.expect("before its time,", 1, d, "not stored")
				w.pass(2 * time.Second)
				w.expect("after its deadline,", 1, d, c.want)
				// Its lines come after all; they are not for a second record.
				p.write(of(1, ended("one", 200, "-")) + callOf(t, 1, d))
				w.pass(2 * time.Second)
				w.expect("after late lines,", 1, d, c.want)
				if n := w.store.times[callKey{d.Start, id(1)}]; n != 1 {
					t.Errorf("the call is stored %d times", n)
				}
				if w.stop(); w.store.positions["e"].Offset < int64(len(callText(9)+c.log)) {
					t.Errorf("the position %+v waits for a call that is settled", w.store.positions["e"])
				}
			})
		})
	}
}

func TestDoesNotLoseACallWhoseLinesAreStillToRead(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		d := w.begin(p, id(1), time.Second, "d1-c1-f8e8a281")
		w.pass(time.Minute)
		for range 5000 { // more than is read at once
			p.write(of(9, set(callLine, "d", "null")))
		}
		p.write(of(1, endLine) + callOf(t, 1, d))
		w.start()
		w.pass(5 * time.Second)
		w.expect("at last", 1, d, "ok 200; 1 d1-c1-f8e8a281 ok 200 input=1 output=14")
	})
}

// The call is settled, but the store is away until long after its deadline and the end of its Envoy.
func TestDoesNotLoseACallThatWaitsToBeStored(t *testing.T) {
	for _, gone := range []bool{false, true} {
		inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
			p := w.envoy("e")
			w.envoy("f")
			deadline := time.Second
			if gone {
				deadline = time.Hour
			}
			d := w.begin(p, id(1), deadline, "d1-c1-f8e8a281")
			w.start()
			p.write(of(1, startLine))
			w.pass(500 * time.Millisecond)
			w.store.set(refuses)
			p.write(of(1, endLine) + callOf(t, 1, d))
			w.pass(time.Second)
			if gone {
				w.disconnect(p)
			}
			w.pass(3 * time.Minute)
			w.store.set(works)
			w.pass(time.Second)
			w.expect("at last", 1, d, "ok 200; 1 d1-c1-f8e8a281 ok 200 input=1 output=14")
			// Each batch holds it once, also the one that was stored.
			if n := w.store.times[callKey{d.Start, id(1)}]; n != 1 {
				t.Errorf("the call is stored %d times", n)
			}
		})
	}
}

func TestLosesTheCallsOfAnEnvoyThatIsGone(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p, other := w.envoy("e"), w.envoy("f")
		other.connected = false
		w.start()
		unsent := w.begin(p, id(1), time.Hour, "one", "two")
		sent := w.begin(p, id(2), time.Hour, "one", "two")
		whole := w.begin(p, id(3), time.Hour, "d1-c1-f8e8a281")
		p.write(of(2, begun("one")) + of(3, startLine) + of(3, endLine))
		w.pass(2 * time.Second)
		recent := w.begin(p, id(4), time.Hour, "one", "two") // within the second before the end
		p.write(callOf(t, 3, whole))
		w.pass(500 * time.Millisecond)
		w.disconnect(p)
		w.pass(10 * time.Minute) // nobody is connected: all may come back
		w.expect("while no Envoy is connected", 1, unsent, "not stored")
		w.envoys.mu.Lock()
		other.connected = true
		w.envoys.mu.Unlock()
		w.pass(2500 * time.Millisecond)
		w.expect("too soon", 1, unsent, "not stored")
		w.pass(2 * time.Second)
		w.expect("at last", 1, unsent, "lost 0")
		w.expect("at last", 2, sent, "lost 0; 1 one lost 0 input~20 output~0")
		w.expect("at last", 3, whole, "ok 200; 1 d1-c1-f8e8a281 ok 200 input=1 output=14")
		w.expect("at last", 4, recent, "lost 0; 1 one lost 0 input~20 output~0")
		if logs := w.logs("e"); len(logs) != 0 {
			t.Errorf("its logs %v are left", logs)
		}
	})
}

func TestReadsTheWholeLogOfAnEnvoyThatIsGone(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		w.envoy("f")
		d := w.begin(p, id(1), time.Hour, "d1-c1-f8e8a281")
		w.start()
		w.pass(time.Second)
		w.store.set(refuses) // so that reading stops
		for n := range 4000 {
			p.write(callText(n + 2))
		}
		p.write(of(1, endLine) + callOf(t, 1, d))
		w.disconnect(p)
		w.pass(10 * time.Second)
		w.store.set(works)
		w.pass(10 * time.Second)
		w.expect("at last", 1, d, "ok 200; 1 d1-c1-f8e8a281 ok 200 input=1 output=14")
		if len(w.store.calls) != 4001 || len(w.logs("e")) != 0 {
			t.Errorf("%d calls are stored, want 4001; logs %v are left", len(w.store.calls), w.logs("e"))
		}
	})
}

func TestLosesTheCallsOfAnEnvoyThatLeftNoLog(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		gone := w.envoy("e")
		gone.connected = false
		d := w.begin(gone, id(1), time.Hour, "one")
		mine := w.begin(w.envoy("f"), id(2), time.Hour, "one")
		w.start()
		w.pass(3 * time.Second)
		w.expect("too soon", 1, d, "not stored")
		w.pass(3 * time.Second)
		w.expect("at last", 1, d, "lost 0; 1 one lost 0 input~20 output~0")
		w.expect("at last", 2, mine, "not stored")
	})
}

// An Envoy comes back within the time in which it may.
func TestWaitsForAnEnvoyThatComesBack(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		w.envoy("f")
		w.start()
		d := w.begin(p, id(1), time.Hour, "d1-c1-f8e8a281")
		p.write(of(1, startLine))
		for range 5 {
			w.disconnect(p)
			w.pass(2 * time.Second)
			w.envoys.mu.Lock()
			p.connected = true
			w.envoys.mu.Unlock()
			w.pass(time.Second)
		}
		w.expect("after five breaks", 1, d, "not stored")
		p.write(of(1, endLine) + callOf(t, 1, d))
		w.pass(time.Second)
		w.expect("at last", 1, d, "ok 200; 1 d1-c1-f8e8a281 ok 200 input=1 output=14")
	})
}

// It comes back after it was given up, but before that could be stored.
func TestDoesNotForgetAnEnvoyThatComesBackLate(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		w.envoy("f")
		p.write(callText(1))
		w.start()
		w.pass(time.Second)
		w.store.set(refuses)
		w.disconnect(p)
		w.pass(10 * time.Second)
		w.envoys.mu.Lock()
		p.connected = true
		w.envoys.mu.Unlock()
		w.pass(time.Second)
		w.store.set(works)
		w.pass(time.Second)
		p.write(callText(2))
		w.pass(time.Second)
		w.expectCalls(2)
	})
}

func TestEndsIntentsOfStoredCallsAtTheStart(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		for n := 1; n <= 2500; n++ { // more than are asked for at once
			d := w.begin(p, id(n), time.Minute, "one")
			if n != 1000 {
				w.store.calls[callKey{d.Start, id(n)}] = &logos.Call{ID: id(n), Decision: *d, End: logos.EndOK}
			}
		}
		w.start()
		w.pass(time.Second)
		if _, open := w.calls.Get(id(1000)); !open || w.calls.Len() != 1 {
			t.Errorf("%d intents are open, want that of the one call that is not stored", w.calls.Len())
		}
		if w.store.attempted != 0 {
			t.Errorf("%d batches are stored", w.store.attempted)
		}
	})
}
