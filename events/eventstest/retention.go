package eventstest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
)

// History puts a run of each kind into a store: killed, done and live, some days ago.
func History(t *testing.T, s events.Store, now time.Time, days int) {
	t.Helper()
	at := now.AddDate(0, 0, -days)
	for i, state := range []events.State{events.StateKilled, events.StateDone, events.StateRunning} {
		r := NewRun(events.RunID(fmt.Sprintf("%c%011d", 'a'+i, days)))
		r.StartedAt, r.AnalysisID = at, fmt.Sprintf("old-%d", days)
		check(t, s.Begin(t.Context(), r))
		check(t, s.Append(t.Context(), events.NewEvent(r, events.KindStarted, 0, at)))
		if state == events.StateRunning {
			continue
		}
		ended, _ := Ended(r)
		ended.State = state
		check(t, s.End(t.Context(), ended, events.NewEvent(ended, events.KindEnded, 0, at)))
	}
}

// Left says which runs and events a store has: a killed, b done, c live; days ago.
func Left(t *testing.T, s events.Store) string {
	t.Helper()
	runs, err := s.Runs(t.Context(), events.RunQuery{})
	check(t, err)
	es, err := s.Events(t.Context(), events.EventQuery{})
	check(t, err)
	var words []string
	for _, r := range runs {
		n := 0
		for _, e := range es {
			if e.Run == r.Run {
				n++
			}
		}
		words = append(words, fmt.Sprintf("%c%s:%d", r.Run[0], strings.TrimLeft(string(r.Run[1:]), "0"), n))
	}
	return strings.Join(words, " ")
}

// Prune is how a store is told to forget.
type Prune func(s events.Store, rules events.PruneRules) (events.Pruned, error)

// RunPrune checks that a store forgets what events.PruneRules say, and nothing else. It complements Run.
func RunPrune(t *testing.T, open func(t *testing.T) events.Store, prune Prune) {
	for _, c := range []struct {
		name string
		test func(*testing.T, events.Store, Prune)
	}{
		{"forgets by age, kills last", pruneByAge},
		{"forgets in batches while others write", pruneMany},
		{"positions go on", prunePositions},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() { s.Close() })
			c.test(t, s, prune)
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pruneByAge(t *testing.T, s events.Store, prune Prune) {
	now := time.Now()
	for _, days := range []int{400, 100, 10} {
		History(t, s, now, days)
	}
	for _, c := range []struct {
		name         string
		rules        events.PruneRules
		events, runs int
		left         string
	}{
		{"nothing", events.PruneRules{}, 0, 0, "c10:1 b10:2 a10:2 c100:1 b100:2 a100:2 c400:1 b400:2 a400:2"},
		{"too young", events.PruneRules{Before: now.AddDate(-2, 0, 0), KillsBefore: now.AddDate(-2, 0, 0)}, 0, 0,
			"c10:1 b10:2 a10:2 c100:1 b100:2 a100:2 c400:1 b400:2 a400:2"},
		{"by age", events.PruneRules{Before: now.AddDate(0, 0, -90), KillsBefore: now.AddDate(0, 0, -365)}, 7, 3, "c10:1 b10:2 a10:2 c100:1 a100:1 c400:1"},
		{"again", events.PruneRules{Before: now.AddDate(0, 0, -90), KillsBefore: now.AddDate(0, 0, -365)}, 0, 0, "c10:1 b10:2 a10:2 c100:1 a100:1 c400:1"},
		{"all but the living", events.PruneRules{Before: now, KillsBefore: now}, 5, 3, "c10:1 c100:1 c400:1"},
	} {
		got, err := prune(s, c.rules)
		check(t, err)
		if got != (events.Pruned{Events: c.events, Runs: c.runs}) {
			t.Errorf("%s: pruned %+v, want %d events and %d runs", c.name, got, c.events, c.runs)
		}
		if text := Left(t, s); text != c.left {
			t.Errorf("%s: left\n%s, want\n%s", c.name, text, c.left)
		}
	}
}

func pruneMany(t *testing.T, s events.Store, prune Prune) {
	const old, young = 1300, 30 // more than two batches
	now := time.Now()
	r := NewRun("aaaaaaaaaaaa")
	check(t, s.Begin(t.Context(), r))
	for i := 0; i < old; i += 100 {
		var es []events.Event
		for k := range 100 {
			es = append(es, events.NewEvent(r, events.KindIntent, i+k, now.AddDate(0, 0, -100)))
		}
		check(t, s.Append(t.Context(), es...))
	}
	ended, e := Ended(r)
	e.At = now
	check(t, s.End(t.Context(), ended, e))
	var others sync.WaitGroup
	others.Go(func() {
		for i := range young {
			if err := s.Append(t.Context(), events.NewEvent(r, events.KindIntent, old+i, now)); err != nil {
				t.Error(err)
			}
		}
	})
	got, err := prune(s, events.PruneRules{Before: now.AddDate(0, 0, -90), KillsBefore: now.AddDate(0, 0, -90)})
	check(t, err)
	others.Wait()
	es, err := s.Events(t.Context(), events.EventQuery{})
	check(t, err)
	if got != (events.Pruned{Events: old}) || len(es) != young+1 {
		t.Errorf("pruned %+v, want %d events; %d are left, want %d", got, old, len(es), young+1)
	}
	if _, err := s.Run(t.Context(), r.Run); err != nil {
		t.Errorf("a run of which there are events: %v", err)
	}
}

// A reader that knows a position is told neither too much nor too little by a store that has forgotten what was before it.
func prunePositions(t *testing.T, s events.Store, prune Prune) {
	now := time.Now()
	History(t, s, now, 100)
	var last int64
	_, err := s.Events(t.Context(), events.EventQuery{Cursor: &last})
	check(t, err)
	_, err = prune(s, events.PruneRules{Before: now, KillsBefore: now})
	check(t, err)
	History(t, s, now, 10)
	es, err := s.Events(t.Context(), events.EventQuery{After: last})
	check(t, err)
	var got []events.Kind
	for _, e := range es {
		got = append(got, e.Kind)
	}
	want := []events.Kind{events.KindStarted, events.KindEnded, events.KindStarted, events.KindEnded, events.KindStarted}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("after the position of before (-want +got):\n%s", d)
	}
}
