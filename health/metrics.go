package health

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
)

// metrics counts and logs what becomes of targets. There are no more series than deployments and credentials,
// times what may become of them.
type metrics struct {
	log       *zap.Logger
	changes   *prometheus.CounterVec
	unhealthy *prometheus.GaugeVec
}

func newMetrics(log *zap.Logger, reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		log: log,
		changes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "logos_health_changes_total",
			Help: "Changes of the health of deployments with a credential, or, where deployment is 0, of a credential, by their ids: open, probe_failed and closed are of breakers, slow and fast of the time to the first token.",
		}, []string{"deployment", "credential", "to"}),
		unhealthy: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "logos_targets_unhealthy",
			Help: "Deployments with a credential that are not used, or, where the reason is slow, are known to be much slower than usual.",
		}, []string{"reason"}),
	}
}

func (m *metrics) breakerChanged(i ids, became change, why string) {
	if became == unchanged {
		return
	}
	m.count(i, string(became))
	switch became {
	case opened:
		m.log.Warn("a breaker is open", append(i.fields(), zap.String("reason", why))...)
	case closedAgain:
		m.log.Info("a breaker is closed again", i.fields()...)
	}
}

func (m *metrics) paceTurned(t *target, slow bool, slowness float64) {
	if slow {
		m.count(t.ids, "slow")
		m.log.Warn("a target is much slower than usual", append(t.ids.fields(), zap.Float64("times", slowness))...)
		return
	}
	m.count(t.ids, "fast")
	m.log.Info("a target is as fast as usual again", t.ids.fields()...)
}

func (m *metrics) count(i ids, to string) {
	m.changes.WithLabelValues(logos.FormatID(i.deployment), logos.FormatID(i.credential), to).Inc()
}

func (i ids) fields() []zap.Field {
	return []zap.Field{zap.Int64("deployment_id", int64(i.deployment)), zap.Int64("credential_id", int64(i.credential))}
}

// forget drops the series of a target that is gone.
func (m *metrics) forget(i ids) {
	m.changes.DeletePartialMatch(prometheus.Labels{"deployment": logos.FormatID(i.deployment), "credential": logos.FormatID(i.credential)})
}

func (m *metrics) observe(unhealthy map[string]int) {
	for _, why := range [...]string{BreakerOpen, RateLimited, CredentialRefused, "slow"} {
		m.unhealthy.WithLabelValues(why).Set(float64(unhealthy[why]))
	}
}
