package events

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// batch is a part of the spool: events that follow one another, and the rows of their runs as they are now.
type batch struct {
	runs      []runRow
	events    []eventRow
	positions []int64 // of the events
}

// last is the position of the last event; there is one.
func (b *batch) last() int64 { return b.positions[len(b.positions)-1] }

// part is the batch of some of its events.
func (b *batch) part(from, to int) *batch {
	p := &batch{events: b.events[from:to], positions: b.positions[from:to]}
	wanted := make(map[string]bool, to-from)
	for i := range p.events {
		wanted[p.events[i].run] = true
	}
	for _, r := range b.runs {
		if wanted[r.run] {
			p.runs = append(p.runs, r)
		}
	}
	return p
}

// The size of a batch: large enough that a commit and a round trip are little of it, small enough to be sent again.
const (
	batchEvents = 2000
	batchBytes  = 4 << 20
)

var errBatchFull = errors.New("the batch is full")

const (
	spooledEventsSQL = `SELECT position, id, run, label, kind, ordinal, at, state, reason, is_kill, event FROM watchdog_events
WHERE position > ? AND position <= ? ORDER BY position LIMIT ?`
	spooledRunsSQL = `SELECT run, label, name, unit, host, coalesce(record->>'$.boot_id', ''), uid, leader_pid, command, memory_max_bytes,
	runtime_max_seconds, memory_peak_bytes, state, reason, started_at, ended_at, ended, record FROM watchdog_processes
WHERE run IN (SELECT run FROM watchdog_events WHERE position >= ? AND position <= ?)`
)

// spooled returns the events after a position, at most up to another, nil if there are none.
func (s *SQLite) spooled(ctx context.Context, after, upTo int64) (*batch, error) {
	b := &batch{}
	bytes := 0
	err := s.query(ctx, "read the spool", spooledEventsSQL, []any{after, upTo, batchEvents}, func(rows *sql.Rows) error {
		var e eventRow
		var position int64
		err := rows.Scan(&position, &e.id, &e.run, &e.label, &e.kind, &e.ordinal, &e.at, &e.state, &e.reason, &e.isKill, &e.event)
		if err != nil {
			return err
		}
		if bytes += len(e.event); bytes > batchBytes && len(b.events) > 0 {
			return errBatchFull
		}
		b.events, b.positions = append(b.events, e), append(b.positions, position)
		return nil
	})
	if len(b.events) == 0 || err != nil && !errors.Is(err, errBatchFull) {
		return nil, err
	}
	err = s.query(ctx, "read the spool", spooledRunsSQL, []any{b.positions[0], b.last()}, func(rows *sql.Rows) error {
		var r runRow
		err := rows.Scan(&r.run, &r.label, &r.name, &r.unit, &r.host, &r.bootID, &r.uid, &r.leaderPID, &r.command, &r.memoryMax,
			&r.runtimeMax, &r.memoryPeak, &r.state, &r.reason, &r.started, &r.endedAt, &r.ended, &r.record)
		b.runs = append(b.runs, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// forwardedTo returns the position up to which a database has the events.
func (s *SQLite) forwardedTo(ctx context.Context, target string) (position int64, err error) {
	err = s.query(ctx, "read the spool", `SELECT position FROM forwarded WHERE target = ?`, []any{target},
		func(rows *sql.Rows) error { return rows.Scan(&position) })
	return position, err
}

// markForwarded notes that a database has the events up to a position, but for those that it refused.
func (s *SQLite) markForwarded(ctx context.Context, target string, position int64, dead []DeadLetter) error {
	return s.write(ctx, "mark what is forwarded", func(ctx context.Context, tx *sql.Tx) error {
		now := nanos(time.Now())
		for _, d := range dead {
			if err := putDead(ctx, tx, target, d.Position, d.Error, now); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO forwarded (target, position, at) VALUES (?, ?, ?)
			ON CONFLICT (target) DO UPDATE SET position = max(position, excluded.position), at = excluded.at`, target, position, now)
		return err
	})
}

func putDead(ctx context.Context, tx *sql.Tx, target string, position int64, why string, now int64) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO dead_letters (target, position, error, at, tries) VALUES (?, ?, ?, ?, 1)
		ON CONFLICT DO UPDATE SET error = excluded.error, at = excluded.at, tries = tries + 1`, target, position, Clean(why), now)
	return err
}

// Spool is how much of a store a database has.
type Spool struct {
	Target    string    `json:"target"` // the name that the database has given itself
	Forwarded int64     `json:"forwarded"`
	At        time.Time `json:"at"`      // of the last batch
	Pending   int       `json:"pending"` // events that are not there yet
	Dead      int       `json:"dead"`    // events that it refused
}

const spoolsSQL = `SELECT target, position, at, (SELECT count(*) FROM watchdog_events e WHERE e.position > f.position),
	(SELECT count(*) FROM dead_letters d WHERE d.target = f.target) FROM forwarded f ORDER BY at DESC`

// Spools returns what is known of every database that the store was forwarded to, the last one first.
func (s *SQLite) Spools(ctx context.Context) (list []Spool, err error) {
	err = s.query(ctx, "read the spool", spoolsSQL, nil, func(rows *sql.Rows) error {
		var p Spool
		var at int64
		err := rows.Scan(&p.Target, &p.Forwarded, &at, &p.Pending, &p.Dead)
		p.At = atNanos(at)
		list = append(list, p)
		return err
	})
	return list, err
}

// DeadLetter is an event that a PostgreSQL database refused.
type DeadLetter struct {
	Target   string    `json:"target"`
	Position int64     `json:"position"` // in the local store
	Error    string    `json:"error"`
	At       time.Time `json:"at"` // of the last try
	Tries    int       `json:"tries"`
	Event    Event     `json:"event"`
}

// DeadLetters returns the events that were refused, oldest first.
func (s *SQLite) DeadLetters(ctx context.Context) (list []DeadLetter, err error) {
	const stmt = `SELECT d.target, d.position, d.error, d.at, d.tries, e.ordinal, e.event FROM dead_letters d
		JOIN watchdog_events e ON e.position = d.position ORDER BY d.position`
	err = s.query(ctx, "read dead letters", stmt, nil, func(rows *sql.Rows) error {
		var (
			d       DeadLetter
			at      int64
			ordinal int
			event   []byte
		)
		if err := rows.Scan(&d.Target, &d.Position, &d.Error, &at, &d.Tries, &ordinal, &event); err != nil {
			return err
		}
		d.At = atNanos(at)
		d.Event, err = DecodeEvent(event, ordinal)
		list = append(list, d)
		return err
	})
	return list, err
}

// DropDead forgets that events were refused. They stay in the store.
func (s *SQLite) DropDead(ctx context.Context, list ...DeadLetter) error {
	return s.write(ctx, "drop dead letters", func(ctx context.Context, tx *sql.Tx) error {
		for _, d := range list {
			if _, err := tx.ExecContext(ctx, `DELETE FROM dead_letters WHERE target = ? AND position = ?`, d.Target, d.Position); err != nil {
				return err
			}
		}
		return nil
	})
}
