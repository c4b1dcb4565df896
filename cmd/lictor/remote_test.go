package main

import (
	"errors"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

// Two stores read as one: the own one, and the daemon's.
func TestUnion(t *testing.T) {
	own, remote := &eventstest.Memory{}, &eventstest.Memory{}
	u := &union{own, remote}
	ctx := t.Context()
	add := func(s events.Store, id events.RunID, label string, after time.Duration) *events.Run {
		t.Helper()
		r := eventstest.NewRun(id)
		r.AnalysisID = label
		r.StartedAt = r.StartedAt.Add(after)
		if err := errors.Join(s.Begin(ctx, r), s.Append(ctx, events.NewEvent(r, events.KindStarted, 0, r.StartedAt))); err != nil {
			t.Fatal(err)
		}
		return r
	}
	a, b, c := add(own, "aaaaaaaaaaaa", "x", 0), add(remote, "bbbbbbbbbbbb", "x", time.Minute), add(own, "cccccccccccc", "y", time.Hour)
	for text, want := range map[string]*events.Run{"aaaa": a, "bbbb": b, "x": b, "y": c} {
		if got, err := u.Resolve(ctx, text); err != nil || got.Run != want.Run {
			t.Errorf("Resolve(%q) = %v, %v, want %s", text, got, err, want.Run)
		}
	}
	if _, err := u.Resolve(ctx, "z"); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if r, err := u.Run(ctx, b.Run); err != nil || r.Run != b.Run {
		t.Errorf("%v, %v", r, err)
	}
	runs, err := u.Runs(ctx, events.RunQuery{Limit: 2})
	if err != nil || len(runs) != 2 || runs[0].Run != c.Run || runs[1].Run != b.Run {
		t.Errorf("runs %v, %v", runs, err)
	}
	// A follower sees each event once, whichever store it comes to.
	var position int64
	next := func() (ids []events.RunID) {
		t.Helper()
		list, err := u.Events(ctx, events.EventQuery{After: position, Cursor: &position})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			ids = append(ids, e.Run)
		}
		return ids
	}
	if ids := next(); len(ids) != 3 || ids[0] != a.Run || ids[1] != b.Run || ids[2] != c.Run {
		t.Errorf("events of %v", ids)
	}
	if ids := next(); len(ids) != 0 {
		t.Errorf("again events of %v", ids)
	}
	d := add(remote, "dddddddddddd", "", 2*time.Hour)
	if ids := next(); len(ids) != 1 || ids[0] != d.Run {
		t.Errorf("events of %v", ids)
	}
	e := add(own, "eeeeeeeeeeee", "", 3*time.Hour)
	if ids := next(); len(ids) != 1 || ids[0] != e.Run {
		t.Errorf("events of %v", ids)
	}
}
