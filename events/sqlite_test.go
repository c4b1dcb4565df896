package events_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
	"github.com/scidex/lictor/migrations"
)

func openAt(tb testing.TB, path string) *events.SQLite {
	tb.Helper()
	s, err := events.OpenSQLite(context.Background(), path, migrations.SQLite)
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

func openTemp(tb testing.TB) *events.SQLite {
	return openAt(tb, filepath.Join(tb.TempDir(), "state", "lictor.db"))
}

func TestSQLiteContract(t *testing.T) {
	open := func(t *testing.T) events.Store { return openTemp(t) }
	eventstest.Run(t, open)
	eventstest.RunPrune(t, open, func(s events.Store, rules events.PruneRules) (events.Pruned, error) {
		return s.(*events.SQLite).Prune(t.Context(), rules)
	})
}

func TestSQLiteSchemaIsLatest(t *testing.T) {
	if events.SQLiteSchema != migrations.SQLiteVersion {
		t.Errorf("events is written for schema %d, migrations make %d", events.SQLiteSchema, migrations.SQLiteVersion)
	}
}

func TestSQLiteUpToDateIsNotMigrated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lictor.db")
	openAt(t, path)
	s, err := events.OpenSQLite(t.Context(), path, func(context.Context, *sql.DB) error {
		return errors.New("migrated again")
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestSQLiteNewerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lictor.db")
	openAt(t, path).Close()
	raw(t, path, fmt.Sprintf("PRAGMA user_version = %d", migrations.SQLiteVersion+1))
	if _, err := events.OpenSQLite(t.Context(), path, migrations.SQLite); !errors.Is(err, migrations.ErrNewer) {
		t.Errorf("a newer database: %v, want ErrNewer", err)
	}
	r, err := events.OpenSQLiteReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Runs(t.Context(), events.RunQuery{}); err == nil || !strings.Contains(err.Error(), "schema version") {
		t.Errorf("reading a newer database: %v, want an error about the schema version", err)
	}
}

// raw runs a statement on a database file, past the store.
func raw(t *testing.T, path, stmt string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), stmt); err != nil {
		t.Fatal(err)
	}
}

func TestSQLiteFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := openAt(t, filepath.Join(dir, "lictor.db"))
	if err := s.Begin(t.Context(), eventstest.NewRun("aaaaaaaaaaaa")); err != nil {
		t.Fatal(err)
	}
	want := map[string]fs.FileMode{".": 0o700, "lictor.db": 0o600, "lictor.db-wal": 0o600, "lictor.db-shm": 0o600, "lictor.db.lock": 0o600}
	got := map[string]fs.FileMode{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{"."}, names(entries)...) {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = fi.Mode().Perm()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func names(entries []fs.DirEntry) []string {
	var n []string
	for _, e := range entries {
		n = append(n, e.Name())
	}
	return n
}

func TestSQLitePaths(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, path := range []string{"plain.db", "with space.db", "q?mode=memory.db", "hash#.db", "50%25.db", "a:b.db", "ünï.db", "sub/dir/x.db", "'; --.db"} {
		s := openAt(t, path)
		if err := s.Begin(t.Context(), eventstest.NewRun("aaaaaaaaaaaa")); err != nil {
			t.Fatalf("%q: %v", path, err)
		}
		if _, err := s.Run(t.Context(), "aaaaaaaaaaaa"); err != nil {
			t.Errorf("%q: %v", path, err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%q was not the file that was used: %v", path, err)
		}
	}
}

func TestSQLiteNotADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lictor.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("this is no database\n", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := events.OpenSQLiteReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = r.Runs(t.Context(), events.RunQuery{})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "not a database") {
		t.Errorf("reading a text file: %v, want an error that names it", err)
	}
	if _, err := events.OpenSQLite(t.Context(), t.TempDir(), migrations.SQLite); err == nil {
		t.Error("a directory was opened as a database")
	}
}

func TestSQLiteReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "lictor.db")
	s, err := events.OpenSQLiteReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wantEmpty(t, s)
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading created %s (%v)", filepath.Dir(path), err)
	}
	if err := s.Begin(t.Context(), eventstest.NewRun("aaaaaaaaaaaa")); err == nil {
		t.Error("a store opened for reading was written")
	}

	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil { // another process is just creating it
		t.Fatal(err)
	}
	wantEmpty(t, s)

	if err := openAt(t, path).Begin(t.Context(), eventstest.NewRun("aaaaaaaaaaaa")); err != nil {
		t.Fatal(err)
	}
	if runs, err := s.Runs(t.Context(), events.RunQuery{}); err != nil || len(runs) != 1 {
		t.Errorf("after another process has written: %d runs, %v; want 1", len(runs), err)
	}
}

func wantEmpty(t *testing.T, s events.Store) {
	t.Helper()
	runs, err := s.Runs(t.Context(), events.RunQuery{})
	if err != nil || len(runs) != 0 {
		t.Errorf("runs of an empty store: %v, %v", runs, err)
	}
	position := int64(7)
	es, err := s.Events(t.Context(), events.EventQuery{After: 3, Cursor: &position})
	if err != nil || len(es) != 0 || position != 3 {
		t.Errorf("events of an empty store: %v, %v, cursor %d", es, err, position)
	}
	if n, err := s.KillsSince(t.Context(), time.Time{}); err != nil || n != 0 {
		t.Errorf("kills of an empty store: %d, %v", n, err)
	}
	if _, err := s.Resolve(t.Context(), "a"); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("resolve in an empty store: %v, want ErrNotFound", err)
	}
}

