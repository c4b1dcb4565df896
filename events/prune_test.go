package events_test

import (
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

// What waits for a database is kept, whatever its age.
func TestPrune(t *testing.T) {
	server := startPostgres(t)
	now := time.Now()
	for _, c := range []struct {
		name                 string
		before, kills        int // days ago
		forwarded            bool
		want                 string
		wantEvents, wantRuns int
	}{
		{"nothing that waits for a database", 90, 365, false, "c10:1 b10:2 a10:2 c100:1 b100:2 a100:2 c400:1 b400:2 a400:2", 0, 0},
		{"what the database has", 90, 365, true, "c10:1 b10:2 a10:2 c100:1 a100:1 c400:1", 7, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openTemp(t)
			for _, days := range []int{400, 100, 10} {
				eventstest.History(t, s, now, days)
			}
			if c.forwarded {
				_, err := forwarder(t, s, openPostgres(t, server.URL(server.Database(t)))).Drain(t.Context(), false)
				must(t, err)
			}
			rules := events.PruneRules{Spooled: true}
			if c.before > 0 {
				rules.Before, rules.KillsBefore = now.AddDate(0, 0, -c.before), now.AddDate(0, 0, -c.kills)
			}
			got, err := s.Prune(t.Context(), rules)
			must(t, err)
			if got.Events != c.wantEvents || got.Runs != c.wantRuns || got.Lost != 0 {
				t.Errorf("pruned %+v, want %d events and %d runs", got, c.wantEvents, c.wantRuns)
			}
			if text := eventstest.Left(t, s); text != c.want {
				t.Errorf("left\n%s, want\n%s", text, c.want)
			}
		})
	}
}

// A database of many hosts is pruned by each for itself.
func TestPostgresPruneOfHost(t *testing.T) {
	server := startPostgres(t)
	p := openPostgres(t, server.URL(server.Database(t)))
	now := time.Now()
	eventstest.History(t, p, now, 400)
	rules := events.PruneRules{Before: now, KillsBefore: now}
	if got, err := p.Prune(t.Context(), rules, "elsewhere"); err != nil || got != (events.Pruned{}) {
		t.Errorf("of another host: %+v, %v", got, err)
	}
	if got, err := p.Prune(t.Context(), rules, eventstest.NewRun("x").Host); err != nil || got.Events != 4 || got.Runs != 2 {
		t.Errorf("of the host: %+v, %v", got, err)
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
