package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// pollEvery bounds how late a change is seen whose notification was missed.
const pollEvery = time.Second

// maxPause is the longest pause after a failure.
const maxPause = 10 * time.Second

// A Watcher follows the revisions of the configuration.
type Watcher struct {
	store    *Store
	loader   loader
	revision int64 // applied last
	failing  bool
	pause    time.Duration // after a failure
	loads    *prometheus.CounterVec
	took     prometheus.Histogram
	present  prometheus.Gauge
}

// NewWatcher makes a watcher.
func NewWatcher(s *Store, reg prometheus.Registerer) *Watcher {
	return &Watcher{
		store: s, loader: loader{store: s}, revision: -1,
		loads: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "logos_config_loads_total", Help: "Attempts to load a new revision of the configuration, by result.",
		}, []string{"result"}),
		took: promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
			Name: "logos_config_load_seconds", Help: "Time to read and compile a revision: what has changed or, at the start and after a broken connection, all of it.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}),
		present: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
			Name: "logos_config_revision", Help: "Revision of the configuration that was loaded last.",
		}),
	}
}

// An Apply takes a revision. changed is when the change was made, by the database's clock; zero: not known.
// While it works, no further revision is seen.
type Apply func(ctx context.Context, config *logos.Config, changed time.Time)

// Run calls apply with each new revision, from one goroutine, until ctx ends. While the database is away
// or a revision is not usable, the last good one stays.
func (w *Watcher) Run(ctx context.Context, apply Apply) error {
	for ctx.Err() == nil {
		w.pause = pollEvery / 4
		err := w.listen(ctx, apply)
		if ctx.Err() != nil {
			return nil
		}
		if !w.failing {
			w.failing = true
			w.store.log.Error("changes of the configuration can't be followed; the last good one stays", zap.Error(err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(w.pause):
		}
	}
	return nil
}

// listen follows revisions on one connection, until that fails. The first is read as a whole: while there
// was no connection, the database may have become another.
func (w *Watcher) listen(ctx context.Context, apply Apply) error {
	conn, err := w.store.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	raw := conn.Hijack() // a listening connection goes back to no one
	defer raw.Close(context.WithoutCancel(ctx))
	if _, err := raw.Exec(ctx, "listen logos_config"); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	w.loader.compiler = nil
	for {
		if err := w.follow(ctx, raw, apply); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, pollEvery)
		_, err := raw.WaitForNotification(wait)
		timedOut := wait.Err() != nil
		cancel()
		if err != nil && (!timedOut || raw.IsClosed()) {
			return fmt.Errorf("wait for changes: %w", err)
		}
	}
}

// follow applies the present revision, if it is not the one applied last.
func (w *Watcher) follow(ctx context.Context, conn *pgx.Conn, apply Apply) error {
	present, err := db.New(conn).Revision(ctx)
	if err != nil {
		return fmt.Errorf("read the revision: %w", err)
	}
	if present.Revision == w.revision {
		return nil
	}
	config, err := w.load(ctx, conn)
	if err != nil {
		w.loads.WithLabelValues("failed").Inc()
		return err
	}
	w.loads.WithLabelValues("ok").Inc()
	w.present.Set(float64(config.Revision))
	first := w.revision < 0
	w.revision = config.Revision
	if w.failing {
		w.failing = false
		w.store.log.Info("changes of the configuration are followed again")
	}
	changed := present.ChangedAt
	if first || config.Revision != present.Revision {
		changed = time.Time{}
	}
	apply(ctx, config, changed)
	return nil
}

// load reads what has changed. If that can't be brought together with what there was, it reads everything.
func (w *Watcher) load(ctx context.Context, conn *pgx.Conn) (config *logos.Config, err error) {
	begin := time.Now()
	for again := w.loader.compiler != nil; ; again = false {
		err = pgx.BeginTxFunc(ctx, conn, oneMoment, func(tx pgx.Tx) (err error) {
			config, err = w.loader.load(ctx, db.New(tx))
			return err
		})
		if err == nil || !again || conn.IsClosed() {
			break
		}
	}
	if err != nil {
		w.pause = min(max(w.pause, time.Since(begin)), maxPause) // half of the time for trying is enough
		return nil, err
	}
	w.took.Observe(time.Since(begin).Seconds())
	return config, nil
}
