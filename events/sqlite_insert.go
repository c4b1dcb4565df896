package events

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// insertAnalysis makes sure that the row which a run or an event refers to exists. A deleted analysis that is still running
// comes back.
func (s *SQLite) insertAnalysis(ctx context.Context, tx *sql.Tx, id string, seen time.Time) error {
	if id == "" {
		return nil
	}
	return s.exec(ctx, tx, insertAnalysisSQL, Clean(id), nanos(seen))
}

const insertAnalysisSQL = `INSERT INTO analyses (analysis_id, first_seen) VALUES (?, ?) ON CONFLICT DO NOTHING`

// often are the statements that are compiled once for a connection: to compile one takes SQLite as long as to execute it.
var often = []string{insertAnalysisSQL, insertEventSQL}

// prepare compiles the statements that are needed often, before a transaction takes the connection. What is not compiled yet, or
// cannot be, is compiled when it is executed.
func (s *SQLite) prepare(ctx context.Context) {
	if !s.preparing.CompareAndSwap(false, true) {
		return
	}
	stmts := map[string]*sql.Stmt{}
	for _, text := range often {
		if stmt, err := s.writer.PrepareContext(ctx, text); err == nil { //nolint:sqlclosecheck // closed with the writer
			stmts[text] = stmt
		}
	}
	s.prepared.Store(&stmts)
}

func (s *SQLite) exec(ctx context.Context, tx *sql.Tx, text string, args ...any) error {
	if stmts := s.prepared.Load(); stmts != nil && (*stmts)[text] != nil {
		_, err := tx.StmtContext(ctx, (*stmts)[text]).ExecContext(ctx, args...) //nolint:sqlclosecheck // closed with the transaction
		return err
	}
	_, err := tx.ExecContext(ctx, text, args...)
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
	row, err := newRunRow(r, ended)
	if err != nil {
		return false, err
	}
	stmt := insertRunSQL + ` ON CONFLICT (run) DO NOTHING`
	if ended {
		stmt = endRunSQL
	}
	res, err := tx.ExecContext(ctx, stmt, row.run, row.label, row.name, row.unit, row.host, row.uid, row.leaderPID, row.command,
		row.memoryMax, row.runtimeMax, row.memoryPeak, row.state, row.reason, row.started, row.endedAt, row.ended, row.record)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

const insertEventSQL = `INSERT INTO watchdog_events (id, run, analysis_id, label, kind, ordinal, at, state, reason, is_kill, event)
VALUES (?1, ?2, NULLIF(?3, ''), ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING`

func (s *SQLite) insertEvents(ctx context.Context, tx *sql.Tx, es []Event) error {
	for i := range es {
		e := &es[i]
		if err := s.insertAnalysis(ctx, tx, e.AnalysisID, e.At); err != nil {
			return err
		}
		row, err := newEventRow(e)
		if err != nil {
			return err
		}
		if err := s.exec(ctx, tx, insertEventSQL, row.args()...); err != nil {
			return err
		}
	}
	return nil
}

// insertAlone inserts one event in a transaction that is this statement, and reports whether it could: that takes a third less than to
// begin and to commit one. The analysis has to be there, as it is as a rule.
func (s *SQLite) insertAlone(ctx context.Context, e *Event) (done bool, err error) {
	stmts := s.prepared.Load()
	if stmts == nil || (*stmts)[insertEventSQL] == nil {
		return false, nil
	}
	row, err := newEventRow(e)
	if err != nil {
		return true, err
	}
	_, err = (*stmts)[insertEventSQL].ExecContext(ctx, row.args()...)
	if orphaned(err) {
		return false, nil // nothing has changed
	}
	return true, err
}

// orphaned reports whether a row refers to one that is not there.
func orphaned(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
}

// args are those of insertEventSQL.
func (row *eventRow) args() []any {
	return []any{row.id, row.run, row.label, row.kind, row.ordinal, row.at, row.state, row.reason, row.isKill, row.event}
}
