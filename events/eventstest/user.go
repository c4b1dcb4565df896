package eventstest

import (
	"errors"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

// oneUser: what events.ForUser shows is the user's own, also where another user's run has the same names.
func oneUser(t *testing.T, s events.Store) {
	ctx := t.Context()
	mine, theirs, later := NewRun("aaaaaaaaaaaa"), NewRun("aaaaaaaabbbb"), NewRun("cccccccccccc")
	mine.UID, theirs.UID, later.UID = 1000, 1001, 1000
	mine.AnalysisID, theirs.AnalysisID, later.Name = "churn", "churn", "churn"
	theirs.StartedAt = epoch.Add(2 * time.Hour)
	later.StartedAt = epoch.Add(time.Hour)
	beginAll(t, s, mine, theirs, later)
	for _, r := range []*events.Run{mine, theirs, later} {
		ended, e := Ended(r)
		e.At = r.StartedAt.Add(time.Minute)
		must(t, s.End(ctx, ended, events.NewEvent(r, events.KindStarted, 0, r.StartedAt), e))
	}
	u := events.ForUser(s, 1000)
	for text, want := range map[string]events.RunID{
		"aaaaaaaaaaaa": mine.Run, "aaaaaaaa": mine.Run, "churn": later.Run, "c": later.Run, "aaaaaaaabbbb": "", "bbbb": "", "": "",
	} {
		got, err := u.Resolve(ctx, text)
		switch {
		case want == "" && !errors.Is(err, events.ErrNotFound):
			t.Errorf("Resolve(%q): %v, %v, want not found", text, got, err)
		case want != "" && (err != nil || got.Run != want):
			t.Errorf("Resolve(%q): %v, %v, want %s", text, got, err, want)
		}
	}
	if _, err := u.Run(ctx, theirs.Run); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("another user's run: %v", err)
	}
	if r, err := u.Run(ctx, mine.Run); err != nil || r.Run != mine.Run {
		t.Errorf("own run: %v, %v", r, err)
	}
	runs, err := u.Runs(ctx, events.RunQuery{})
	must(t, err)
	if len(runs) != 2 || runs[0].Run != later.Run || runs[1].Run != mine.Run {
		t.Errorf("runs %v", runs)
	}
	es, err := u.Events(ctx, events.EventQuery{Last: 3})
	must(t, err)
	if len(es) != 3 || es[0].Run == theirs.Run || es[1].Run == theirs.Run || es[2].Run == theirs.Run {
		t.Errorf("events %v", names(es))
	}
	n, err := u.KillsSince(ctx, epoch)
	must(t, err)
	if n != 2 {
		t.Errorf("%d kills, want 2", n)
	}
	must(t, u.Close())
	if _, err := s.Run(ctx, mine.Run); err != nil {
		t.Errorf("the store was closed with a user's part of it: %v", err)
	}
}

func oneHost(t *testing.T, s events.Store) {
	here, there, odd := NewRun("aaaaaaaaaaaa"), NewRun("bbbbbbbbbbbb"), NewRun("cccccccccccc")
	there.Host, odd.Host = "box2", "box\xff"
	beginAll(t, s, here, there, odd)
	var es []events.Event
	for _, r := range []*events.Run{here, there, odd} {
		es = append(es, event(r, events.KindStarted, 0, 0))
	}
	must(t, s.Append(t.Context(), append(es, event(NewRun("unknown00000"), events.KindStarted, 0, 0))...))
	for i, r := range []*events.Run{here, there, odd} {
		runs, err := s.Runs(t.Context(), events.RunQuery{Host: r.Host})
		must(t, err)
		if len(runs) != 1 || runs[0].Run != r.Run {
			t.Errorf("runs on %q: %v, want %s", r.Host, ids(runs), r.Run)
		}
		wantEvents(t, s, events.EventQuery{Host: r.Host}, es[i])
	}
}
