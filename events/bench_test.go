package events_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
	"github.com/scidex/lictor/migrations"
)

// BenchmarkLauncher is what the store costs one `lictor run`: open an existing database, begin, end, close.
func BenchmarkLauncher(b *testing.B) {
	path := filepath.Join(b.TempDir(), "lictor.db")
	s, err := events.OpenSQLite(b.Context(), path, migrations.SQLite)
	if err != nil {
		b.Fatal(err)
	}
	s.Close()
	for _, close := range []bool{true, false} {
		b.Run(fmt.Sprintf("close=%t", close), func(b *testing.B) {
			for i := range b.N {
				s, err := events.OpenSQLite(b.Context(), path, migrations.SQLite)
				if err != nil {
					b.Fatal(err)
				}
				r := eventstest.NewRun(events.RunID(fmt.Sprintf("%t%07d%07d", close, b.N, i)))
				if err := s.Begin(b.Context(), r); err != nil {
					b.Fatal(err)
				}
				ended, e := eventstest.Ended(r)
				if err := s.End(b.Context(), ended, e); err != nil {
					b.Fatal(err)
				}
				if close {
					s.Close()
				} else {
					b.StopTimer()
					s.Close()
					b.StartTimer()
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "lictor.db")
	for b.Loop() {
		s, err := events.OpenSQLite(b.Context(), path, migrations.SQLite)
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

func BenchmarkBegin(b *testing.B) {
	s := openTemp(b)
	i := 0
	for b.Loop() {
		i++
		if err := s.Begin(b.Context(), eventstest.NewRun(events.RunID(fmt.Sprintf("%012d", i)))); err != nil {
			b.Fatal(err)
		}
	}
}
