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
				zap.Int64("audit_events", r.AuditEvents), zap.Int64("unknown_lines", r.UnknownLines), zap.Int64("repeats", r.Repeats))
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
