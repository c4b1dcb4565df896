package events_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
	"github.com/scidex/lictor/migrations"
)

// migratePostgres makes the tables of a database.
func migratePostgres(url string) error {
	db, _, err := events.PostgresDB(url)
	if err != nil {
		return err
	}
	defer db.Close()
	return migrations.Postgres(context.Background(), db)
}

func startPostgres(tb testing.TB, settings ...string) *eventstest.Postgres {
	tb.Helper()
	return eventstest.StartPostgres(tb, migratePostgres, settings...)
}

func openPostgres(tb testing.TB, url string) *events.Postgres {
	tb.Helper()
	p, err := events.OpenPostgres(context.Background(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { p.Close() })
	return p
}

func TestPostgresContract(t *testing.T) {
	server := startPostgres(t)
	eventstest.Run(t, func(t *testing.T) events.Store { return openPostgres(t, server.URL(server.Database(t))) })
}

// A database without the tables of this lictor is refused in one sentence, whichever way they differ.
func TestPostgresSchema(t *testing.T) {
	server := startPostgres(t)
	name := server.Empty(t)
	p := openPostgres(t, server.URL(name))
	want := func(text string) {
		t.Helper()
		_, err := p.Runs(t.Context(), events.RunQuery{})
		if !errors.Is(err, events.ErrSchema) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want ErrSchema, %q", err, text)
		}
	}
	want("no tables")
	if err := migratePostgres(server.URL(name)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Runs(t.Context(), events.RunQuery{}); err != nil {
		t.Errorf("after the migration: %v", err)
	}
	server.SQL(t, name, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)")
	if err := migratePostgres(server.URL(name)); !errors.Is(err, migrations.ErrNewer) {
		t.Errorf("migrating a newer one: %v, want ErrNewer", err)
	}
	p = openPostgres(t, server.URL(name))
	want("version 99")
	server.SQL(t, "postgres", "CREATE DATABASE latin ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	p = openPostgres(t, server.URL("latin"))
	want("LATIN1")
}

// TestPostgresDeletedAnalysis: deleting an analysis keeps its history, and the label in it.
func TestPostgresDeletedAnalysis(t *testing.T) {
	server := startPostgres(t)
	name := server.Database(t)
	p := openPostgres(t, server.URL(name))
	r := eventstest.NewRun("aaaaaaaaaaaa")
	r.AnalysisID = "SDA-117"
	if err := p.Begin(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	ended, e := eventstest.Ended(r)
	if err := p.End(t.Context(), ended, e); err != nil {
		t.Fatal(err)
	}
	server.SQL(t, name, "DELETE FROM analyses")
	got := server.SQL(t, name, "SELECT coalesce(analysis_id, 'null'), label, event->>'analysis_id', host, uid FROM watchdog_events")
	if want := "null|SDA-117|SDA-117|box1|1000"; got != want {
		t.Errorf("event of a deleted analysis: %s, want %s", got, want)
	}
	got = server.SQL(t, name, "SELECT coalesce(analysis_id, 'null'), label, record->>'analysis_id' FROM watchdog_processes")
	if want := "null|SDA-117|SDA-117"; got != want {
		t.Errorf("run of a deleted analysis: %s, want %s", got, want)
	}
}

// Several hosts migrate at once: one does it, the others find it done.
func TestPostgresMigrateAtOnce(t *testing.T) {
	server := startPostgres(t)
	for range 3 {
		name := server.Empty(t)
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if err := migratePostgres(server.URL(name)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := server.SQL(t, name, "SELECT count(*) FROM lictor_database"); got != "1" {
			t.Errorf("migrated %s times", got)
		}
	}
}

// The roles of migrations/roles.sql can do what they are for, and nothing else.
func TestPostgresRoles(t *testing.T) {
	server := startPostgres(t)
	name := server.Database(t)
	script, err := os.ReadFile("../migrations/roles.sql")
	must(t, err)
	for range 2 { // it may be applied again, after an upgrade
		server.SQL(t, name, string(script))
	}
	server.SQL(t, name, "CREATE ROLE box1 LOGIN IN ROLE lictor_writer; CREATE ROLE grafana LOGIN IN ROLE lictor_reader")
	as := func(role string) *events.Postgres {
		return openPostgres(t, strings.Replace(server.URL(name), "lictor@", role+"@", 1))
	}
	spool := openTemp(t)
	fillStore(t, spool, "a", 3)
	if _, err := forwarder(t, spool, as("box1")).Drain(t.Context()); err != nil {
		t.Errorf("the writer: %v", err)
	}
	wantSame(t, spool, as("grafana"))
	if err := as("grafana").Begin(t.Context(), eventstest.NewRun("bbbbbbbbbbbb")); err == nil {
		t.Error("the reader wrote")
	}
	for _, stmt := range []string{"DELETE FROM watchdog_events", "UPDATE watchdog_events SET reason = ''", "TRUNCATE watchdog_processes", "DELETE FROM watchdog_processes"} {
		out := server.SQL(t, name, "DO $$ BEGIN SET LOCAL ROLE lictor_writer; "+stmt+"; RAISE 'done'; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$; SELECT 'refused'")
		if out != "refused" {
			t.Errorf("%s: %s", stmt, out)
		}
	}
}

func TestPostgresURL(t *testing.T) {
	for _, url := range []string{"postgres://u:secret@h:port/d", "postgres://u:secret@h/d?sslmode=nonsense"} {
		_, err := events.OpenPostgres(t.Context(), url)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want an error without the password", url, err)
		}
	}
}
