package main

import (
	"context"
	_ "time/tzdata" // budgets have time zones, and the image has no database of them

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/budget"
	"github.com/ls1intum/edutelligence/logos/inflight"
)

// openBudgets makes the counters of this process, with what calls hold that its predecessor has sent. The run
// directory's lock says that the predecessor is gone.
func (g *gateway) openBudgets(ctx context.Context, id string) error {
	epoch, err := g.store.StartGateway(ctx, id)
	if err != nil {
		return err
	}
	g.budgets = budget.New(g.store, logos.Gateway{ID: id, Epoch: epoch}, budget.Options{MaxCall: g.settings.maxCall}, g.log, g.registry)
	open := g.calls.Select(func(i *inflight.Intent) bool { return len(i.Decision.Reservations) > 0 })
	for _, i := range open {
		g.budgets.Restore(i.ID, i.Decision.Reservations)
	}
	if len(open) > 0 {
		g.log.Info("calls that are under way hold budgets", zap.Int("calls", len(open)))
	}
	return nil
}
