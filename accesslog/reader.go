// Package accesslog reads what Envoy writes about calls and attempts, and settles each call exactly once.
// It keeps how far it has read in the transaction that stores what it read, so no crash of any process
// loses or doubles a call: after a restart it reads again from the first line of the oldest call that was
// not stored, and storing is idempotent. Calls whose end never comes are settled as lost.
//
// Each Envoy process has a log of its own, named by its epoch. The package writes none of it; it renames
// files when they grow and deletes what is stored. cmd/logos runs it.
package accesslog

import (
	"context"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/inflight"
)

// Store is where records go.
type Store interface {
	LogPositions(ctx context.Context, gateway string) ([]logos.LogPosition, error)
	RecordCalls(ctx context.Context, gateway string, b logos.LogBatch) error
	Recorded(ctx context.Context, starts []time.Time, ids []logos.CallID) ([]logos.CallID, error)
}

// Envoys knows the Envoy processes of this gateway.
type Envoys interface {
	Connected(epoch string) bool
	AnyConnected() bool
	Reopen(ctx context.Context) error
	WriteFailures(ctx context.Context) (int64, error)
}

// Options says how to read; the zero value works.
type Options struct {
	RotateBytes int64 // size at which a file is renamed; 0: 64 MiB
	// RotateAfter is how long a file is written to: it bounds for how long what a call's lines say of its end
	// user stays on disk once it is stored. 0: a day.
	RotateAfter time.Duration
	// Settled is told of each call that is settled, before it is stored; it must be quick. May be nil.
	Settled func(*logos.Call)
}

const (
	readEvery   = 50 * time.Millisecond  // each look wakes the process up
	flushEvery  = 150 * time.Millisecond // so that a transaction holds many calls
	houseEvery  = 250 * time.Millisecond
	maxBatch    = 1000 // calls in one transaction
	attemptWait = time.Second
	// goneAfter is how long another Envoy must have been connected before one that is not counts as gone.
	goneAfter = 3 * time.Second
	// deadlineGrace is how long after its deadline a call's line may still come.
	deadlineGrace = 10 * time.Second
	// settledFor is how long late lines of a settled call are recognised.
	settledFor = 10 * time.Second
)

// A Reader settles the calls of one gateway.
type Reader struct {
	dir, gateway string
	store        Store
	calls        *inflight.Calls
	envoys       Envoys
	opt          Options
	log          *zap.Logger
	metrics      *metrics

	epochs  map[string]*epoch
	settled map[logos.CallID]time.Time
	samples samples
	batch   logos.LogBatch
	ended   []logos.CallID // of the batch
	failing bool
	// writeFailures is Envoy's count when it was last asked, and when it last rose.
	writeFailures  int64
	failuresRoseAt time.Time
	askedFailures  time.Time

	askFailuresEvery time.Duration
}

// An epoch is one Envoy process.
type epoch struct {
	name    string
	log     *log
	pending map[logos.CallID]*pending
	stored  position
	atEnd   bool
	// aloneSince is since when another Envoy is connected and this one is not; lastAlive is when it was
	// last seen connected.
	aloneSince, lastAlive time.Time
	finished              bool
	// since is when the file of sinceGeneration was first seen to hold lines; zero: it held none. looked says
	// that some file was looked at.
	since           time.Time
	sinceGeneration int64
	looked          bool
}

// New makes a reader for the logs in dir.
func New(dir, gateway string, store Store, calls *inflight.Calls, envoys Envoys, opt Options, log *zap.Logger, reg prometheus.Registerer) *Reader {
	if opt.RotateBytes == 0 {
		opt.RotateBytes = 64 << 20
	}
	if opt.RotateAfter == 0 {
		opt.RotateAfter = 24 * time.Hour
	}
	return &Reader{
		dir: dir, gateway: gateway, store: store, calls: calls, envoys: envoys, opt: opt, log: log,
		metrics: newMetrics(reg), epochs: make(map[string]*epoch), settled: make(map[logos.CallID]time.Time), samples: make(samples),
		writeFailures: -1,
	}
}

