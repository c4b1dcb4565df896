package eventstest

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
)

// Run checks that a store behaves as events.Store says. open returns an empty store; Run closes it.
func Run(t *testing.T, open func(t *testing.T) events.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, events.Store)
	}{
		{"begin is idempotent", beginTwice},
		{"begin after end changes nothing", beginAfterEnd},
		{"the caller's records are its own", callersOwn},
		{"append is idempotent and keeps order", appendTwice},
		{"append of nothing", appendNothing},
		{"end completes a run", endCompletes},
		{"end inserts an unknown run", endUnknown},
		{"the first end wins", firstEndWins},
		{"one of many ends wins", manyEnds},
		{"end of a live state is refused", endNotFinal},
		{"concurrent writers", concurrentWriters},
		{"run by id", runByID},
		{"runs", queryRuns},
		{"events", queryEvents},
		{"cursor", cursor},
		{"kills", kills},
		{"resolve", resolve},
		{"resolve ambiguity", resolveAmbiguous},
		{"one user's part", oneUser},
		{"one host's part", oneHost},
		{"hostile strings", hostile},
		{"huge records", huge},
		{"odd numbers", oddNumbers},
		{"times", times},
		{"an ended context", endedContext},
		{"after close", afterClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() { s.Close() })
			c.test(t, s)
		})
	}
}

// epoch is when the runs of the tests begin.
var epoch = time.Date(2026, 11, 23, 15, 4, 41, 123456789, time.UTC)

// NewRun returns a plausible record of a run that is about to start.
func NewRun(id events.RunID) *events.Run {
	memory, runtime, pid := uint64(2<<30), 1800.0, 48213
	return &events.Run{
		API: events.API, Run: id, Unit: "lictor-" + string(id) + ".scope", Host: "box1", BootID: "b", Manager: "system", UID: 1000,
		Command: []string{"python3", "embed.py"}, Cwd: "/srv/a", LeaderPID: &pid, State: events.StateRunning,
		Limits:    events.Limits{MemoryMaxBytes: &memory, RuntimeMaxSeconds: &runtime, GraceSeconds: 10, OOMPolicy: "kill"},
		StartedAt: epoch, Keeper: events.Keeper{PID: 1, StartTicks: 2},
		Victims: []events.Victim{}, Survivors: []events.Process{}, Escalation: []events.Step{}, Evidence: []events.Evidence{}, Degraded: []string{},
	}
}

// Ended returns a copy of r that was killed for memory, and its ended event.
func Ended(r *events.Run) (*events.Run, events.Event) {
	e := *r
	signal, peak, wall, end := "SIGKILL", uint64(2147479552), 97.2, r.StartedAt.Add(97200*time.Millisecond)
	e.State, e.Reason, e.By = events.StateKilled, events.ReasonOOM, "kernel"
	e.Exit = &events.Exit{Kind: events.ExitSignaled, Signal: &signal}
	e.OOM = events.OOM{Kills: 1, GroupKills: 1, WhoseLimit: "own"}
	e.Usage = events.Usage{MemoryPeakBytes: &peak, WallSeconds: &wall}
	e.EndedAt = &end
	return &e, events.NewEvent(&e, events.KindEnded, 0, end)
}

func event(r *events.Run, kind events.Kind, ordinal int, after time.Duration) events.Event {
	return events.NewEvent(r, kind, ordinal, r.StartedAt.Add(after))
}

func detail(t *testing.T, v any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantRun checks the stored record of a run.
func wantRun(t *testing.T, s events.Store, want *events.Run) {
	t.Helper()
	got, err := s.Run(t.Context(), want.Run)
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("run %s (-want +got):\n%s", want.Run, diff)
	}
}

// wantEvents checks the result of a query.
func wantEvents(t *testing.T, s events.Store, q events.EventQuery, want ...events.Event) {
	t.Helper()
	got, err := s.Events(t.Context(), q)
	must(t, err)
	if diff := cmp.Diff(names(want), names(got)); diff != "" {
		t.Errorf("events of %+v (-want +got):\n%s", q, diff)
	}
}

func names(es []events.Event) []string {
	n := make([]string, len(es))
	for i, e := range es {
		n[i] = fmt.Sprintf("%s/%s/%d", e.Run, e.Kind, e.Ordinal)
	}
	return n
}

func ids(runs []*events.Run) []events.RunID {
	n := make([]events.RunID, len(runs))
	for i, r := range runs {
		n[i] = r.Run
	}
	return n
}

// beginAll begins runs and ends none.
func beginAll(t *testing.T, s events.Store, runs ...*events.Run) {
	t.Helper()
	for _, r := range runs {
		must(t, s.Begin(t.Context(), r))
	}
}
