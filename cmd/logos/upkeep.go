package main

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/sql"
)

// retain removes, every hour, what the settings keep no longer.
func (g *gateway) retain(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		switch r, err := g.store.Retain(ctx, time.Now()); {
		case err != nil && ctx.Err() == nil:
			g.log.Warn("old records could not all be removed; the next try is in an hour", zap.Error(err))
		case r != store.Retained{}:
			g.log.Info("old records were removed", zap.Int("days_of_calls", r.Days), zap.Int64("calls", r.Calls),
				zap.Int64("audit_events", r.AuditEvents), zap.Int64("unknown_lines", r.UnknownLines), zap.Int64("repeats", r.Repeats), zap.Int64("budget_counters", r.Counters))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// watchKey says when the master key was rotated to one that this gateway lacks. Calls go on with what it has
// in memory, but it could follow no change of a credential, and not start again.
func (g *gateway) watchKey(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for lacking := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := g.store.CheckKey(ctx)
		switch wrong := errors.Is(err, store.ErrWrongKey); {
		case wrong && !lacking:
			lacking = true
			g.log.Error("the master key was rotated to one that this gateway lacks: add it to its LOGOS_MASTER_KEY_FILE", zap.Error(err))
		case err == nil && lacking:
			lacking = false
			g.log.Info("this gateway has the master key again")
		}
	}
}

// total adds to the totals what older programs have recorded, a bounded number of calls at a time, and folds those
// of past hours.
func (g *gateway) total(ctx context.Context) error {
	const rest, busy = time.Minute, 50 * time.Millisecond // between two steps: so calls that end now are recorded meanwhile
	tick := time.NewTimer(busy)
	defer tick.Stop()
	for counted := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n, err := g.store.CountOld(ctx)
		if counted += n; n > 0 && err == nil {
			tick.Reset(busy)
			continue
		}
		if counted > 0 {
			g.log.Info("calls that an older program recorded were added to the totals", zap.Int("calls", counted))
			counted = 0
		}
		if err == nil {
			_, err = g.store.FoldUsage(ctx, time.Now())
		}
		if err != nil && ctx.Err() == nil {
			g.log.Warn("totals could not be brought up to date; the next try is in a minute", zap.Error(err))
		}
		tick.Reset(rest)
	}
}
