package events

import (
	"context"
	"database/sql"
	"time"
)

// Of a live run nothing is forgotten: its intents are evidence. The runs are few, so that they are listed first.
const notLive = ` AND run NOT IN (SELECT run FROM watchdog_processes WHERE ended = 0)`

// The four classes of events in the order in which they go; the arguments are a time, a position and how many. `at` and not the
// position says how old an event is: records can be imported.
const (
	dropEventsSQL = `DELETE FROM watchdog_events WHERE position IN (
	SELECT position FROM watchdog_events WHERE is_kill = ?1 AND at < ?2 AND position <= ?3` + notLive + ` ORDER BY at LIMIT ?4)`
	dropDeadSQL = `DELETE FROM dead_letters WHERE position NOT IN (SELECT position FROM watchdog_events)`
	dropRunsSQL = `DELETE FROM watchdog_processes WHERE run IN (
	SELECT run FROM watchdog_processes p WHERE ended = 1 AND started_at < ?1
		AND NOT EXISTS (SELECT 1 FROM watchdog_events e WHERE e.run = p.run) LIMIT ?2)`
	dropAnalysesSQL = `DELETE FROM analyses WHERE first_seen < ?1
	AND NOT EXISTS (SELECT 1 FROM watchdog_events e WHERE e.label = analyses.analysis_id)
	AND NOT EXISTS (SELECT 1 FROM watchdog_processes p WHERE p.label = analyses.analysis_id)`
)

// Prune forgets what the rules say, in small transactions.
func (s *SQLite) Prune(ctx context.Context, rules PruneRules) (sum Pruned, err error) {
	there := int64(maxNanos) // up to this position the database has everything
	if rules.Spooled {
		if there, err = s.forwardedLast(ctx); err != nil {
			return sum, err
		}
	}
	for _, c := range []struct {
		kills  bool
		before time.Time
	}{{false, rules.Before}, {true, rules.KillsBefore}} {
		if c.before.IsZero() {
			continue
		}
		n, err := s.dropEvents(ctx, c.kills, nanos(c.before), there, nil)
		sum.Events += n
		if err != nil {
			return sum, err
		}
	}
	if rules.MaxBytes > 0 {
		made, err := s.makeRoom(ctx, rules, there)
		sum.add(made)
		if err != nil {
			return sum, err
		}
	}
	if !rules.Before.IsZero() {
		runs, err := s.dropRuns(ctx, nanos(rules.Before))
		sum.Runs += runs
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// forwardedLast is the position up to which the database that was written to last has everything.
func (s *SQLite) forwardedLast(ctx context.Context) (position int64, err error) {
	err = s.query(ctx, "read the spool", `SELECT position FROM forwarded ORDER BY at DESC LIMIT 1`, nil,
		func(rows *sql.Rows) error { return rows.Scan(&position) })
	return position, err
}

// dropEvents forgets events in small parts, as long as more says so; nil is always.
func (s *SQLite) dropEvents(ctx context.Context, kills bool, before, upTo int64, more func() (bool, error)) (sum int, err error) {
	for {
		if more != nil {
			if ok, err := more(); !ok || err != nil {
				return sum, err
			}
		}
		n, err := s.drop(ctx, dropEventsSQL, kills, before, upTo, pruneBatch)
		sum += n
		if err != nil || n < pruneBatch {
			if err == nil && sum > 0 {
				_, err = s.drop(ctx, dropDeadSQL)
			}
			return sum, err
		}
		if err := pause(ctx, prunePause); err != nil {
			return sum, err
		}
	}
}

// prunePause is for those who wait for the write lock: SQLite does not queue them.
const prunePause = 20 * time.Millisecond

func (s *SQLite) dropRuns(ctx context.Context, before int64) (sum int, err error) {
	for {
		n, err := s.drop(ctx, dropRunsSQL, before, pruneBatch)
		sum += n
		if err != nil {
			return sum, err
		}
		if n < pruneBatch {
			_, err := s.drop(ctx, dropAnalysesSQL, before)
			return sum, err
		}
	}
}

// drop executes one statement in a transaction of its own.
func (s *SQLite) drop(ctx context.Context, stmt string, args ...any) (n int, err error) {
	err = s.write(ctx, "prune", func(ctx context.Context, tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, stmt, args...)
		if err != nil {
			return err
		}
		rows, err := res.RowsAffected()
		n = int(rows)
		return err
	})
	return n, err
}

// makeRoom forgets until the database is a tenth below its cap.
func (s *SQLite) makeRoom(ctx context.Context, rules PruneRules, there int64) (sum Pruned, err error) {
	if used, err := s.used(ctx); err != nil || used <= rules.MaxBytes {
		return sum, err
	}
	more := func() (bool, error) {
		used, err := s.used(ctx)
		if err == nil && used > rules.MaxBytes-rules.MaxBytes/10 {
			var runs int
			runs, err = s.dropRuns(ctx, maxNanos) // of which nothing is left
			sum.Runs += runs
			if runs > 0 && err == nil {
				used, err = s.used(ctx)
			}
		}
		return used > rules.MaxBytes-rules.MaxBytes/10, err
	}
	for _, class := range []struct {
		kills, lost bool
		upTo        int64
	}{{false, false, there}, {true, true, there}, {false, true, maxNanos}, {true, true, maxNanos}} {
		n, err := s.dropEvents(ctx, class.kills, maxNanos, class.upTo, more)
		sum.Events += n
		if class.lost {
			sum.Lost += n
		}
		if err != nil {
			return sum, err
		}
	}
	runs, err := s.dropRuns(ctx, maxNanos)
	sum.Runs += runs
	return sum, err
}

// used is how much of the file holds something; what was forgotten is used again.
func (s *SQLite) used(ctx context.Context) (bytes int64, err error) {
	const stmt = `SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size`
	err = s.query(ctx, "measure", stmt, nil, func(rows *sql.Rows) error { return rows.Scan(&bytes) })
	return bytes, err
}

// Size is how large a store is.
type Size struct {
	Schema int   `json:"schema"`
	Runs   int   `json:"runs"`
	Events int   `json:"events"`
	Kills  int   `json:"kills"`
	Bytes  int64 `json:"bytes"` // of the file that hold something
	// Oldest is when the oldest event took place, nil if there is none.
	Oldest *time.Time `json:"oldest"`
}

// Size counts what is in the store.
func (s *SQLite) Size(ctx context.Context) (z Size, err error) {
	if z.Bytes, err = s.used(ctx); err != nil {
		return z, err
	}
	var oldest *int64
	err = s.query(ctx, "measure", `SELECT (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM watchdog_processes),
		(SELECT count(*) FROM watchdog_events), (SELECT count(*) FROM watchdog_events WHERE is_kill = 1), (SELECT min(at) FROM watchdog_events)`, nil,
		func(rows *sql.Rows) error { return rows.Scan(&z.Schema, &z.Runs, &z.Events, &z.Kills, &oldest) })
	if oldest != nil {
		z.Oldest = new(atNanos(*oldest))
	}
	return z, err
}
