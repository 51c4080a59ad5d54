package accesslog_test

import (
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/accesslog"
)

func TestTakesNoCallsWhileEnvoyCannotWriteItsLog(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		w.envoys.writeFailures = 7 // from before the start
		w.envoy("e")
		w.start()
		refused := func() bool {
			err := w.calls.Begin(id(int(time.Now().UnixMilli()%1e8)), "e", &logos.Decision{Start: time.Now().UnixMicro(), Deadline: time.Now().Add(time.Hour).UnixMicro()}, []byte("{}"))
			return logos.KindOf(err) == logos.Unavailable
		}
		w.pass(time.Second)
		if refused() {
			t.Error("calls are refused for failures from before the start")
		}
		for _, failures := range []int64{8, 9} {
			w.envoys.mu.Lock()
			w.envoys.writeFailures = failures
			w.envoys.mu.Unlock()
			w.pass(9 * time.Second)
			if !refused() {
				t.Errorf("calls are taken after failure %d", failures)
			}
		}
		w.pass(4 * time.Second)
		if refused() {
			t.Error("calls are refused long after the last failure")
		}
	})
}

func TestCountsWhatItStores(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		w.envoy("e").write(callText(1) + callText(2) + of(3, set(callLine, "d", "null")) + "x\n")
		w.start()
		w.pass(time.Second)
		got := make(map[string]float64)
		families, err := w.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					name += " " + l.GetValue()
				}
				got[name] = m.GetCounter().GetValue()
			}
		}
		for name, want := range map[string]float64{
			"logos_calls_recorded_total ok": 2, "logos_attempts_recorded_total ok 1": 2, "logos_tokens_total false input": 2, "logos_tokens_total false output": 28,
			"logos_access_log_unknown_lines_total": 1, "logos_undecided_requests_total": 1,
		} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
	})
}

func TestSaysOnceThatTheStoreIsAwayAndOnceThatItIsBack(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		core, logs := observer.New(zap.InfoLevel)
		w.log = zap.New(core)
		p := w.envoy("e")
		w.store.set(refuses)
		w.start()
		for outage := range 3 {
			p.write(callText(outage + 1))
			w.pass(3 * time.Second)
			w.store.set(works)
			w.pass(3 * time.Second)
			w.expectCalls(outage + 1)
			w.store.set(refuses)
		}
		away := logs.FilterMessage("calls can't be stored; they stay in the access log until they can").Len()
		back := logs.FilterMessage("calls are stored again").Len()
		if away != 3 || back != 3 || logs.Len() != 6 {
			t.Errorf("it said %d times that the store is away and %d times that it is back, in %d lines; want 3, 3 and 6", away, back, logs.Len())
		}
		w.store.set(works)
	})
}
