package eventstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
)

func beginTwice(t *testing.T, s events.Store) {
	r := NewRun("aaaaaaaaaaaa")
	beginAll(t, s, r)
	changed := *r
	changed.Cwd = "/elsewhere"
	beginAll(t, s, &changed)
	wantRun(t, s, r)
}

func beginAfterEnd(t *testing.T, s events.Store) {
	r := NewRun("aaaaaaaaaaaa")
	beginAll(t, s, r)
	ended, e := Ended(r)
	must(t, s.End(t.Context(), ended, e))
	beginAll(t, s, r)
	wantRun(t, s, ended)
}

func callersOwn(t *testing.T, s events.Store) {
	r := NewRun("aaaaaaaaaaaa")
	r.AnalysisID = "a\xff"
	beginAll(t, s, r)
	if r.AnalysisID != "a\xff" {
		t.Errorf("Begin changed the caller's record: analysis id %q", r.AnalysisID)
	}
	r.Command[0] = "changed"
	got, err := s.Run(t.Context(), r.Run)
	must(t, err)
	if got.Command[0] != "python3" {
		t.Error("the store kept a reference to the caller's record")
	}
	got.Command[0] = "changed"
	again, err := s.Run(t.Context(), r.Run)
	must(t, err)
	if again.Command[0] != "python3" {
		t.Error("the store handed out a reference to its own record")
	}
}

func appendTwice(t *testing.T, s events.Store) {
	r := NewRun("aaaaaaaaaaaa")
	beginAll(t, s, r)
	started, intent, term := event(r, events.KindStarted, 0, 0), event(r, events.KindIntent, 0, 2), event(r, events.KindTerm, 0, 1)
	started.Detail = detail(t, map[string]string{"first": "yes"})
	must(t, s.Append(t.Context(), started, intent))
	changed := started
	changed.Detail = nil
	must(t, s.Append(t.Context(), changed, intent, term, term))
	wantEvents(t, s, events.EventQuery{}, started, intent, term)
	got, err := s.Events(t.Context(), events.EventQuery{Kinds: []events.Kind{events.KindStarted}})
	must(t, err)
	if diff := cmp.Diff([]events.Event{started}, got); diff != "" {
		t.Errorf("an event that was there was changed (-want +got):\n%s", diff)
	}
}

func appendNothing(t *testing.T, s events.Store) {
	must(t, s.Append(t.Context()))
	wantEvents(t, s, events.EventQuery{})
}

func endCompletes(t *testing.T, s events.Store) {
	r := NewRun("aaaaaaaaaaaa")
	r.AnalysisID, r.Name, r.Labels = "SDA-117", "embed", map[string]string{"k": "v"}
	beginAll(t, s, r)
	wantRun(t, s, r)
	ended, e := Ended(r)
	must(t, s.End(t.Context(), ended, event(r, events.KindOOM, 0, 1), e))
	wantRun(t, s, ended)
	wantEvents(t, s, events.EventQuery{Run: r.Run}, event(r, events.KindOOM, 0, 1), e)
}

func endUnknown(t *testing.T, s events.Store) {
	ended, e := Ended(NewRun("aaaaaaaaaaaa"))
	must(t, s.End(t.Context(), ended, e))
	wantRun(t, s, ended)
	wantEvents(t, s, events.EventQuery{}, e)
}

func firstEndWins(t *testing.T, s events.Store) {
	r := NewRun("aaaaaaaaaaaa")
	beginAll(t, s, r)
	first, e := Ended(r)
	must(t, s.End(t.Context(), first, e))
	second := *first
	second.Reason = events.ReasonStop
	err := s.End(t.Context(), &second, event(r, events.KindOrphans, 0, 1), e)
	if !errors.Is(err, events.ErrAlreadyEnded) {
		t.Errorf("second End: %v, want ErrAlreadyEnded", err)
	}
	wantRun(t, s, first)
	wantEvents(t, s, events.EventQuery{}, e)
}

func manyEnds(t *testing.T, s events.Store) {
	for round := range 10 {
		r := NewRun(events.RunID(fmt.Sprintf("run%09d", round)))
		beginAll(t, s, r)
		var (
			wg   sync.WaitGroup
			mu   sync.Mutex
			wins int
		)
		for range 8 {
			wg.Go(func() {
				ended, e := Ended(r)
				switch err := s.End(t.Context(), ended, e); {
				case err == nil:
					mu.Lock()
					wins++
					mu.Unlock()
				case !errors.Is(err, events.ErrAlreadyEnded):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if wins != 1 {
			t.Errorf("round %d: %d ends were accepted, want 1", round, wins)
		}
	}
}

func endNotFinal(t *testing.T, s events.Store) {
	r := NewRun("aaaaaaaaaaaa")
	beginAll(t, s, r)
	if err := s.End(t.Context(), r); err == nil {
		t.Errorf("a run ended in state %q", r.State)
	}
	live, err := s.Runs(t.Context(), events.RunQuery{Live: true})
	must(t, err)
	if len(live) != 1 {
		t.Errorf("%d live runs, want 1", len(live))
	}
}

func concurrentWriters(t *testing.T, s events.Store) {
	const writers, each = 8, 5
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				r := NewRun(events.RunID(fmt.Sprintf("w%di%09d", w, i)))
				if err := lifecycle(t.Context(), s, r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	runs, err := s.Runs(t.Context(), events.RunQuery{States: []events.State{events.StateKilled}})
	must(t, err)
	es, err := s.Events(t.Context(), events.EventQuery{})
	must(t, err)
	if len(runs) != writers*each || len(es) != 2*writers*each {
		t.Errorf("%d runs and %d events, want %d and %d", len(runs), len(es), writers*each, 2*writers*each)
	}
}

func lifecycle(ctx context.Context, s events.Store, r *events.Run) error {
	if err := s.Begin(ctx, r); err != nil {
		return err
	}
	if err := s.Append(ctx, event(r, events.KindStarted, 0, time.Second)); err != nil {
		return err
	}
	ended, e := Ended(r)
	return s.End(ctx, ended, e)
}

func endedContext(t *testing.T, s events.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := NewRun("aaaaaaaaaaaa")
	if err := s.Begin(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("Begin: %v, want context.Canceled", err)
	}
	if err := s.Append(ctx, event(r, events.KindStarted, 0, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("Append: %v, want context.Canceled", err)
	}
	if _, err := s.Runs(ctx, events.RunQuery{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Runs: %v, want context.Canceled", err)
	}
	wantEvents(t, s, events.EventQuery{})
}

func afterClose(t *testing.T, s events.Store) {
	must(t, s.Close())
	if err := s.Begin(t.Context(), NewRun("aaaaaaaaaaaa")); err == nil {
		t.Error("Begin after Close returned no error")
	}
	if _, err := s.Runs(t.Context(), events.RunQuery{}); err == nil {
		t.Error("Runs after Close returned no error")
	}
}
