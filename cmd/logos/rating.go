package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/budget"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// A ratingStore stores calls, each with what it cost by the prices in force, and settles budgets with them.
type ratingStore struct {
	*store.Store
	force   *force
	budgets *budget.Counters
	teller  *budget.Teller
	calls   *prometheus.CounterVec
}

func newRatingStore(s *store.Store, f *force, b *budget.Counters, t *budget.Teller, reg prometheus.Registerer) *ratingStore {
	return &ratingStore{s, f, b, t, promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "logos_rated_calls_total", Help: "Calls that were stored, by whether what they cost is known: unknown means that a price is missing.",
	}, []string{"cost"})}
}

// RecordCalls rates calls, and stores them. Those that are read before there is a configuration, after a restart,
// wait for it: a call is rated once.
func (s *ratingStore) RecordCalls(ctx context.Context, gateway string, b logos.LogBatch) error {
	if err := s.rate(ctx, b.Calls); err != nil {
		return err
	}
	shares, err := s.SettleCalls(ctx, gateway, b)
	if err != nil {
		return err
	}
	s.budgets.Settled(shares)
	s.teller.Spent(shares)
	for _, c := range b.Calls {
		cost := "unknown"
		if _, known := c.Cost(); known {
			cost = "known"
		}
		s.calls.WithLabelValues(cost).Inc()
	}
	return nil
}

func (s *ratingStore) rate(ctx context.Context, calls []*logos.Call) error {
	if len(calls) == 0 {
		return nil
	}
	snapshot := s.force.present.Load()
	for ; snapshot == nil; snapshot = s.force.present.Load() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	for _, c := range calls {
		snapshot.Book().RateCall(c)
		c.Spent = budget.Spent(c)
	}
	return nil
}
