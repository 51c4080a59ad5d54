package accesslog

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/ls1intum/edutelligence/logos"
)

type metrics struct {
	calls     *prometheus.CounterVec
	attempts  *prometheus.CounterVec
	tokens    *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	firstByte prometheus.Histogram
	unknown   prometheus.Counter
	undecided prometheus.Counter
	failures  prometheus.Counter
	unread    prometheus.Gauge
	partial   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	buckets := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800}
	return &metrics{
		calls:     f.NewCounterVec(prometheus.CounterOpts{Name: "logos_calls_recorded_total", Help: "Calls stored, by how they ended."}, []string{"end_reason"}),
		attempts:  f.NewCounterVec(prometheus.CounterOpts{Name: "logos_attempts_recorded_total", Help: "Attempts stored, by provider id and how they ended."}, []string{"provider", "end_reason"}),
		tokens:    f.NewCounterVec(prometheus.CounterOpts{Name: "logos_tokens_total", Help: "Tokens stored, by meter, and whether they are estimates."}, []string{"meter", "estimated"}),
		duration:  f.NewHistogramVec(prometheus.HistogramOpts{Name: "logos_call_duration_seconds", Help: "Time from the first byte of a request to the last of its answer.", Buckets: buckets}, []string{"api"}),
		firstByte: f.NewHistogram(prometheus.HistogramOpts{Name: "logos_first_byte_seconds", Help: "Time from the first byte of a request to the first of its answer.", Buckets: buckets}),
		unknown:   f.NewCounter(prometheus.CounterOpts{Name: "logos_access_log_unknown_lines_total", Help: "Lines that were not understood; they are kept in the table unknown_lines."}),
		undecided: f.NewCounter(prometheus.CounterOpts{Name: "logos_undecided_requests_total", Help: "Requests that ended without a decision on record: no known key, lists of models, refused by Envoy itself."}),
		failures:  f.NewCounter(prometheus.CounterOpts{Name: "logos_record_failures_total", Help: "Batches that could not be stored and were tried again."}),
		unread:    f.NewGauge(prometheus.GaugeOpts{Name: "logos_access_log_unread_bytes", Help: "Bytes of access logs that are not read yet."}),
		partial:   f.NewGauge(prometheus.GaugeOpts{Name: "logos_access_log_open_calls", Help: "Calls of which some lines were read, but not the last."}),
	}
}

// recorded counts what was stored. After a crash what was stored just before may count again.
func (m *metrics) recorded(calls []*logos.Call) {
	for _, c := range calls {
		m.calls.WithLabelValues(string(c.End)).Inc()
		m.duration.WithLabelValues(string(c.Decision.API)).Observe(c.Duration.Seconds())
		if c.FirstByte > 0 {
			m.firstByte.Observe(c.FirstByte.Seconds())
		}
		for _, a := range c.Attempts {
			m.attempts.WithLabelValues(logos.FormatID(a.Target.Provider), string(a.End)).Inc()
			for _, r := range a.Meters {
				m.tokens.WithLabelValues(string(r.Meter), strconv.FormatBool(r.Estimated)).Add(float64(r.Quantity))
			}
		}
	}
}

func (m *metrics) observe(epochs map[string]*epoch) {
	var unread, partial float64
	for _, e := range epochs {
		size, _ := e.log.size()
		unread += float64(max(0, size-e.log.at.offset))
		partial += float64(len(e.pending))
	}
	m.unread.Set(unread)
	m.partial.Set(partial)
}
