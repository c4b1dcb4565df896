package events_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

// history puts a run of each kind into a store: killed, done and live, some days ago.
func history(t *testing.T, s events.Store, now time.Time, days int) {
	t.Helper()
	at := now.AddDate(0, 0, -days)
	for i, state := range []events.State{events.StateKilled, events.StateDone, events.StateRunning} {
		r := eventstest.NewRun(events.RunID(fmt.Sprintf("%c%011d", 'a'+i, days)))
		r.StartedAt, r.AnalysisID = at, fmt.Sprintf("old-%d", days)
		must(t, s.Begin(t.Context(), r))
		must(t, s.Append(t.Context(), events.NewEvent(r, events.KindStarted, 0, at)))
		if state == events.StateRunning {
			continue
		}
		ended, _ := eventstest.Ended(r)
		ended.State = state
		must(t, s.End(t.Context(), ended, events.NewEvent(ended, events.KindEnded, 0, at)))
	}
}

// left says which runs and events a store has: a killed, b done, c live; days ago.
func left(t *testing.T, s events.Store) string {
	t.Helper()
	runs, err := s.Runs(t.Context(), events.RunQuery{})
	must(t, err)
	es, err := s.Events(t.Context(), events.EventQuery{})
	must(t, err)
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

func TestPrune(t *testing.T) {
	server := startPostgres(t)
	now := time.Now()
	for _, c := range []struct {
		name                 string
		before, kills        int // days ago
		forwarded            bool
		spooled              bool
		want                 string
		wantEvents, wantRuns int
	}{
		{"nothing", 0, 0, false, false, "c10:1 b10:2 a10:2 c100:1 b100:2 a100:2 c400:1 b400:2 a400:2", 0, 0},
		{"by age, kills stay with their runs", 90, 365, false, false, "c10:1 b10:2 a10:2 c100:1 a100:1 c400:1", 7, 3},
		{"nothing that waits for a database", 90, 365, false, true, "c10:1 b10:2 a10:2 c100:1 b100:2 a100:2 c400:1 b400:2 a400:2", 0, 0},
		{"what the database has", 90, 365, true, true, "c10:1 b10:2 a10:2 c100:1 a100:1 c400:1", 7, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openTemp(t)
			for _, days := range []int{400, 100, 10} {
				history(t, s, now, days)
			}
			if c.forwarded {
				_, err := forwarder(t, s, openPostgres(t, server.URL(server.Database(t)))).Drain(t.Context(), false)
				must(t, err)
			}
			rules := events.PruneRules{Spooled: c.spooled}
			if c.before > 0 {
				rules.Before, rules.KillsBefore = now.AddDate(0, 0, -c.before), now.AddDate(0, 0, -c.kills)
			}
			got, err := s.Prune(t.Context(), rules)
			must(t, err)
			if got.Events != c.wantEvents || got.Runs != c.wantRuns || got.Lost != 0 {
				t.Errorf("pruned %+v, want %d events and %d runs", got, c.wantEvents, c.wantRuns)
			}
			if text := left(t, s); text != c.want {
				t.Errorf("left\n%s, want\n%s", text, c.want)
			}
		})
	}
}

func TestPostgresPrune(t *testing.T) {
	server := startPostgres(t)
	p := openPostgres(t, server.URL(server.Database(t)))
	now := time.Now()
	for _, days := range []int{400, 100, 10} {
		history(t, p, now, days)
	}
	rules := events.PruneRules{Before: now.AddDate(0, 0, -90), KillsBefore: now.AddDate(0, 0, -365)}
	if got, err := p.Prune(t.Context(), rules, "elsewhere"); err != nil || got != (events.Pruned{}) {
		t.Errorf("of another host: %+v, %v", got, err)
	}
	got, err := p.Prune(t.Context(), rules, "")
	must(t, err)
	if got.Events != 7 || got.Runs != 3 {
		t.Errorf("pruned %+v", got)
	}
	if text, want := left(t, p), "c10:1 b10:2 a10:2 c100:1 a100:1 c400:1"; text != want {
		t.Errorf("left\n%s, want\n%s", text, want)
	}
}

// S12: at its cap the store forgets what is oldest, kills last, and says how much of it nobody has.
func TestS12(t *testing.T) {
	server := startPostgres(t)
	s := openTemp(t)
	fillStore(t, s, "f", 300)
	_, err := forwarder(t, s, openPostgres(t, server.URL(server.Database(t)))).Drain(t.Context(), false)
	must(t, err)
	fillStore(t, s, "p", 300)
	live := eventstest.NewRun("live00000000")
	must(t, s.Begin(t.Context(), live))
	must(t, s.Append(t.Context(), events.NewEvent(live, events.KindStarted, 0, live.StartedAt)))
	before, err := s.Size(t.Context())
	must(t, err)

	step := func(bytes int64) (p events.Pruned, kills, pending int) {
		t.Helper()
		p, err := s.Prune(t.Context(), events.PruneRules{MaxBytes: bytes, Spooled: true})
		must(t, err)
		z, err := s.Size(t.Context())
		must(t, err)
		if z.Bytes > bytes {
			t.Errorf("%d bytes are left of %d, the cap was %d", z.Bytes, before.Bytes, bytes)
		}
		list, err := s.Spools(t.Context())
		must(t, err)
		return p, z.Kills, list[0].Pending
	}
	if p, _, _ := step(before.Bytes); p != (events.Pruned{}) {
		t.Errorf("at the cap, not over it: %+v", p)
	}
	if p, kills, pending := step(before.Bytes * 98 / 100); p.Lost != 0 && kills == 600 || p.Events == 0 || pending != 601 {
		t.Errorf("first what the database has: %+v, %d kills and %d pending are left", p, kills, pending)
	}
	if p, _, pending := step(before.Bytes / 3); p.Lost == 0 || pending == 0 || pending >= 601 {
		t.Errorf("then the rest: %+v, %d pending are left", p, pending)
	}
	es, err := s.Events(t.Context(), events.EventQuery{Run: live.Run})
	must(t, err)
	if len(es) != 1 {
		t.Errorf("%d events of the live run are left", len(es))
	}
	fillStore(t, s, "n", 5)
	if list, err := s.Runs(t.Context(), events.RunQuery{Limit: 1}); err != nil || len(list) != 1 {
		t.Errorf("the store is not of use any more: %v", err)
	}
}