// Run reads until ctx ends, and then once more to the end.
func (r *Reader) Run(ctx context.Context) error {
	if !r.start(ctx) {
		return nil
	}
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	var housed, flushed time.Time
	for ctx.Err() == nil {
		now := time.Now()
		if now.Sub(housed) >= houseEvery {
			housed = now
			r.house(ctx, now)
		}
		more := r.read(now)
		if now.Sub(flushed) >= flushEvery || len(r.batch.Calls) >= maxBatch {
			flushed = now
			r.flush(ctx)
		}
		if more && !r.failing {
			continue
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	for r.read(time.Now()) && last.Err() == nil {
		r.flush(last)
	}
	r.flush(last)
	for _, e := range r.epochs {
		e.log.close()
	}
	return nil
}

// start learns how far the last run stored. Without that nothing can be read, so it waits for the store.
func (r *Reader) start(ctx context.Context) bool {
	for {
		err := r.restore(ctx)
		if err == nil {
			return true
		}
		r.fail(err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(houseEvery):
		}
	}
}

func (r *Reader) restore(ctx context.Context) error {
	positions, err := r.store.LogPositions(ctx, r.gateway)
	if err != nil {
		return err
	}
	epochs := make(map[string]*epoch)
	for _, p := range positions {
		at := position{p.Generation, p.Offset}
		l, err := openLog(r.dir, p.Epoch, at)
		if err != nil {
			return err
		}
		epochs[p.Epoch] = &epoch{name: p.Epoch, log: l, pending: make(map[logos.CallID]*pending), stored: at}
	}
	if err := r.endStored(ctx); err != nil {
		return err
	}
	r.epochs = epochs
	r.recovered()
	return nil
}

// endStored closes the intents of calls that were stored before the last run ended.
func (r *Reader) endStored(ctx context.Context) error {
	open := r.calls.Select(func(i *inflight.Intent) bool { return logos.ValidCallID(i.ID) })
	for len(open) > 0 {
		n := min(len(open), maxBatch)
		starts, ids := make([]time.Time, n), make([]logos.CallID, n)
		for i, intent := range open[:n] {
			starts[i], ids[i] = intent.Decision.StartTime(), intent.ID
		}
		stored, err := r.store.Recorded(ctx, starts, ids)
		if err != nil {
			return err
		}
		r.calls.End(stored...)
		open = open[n:]
	}
	return nil
}

// read takes new lines of all epochs.
func (r *Reader) read(now time.Time) (more bool) {
	if len(r.batch.Calls)+len(r.batch.Unknown) >= maxBatch {
		return true // the store is behind: what is read later is read from the file
	}
	for _, e := range r.epochs {
		again, err := e.log.read(func(at position, raw []byte, whole bool) { r.take(e, at, raw, whole, now) })
		if err != nil {
			r.log.Error("an access log can't be read", zap.String("epoch", e.name), zap.Error(err))
		}
		e.atEnd = !again && err == nil
		more = more || again
	}
	return more
}

// take takes one line.
func (r *Reader) take(e *epoch, at position, raw []byte, whole bool, now time.Time) {
	l, err := parseLine(raw)
	if err == nil && whole {
		err = r.accept(e, at, l, now)
	}
	if err == nil && whole {
		return
	}
	r.unknown(e, at, raw)
}

func (r *Reader) unknown(e *epoch, at position, raw []byte) {
	r.metrics.unknown.Inc()
	r.log.Warn("a line of an access log was not understood and is kept aside", zap.String("epoch", e.name), zap.Int64("generation", at.generation), zap.Int64("byte", at.offset))
	kept := append([]byte(nil), raw[:min(len(raw), maxKept)]...)
	r.batch.Unknown = append(r.batch.Unknown, logos.UnknownLine{Epoch: e.name, Generation: at.generation, Offset: at.offset, Line: kept})
}

// accept puts a line to its call.
func (r *Reader) accept(e *epoch, at position, l *line, now time.Time) error {
	if l.unrouted() {
		r.metrics.undecided.Inc()
		return nil
	}
	if _, late := r.settled[l.ID]; late {
		return nil
	}
	p := e.pending[l.ID]
	if p == nil {
		p = &pending{id: l.ID, first: at, seen: now}
	}
	if l.Type != callEnd {
		p.add(l)
		e.pending[l.ID] = p
	} else {
		if err := r.decide(p, l); err != nil {
			delete(e.pending, l.ID) // nothing more will come of it
			r.settled[l.ID] = now
			return err
		}
		if p.decision == nil { // not a call of a known key
			delete(e.pending, l.ID)
			r.settled[l.ID] = now
			r.metrics.undecided.Inc()
			return nil
		}
		p.end, p.endSeen = l, now
		e.pending[l.ID] = p
	}
	if p.whole() {
		r.settle(e, p, p.settle(r.samples), now)
	}
	return nil
}

// decide finds the decision of a call: the intent has it decoded, for calls that were sent.
func (r *Reader) decide(p *pending, l *line) error {
	if intent, ok := r.calls.Get(l.ID); ok {
		p.decision = intent.Decision
		return nil
	}
	var err error
	p.decision, err = l.decision()
	return err
}

// settle puts a record into the batch.
func (r *Reader) settle(e *epoch, p *pending, c *logos.Call, now time.Time) {
	c.Gateway = r.gateway
	if e != nil {
		delete(e.pending, p.id)
	}
	r.settled[p.id] = now
	r.batch.Calls = append(r.batch.Calls, c)
	r.ended = append(r.ended, p.id)
	if r.opt.Settled != nil {
		r.opt.Settled(c)
	}
}

// flush stores the batch with the positions that it reaches.
func (r *Reader) flush(ctx context.Context) {
	var done []*epoch
	for _, e := range r.epochs {
		if e.finished {
			done = append(done, e)
			r.batch.Done = append(r.batch.Done, e.name)
			continue
		}
		if reached := e.reached(); e.stored != reached {
			r.batch.Positions = append(r.batch.Positions, logos.LogPosition{Epoch: e.name, Generation: reached.generation, Offset: reached.offset})
		}
	}
	if len(r.batch.Calls)+len(r.batch.Unknown)+len(done) == 0 && !r.rotated() {
		r.batch.Positions = r.batch.Positions[:0] // a position alone is worth no transaction
		return
	}
	err := r.store.RecordCalls(ctx, r.gateway, r.batch)
	positions := r.batch.Positions
	r.batch.Positions, r.batch.Done = nil, nil
	if err != nil {
		r.fail(err)
		select {
		case <-ctx.Done():
		case <-time.After(houseEvery):
		}
		return
	}
	r.recovered()
	r.calls.End(r.ended...)
	r.metrics.recorded(r.batch.Calls)
	r.batch, r.ended = logos.LogBatch{}, nil
	r.clean(positions, done)
}

// reached is up to where everything is stored once the batch is: the first line of the oldest call that
// is not whole.
func (e *epoch) reached() position {
	at := e.log.at
	for _, p := range e.pending {
		if p.first.before(at) {
			at = p.first
		}
	}
	return at
}

// rotated says whether some position has moved to another generation, so that files can go.
func (r *Reader) rotated() bool {
	for _, p := range r.batch.Positions {
		if e := r.epochs[p.Epoch]; e != nil && p.Generation > e.stored.generation {
			return true
		}
	}
	return false
}

// clean deletes the files that are stored as a whole.
func (r *Reader) clean(positions []logos.LogPosition, done []*epoch) {
	for _, p := range positions {
		e := r.epochs[p.Epoch]
		if e == nil {
			continue
		}
		e.stored = position{p.Generation, p.Offset}
		if err := e.log.removeBefore(p.Generation); err != nil && !os.IsNotExist(err) {
			r.log.Warn("a stored access log could not be removed", zap.Error(err))
		}
	}
	for _, e := range done {
		if err := e.log.removeAll(); err != nil {
			r.log.Warn("the access log of an Envoy that is gone could not be removed", zap.Error(err))
		}
		delete(r.epochs, e.name)
	}
}

// fail says once that records can't be stored; nothing is lost meanwhile, it stays in the files.
func (r *Reader) fail(err error) {
	r.metrics.failures.Inc()
	if !r.failing {
		r.failing = true
		r.log.Error("calls can't be stored; they stay in the access log until they can", zap.Error(err))
	}
}

func (r *Reader) recovered() {
	if r.failing {
		r.failing = false
		r.log.Info("calls are stored again")
	}
}
