package events

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Begin implements Store.
func (s *SQLite) Begin(ctx context.Context, r *Run) error {
	return s.write(ctx, "begin run "+string(r.Run), func(ctx context.Context, tx *sql.Tx) error {
		if err := s.insertAnalysis(ctx, tx, r.AnalysisID, r.StartedAt); err != nil {
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
	insert := func(ctx context.Context, tx *sql.Tx) error { return s.insertEvents(ctx, tx, es) }
	return s.try(ctx, "append events", func(ctx context.Context) error {
		if len(es) == 1 {
			if done, err := s.insertAlone(ctx, &es[0]); done {
				return err
			}
		}
		return s.transaction(ctx, insert)
	})
}

// End implements Store.
func (s *SQLite) End(ctx context.Context, r *Run, es ...Event) error {
	if !r.State.Final() {
		return s.wrap("end run "+string(r.Run), fmt.Errorf("state %q is not final", r.State))
	}
	return s.write(ctx, "end run "+string(r.Run), func(ctx context.Context, tx *sql.Tx) error {
		if err := s.insertAnalysis(ctx, tx, r.AnalysisID, r.StartedAt); err != nil {
			return err
		}
		written, err := upsertRun(ctx, tx, r, true)
		if err != nil {
			return err
		}
		if !written {
			return ErrAlreadyEnded
		}
		return s.insertEvents(ctx, tx, es)
	})
}

// Import adds runs that have ended, and events, in one transaction. What is there already stays as it is, but a run that is alive here
// is completed.
func (s *SQLite) Import(ctx context.Context, runs []*Run, es []Event) error {
	return s.write(ctx, "import", func(ctx context.Context, tx *sql.Tx) error {
		for _, r := range runs {
			if !r.State.Final() {
				return fmt.Errorf("run %s: state %q is not final", r.Run, r.State)
			}
			if err := s.insertAnalysis(ctx, tx, r.AnalysisID, r.StartedAt); err != nil {
				return err
			}
			if _, err := upsertRun(ctx, tx, r, true); err != nil {
				return err
			}
		}
		return s.insertEvents(ctx, tx, es)
	})
}

var errReadOnly = errors.New("opened for reading only")

// write runs f in a transaction of its own, which holds the write lock from its beginning. Whatever f does must be
// idempotent: it runs again when another process was in the way, or had set the file aside.
func (s *SQLite) write(ctx context.Context, doing string, f func(context.Context, *sql.Tx) error) error {
	return s.try(ctx, doing, func(ctx context.Context) error { return s.transaction(ctx, f) })
}

// try does something in one transaction, as often as it takes.
func (s *SQLite) try(ctx context.Context, doing string, transaction func(context.Context) error) error {
	if s.writer == nil {
		return s.wrap(doing, errReadOnly)
	}
	ctx, cancel := context.WithTimeout(ctx, sqliteTimeout)
	defer cancel()
	replaced := false
	for {
		err := transaction(ctx)
		switch {
		case (err == nil || broken(err)) && s.moved():
			if err = s.openFile(ctx); err != nil {
				return s.wrap(doing, err)
			}
		case damaged(err) && !replaced:
			replaced = true
			if err := s.Replace(ctx, err); err != nil {
				return err
			}
		case !busy(err) || pause(ctx, busyPause) != nil:
			if broken(err) {
				s.reconnect()
			}
			return s.wrap(doing, err)
		}
	}
}

func (s *SQLite) transaction(ctx context.Context, f func(context.Context, *sql.Tx) error) error {
	s.prepare(ctx)
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(ctx, tx); err != nil {
		_ = tx.Rollback() // its error adds nothing to err
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

// broken reports whether a connection is not worth keeping: an error of the disk may be gone when the files are opened
// again, but not before (a file system that was read-only, a database that was replaced).
func broken(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e)
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
