package events

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pool returns the connections for queries; nil, without an error, says that the store is empty: its file does not exist,
// or nobody has migrated it yet.
func (s *SQLite) pool(ctx context.Context) (*sql.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, sql.ErrConnDone
	}
	fi, err := present(s.path)
	if s.reader != nil && (fi == nil || !os.SameFile(fi, s.read)) {
		s.unstamp()
		s.reader.Close() // the file was set aside
		s.reader = nil
	}
	if s.reader != nil || fi == nil || err != nil {
		return s.reader, err
	}
	db, err := openReader(ctx, s.path)
	s.reader, s.read = db, fi
	return db, err
}

// present returns the file at path, nil if there is no database yet. The error is that of a database which may not be read.
func present(path string) (os.FileInfo, error) {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && fi.Size() == 0:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return fi, accessible(path, unix.R_OK)
}

// openReader returns nil without an error for a database that is just being created.
func openReader(ctx context.Context, path string) (*sql.DB, error) {
	db, err := openPool(path, readerDSN(path), readers)
	if err != nil {
		return nil, err
	}
	ready, err := readable(ctx, db)
	if err != nil || !ready {
		db.Close()
		return nil, err
	}
	return db, nil
}

// readable reports whether the queries can be asked. A schema that is just being created is not an error, and neither is an older
// one, which the next writer migrates: it lacks only what a spool needs.
func readable(ctx context.Context, db *sql.DB) (bool, error) {
	switch have, err := schemaVersion(ctx, db); {
	case err != nil:
		return false, err
	case have == 0:
		return false, nil
	case have > sqliteSchema:
		return false, fmt.Errorf("it has schema version %d, this lictor reads %d", have, sqliteSchema)
	}
	return true, nil
}

// Stamp changes when something was committed to the store, by any process. What is before the colon changes when the store was replaced.
// Asking costs some microseconds and reads one page, from memory. It is empty if it cannot be told.
//
// The log's time and size would not do: a transaction is in the log for as long as its fsync takes before anybody can read it.
func (s *SQLite) Stamp(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, sqliteTimeout)
	defer cancel()
	conn, file, err := s.stampConn(ctx)
	if err != nil || conn == nil {
		return ""
	}
	var version int64 // it means something to this connection only
	if err := conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unstamp()
		return ""
	}
	return fmt.Sprintf("%d:%p %d", file.Sys().(*syscall.Stat_t).Ino, conn, version)
}

func (s *SQLite) stampConn(ctx context.Context) (*sql.Conn, os.FileInfo, error) {
	db, err := s.pool(ctx)
	if err != nil || db == nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stamper == nil {
		s.stamper, err = db.Conn(ctx)
	}
	return s.stamper, s.read, err
}

// unstamp closes the connection of Stamp: pools close only what is idle. The caller holds s.mu.
func (s *SQLite) unstamp() {
	if s.stamper != nil {
		s.stamper.Close()
		s.stamper = nil
	}
}

// query runs a query and hands each row to scan.
func (s *SQLite) query(ctx context.Context, doing, stmt string, args []any, scan func(*sql.Rows) error) error {
	ctx, cancel := context.WithTimeout(ctx, sqliteTimeout)
	defer cancel()
	db, err := s.pool(ctx)
	if err != nil || db == nil {
		return s.wrap(doing, err)
	}
	rows, err := db.QueryContext(ctx, stmt, args...)
	if err != nil {
		return s.wrap(doing, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return s.wrap(doing, err)
		}
	}
	return s.wrap(doing, rows.Err())
}

// reading asks this database, which gives back the text that it was given.
func (s *SQLite) reading() reading {
	same := func(b []byte) ([]byte, error) { return b, nil }
	return reading{sqliteDialect, same, func(ctx context.Context, doing, stmt string, args []any, each func(row) error) error {
		return s.query(ctx, doing, stmt, args, func(rows *sql.Rows) error { return each(rows) })
	}}
}

