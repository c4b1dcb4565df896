// Package metrics is what the daemon counts, in the text format of Prometheus. No label has a run, a user or a command in it: those
// are without number.
//
// Counters begin at 0 with the daemon and count what it puts on record itself; all reasons and steps are there from the beginning, so
// that a rule can tell "none" from "not known". Gauges are asked for when somebody looks.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/scidex/lictor/events"
)

// Sources are what is asked for when somebody looks. A function may be nil, or say that it does not know; then the metric is not
// there.
type Sources struct {
	Version    string
	Runs       func() (live, ending int, ok bool)            // live runs, and those of them whose end has been begun
	Memory     func() (usage uint64, limit *uint64, ok bool) // of the slice of all runs, bytes; no limit is nil
	Pending    func() (events int, ok bool)                  // that wait for the PostgreSQL database
	Overflows  func() uint64                                 // of the kernel's queue of notices
	Mismatches func() uint64                                 // runs that a sweep found and no notice had told of
}

// Metrics count.
type Metrics struct {
	registry    *prometheus.Registry
	ended       *prometheus.CounterVec
	oomKills    prometheus.Counter
	steps       *prometheus.CounterVec
	recordAfter prometheus.Histogram
	storeErrors prometheus.Counter
}

// none is the reason of an end that nothing forced.
const none = "none"

// steps of an escalation, and what becomes of it.
var steps = []string{"term", "kill", "survived", "empty"}

// New returns Metrics.
func New(s Sources) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lictor_runs_ended_total",
			Help: "Ends of runs that the daemon put on record, by reason; none if nothing forced them."}, []string{"reason"}),
		oomKills: prometheus.NewCounter(prometheus.CounterOpts{Name: "lictor_oom_kills_total",
			Help: "Out-of-memory kills by the kernel in runs that have ended (memory.events, oom_kill)."}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lictor_escalations_total",
			Help: "Steps of the endings of runs: SIGTERM, SIGKILL, outlived that, nobody left."}, []string{"step"}),
		recordAfter: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lictor_kill_record_seconds",
			Help:    "Time from the end of a killed run to its record on disk.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}),
		storeErrors: prometheus.NewCounter(prometheus.CounterOpts{Name: "lictor_store_errors_total",
			Help: "Writes to the store that failed."}),
	}
	for _, reason := range events.Reasons {
		m.ended.WithLabelValues(string(reason))
	}
	m.ended.WithLabelValues(none)
	for _, step := range steps {
		m.steps.WithLabelValues(step)
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "lictor_build_info", Help: "1; the version is the label.",
		ConstLabels: prometheus.Labels{"version": s.Version}})
	info.Set(1)
	m.registry.MustRegister(m.ended, m.oomKills, m.steps, m.recordAfter, m.storeErrors, info, gauges{s})
	return m
}

// Handler answers GET /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// StoreFailed counts a write that failed.
func (m *Metrics) StoreFailed() { m.storeErrors.Inc() }

// Ended counts the end of a run whose record is on disk.
func (m *Metrics) Ended(r *events.Run, now time.Time) {
	reason := string(r.Reason)
	if r.Reason == events.ReasonNone {
		reason = none
	}
	m.ended.WithLabelValues(reason).Inc()
	m.oomKills.Add(float64(r.OOM.Kills))
	for _, step := range r.Escalation {
		m.steps.WithLabelValues(step.Step).Inc()
	}
	if r.State == events.StateKilled && r.EndedAt != nil {
		m.recordAfter.Observe(max(0, now.Sub(*r.EndedAt).Seconds()))
	}
}

// gauges are the metrics that are asked for.
type gauges struct{ Sources }

var (
	runsDesc       = prometheus.NewDesc("lictor_runs", "Live runs.", []string{"state"}, nil)
	usageDesc      = prometheus.NewDesc("lictor_memory_usage_bytes", "Memory of all runs together (memory.current of lictor.slice).", nil, nil)
	limitDesc      = prometheus.NewDesc("lictor_memory_limit_bytes", "Limit on that (memory.max); not there if there is none.", nil, nil)
	pendingDesc    = prometheus.NewDesc("lictor_spool_pending", "Events that the PostgreSQL database has not got yet.", nil, nil)
	overflowsDesc  = prometheus.NewDesc("lictor_inotify_overflows_total", "Overflows of the kernel's queue of notices.", nil, nil)
	mismatchesDesc = prometheus.NewDesc("lictor_sweep_mismatches_total", "Runs that a sweep found and no notice had told of.", nil, nil)
)

// Describe implements prometheus.Collector.
func (g gauges) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{runsDesc, usageDesc, limitDesc, pendingDesc, overflowsDesc, mismatchesDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if g.Runs != nil {
		if live, ending, ok := g.Runs(); ok {
			gauge(runsDesc, float64(max(0, live-ending)), string(events.StateRunning))
			gauge(runsDesc, float64(ending), string(events.StateGrace))
		}
	}
	if g.Memory != nil {
		if usage, limit, ok := g.Memory(); ok {
			gauge(usageDesc, float64(usage))
			if limit != nil {
				gauge(limitDesc, float64(*limit))
			}
		}
	}
	if g.Pending != nil {
		if n, ok := g.Pending(); ok {
			gauge(pendingDesc, float64(n))
		}
	}
	for d, count := range map[*prometheus.Desc]func() uint64{overflowsDesc: g.Overflows, mismatchesDesc: g.Mismatches} {
		if count != nil {
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(count()))
		}
	}
}