func TestSQLiteDeletedAnalysis(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lictor.db")
	s := openAt(t, path)
	r := eventstest.NewRun("aaaaaaaaaaaa")
	r.AnalysisID = "SDA-117"
	ended, e := eventstest.Ended(r)
	if err := s.End(t.Context(), ended, e); err != nil {
		t.Fatal(err)
	}
	raw(t, path, "PRAGMA foreign_keys = ON; DELETE FROM analyses")
	raw(t, path, "CREATE TABLE probe (n INTEGER CHECK (n = 1))")
	raw(t, path, "INSERT INTO probe SELECT count(*) FROM watchdog_events WHERE analysis_id IS NULL AND label = 'SDA-117'")
	got, err := s.Events(t.Context(), events.EventQuery{AnalysisID: "SDA-117", KillsOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]events.Event{e}, got); diff != "" {
		t.Errorf("kill history of a deleted analysis (-want +got):\n%s", diff)
	}
	if got, err := s.Resolve(t.Context(), "SDA-117"); err != nil || got.AnalysisID != "SDA-117" {
		t.Errorf("run of a deleted analysis: %+v, %v", got, err)
	}
}

func TestSQLiteDescriptors(t *testing.T) {
	before := descriptors(t)
	s := openTemp(t)
	if err := s.Begin(t.Context(), eventstest.NewRun("aaaaaaaaaaaa")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Runs(t.Context(), events.RunQuery{}); err != nil {
		t.Fatal(err)
	}
	for fd, target := range descriptors(t) {
		if before[fd] == target {
			continue
		}
		flags, err := os.ReadFile("/proc/self/fdinfo/" + fd)
		if err != nil {
			continue // closed meanwhile
		}
		if !closeOnExec(t, string(flags)) {
			t.Errorf("descriptor %s (%s) is inherited by children", fd, target)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for fd, target := range descriptors(t) {
		if before[fd] == "" && strings.Contains(target, "lictor.db") {
			t.Errorf("descriptor %s (%s) is left open", fd, target)
		}
	}
}

// descriptors returns what this process has open.
func descriptors(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]string{}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			open[e.Name()] = target
		}
	}
	return open
}

// closeOnExec reads the octal flags in /proc/PID/fdinfo.
func closeOnExec(t *testing.T, info string) bool {
	t.Helper()
	for line := range strings.Lines(info) {
		var flags int64
		if n, _ := fmt.Sscanf(line, "flags: %o", &flags); n == 1 {
			const oCloexec = 0o2000000
			return flags&oCloexec != 0
		}
	}
	t.Fatalf("no flags in %q", info)
	return false
}

// EventsJSON has the same events as Events, in the same order, whatever is asked for and however many pages it takes.
func TestSQLiteEventsJSON(t *testing.T) {
	s := openTemp(t)
	now := time.Now()
	var es []events.Event
	for i := range 2500 {
		r := eventstest.NewRun(events.RunID(fmt.Sprintf("run%09d", i)))
		r.AnalysisID = fmt.Sprint(i % 3)
		kind := events.Kinds[i%len(events.Kinds)]
		es = append(es, events.NewEvent(r, kind, i, now.Add(-time.Duration(i*7919%2500)*time.Minute)))
	}
	must(t, s.Append(t.Context(), es...))
	for _, q := range []events.EventQuery{
		{}, {Since: now.Add(-1000 * time.Minute)}, {Since: now.Add(time.Hour)}, {Until: now.Add(-1000 * time.Minute)},
		{Since: now.Add(-2000 * time.Minute), Until: now.Add(-500 * time.Minute), Kinds: []events.Kind{events.KindOOM, events.KindEnded}},
		{After: 2000}, {After: 2000, Since: now.Add(-1000 * time.Minute)}, {Last: 7}, {Limit: 7}, {AnalysisID: "1"}, {KillsOnly: true},
	} {
		var position, jsonPosition int64
		q.Cursor = &position
		list, err := s.Events(t.Context(), q)
		must(t, err)
		var want strings.Builder
		for i := range list {
			b, err := events.EncodeEvent(&list[i])
			must(t, err)
			want.Write(append(b, 10))
		}
		var got strings.Builder
		q.Cursor = &jsonPosition
		must(t, s.EventsJSON(t.Context(), q, func(lines string) error {
			got.WriteString(lines)
			return nil
		}))
		if got.String() != want.String() {
			t.Errorf("%+v: %d bytes of %d events, want %d", q, got.Len(), len(list), want.Len())
		}
		if len(list) > 0 && position != jsonPosition {
			t.Errorf("%+v: the cursor is %d, want %d", q, jsonPosition, position)
		}
	}
}

// The stamp changes with what can be read, not with what is being written.
func TestSQLiteStamp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lictor.db")
	s, other := openAt(t, path), openAt(t, path)
	run := eventstest.NewRun("aaaaaaaaaaaa")
	if err := s.Begin(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	before := s.Stamp(t.Context())
	if before == "" || s.Stamp(t.Context()) != before {
		t.Fatalf("stamp %q, then another", before)
	}
	tx, err := events.Writer(other).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// More than the cache holds is in the log before it is committed.
	for range 100 {
		if _, err := tx.ExecContext(t.Context(), "UPDATE watchdog_processes SET name = hex(randomblob(10000))"); err != nil {
			t.Fatal(err)
		}
	}
	if s.Stamp(t.Context()) != before {
		t.Error("it has changed before the commit")
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	after := s.Stamp(t.Context())
	if after == before {
		t.Error("another handle has written, and it is the same")
	}
	if err := s.Append(t.Context(), events.NewEvent(run, events.KindStarted, 0, run.StartedAt)); err != nil {
		t.Fatal(err)
	}
	if s.Stamp(t.Context()) == after {
		t.Error("its own handle has written, and it is the same")
	}
}
