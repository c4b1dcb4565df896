package eventstest

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
)

// hostileStrings are what strangers put into names and command lines, and how a store gives them back.
var hostileStrings = []struct{ in, want string }{
	{"plain", "plain"},
	{"a\x00b", `a\x00b`},
	{"\xff\xfe", `\xff\xfe`},
	{"half \xe2\x82", `half \xe2\x82`},
	{"\xed\xa0\x80", `\xed\xa0\x80`}, // a surrogate
	{"\ufffd is a character", "\ufffd is a character"},
	{`'; DROP TABLE watchdog_events; --`, `'; DROP TABLE watchdog_events; --`},
	{"line\nline\ttab\r\x1b[31m", "line\nline\ttab\r\x1b[31m"},
	{`{"json":"\u0000"}`, `{"json":"\u0000"}`},
	{"<script>&\u2028", "<script>&\u2028"},
	{"日本語 🦀", "日本語 🦀"},
	{`\xff`, `\xff`},
}

func hostile(t *testing.T, s events.Store) {
	for i, h := range hostileStrings {
		r := NewRun(events.RunID("hostile" + string(rune('a'+i)) + "0000"))
		r.AnalysisID, r.Name, r.Cwd, r.Host = h.in, h.in, h.in, h.in
		r.Labels = map[string]string{h.in: h.in}
		r.Command = []string{h.in, "x"}
		beginAll(t, s, r)
		ended, e := Ended(r)
		ended.Victims = []events.Victim{{PID: 1, Comm: h.in, Cmdline: []string{h.in}, Source: "kernel-log"}}
		values := detail(t, map[string]string{"k": h.want})
		ended.Evidence = []events.Evidence{{Source: "unit", Why: h.in, Values: values}}
		e.Detail = detail(t, events.OrphansDetail{Processes: []events.Process{{PID: 1, Cmdline: []string{h.in}}}})
		must(t, s.End(t.Context(), ended, e))

		want := *ended
		want.AnalysisID, want.Name, want.Cwd, want.Host = h.want, h.want, h.want, h.want
		want.Labels = map[string]string{h.want: h.want}
		want.Command = []string{h.want, "x"}
		want.Victims = []events.Victim{{PID: 1, Comm: h.want, Cmdline: []string{h.want}, Source: "kernel-log"}}
		want.Evidence = []events.Evidence{{Source: "unit", Why: h.want, Values: values}}
		wantRun(t, s, &want)
		wantFound(t, s, r)
	}
}

// wantFound checks that a run is found by the strings it was given, as they were given.
func wantFound(t *testing.T, s events.Store, r *events.Run) {
	t.Helper()
	for _, q := range []events.RunQuery{{AnalysisID: r.AnalysisID}, {Command: r.Command}} {
		got, err := s.Runs(t.Context(), q)
		must(t, err)
		if len(got) == 0 {
			t.Errorf("runs of %+v: none, want %s", q, r.Run)
		}
	}
	es, err := s.Events(t.Context(), events.EventQuery{AnalysisID: r.AnalysisID})
	must(t, err)
	if len(es) == 0 {
		t.Errorf("events of %q: none", r.AnalysisID)
	}
	for _, e := range es {
		var d events.OrphansDetail
		if err := json.Unmarshal(e.Detail, &d); err != nil || d.Processes == nil {
			continue
		}
		if c := d.Processes[0].Cmdline[0]; !utf8.Valid(e.Detail) || strings.ContainsRune(c, 0) {
			t.Errorf("detail %q is not safe text", e.Detail)
		}
	}
}

func huge(t *testing.T, s events.Store) {
	r := NewRun("aaaaaaaaaaaa")
	r.Command = []string{"bash", "-c", strings.Repeat("x", 1<<20)}
	r.Labels = make(map[string]string)
	for i := range 10_000 {
		r.Labels[fmt.Sprintf("label-%d\x1b[2J", i)] = "'); DROP TABLE watchdog_events; --"
	}
	beginAll(t, s, r)
	ended, e := Ended(r)
	e.Detail = detail(t, map[string]string{"blob": strings.Repeat("\xff", 1<<20)})
	must(t, s.End(t.Context(), ended, e))
	wantRun(t, s, ended)
	after := NewRun("bbbbbbbbbbbb")
	beginAll(t, s, after)
	wantRun(t, s, after)
	got, err := s.Runs(t.Context(), events.RunQuery{Command: r.Command})
	must(t, err)
	if len(got) != 1 {
		t.Errorf("%d runs of the long command, want 1", len(got))
	}
}

func oddNumbers(t *testing.T, s events.Store) {
	most, nan, zero := uint64(math.MaxUint64), math.NaN(), uint64(0)
	r := NewRun("aaaaaaaaaaaa")
	r.UID = math.MaxUint32
	r.Limits.MemoryMaxBytes, r.Limits.MemorySwapMaxBytes = &most, &zero
	r.LeaderPID = nil
	beginAll(t, s, r)
	ended, e := Ended(r)
	ended.Usage.MemoryPeakBytes, ended.Usage.WallSeconds = &most, &nan
	e.MemoryBytes, e.DurationSeconds = &most, &nan
	e.Detail = json.RawMessage(`{"broken"`)
	must(t, s.End(t.Context(), ended, e))
	want := *ended
	want.Usage.WallSeconds = nil // what no number can say is not known
	wantRun(t, s, &want)
	es, err := s.Events(t.Context(), events.EventQuery{})
	must(t, err)
	e.DurationSeconds, e.Detail = nil, json.RawMessage(`"{\"broken\""`)
	if diff := cmp.Diff([]events.Event{e}, es); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

func times(t *testing.T, s events.Store) {
	zone := time.FixedZone("east", 9*3600)
	early, late := NewRun("aaaaaaaaaaaa"), NewRun("bbbbbbbbbbbb")
	early.StartedAt = time.Date(2026, 11, 23, 15, 0, 0, 0, zone) // 06:00 UTC
	late.StartedAt = time.Date(2026, 11, 23, 6, 0, 0, 1, time.UTC)
	none := NewRun("cccccccccccc")
	none.StartedAt = time.Time{}
	beginAll(t, s, late, early, none)
	got, err := s.Runs(t.Context(), events.RunQuery{})
	must(t, err)
	if diff := cmp.Diff([]events.RunID{late.Run, early.Run, none.Run}, ids(got)); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	for _, r := range got {
		if r.StartedAt.Location() != time.UTC {
			t.Errorf("run %s started at %v, want UTC", r.Run, r.StartedAt)
		}
	}
	must(t, s.Append(t.Context(), event(early, events.KindStarted, 0, 0)))
	es, err := s.Events(t.Context(), events.EventQuery{})
	must(t, err)
	if len(es) != 1 || !es[0].At.Equal(early.StartedAt) || es[0].At.Location() != time.UTC {
		t.Errorf("events %v, want one at %v in UTC", es, early.StartedAt.UTC())
	}
}
