package metrics

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetrics(t *testing.T) {
	m := New(Sources{Version: "1.2", Runs: func() (int, int, bool) { return 5, 2, true },
		Memory:     func() (uint64, *uint64, bool) { return 1 << 20, new(uint64(1 << 30)), true },
		Pending:    func() (int, bool) { return 7, true },
		Overflows:  func() uint64 { return 1 },
		Mismatches: func() uint64 { return 3 }})
	before := scrape(t, m)
	for _, reason := range events.Reasons {
		if want := `lictor_runs_ended_total{reason="` + string(reason) + `"} 0`; !strings.Contains(before, want) {
			t.Errorf("no %s", want)
		}
	}
	now := time.Now()
	at := now.Add(-30 * time.Millisecond)
	m.Ended(&events.Run{State: events.StateKilled, Reason: events.ReasonOOM, OOM: events.OOM{Kills: 2}, EndedAt: &at}, now)
	m.Ended(&events.Run{State: events.StateKilled, Reason: events.ReasonTimeout, EndedAt: &at,
		Escalation: []events.Step{{Step: "term"}, {Step: "kill"}, {Step: "empty"}}}, now.Add(-time.Hour))
	m.Ended(&events.Run{State: events.StateDone, EndedAt: &at}, now)
	m.StoreFailed()
	after := scrape(t, m)
	for _, want := range []string{
		`lictor_runs_ended_total{reason="oom"} 1`, `lictor_runs_ended_total{reason="timeout"} 1`, `lictor_runs_ended_total{reason="none"} 1`,
		`lictor_runs_ended_total{reason="stop"} 0`, `lictor_oom_kills_total 2`, `lictor_escalations_total{step="kill"} 1`,
		`lictor_escalations_total{step="survived"} 0`, `lictor_kill_record_seconds_bucket{le="0.025"} 1`, `lictor_kill_record_seconds_bucket{le="0.05"} 2`,
		`lictor_kill_record_seconds_count 2`, `lictor_store_errors_total 1`, `lictor_runs{state="running"} 3`, `lictor_runs{state="grace"} 2`,
		`lictor_memory_usage_bytes 1.048576e+06`, `lictor_memory_limit_bytes 1.073741824e+09`, `lictor_spool_pending 7`,
		`lictor_inotify_overflows_total 1`, `lictor_sweep_mismatches_total 3`, `lictor_build_info{version="1.2"} 1`,
	} {
		if !strings.Contains(after, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
}

// What is not known is not there, rather than 0.
func TestUnknown(t *testing.T) {
	no := New(Sources{Runs: func() (int, int, bool) { return 0, 0, false }, Memory: func() (uint64, *uint64, bool) { return 0, nil, false },
		Pending: func() (int, bool) { return 0, false }})
	text := scrape(t, no)
	for _, name := range []string{"lictor_runs{", "lictor_memory_usage_bytes ", "lictor_memory_limit_bytes ", "lictor_spool_pending ", "lictor_sweep_mismatches_total "} {
		if strings.Contains(text, "\n"+name) {
			t.Errorf("there is a %s", name)
		}
	}
}

// The alert rules that are shipped ask for metrics, labels and reasons that there are.
func TestRules(t *testing.T) {
	b, err := os.ReadFile("../../../../deploy/prometheus-rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	there := gather(t)
	alerts := 0
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "- alert: ") {
			alerts++
		}
		_, expr, ok := strings.Cut(line, "expr: ")
		if !ok {
			continue
		}
		if _, err := there.check(strings.TrimSpace(expr)); err != nil {
			t.Errorf("%s: %v", strings.TrimSpace(expr), err)
		}
	}
	if exprs := strings.Count(string(b), "expr: "); alerts == 0 || exprs != alerts || strings.Count(string(b), "summary: ") != alerts {
		t.Errorf("%d alerts with %d expressions", alerts, exprs)
	}
}
