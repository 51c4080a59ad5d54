package health

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func TestABrownOutMovesCallsWithinFiveSeconds(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{2, 10, 100} {
		for _, median := range []time.Duration{200 * time.Millisecond, 500 * time.Millisecond} {
			for seed := range uint64(3) {
				t.Run(fmt.Sprintf("%v a second, %v, %d", rate, median, seed), func(t *testing.T) {
					w := newWorld(t, seed, median, 2*median)
					w.run(2*time.Minute, rate)
					if share := w.shares(w.begun.Add(time.Minute))[0]; share < 0.95 {
						t.Fatalf("the faster one gets %.2f of the calls before", share)
					}
					w.providers[0].first = around(10 * median)
					w.run(5*time.Second, rate)
					since := w.now
					w.run(time.Minute, rate)
					if share := w.shares(since)[0]; share > 0.02+16/(60*rate) { // some ten are trials
						t.Errorf("it gets %.2f of the calls from the fifth second on", share)
					}
				})
			}
		}
	}
}

func TestATargetIsFoundAgainAfterABrownOut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		w := newWorld(t, seed, 400*time.Millisecond, 800*time.Millisecond)
		w.run(2*time.Minute, 10)
		w.providers[0].first = around(4 * time.Second)
		w.run(2*time.Minute, 10)
		w.providers[0].first = around(400 * time.Millisecond)
		w.run(maxTrialAfter+8*time.Second, 10)
		since := w.now
		w.run(time.Minute, 10)
		if share := w.shares(since)[0]; share < 0.95 {
			t.Errorf("seed %d: it gets %.2f of the calls after it has recovered", seed, share)
		}
	}
}

// While a target is slow, calls go there to try it alone, and ever less often.
func TestABrownOutDoesNotFlap(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		w := newWorld(t, seed, 400*time.Millisecond, 800*time.Millisecond)
		w.run(2*time.Minute, 10)
		w.providers[0].first = around(4 * time.Second)
		w.run(5*time.Second, 10)
		since := w.now
		w.run(5*time.Minute, 10)
		if turns := w.turns(since); turns > 2*30 {
			t.Errorf("seed %d: calls turn %d times in five minutes", seed, turns)
		}
	}
}

// A median of a few times is no reason to leave a healthy target.
func TestScatterIsNoBrownOut(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0.2, 1, 10, 50} {
		for seed := range uint64(2) {
			w := newWorld(t, seed, 400*time.Millisecond, 1200*time.Millisecond)
			w.run(2*time.Minute, rate)
			since, slow := w.now, 0
			for range 40 {
				w.run(15*time.Second, rate)
				if w.m.targetOf(w.providers[0]).pace.slow {
					slow++
				}
			}
			if turns := w.turns(since); slow > 1 || turns > 8 {
				t.Errorf("seed %d, %v a second: it counts as slow %d times of 40, and calls turn %d times", seed, rate, slow, turns)
			}
		}
	}
}

func (m *Monitor) targetOf(p *provider) *target { return (*m.targets.Load())[p.target.Cluster] }

func TestAFailingTargetIsLeftAfterAFewCallsAndUsedWithinFiveSecondsOfItsRecovery(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{5, 20, 200} {
		for seed := range uint64(8) {
			w := newWorld(t, seed, 200*time.Millisecond, 800*time.Millisecond)
			w.run(time.Minute, rate)
			bad := w.providers[0]
			bad.status, bad.first = 500, around(5*time.Millisecond)
			since := len(bad.got)
			w.run(20*time.Second, rate)
			// Those under way until the fifth failure is read, and then a probe at 1, 3, 7, 11, 15 and 19 seconds.
			if n := len(bad.got) - since; float64(n) > failuresInRow+rate*0.2+8 {
				t.Errorf("seed %d, %v a second: %d calls fail", seed, rate, n)
			}
			bad.status, bad.first = 200, around(200*time.Millisecond)
			w.run(5*time.Second, rate)
			since = len(bad.got)
			w.run(5*time.Second, rate)
			if n := len(bad.got) - since; float64(n) < 3*rate {
				t.Errorf("seed %d, %v a second: only %d calls in the second five seconds after its recovery", seed, rate, n)
			}
		}
	}
}

func TestNoMoreThanOneProbeIsUnderWay(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		w := newWorld(t, seed, 300*time.Millisecond)
		w.run(30*time.Second, 50)
		p := w.providers[0]
		p.status, p.first = 503, around(100*time.Millisecond)
		w.run(3*time.Second, 50) // until what was under way has ended
		for range 3000 {
			w.run(step, 50)
			if p.open > 1 {
				t.Fatalf("seed %d: %d calls are under way at an open breaker", seed, p.open)
			}
		}
		if len(p.got) == 0 || w.age() == 0 {
			t.Fatal("nothing was sent")
		}
	}
}

func TestASilentTargetIsLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 200*time.Millisecond, 800*time.Millisecond)
	w.run(time.Minute, 10)
	w.providers[0].first = func(*rand.Rand) time.Duration { return -1 }
	w.run(4*time.Second, 10)
	since := w.now
	w.run(2*time.Minute, 10)
	if share := w.shares(since)[0]; share > 0.02 {
		t.Errorf("a target that is silent gets %.3f of the calls", share)
	}
	if b := w.m.targetOf(w.providers[0]).breaker; b.reason != BreakerOpen || !b.silent {
		t.Errorf("its breaker is %+v, want it open", b)
	}
	w.providers[0].first = around(200 * time.Millisecond)
	w.run(maxTrialAfter+10*time.Second, 10)
	since = w.now
	w.run(time.Minute, 10)
	if share := w.shares(since)[0]; share < 0.9 {
		t.Errorf("it gets %.2f of the calls after it has recovered", share)
	}
}
