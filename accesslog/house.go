package accesslog

import (
	"context"
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/inflight"
)

// house does what is not for every tick: finds new logs, rotates, and settles what no line will settle.
func (r *Reader) house(ctx context.Context, now time.Time) {
	r.discover()
	for _, e := range r.epochs {
		r.watch(e, now)
		r.rotate(ctx, e, now)
		r.settleOverdue(e, now)
	}
	r.loseOverdue(now)
	r.watchWrites(ctx, now)
	if len(r.batch.Calls) == 0 { // what waits to be stored must stay known
		maps.DeleteFunc(r.settled, func(_ logos.CallID, at time.Time) bool { return now.Sub(at) > settledFor })
	}
	r.metrics.observe(r.epochs)
}

func (r *Reader) discover() {
	names, err := epochsIn(r.dir)
	if err != nil {
		r.log.Error("access logs can't be listed", zap.Error(err))
		return
	}
	for _, name := range names {
		if r.epochs[name] != nil {
			continue
		}
		l, err := openLog(r.dir, name, position{})
		if err != nil {
			r.log.Error("an access log can't be read", zap.String("epoch", name), zap.Error(err))
			continue
		}
		r.epochs[name] = &epoch{name: name, log: l, pending: make(map[logos.CallID]*pending), stored: l.at}
	}
}

// watch notices that an Envoy is gone, and settles its calls when its log is read to the end.
func (r *Reader) watch(e *epoch, now time.Time) {
	if r.envoys.Connected(e.name) {
		e.aloneSince, e.lastAlive, e.finished = time.Time{}, now, false
		return
	}
	if !r.envoys.AnyConnected() {
		return // it may be the one that has not come back to us yet
	}
	if e.aloneSince.IsZero() {
		e.aloneSince = now
	}
	if now.Sub(e.aloneSince) < goneAfter || !e.atEnd || e.finished {
		return
	}
	if at, rest := e.log.torn(); len(rest) > 0 {
		r.unknown(e, at, rest)
	}
	open := r.calls.Select(func(i *inflight.Intent) bool { return i.Epoch == e.name })
	for _, i := range open {
		r.lose(e, i, now)
	}
	for id := range e.pending { // lines without an intent, and without an end that would say more
		delete(e.pending, id)
	}
	e.finished = true
	r.log.Warn("an Envoy is gone; its open calls are settled as lost", zap.String("epoch", e.name), zap.Int("calls", len(open)))
}

// settleOverdue settles calls whose end was read but not all of their attempts: those lines should have
// come by now.
func (r *Reader) settleOverdue(e *epoch, now time.Time) {
	for id, p := range e.pending {
		switch {
		case p.end != nil && now.Sub(p.endSeen) > attemptWait:
			r.settle(e, p, p.settle(r.samples), now)
		case p.end == nil && now.Sub(p.seen) > 24*time.Hour:
			delete(e.pending, id) // nothing is known of it but that it ran
		}
	}
}

// loseOverdue settles intents whose deadline is past, and those of Envoys of which there is no log.
func (r *Reader) loseOverdue(now time.Time) {
	open := r.calls.Select(func(i *inflight.Intent) bool {
		if _, settled := r.settled[i.ID]; settled {
			return false
		}
		if now.Sub(i.Decision.DeadlineTime()) > deadlineGrace {
			return true
		}
		return r.epochs[i.Epoch] == nil && now.Sub(i.Decision.StartTime()) > goneAfter+attemptWait && !r.envoys.Connected(i.Epoch) && r.envoys.AnyConnected()
	})
	for _, i := range open {
		e := r.epochs[i.Epoch]
		if e != nil && !e.atEnd {
			continue // its line may be among what is still to read
		}
		r.lose(e, i, now)
	}
}

// lose settles an intent as lost. An attempt writes a line as soon as it has its connection, within 20 ms:
// if there is none, and Envoy lived for a second longer, then nothing was sent.
func (r *Reader) lose(e *epoch, i *inflight.Intent, now time.Time) {
	if _, settled := r.settled[i.ID]; settled {
		return
	}
	p := &pending{id: i.ID}
	ran := true
	if e != nil {
		if known := e.pending[i.ID]; known != nil {
			p = known
		}
		ran = e.lastAlive.IsZero() || e.lastAlive.Sub(i.Decision.StartTime()) < time.Second
	}
	p.decision = i.Decision
	r.settle(e, p, p.lose(ran, r.samples, now), now)
}

// rotate renames a log that has grown or aged, and tells Envoy to start a new one.
func (r *Reader) rotate(ctx context.Context, e *epoch, now time.Time) {
	if !r.envoys.Connected(e.name) {
		return
	}
	size, renamed := e.log.size()
	if due := size >= r.opt.RotateBytes || r.old(e, size, now); due && !renamed {
		if err := e.log.rotate(); err != nil {
			r.log.Error("an access log could not be rotated", zap.Error(err))
			return
		}
	}
	if e.log.awaits() {
		if err := r.envoys.Reopen(ctx); err != nil {
			r.log.Warn("Envoy could not be told to start a new access log", zap.Error(err))
		}
	}
}

// old says whether the present file has held lines for long. Of one that held some when this process first
// looked at it nobody knows for how long it had; it is soon taken for old, however often the process is
// started.
func (r *Reader) old(e *epoch, size int64, now time.Time) bool {
	if e.log.file == nil {
		return false
	}
	known := e.looked
	e.looked = true
	switch {
	case size == 0:
		e.since = time.Time{}
		return false
	case !known:
		e.since = now.Add(r.opt.RotateAfter/24 - r.opt.RotateAfter)
		e.sinceGeneration = e.log.at.generation
	case e.since.IsZero() || e.sinceGeneration != e.log.at.generation:
		e.since, e.sinceGeneration = now, e.log.at.generation
	}
	return now.Sub(e.since) >= r.opt.RotateAfter
}

// failureQuiet is how long Envoy must have written without failure before calls are taken again.
const failureQuiet = 10 * time.Second

// watchWrites refuses new calls while Envoy fails to write its logs: what can't be logged can't be billed.
func (r *Reader) watchWrites(ctx context.Context, now time.Time) {
	const reason = "access_log"
	if now.Sub(r.askedFailures) < r.askFailuresEvery {
		return
	}
	r.askedFailures = now
	begin := time.Now()
	n, err := r.envoys.WriteFailures(ctx)
	// Envoy looks through all its counters, which are many with thousands of clusters.
	r.askFailuresEvery = max(time.Second, 50*time.Since(begin))
	if err != nil {
		return // Envoy is away; so are its calls
	}
	if n > r.writeFailures && r.writeFailures >= 0 {
		r.failuresRoseAt = now
		r.calls.Pause(reason, "its access log can't be written")
	} else if now.Sub(r.failuresRoseAt) > failureQuiet {
		r.calls.Resume(reason)
	}
	r.writeFailures = n
}
