package accesslog_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/accesslog"
	"github.com/ls1intum/edutelligence/logos/inflight"
)

// A world is one gateway: a run directory, its Envoys, a store and a reader.
type world struct {
	t        *testing.T
	dir      string
	store    *fakeStore
	envoys   *fakeEnvoys
	opt      accesslog.Options
	calls    *inflight.Calls
	registry *prometheus.Registry
	log      *zap.Logger
	halt     func()
}

// inWorld runs a test in a bubble whose time is not real.
func inWorld(t *testing.T, opt accesslog.Options, do func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, dir: t.TempDir(), store: newFakeStore(), envoys: &fakeEnvoys{processes: make(map[string]*process)}, opt: opt, log: zap.NewNop()}
		w.openCalls()
		do(t, w)
		w.stop()
	})
}

func (w *world) openCalls() {
	w.t.Helper()
	var err error
	w.registry = prometheus.NewRegistry()
	if w.calls, err = inflight.Open(w.t.Context(), w.dir, inflight.Options{}, zap.NewNop(), w.registry); err != nil {
		w.t.Fatal(err)
	}
}

// start runs a reader.
func (w *world) start() {
	w.t.Helper()
	if w.calls == nil {
		w.openCalls()
	}
	r := accesslog.New(w.dir, gateway, w.store, w.calls, w.envoys, w.opt, w.log, w.registry)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	w.halt = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the reader ended with %v", err)
		}
	}
}

// stop ends the reader and gives up its intents.
func (w *world) stop() {
	w.t.Helper()
	if w.halt != nil {
		w.halt()
	}
	if w.calls != nil {
		if err := w.calls.Close(); err != nil {
			w.t.Errorf("close the intents: %v", err)
		}
	}
	w.halt, w.calls = nil, nil
}

// crash ends the reader so that it can store nothing more, as kill -9 does.
func (w *world) crash() {
	w.t.Helper()
	before := w.store.failure
	w.store.set(refuses)
	w.stop()
	w.store.set(before)
}

// pass lets time go by in the bubble, until nothing happens any more.
func (w *world) pass(d time.Duration) {
	w.meet()
	time.Sleep(d) // on the bubble's own clock: it takes no time
	synctest.Wait()
	w.meet()
}

// meet takes all locks that the reader's side takes: what either side did before is seen by the other.
func (w *world) meet() {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.envoys.mu.Lock()
	defer w.envoys.mu.Unlock()
	for _, p := range w.envoys.processes {
		p.mu.Lock()
		defer p.mu.Unlock()
	}
}

// envoy starts a connected Envoy.
func (w *world) envoy(epoch string) *process {
	p := &process{t: w.t, epoch: epoch, path: filepath.Join(w.dir, "access-"+epoch+".log"), connected: true, prompt: true}
	w.envoys.mu.Lock()
	defer w.envoys.mu.Unlock()
	w.envoys.processes[epoch] = p
	return p
}

func (w *world) disconnect(p *process) {
	w.envoys.mu.Lock()
	defer w.envoys.mu.Unlock()
	p.connected = false
}

// begin notes the intent of a call at some targets, with a deadline.
func (w *world) begin(p *process, id logos.CallID, within time.Duration, targets ...string) *logos.Decision {
	w.t.Helper()
	now := time.Now()
	d := &logos.Decision{Start: now.UnixMicro(), Deadline: now.Add(within).UnixMicro(), Revision: 1, API: logos.APIChat, Stream: true, Model: "demo", Project: 1, APIKey: 1, BodyBytes: 80}
	for i, name := range targets {
		d.Targets = append(d.Targets, logos.DecisionTarget{Deployment: logos.DeploymentID(i + 1), Provider: 1, Cluster: name})
	}
	if err := w.calls.Begin(id, p.epoch, d, encode(w.t, d)); err != nil {
		w.t.Fatalf("begin %s: %v", id, err)
	}
	return d
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func id(n int) logos.CallID { return logos.CallID(fmt.Sprintf("%08d-45cf-4a39-9983-4ec0041b40d3", n)) }

func lines(text ...string) string { return strings.Join(text, "\n") + "\n" }
