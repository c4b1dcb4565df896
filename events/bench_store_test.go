package events_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

// BenchmarkAppendKill compares the durable record of a kill, its fsync included, with a bare INSERT of the same bytes under the same
// pragmas, in turn, in files beside each other.
func BenchmarkAppendKill(b *testing.B) {
	dir := b.TempDir()
	s := openAt(b, filepath.Join(dir, "lictor.db"))
	bare := openBare(b, filepath.Join(dir, "bare.db"))
	r := eventstest.NewRun("aaaaaaaaaaaa")
	must(b, s.Begin(b.Context(), r))
	_, e := eventstest.Ended(r)
	var own, other time.Duration
	n := 0
	for b.Loop() {
		n++
		e.Ordinal, e.ID = n, events.EventID(e.Run, e.Kind, n)
		text, err := events.EncodeEvent(&e)
		must(b, err)
		start := time.Now()
		must(b, s.Append(b.Context(), e))
		own += time.Since(start)
		start = time.Now()
		bare(e.ID, string(text))
		other += time.Since(start)
	}
	b.ReportMetric(float64(own.Microseconds())/float64(n), "us/append")
	b.ReportMetric(float64(other.Microseconds())/float64(n), "us/insert")
	b.ReportMetric(float64(own)/float64(other), "ratio")
	b.ReportMetric(0, "ns/op")
}

// spoolOf returns a store with killed runs, the last of them now: three events each, as most have.
func spoolOf(b *testing.B, path string, n int, every time.Duration) *events.SQLite {
	b.Helper()
	s := openAt(b, path)
	start := time.Now().Add(-time.Duration(n/3) * every)
	var runs []*events.Run
	var es []events.Event
	for i := range n / 3 {
		r := eventstest.NewRun(events.RunID(fmt.Sprintf("%012d", i)))
		r.AnalysisID, r.StartedAt = fmt.Sprintf("analysis-%d", i%500), start.Add(time.Duration(i)*every)
		ended, e := eventstest.Ended(r)
		runs = append(runs, ended)
		es = append(es, events.NewEvent(r, events.KindStarted, 0, r.StartedAt), events.NewEvent(r, events.KindOOM, 0, *ended.EndedAt), e)
		if len(runs) == 1000 || i == n/3-1 {
			must(b, s.Import(b.Context(), runs, es))
			runs, es = nil, nil
		}
	}
	return s
}

// BenchmarkForward compares the forwarding of 100,000 events, and their runs, to a local PostgreSQL that syncs, with one COPY of the
// same rows into the same tables.
func BenchmarkForward(b *testing.B) {
	const n = 99_999
	server := startPostgres(b, "fsync=on")
	s := spoolOf(b, filepath.Join(b.TempDir(), "lictor.db"), n, time.Second)
	for b.Loop() {
		name := server.Database(b)
		start := time.Now()
		got, err := events.NewForwarder(s, openPostgres(b, server.URL(name)), quiet).Drain(context.Background(), false)
		took := time.Since(start)
		if err != nil || got != n {
			b.Fatalf("%d events, %v", got, err)
		}
		const dump = "/tmp/lictor-bench-"
		for _, table := range []string{"analyses", "watchdog_processes", "watchdog_events"} {
			server.SQL(b, name, "COPY "+table+" TO PROGRAM 'cat >"+dump+table+"'")
		}
		other := server.Database(b)
		server.SQL(b, other, "CHECKPOINT")
		start = time.Now()
		for _, table := range []string{"analyses", "watchdog_processes", "watchdog_events"} {
			server.SQL(b, other, "COPY "+table+" FROM '"+dump+table+"'")
			defer os.Remove(dump + table)
		}
		copied := time.Since(start)
		b.ReportMetric(n/took.Seconds(), "events/s")
		b.ReportMetric(n/copied.Seconds(), "COPY/s")
		b.ReportMetric(took.Seconds()/copied.Seconds(), "ratio")
		server.SQL(b, "postgres", "DROP DATABASE "+name+" WITH (FORCE)")
		server.SQL(b, "postgres", "DROP DATABASE "+other)
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkEventsSince compares `lictor events -S -1h --json` on a store of a million events, those of a day, with the same query in the
// sqlite3 shell, as whole commands in turn. LICTOR_BIN names the binary.
func BenchmarkEventsSince(b *testing.B) {
	lictor := os.Getenv("LICTOR_BIN")
	if lictor == "" {
		b.Skip("LICTOR_BIN names no binary")
	}
	dir := b.TempDir()
	path := filepath.Join(dir, "lictor.db")
	must(b, spoolOf(b, path, 999_999, 24*time.Hour/333_333).Close())
	ask := func(name string, args ...string) (time.Duration, int) {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "LICTOR_STATE_DIR="+dir, "LICTOR_HOST=none")
		start := time.Now()
		out, err := cmd.Output()
		if err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		return time.Since(start), bytes.Count(out, []byte("\n"))
	}
	var own, shell []time.Duration
	for b.Loop() {
		took, n := ask(lictor, "events", "-S", "-1h", "--json")
		own = append(own, took)
		since := time.Now().Add(-time.Hour).UnixNano()
		took, m := ask("sqlite3", path, fmt.Sprintf("SELECT event FROM watchdog_events WHERE at >= %d ORDER BY +position", since))
		shell = append(shell, took)
		if n == 0 || max(m, n)-min(m, n) > 100 {
			b.Fatalf("%d and %d lines", n, m)
		}
	}
	b.ReportMetric(ms(median(own)), "ms/lictor")
	b.ReportMetric(ms(median(shell)), "ms/sqlite3")
	b.ReportMetric(float64(median(own))/float64(median(shell)), "ratio")
	b.ReportMetric(0, "ns/op")
}

var quiet = slog.New(slog.DiscardHandler)

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// openBare makes a table of two columns under the pragmas of the store, and returns what inserts into it.
func openBare(b *testing.B, path string) func(id, event string) {
	b.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(ON)&_pragma=cache_size(-256)&_pragma=wal_autocheckpoint(128)")
	must(b, err)
	b.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(b.Context(), "CREATE TABLE events (id TEXT NOT NULL UNIQUE, event TEXT NOT NULL) STRICT")
	must(b, err)
	return func(id, event string) {
		_, err := db.ExecContext(b.Context(), "INSERT INTO events VALUES (?, ?)", id, event)
		must(b, err)
	}
}
