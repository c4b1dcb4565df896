package events

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Begin implements Store.
func (s *SQLite) Begin(ctx context.Context, r *Run) error {
	return s.write(ctx, "begin run "+string(r.Run), func(ctx context.Context, tx *sql.Tx) error {
		if err := insertAnalysis(ctx, tx, r.AnalysisID, r.StartedAt); err != nil {
			return err
		}
		_, err := upsertRun(ctx, tx, r, false)
		return err
	})
}

// Append implements Store.
func (s *SQLite) Append(ctx context.Context, es ...Event) error {
	if len(es) == 0 {
		return nil
	}
	return s.write(ctx, "append events", func(ctx context.Context, tx *sql.Tx) error {
		return insertEvents(ctx, tx, es)
	})
}

// End implements Store.
func (s *SQLite) End(ctx context.Context, r *Run, es ...Event) error {
	if !r.State.Final() {
		return s.wrap("end run "+string(r.Run), fmt.Errorf("state %q is not final", r.State))
	}
	return s.write(ctx, "end run "+string(r.Run), func(ctx context.Context, tx *sql.Tx) error {
		if err := insertAnalysis(ctx, tx, r.AnalysisID, r.StartedAt); err != nil {
			return err
		}
		written, err := upsertRun(ctx, tx, r, true)
		if err != nil {
			return err
		}
		if !written {
			return ErrAlreadyEnded
		}
		return insertEvents(ctx, tx, es)
	})
}

var errReadOnly = errors.New("opened for reading only")

// write runs f in a transaction of its own, which holds the write lock from its beginning. Whatever f does must be
// idempotent: it runs again when another process was in the way.
func (s *SQLite) write(ctx context.Context, doing string, f func(context.Context, *sql.Tx) error) error {
	if s.writer == nil {
		return s.wrap(doing, errReadOnly)
	}
	ctx, cancel := context.WithTimeout(ctx, sqliteTimeout)
	defer cancel()
	for {
		err := s.transaction(ctx, f)
		if !busy(err) || pause(ctx, busyPause) != nil {
			return s.wrap(doing, err)
		}
	}
}

func (s *SQLite) transaction(ctx context.Context, f func(context.Context, *sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(ctx, tx); err != nil {
		tx.Rollback() // its error adds nothing to err
		return err
	}
	return tx.Commit()
}

// busyPause is the pause before a transaction is tried again.
const busyPause = 10 * time.Millisecond

// busy reports whether another process was in the way. SQLite waits for most locks itself (busy_timeout), but not for all
// of them: a recovery of the log or its last close can get through.
func busy(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return true
	default:
		return false
	}
}

// pause waits, or returns early with the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func insertAnalysis(ctx context.Context, tx *sql.Tx, id string, seen time.Time) error {
	if id == "" {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO analyses (analysis_id, first_seen) VALUES (?, ?) ON CONFLICT DO NOTHING`,
		Clean(id), nanos(seen))
	return err
}

const insertRunSQL = `INSERT INTO watchdog_processes (run, analysis_id, label, name, unit, host, uid, leader_pid, command,
	memory_max_bytes, runtime_max_seconds, memory_peak_bytes, state, reason, started_at, ended_at, ended, record)
VALUES (?1, NULLIF(?2, ''), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)`

// A run that was begun is completed, one that has ended is left alone.
const endRunSQL = insertRunSQL + ` ON CONFLICT (run) DO UPDATE SET
	analysis_id = excluded.analysis_id, label = excluded.label, name = excluded.name, unit = excluded.unit,
	host = excluded.host, uid = excluded.uid, leader_pid = excluded.leader_pid, command = excluded.command,
	memory_max_bytes = excluded.memory_max_bytes, runtime_max_seconds = excluded.runtime_max_seconds,
	memory_peak_bytes = excluded.memory_peak_bytes, state = excluded.state, reason = excluded.reason,
	started_at = excluded.started_at, ended_at = excluded.ended_at, ended = 1, record = excluded.record
WHERE ended = 0`

// upsertRun writes the row of a run and reports whether it did.
func upsertRun(ctx context.Context, tx *sql.Tx, r *Run, ended bool) (bool, error) {
	record, err := EncodeRun(r)
	if err != nil {
		return false, err
	}
	command, err := marshal(list(r.Command))
	if err != nil {
		return false, err
	}
	stmt := insertRunSQL + ` ON CONFLICT (run) DO NOTHING`
	if ended {
		stmt = endRunSQL
	}
	var endedAt *int64
	if r.EndedAt != nil {
		n := nanos(*r.EndedAt)
		endedAt = &n
	}
	res, err := tx.ExecContext(ctx, stmt, Clean(string(r.Run)), Clean(r.AnalysisID), Clean(r.Name), Clean(r.Unit),
		Clean(r.Host), r.UID, r.LeaderPID, string(command), integer(r.Limits.MemoryMaxBytes), r.Limits.RuntimeMaxSeconds,
		integer(r.Usage.MemoryPeakBytes), Clean(string(r.State)), Clean(string(r.Reason)), nanos(r.StartedAt), endedAt, ended,
		string(record))
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// integer is n for a column: SQL has no unsigned numbers. Nil is NULL.
func integer(n *uint64) *int64 {
	if n == nil {
		return nil
	}
	i := int64(min(*n, math.MaxInt64))
	return &i
}

const insertEventSQL = `INSERT INTO watchdog_events (id, run, analysis_id, label, kind, ordinal, at, state, reason, is_kill, event)
VALUES (?1, ?2, NULLIF(?3, ''), ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING`

func insertEvents(ctx context.Context, tx *sql.Tx, es []Event) error {
	for i := range es {
		e := &es[i]
		if err := insertAnalysis(ctx, tx, e.AnalysisID, e.At); err != nil {
			return err
		}
		event, err := EncodeEvent(e)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, insertEventSQL, Clean(eventID(e)), Clean(string(e.Run)), Clean(e.AnalysisID),
			Clean(string(e.Kind)), e.Ordinal, nanos(e.At), Clean(string(e.State)), Clean(string(e.Reason)), e.IsKill(),
			string(event))
		if err != nil {
			return err
		}
	}
	return nil
}
