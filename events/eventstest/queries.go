package eventstest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scidex/lictor/events"
)

func runByID(t *testing.T, s events.Store) {
	beginAll(t, s, NewRun("aaaaaaaaaaaa"))
	wantRun(t, s, NewRun("aaaaaaaaaaaa"))
	for _, id := range []events.RunID{"aaaaaaaaaaab", "aaaa", ""} {
		if _, err := s.Run(t.Context(), id); !errors.Is(err, events.ErrNotFound) {
			t.Errorf("Run(%q): %v, want ErrNotFound", id, err)
		}
	}
}

func queryRuns(t *testing.T, s events.Store) {
	a, b, c, d := NewRun("aaaaaaaaaaaa"), NewRun("bbbbbbbbbbbb"), NewRun("cccccccccccc"), NewRun("dddddddddddd")
	a.StartedAt, b.StartedAt, c.StartedAt = epoch.Add(3), epoch.Add(1), epoch.Add(2)
	d.StartedAt = epoch.Add(2)
	a.AnalysisID, b.AnalysisID = "x", "x"
	c.Command = []string{"python3 embed.py"}
	c.State = events.StateStarting
	beginAll(t, s, a, b, c, d)
	for _, r := range []*events.Run{b, d} {
		ended, e := Ended(r)
		must(t, s.End(t.Context(), ended, e))
	}
	for _, q := range []struct {
		name  string
		query events.RunQuery
		want  []events.RunID
	}{
		{"all, newest first, then by id", events.RunQuery{}, []events.RunID{a.Run, d.Run, c.Run, b.Run}},
		{"live", events.RunQuery{Live: true}, []events.RunID{a.Run, c.Run}},
		{"one state", events.RunQuery{States: []events.State{events.StateKilled}}, []events.RunID{d.Run, b.Run}},
		{"two states", events.RunQuery{States: []events.State{events.StateKilled, events.StateStarting}}, []events.RunID{d.Run, c.Run, b.Run}},
		{"analysis", events.RunQuery{AnalysisID: "x"}, []events.RunID{a.Run, b.Run}},
		{"analysis and live", events.RunQuery{AnalysisID: "x", Live: true}, []events.RunID{a.Run}},
		{"unknown analysis", events.RunQuery{AnalysisID: "y"}, nil},
		{"command", events.RunQuery{Command: []string{"python3", "embed.py"}}, []events.RunID{a.Run, d.Run, b.Run}},
		{"command is not split", events.RunQuery{Command: []string{"python3 embed.py"}}, []events.RunID{c.Run}},
		{"empty command", events.RunQuery{Command: []string{}}, nil},
		{"since is inclusive", events.RunQuery{Since: epoch.Add(2)}, []events.RunID{a.Run, d.Run, c.Run}},
		{"until is exclusive", events.RunQuery{Until: epoch.Add(2)}, []events.RunID{b.Run}},
		{"after the first", events.RunQuery{After: events.RunKey{StartedAt: a.StartedAt, Run: a.Run}}, []events.RunID{d.Run, c.Run, b.Run}},
		{"after one of two of the same time", events.RunQuery{After: events.RunKey{StartedAt: d.StartedAt, Run: d.Run}, Limit: 1}, []events.RunID{c.Run}},
		{"after the last", events.RunQuery{After: events.RunKey{StartedAt: b.StartedAt, Run: b.Run}}, nil},
		{"limit", events.RunQuery{Limit: 2}, []events.RunID{a.Run, d.Run}},
		{"large limit", events.RunQuery{Limit: 20}, []events.RunID{a.Run, d.Run, c.Run, b.Run}},
	} {
		t.Run(q.name, func(t *testing.T) {
			got, err := s.Runs(t.Context(), q.query)
			must(t, err)
			if diff := cmp.Diff(q.want, ids(got), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("runs (-want +got):\n%s", diff)
			}
			all := q.query
			all.Limit = 0
			got, err = s.Runs(t.Context(), all)
			must(t, err)
			n, err := s.Count(t.Context(), q.query)
			must(t, err)
			if n != len(got) {
				t.Errorf("%d runs are counted, want %d", n, len(got))
			}
		})
	}
}