// Run implements Store.
func (s *SQLite) Run(ctx context.Context, id RunID) (*Run, error) { return s.reading().run(ctx, id) }

// Runs implements Store.
func (s *SQLite) Runs(ctx context.Context, q RunQuery) ([]*Run, error) {
	return s.reading().runs(ctx, q)
}

var liveIDsSQL = "SELECT run FROM watchdog_processes WHERE " + sqliteDialect.live

// LiveIDs returns the ids of the runs without an end record, and reads nothing else of them.
func (s *SQLite) LiveIDs(ctx context.Context) (ids []RunID, err error) {
	err = s.query(ctx, "read live runs", liveIDsSQL, nil, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, RunID(id))
		return err
	})
	return ids, err
}

// Count implements Store.
func (s *SQLite) Count(ctx context.Context, q RunQuery) (int, error) {
	return s.reading().count(ctx, q)
}

// Events implements Store.
func (s *SQLite) Events(ctx context.Context, q EventQuery) ([]Event, error) {
	stmt, args := q.sqlite()
	return s.reading().events(ctx, q, stmt, args)
}

// EventsJSON is Events for those who want the JSON of lictor/v1, as it is stored: fn is called with some lines of it at a time, each with
// a line feed at its end.
func (s *SQLite) EventsJSON(ctx context.Context, q EventQuery, fn func(lines string) error) error {
	position := q.After
	var err error
	if q.Run == "" && q.AnalysisID == "" && !q.KillsOnly && q.UID == nil && q.Host == "" && !q.Live && q.Last == 0 && q.Limit == 0 {
		position, err = s.eventPages(ctx, q, fn)
	} else {
		stmt, args := q.sqlite()
		err = s.query(ctx, "read events", stmt, args, func(rows *sql.Rows) error {
			var event string
			var ordinal int
			if err := rows.Scan(&position, &ordinal, &event); err != nil {
				return err
			}
			return fn(event + "\n")
		})
	}
	if err == nil && q.Cursor != nil {
		*q.Cursor = position
	}
	return err
}

// jsonPage is how many events SQLite puts together in one text. To step from row to row costs, through database/sql, several times what
// a row costs SQLite.
const jsonPage = 1000

// eventPages reads a part of the history from its first to its last position, and returns the last one.
func (s *SQLite) eventPages(ctx context.Context, q EventQuery, fn func(string) error) (int64, error) {
	position, last := q.After, int64(maxNanos)
	if !q.Since.IsZero() { // the index by time knows where to begin, without a look at an event
		var first, end *int64
		err := s.query(ctx, "read events", `SELECT min(position), max(position) FROM watchdog_events WHERE at >= ?`, []any{nanos(q.Since)},
			func(rows *sql.Rows) error { return rows.Scan(&first, &end) })
		if err != nil || first == nil {
			return position, err
		}
		position, last = max(position, *first-1), *end
	}
	for {
		q.After = position
		c := q.conditions(sqliteDialect)
		c.add("position <= ?", last)
		stmt := "SELECT count(*), max(position), group_concat(event || char(10), '') FROM (SELECT position, event FROM watchdog_events " +
			c.where() + " ORDER BY position LIMIT ?)"
		var (
			n     int
			end   *int64
			lines *string
		)
		err := s.query(ctx, "read events", stmt, append(c.args, jsonPage), func(rows *sql.Rows) error { return rows.Scan(&n, &end, &lines) })
		if err != nil || n == 0 {
			return position, err
		}
		position = *end
		if err := fn(*lines); err != nil || n < jsonPage {
			return position, err
		}
	}
}

const killsSinceSQL = `SELECT count(*) FROM watchdog_events WHERE is_kill = 1 AND at >= ?`

// KillsSince implements Store.
func (s *SQLite) KillsSince(ctx context.Context, t time.Time) (int, error) {
	n := 0
	err := s.query(ctx, "count kills", killsSinceSQL, []any{nanos(t)},
		func(rows *sql.Rows) error { return rows.Scan(&n) })
	return n, err
}
