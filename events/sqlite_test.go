package events_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/migrations"
)

func openTemp(tb testing.TB) *events.SQLite {
	tb.Helper()
	s, err := events.OpenSQLite(context.Background(), filepath.Join(tb.TempDir(), "state", "lictor.db"), migrations.SQLite)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func TestSmoke(t *testing.T) {
	s := openTemp(t)
	ctx := context.Background()
	r := &events.Run{Run: "7f3k7m1d2c5h", AnalysisID: "a\xff\x00", State: events.StateStarting, StartedAt: time.Now()}
	if err := s.Begin(ctx, r); err != nil {
		t.Fatal(err)
	}
	r.State = events.StateDone
	if err := s.End(ctx, r, events.NewEvent(r, events.KindEnded, 0, time.Now())); err != nil {
		t.Fatal(err)
	}
	t.Log(s.End(ctx, r))
	got, err := s.Resolve(ctx, "7f3")
	t.Logf("%+v %v", got, err)
	es, err := s.Events(ctx, events.EventQuery{Last: 2})
	t.Logf("%+v %v", es, err)
}