func queryEvents(t *testing.T, s events.Store) {
	a, b := NewRun("aaaaaaaaaaaa"), NewRun("bbbbbbbbbbbb")
	a.AnalysisID = "x"
	a1, a2 := event(a, events.KindStarted, 0, 1*time.Second), event(a, events.KindIntent, 0, 2*time.Second)
	b1, b2 := event(b, events.KindStarted, 0, 3*time.Second), event(b, events.KindIntent, 1, 4*time.Second)
	_, a3 := Ended(a)
	must(t, s.Append(t.Context(), a1, a2))
	must(t, s.Append(t.Context(), b1, b2, a3))
	at := epoch.Add
	for _, q := range []struct {
		name  string
		query events.EventQuery
		want  []events.Event
	}{
		{"all", events.EventQuery{}, []events.Event{a1, a2, b1, b2, a3}},
		{"run", events.EventQuery{Run: a.Run}, []events.Event{a1, a2, a3}},
		{"analysis", events.EventQuery{AnalysisID: "x"}, []events.Event{a1, a2, a3}},
		{"one kind", events.EventQuery{Kinds: []events.Kind{events.KindIntent}}, []events.Event{a2, b2}},
		{"two kinds", events.EventQuery{Kinds: []events.Kind{events.KindIntent, events.KindEnded}}, []events.Event{a2, b2, a3}},
		{"kills", events.EventQuery{KillsOnly: true}, []events.Event{a3}},
		{"since is inclusive", events.EventQuery{Since: at(3 * time.Second)}, []events.Event{b1, b2, a3}},
		{"until is exclusive", events.EventQuery{Until: at(3 * time.Second)}, []events.Event{a1, a2}},
		{"last", events.EventQuery{Last: 2}, []events.Event{b2, a3}},
		{"last of a run", events.EventQuery{Run: a.Run, Last: 2}, []events.Event{a2, a3}},
		{"everything at once", events.EventQuery{Run: a.Run, AnalysisID: "x", Kinds: []events.Kind{events.KindEnded}, KillsOnly: true,
			Since: at(0), Until: at(time.Hour), Last: 3}, []events.Event{a3}},
		{"limit", events.EventQuery{Limit: 3}, []events.Event{a1, a2, b1}},
		{"limit since", events.EventQuery{Since: at(2 * time.Second), Limit: 2}, []events.Event{a2, b1}},
		{"large limit", events.EventQuery{Limit: 30}, []events.Event{a1, a2, b1, b2, a3}},
		{"nothing", events.EventQuery{Run: "cccccccccccc"}, nil},
	} {
		t.Run(q.name, func(t *testing.T) { wantEvents(t, s, q.query, q.want...) })
	}
}

func cursor(t *testing.T, s events.Store) {
	r := NewRun("aaaaaaaaaaaa")
	position := int64(0)
	next := func() []string {
		t.Helper()
		before := position
		got, err := s.Events(t.Context(), events.EventQuery{Run: r.Run, After: position, Cursor: &position})
		must(t, err)
		if (len(got) == 0) != (position == before) || position < before {
			t.Errorf("cursor went from %d to %d with %d events", before, position, len(got))
		}
		return names(got)
	}
	other := NewRun("bbbbbbbbbbbb")
	steps := []struct {
		add  []events.Event
		want []string
	}{
		{nil, []string{}},
		{[]events.Event{event(r, events.KindStarted, 0, 5), event(r, events.KindIntent, 0, 6)}, []string{"aaaaaaaaaaaa/started/0", "aaaaaaaaaaaa/intent/0"}},
		{nil, []string{}},
		{[]events.Event{event(other, events.KindStarted, 0, 7)}, []string{}},
		// Written later than it happened: it still comes.
		{[]events.Event{event(r, events.KindAdopted, 0, 1)}, []string{"aaaaaaaaaaaa/adopted/0"}},
	}
	for i, step := range steps {
		must(t, s.Append(t.Context(), step.add...))
		if diff := cmp.Diff(step.want, next()); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
	var positions []int64
	all, err := s.Events(t.Context(), events.EventQuery{Positions: &positions})
	must(t, err)
	if len(positions) != len(all) || !slices.IsSorted(positions) || positions[len(all)-1] < position {
		t.Errorf("positions %v of %d events, the last one at %d", positions, len(all), position)
	}
	last := int64(0)
	_, err = s.Events(t.Context(), events.EventQuery{Last: 1, Cursor: &last})
	must(t, err)
	if last < position {
		t.Errorf("cursor of the last event is %d, before %d", last, position)
	}
}

func kills(t *testing.T, s events.Store) {
	ctx := t.Context()
	killed, clean, worker := NewRun("aaaaaaaaaaaa"), NewRun("bbbbbbbbbbbb"), NewRun("cccccccccccc")
	terminal := event(killed, events.KindOOM, 0, 96*time.Second)
	terminal.Detail = detail(t, events.OOMDetail{Kills: 1, Terminal: true})
	ended, end := Ended(killed)
	must(t, s.End(ctx, ended, terminal, end))

	done := *clean
	done.State = events.StateDone
	must(t, s.End(ctx, &done, events.NewEvent(&done, events.KindEnded, 0, epoch.Add(time.Minute))))
	orphans := event(clean, events.KindOrphans, 0, 61*time.Second)
	must(t, s.Append(ctx, orphans, event(clean, events.KindTerm, 0, 60*time.Second), event(clean, events.KindKill, 0, 60*time.Second)))

	lost := event(worker, events.KindOOM, 0, 3*time.Minute)
	lost.Detail = detail(t, events.OOMDetail{Kills: 1})
	must(t, s.Append(ctx, lost, event(worker, events.KindIntent, 0, 4*time.Minute)))

	for _, c := range []struct {
		since time.Time
		want  int
	}{
		{time.Time{}, 3}, {epoch, 3}, {epoch.Add(61 * time.Second), 3}, {epoch.Add(62 * time.Second), 2},
		{epoch.Add(3 * time.Minute), 1}, {epoch.Add(3*time.Minute + 1), 0},
	} {
		got, err := s.KillsSince(ctx, c.since)
		must(t, err)
		if got != c.want {
			t.Errorf("kills since %v: %d, want %d", c.since.Sub(epoch), got, c.want)
		}
	}
	wantEvents(t, s, events.EventQuery{KillsOnly: true}, end, orphans, lost)
	wantEvents(t, s, events.EventQuery{Live: true}) // of runs that are not known, it is not
	beginAll(t, s, worker)
	wantEvents(t, s, events.EventQuery{Live: true, Kinds: []events.Kind{events.KindOOM}}, lost)
}
