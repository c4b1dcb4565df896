package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"
)

// childPath makes the test binary migrate that database and exit: TestProcesses starts it.
const childPath = "LICTOR_TEST_MIGRATE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		if err := migrateOnce(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func migrateOnce(path string) error {
	db, err := openDB(path)
	if err != nil {
		return err
	}
	defer db.Close()
	return SQLite(context.Background(), db)
}

func openDB(path string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Path: path, RawQuery: "_txlock=immediate&_busy_timeout=30000&_foreign_keys=on"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

func open(t *testing.T) (*sql.DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lictor.db")
	db, err := openDB(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db, path
}

// one returns the single value of a query.
func one(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	var v string
	if err := db.QueryRowContext(t.Context(), query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func TestSQLite(t *testing.T) {
	db, _ := open(t)
	for range 2 { // the second time there is nothing to do
		if err := SQLite(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	if got := one(t, db, "PRAGMA journal_mode"); got != "wal" {
		t.Errorf("journal mode %q, want wal", got)
	}
	if got, want := one(t, db, "PRAGMA user_version"), fmt.Sprint(SQLiteVersion); got != want {
		t.Errorf("user_version %s, want %s", got, want)
	}
	if got, want := one(t, db, "SELECT max(version_id) FROM goose_db_version"), fmt.Sprint(SQLiteVersion); got != want {
		t.Errorf("goose is at version %s, want %s", got, want)
	}
	tables := strings.Split(one(t, db, `SELECT group_concat(name) FROM (SELECT name FROM sqlite_schema WHERE type = 'table'
		AND sql LIKE '%STRICT%' ORDER BY name)`), ",")
	if want := []string{"analyses", "dead_letters", "forwarded", "watchdog_events", "watchdog_processes"}; !slices.Equal(tables, want) {
		t.Errorf("strict tables %q, want %q", tables, want)
	}
}

func TestDeletedAnalysisKeepsHistory(t *testing.T) {
	db, _ := open(t)
	if err := SQLite(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	for _, stmt := range []string{
		`INSERT INTO analyses VALUES ('SDA-117', 1)`,
		`INSERT INTO watchdog_events (id, run, analysis_id, label, kind, ordinal, at, state, reason, is_kill, event)
			VALUES ('i', 'r', 'SDA-117', 'SDA-117', 'ended', 0, 1, 'killed', 'oom', 1, '{"analysis_id":"SDA-117"}')`,
		`DELETE FROM analyses`,
	} {
		if _, err := db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	got := one(t, db, `SELECT coalesce(analysis_id, 'null') || ' ' || label || ' ' || event FROM watchdog_events`)
	if want := `null SDA-117 {"analysis_id":"SDA-117"}`; got != want {
		t.Errorf("event after its analysis was deleted: %s, want %s", got, want)
	}
}

// From every earlier version, with data in it: nothing is lost.
func TestSQLiteFromEarlier(t *testing.T) {
	for from := 1; from < SQLiteVersion; from++ {
		db, _ := open(t)
		dir, err := fs.Sub(files, "sqlite")
		if err != nil {
			t.Fatal(err)
		}
		p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithDisableGlobalRegistry(true))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.UpTo(t.Context(), int64(from)); err != nil {
			t.Fatal(err)
		}
		for _, stmt := range []string{
			`INSERT INTO analyses VALUES ('SDA-117', 1)`,
			`INSERT INTO watchdog_processes (run, analysis_id, label, name, unit, host, uid, command, state, reason, started_at, ended, record)
				VALUES ('r', 'SDA-117', 'SDA-117', 'n', 'u', 'h', 1000, '[]', 'killed', 'oom', 1, 1, '{"run":"r"}')`,
			`INSERT INTO watchdog_events (id, run, analysis_id, label, kind, ordinal, at, state, reason, is_kill, event)
				VALUES ('i', 'r', 'SDA-117', 'SDA-117', 'ended', 0, 1, 'killed', 'oom', 1, '{"run":"r"}')`,
		} {
			if _, err := db.ExecContext(t.Context(), stmt); err != nil {
				t.Fatal(err)
			}
		}
		if err := SQLite(t.Context(), db); err != nil {
			t.Fatalf("from version %d: %v", from, err)
		}
		got := one(t, db, `SELECT a.analysis_id || p.record || e.event || e.position FROM analyses a
			JOIN watchdog_processes p USING (analysis_id) JOIN watchdog_events e USING (run)`)
		if want := `SDA-117{"run":"r"}{"run":"r"}1`; got != want {
			t.Errorf("from version %d: %s, want %s", from, got, want)
		}
		if got := one(t, db, "PRAGMA user_version"); got != fmt.Sprint(SQLiteVersion) {
			t.Errorf("from version %d: user_version %s", from, got)
		}
	}
}

func TestNewerIsRefused(t *testing.T) {
	db, _ := open(t)
	if err := SQLite(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), fmt.Sprintf("PRAGMA user_version = %d", SQLiteVersion+1)); err != nil {
		t.Fatal(err)
	}
	if err := SQLite(t.Context(), db); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer database: %v, want ErrNewer", err)
	}
}

func TestFailedMigrationLeavesNothing(t *testing.T) {
	db, _ := open(t)
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE watchdog_events (in_the_way)"); err != nil {
		t.Fatal(err)
	}
	if err := SQLite(t.Context(), db); err == nil {
		t.Fatal("a migration over a foreign table succeeded")
	}
	if got := one(t, db, "PRAGMA user_version"); got != "0" {
		t.Errorf("user_version %s after a failed migration, want 0", got)
	}
	if got := one(t, db, "SELECT count(*) FROM sqlite_schema WHERE name = 'analyses'"); got != "0" {
		t.Error("a failed migration left its first table behind")
	}
	if _, err := db.ExecContext(t.Context(), "DROP TABLE watchdog_events"); err != nil {
		t.Fatal(err)
	}
	if err := SQLite(t.Context(), db); err != nil {
		t.Errorf("migration after the obstacle was removed: %v", err)
	}
}

func TestLockEndsWithContext(t *testing.T) {
	db, path := open(t)
	unlock, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := SQLite(ctx, db); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("migration while another process holds the lock: %v, want DeadlineExceeded", err)
	}
	unlock()
	if err := SQLite(t.Context(), db); err != nil {
		t.Error(err)
	}
}

func TestHandles(t *testing.T) {
	for round := range 10 {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.db", round))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := migrateOnce(path); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func TestProcesses(t *testing.T) {
	for round := range 3 {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.db", round))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				cmd := exec.CommandContext(t.Context(), os.Args[0])
				cmd.Env = append(os.Environ(), childPath+"="+path)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
		wg.Wait()
	}
}
