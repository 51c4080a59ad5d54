package budget

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	admitted     prometheus.Counter
	refused      *prometheus.CounterVec
	leases       *prometheus.CounterVec
	asksTimedOut prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, c *Counters) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "logos_budget_counters", Help: "Counters of hard budgets of which this gateway holds a share."}, func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(len(c.counters))
	})
	return &metrics{
		admitted:     f.NewCounter(prometheus.CounterOpts{Name: "logos_budget_admitted_total", Help: "Calls that some budget counts, and that were admitted."}),
		refused:      f.NewCounterVec(prometheus.CounterOpts{Name: "logos_budget_refused_total", Help: "Times that a budget had no room for a call at its targets, by what it counts."}, []string{"unit"}),
		leases:       f.NewCounterVec(prometheus.CounterOpts{Name: "logos_budget_leases_total", Help: "Transactions that brought shares of budgets up to date, by result."}, []string{"result"}),
		asksTimedOut: f.NewCounter(prometheus.CounterOpts{Name: "logos_budget_asks_timed_out_total", Help: "Calls whose question to the database for more of a budget was not answered in time."}),
	}
}
