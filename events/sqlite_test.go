package events_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
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

func TestSQLiteContract(t *testing.T) {
	eventstest.Run(t, func(t *testing.T) events.Store { return openTemp(t) })
}
