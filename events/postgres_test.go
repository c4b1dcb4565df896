package events_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

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
	open := func(t *testing.T) events.Store { return openPostgres(t, server.URL(server.Database(t))) }
	eventstest.Run(t, open)
	eventstest.RunPrune(t, open, func(s events.Store, rules events.PruneRules) (events.Pruned, error) {
		return s.(*events.Postgres).Prune(t.Context(), rules, "")
	})
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
	if _, err := forwarder(t, spool, as("box1")).Drain(t.Context(), false); err != nil {
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

// TestPostgresPlans: with a million events, what people and programs ask all the time reads no whole table.
func TestPostgresPlans(t *testing.T) {
	server := startPostgres(t)
	name := server.Database(t)
	server.SQL(t, name, `ALTER TABLE watchdog_events DISABLE TRIGGER ALL; ALTER TABLE watchdog_processes DISABLE TRIGGER ALL;
INSERT INTO watchdog_processes SELECT to_char(n, 'FM000000000000'), NULL, 'a' || n % 5000, CASE WHEN n % 10 = 0 THEN 'n' || n % 100 ELSE '' END, 'u',
	'box' || n % 20, 'b', 1000 + n % 50, n, jsonb_build_array('python3', n % 1000), 1, 1, 1, 'killed', 'oom', now() - n * interval '10 s',
	(extract(epoch FROM now() - n * interval '10 s') * 1e9)::bigint, now(), n > 100, '{}' FROM generate_series(1, 250000) n;
INSERT INTO watchdog_events (id, run, label, host, boot_id, uid, kind, ordinal, at, at_ns, state, reason, is_kill, event)
SELECT gen_random_uuid(), to_char(n / 4, 'FM000000000000'), 'a' || n / 4 % 5000, 'box' || n / 4 % 20, 'b', 1000, 'ended', 0,
	now() - (1000000 - n) * interval '2.5 s', (extract(epoch FROM now() - (1000000 - n) * interval '2.5 s') * 1e9)::bigint, '', '', n % 4 = 0, '{}'
	FROM generate_series(1, 1000000) n;
ANALYZE`)
	p := openPostgres(t, server.URL(name))
	now := time.Now()
	event := func(q events.EventQuery) func() (string, []any, error) {
		return func() (string, []any, error) {
			stmt, args := q.Postgres()
			return stmt, args, nil
		}
	}
	for what, ask := range map[string]func() (string, []any, error){
		"events of a run":       event(events.EventQuery{Run: "000000000077"}),
		"last events":           event(events.EventQuery{Last: 20}),
		"last events of a host": event(events.EventQuery{Last: 20, Host: "box3"}),
		"new events":            event(events.EventQuery{After: 999_000}),
		"events since":          event(events.EventQuery{Since: now.Add(-time.Hour)}),
		"kills since":           event(events.EventQuery{Since: now.Add(-24 * time.Hour), KillsOnly: true}),
		"kills of a host since": event(events.EventQuery{Since: now.Add(-24 * time.Hour), KillsOnly: true, Host: "box3"}),
		"events of an analysis": event(events.EventQuery{AnalysisID: "a77"}),
		"a page":                event(events.EventQuery{After: 500_000, Limit: 1000}),
		"live runs":             events.RunQuery{Live: true}.Postgres,
		"latest runs":           events.RunQuery{Limit: 20}.Postgres,
		"runs since":            events.RunQuery{Since: now.Add(-time.Hour)}.Postgres,
		"runs of an analysis":   events.RunQuery{AnalysisID: "a77"}.Postgres,
		"runs of a name":        events.RunQuery{Name: "n10", Limit: 1}.Postgres,
		"runs of a command":     events.RunQuery{Command: []string{"python3", "7"}}.Postgres,
		"runs by prefix":        events.RunQuery{Prefix: "00000000007", Limit: 6}.Postgres,
	} {
		stmt, args, err := ask()
		must(t, err)
		plan, err := p.Explain(t.Context(), stmt, args...)
		must(t, err)
		if strings.Contains(plan, "Seq Scan") {
			t.Errorf("%s: %s\nreads everything:\n%s", what, stmt, plan)
		}
	}
}
