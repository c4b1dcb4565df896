package events_test

import (
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

func ptr[T any](v T) *T { return &v }

func TestSummary(t *testing.T) {
	base := func() *events.Run {
		return &events.Run{Run: "7f3k7m1d2c5h", State: events.StateKilled,
			Limits: events.Limits{MemoryMaxBytes: ptr(uint64(2 << 30)), RuntimeMaxSeconds: ptr(1800.0)},
			Usage:  events.Usage{MemoryPeakBytes: ptr(uint64(2147479552)), WallSeconds: ptr(97.2)}}
	}
	killed := func(reason events.Reason, by string) *events.Run {
		r := base()
		r.Reason, r.By = reason, by
		return r
	}
	with := func(r *events.Run, change func(*events.Run)) *events.Run {
		change(r)
		return r
	}
	for _, c := range []struct {
		name string
		run  *events.Run
		want string
	}{
		{"oom", killed(events.ReasonOOM, "kernel"), "7f3k7m1d killed: oom (peak 2.0G of 2.0G after 1min 37s)"},
		{"oom without a peak", with(killed(events.ReasonOOM, ""), func(r *events.Run) { r.Usage.MemoryPeakBytes = nil }),
			"7f3k7m1d killed: oom (limit 2.0G, after 1min 37s)"},
		{"oom and nothing known", with(killed(events.ReasonOOM, ""), func(r *events.Run) { r.Usage, r.Limits = events.Usage{}, events.Limits{} }),
			"7f3k7m1d killed: oom"},
		{"oom-ancestor", killed(events.ReasonOOMAncestor, ""), "7f3k7m1d killed: oom-ancestor (a limit above it was reached, peak 2.0G of 2.0G after 1min 37s)"},
		{"oom-host", killed(events.ReasonOOMHost, ""), "7f3k7m1d killed: oom-host (the host ran out of memory, peak 2.0G of 2.0G after 1min 37s)"},
		{"oom-unknown", killed(events.ReasonOOMUnknown, ""), "7f3k7m1d killed: oom-unknown (whose limit is not known, peak 2.0G of 2.0G after 1min 37s)"},
		{"oomd", killed(events.ReasonOomd, ""), "7f3k7m1d killed: oomd (by systemd-oomd, peak 2.0G of 2.0G after 1min 37s)"},
		{"timeout", with(killed(events.ReasonTimeout, "systemd"), func(r *events.Run) { r.Usage.WallSeconds = ptr(1800.2) }),
			"7f3k7m1d killed: timeout (after 30min, limit 30min)"},
		{"stop", killed(events.ReasonStop, "uid 1000"), "7f3k7m1d killed: stop (by uid 1000 after 1min 37s)"},
		{"abandoned", killed(events.ReasonAbandoned, "lictor"), "7f3k7m1d killed: abandoned (its owner is gone, after 1min 37s)"},
		{"orphan", killed(events.ReasonOrphan, "lictor"), "7f3k7m1d killed: orphan (by lictor after 1min 37s)"},
		{"signal", with(killed(events.ReasonSignal, "unknown"), func(r *events.Run) { r.Exit = &events.Exit{Kind: events.ExitSignaled, Signal: ptr("SIGKILL")} }),
			"7f3k7m1d killed: signal (SIGKILL by unknown, after 1min 37s)"},
		{"start-failed", with(killed(events.ReasonStartFailed, ""), func(r *events.Run) { r.State = events.StateFailed }), "7f3k7m1d failed: start-failed"},
		{"exit status", with(base(), func(r *events.Run) {
			r.State, r.Exit = events.StateFailed, &events.Exit{Kind: events.ExitExited, Code: ptr(3)}
		}),
			"7f3k7m1d failed: exit status 3 (peak 2.0G of 2.0G after 1min 37s)"},
		{"own signal", with(base(), func(r *events.Run) {
			r.State, r.Exit = events.StateFailed, &events.Exit{Kind: events.ExitSignaled, Signal: ptr("SIGSEGV")}
		}),
			"7f3k7m1d failed: SIGSEGV (peak 2.0G of 2.0G after 1min 37s)"},
		{"exit unknown", with(base(), func(r *events.Run) { r.State, r.Exit = events.StateFailed, &events.Exit{Kind: events.ExitUnknown} }),
			"7f3k7m1d failed (peak 2.0G of 2.0G after 1min 37s)"},
		{"done", with(base(), func(r *events.Run) { r.State = events.StateDone }), "7f3k7m1d done (peak 2.0G of 2.0G after 1min 37s)"},
		{"lost", with(base(), func(r *events.Run) { r.State = events.StateLost }), "7f3k7m1d lost"},
		{"running", with(base(), func(r *events.Run) { r.State = events.StateRunning }), "7f3k7m1d running"},
		{"duration from times", with(killed(events.ReasonOOM, ""), func(r *events.Run) {
			r.Usage.WallSeconds, r.StartedAt, r.EndedAt = nil, time.Unix(100, 0), ptr(time.Unix(112, 0))
		}), "7f3k7m1d killed: oom (peak 2.0G of 2.0G after 12s)"},
		{"hostile", killed("x\n\x1b[31m\xff", strings.Repeat("y", 9)), `7f3k7m1d killed: x\n\x1b[31m\xff (peak 2.0G of 2.0G after 1min 37s)`},
	} {
		if got := c.run.Summary(); got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}
