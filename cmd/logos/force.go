package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
)

// A force puts revisions into force. Who may call counts at once: no key that is revoked works on because
// Envoy takes its time, or a provider's name does not resolve. What calls may be sent to counts once Envoy
// has it.
type force struct {
	route   func(ctx context.Context, config *logos.Config) // brings Envoy what calls may be sent to
	log     *zap.Logger
	present atomic.Pointer[extproc.Snapshot] // what decisions use; nil: nothing yet
	wake    chan struct{}
	heap    heap
	applied prometheus.Gauge
	took    prometheus.Histogram

	mu     sync.Mutex
	latest *logos.Config
	at     time.Time     // of the change that made the latest; zero: unknown
	routed *logos.Config // what Envoy was brought last; nil: nothing yet
}

func newForce(route func(context.Context, *logos.Config), log *zap.Logger, reg prometheus.Registerer) *force {
	return &force{
		route: route, log: log, wake: make(chan struct{}, 1),
		applied: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
			Name: "logos_config_applied_revision", Help: "Last revision of the configuration that decisions use in all its parts.",
		}),
		took: promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
			Name: "logos_config_propagation_seconds", Help: "Time from a change of the configuration, by the database's clock, until Envoy has warmed it and decisions use it.",
			Buckets: []float64{.005, .01, .02, .05, .1, .2, .3, .4, .5, 1, 2, 5, 10},
		}),
	}
}

// take puts a revision into force as far as that needs no waiting, and leaves the rest to Run.
func (f *force) take(_ context.Context, config *logos.Config, changed time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latest, f.at = config, changed
	f.publish()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Run brings Envoy the routes of the latest revision until ctx ends. Those that come while it does are
// brought together.
func (f *force) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		}
		f.mu.Lock()
		config, done := f.latest, f.latest == f.routed
		f.mu.Unlock()
		if done {
			continue
		}
		f.route(ctx, config)
		f.mu.Lock()
		f.routed = config
		f.publish()
		f.mu.Unlock()
	}
}

// publish lets decisions use what can be used by now. f.mu is held.
func (f *force) publish() {
	if f.routed == nil {
		return // a call could be sent nowhere
	}
	if !f.latest.SameRoutes(f.routed) {
		f.store(f.latest.WithRoutes(f.routed))
		return
	}
	if f.config() == f.latest {
		return
	}
	f.routed = f.latest
	f.store(f.latest)
	f.applied.Set(float64(f.latest.Revision))
	if !f.at.IsZero() {
		f.took.Observe(time.Since(f.at).Seconds())
	}
	f.heap.tune()
	f.log.Info("configuration in force", zap.Int64("revision", f.latest.Revision), zap.Int("targets", len(f.latest.Targets())))
}

// store compiles the policies of a revision, and lets decisions use it. f.mu is held.
func (f *force) store(config *logos.Config) {
	snapshot, err := extproc.NewSnapshot(config, f.present.Load())
	if err != nil {
		f.log.Error("policies can't be used; each of them allows nothing", zap.Int64("revision", config.Revision), zap.Error(err))
	}
	f.present.Store(snapshot)
}

// config returns what decisions use; nil: nothing yet.
func (f *force) config() *logos.Config {
	if s := f.present.Load(); s != nil {
		return s.Config
	}
	return nil
}

// budgets returns those in force.
func (f *force) budgets() []*logos.Budget {
	if c := f.config(); c != nil {
		return c.Budgets()
	}
	return nil
}

// wait returns when decisions use a revision, or after two seconds.
func (f *force) wait(ctx context.Context, revision int64) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if config := f.config(); config != nil && config.Revision >= revision {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
