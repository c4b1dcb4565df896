package events

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Writers take turns: without it an event could get a position that is before that of one which is visible already, and a
// reader who asks for what is new would never see it.
const turnSQL = `SELECT pg_advisory_xact_lock(x'6c6963746f72'::bigint)`

const insertAnalysesSQL = `INSERT INTO analyses (analysis_id, first_seen)
SELECT label, min(seen) FROM unnest($1::text[], $2::timestamptz[]) AS t (label, seen) WHERE label <> '' GROUP BY label
ON CONFLICT DO NOTHING`

// A run that was begun is completed, one that has ended is left alone.
const upsertRunsSQL = `INSERT INTO watchdog_processes (run, analysis_id, label, name, unit, host, boot_id, uid, leader_pid, command,
	memory_max_bytes, runtime_max_seconds, memory_peak_bytes, state, reason, started_at, started_ns, ended_at, ended, record)
SELECT run, nullif(label, ''), label, name, unit, host, boot_id, uid, leader_pid, command::jsonb, memory_max, runtime_max, memory_peak,
	state, reason, started_at, started_ns, ended_at, ended, record::jsonb
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::text[], $10::bigint[],
	$11::float8[], $12::bigint[], $13::text[], $14::text[], $15::timestamptz[], $16::bigint[], $17::timestamptz[], $18::boolean[], $19::text[])
AS t (run, label, name, unit, host, boot_id, uid, leader_pid, command, memory_max, runtime_max, memory_peak, state, reason, started_at,
	started_ns, ended_at, ended, record)
ON CONFLICT (run) DO UPDATE SET
	analysis_id = excluded.analysis_id, label = excluded.label, name = excluded.name, unit = excluded.unit, host = excluded.host,
	boot_id = excluded.boot_id, uid = excluded.uid, leader_pid = excluded.leader_pid, command = excluded.command,
	memory_max_bytes = excluded.memory_max_bytes, runtime_max_seconds = excluded.runtime_max_seconds,
	memory_peak_bytes = excluded.memory_peak_bytes, state = excluded.state, reason = excluded.reason, started_at = excluded.started_at,
	started_ns = excluded.started_ns, ended_at = excluded.ended_at, ended = true, record = excluded.record
WHERE NOT watchdog_processes.ended AND excluded.ended`

const insertPostgresEventsSQL = `INSERT INTO watchdog_events (id, run, analysis_id, label, host, boot_id, uid, kind, ordinal, at, at_ns,
	state, reason, is_kill, event)
SELECT id::uuid, e.run, nullif(e.label, ''), e.label, coalesce(p.host, ''), coalesce(p.boot_id, ''), p.uid, kind, ordinal, at, at_ns,
	e.state, e.reason, is_kill, event::jsonb
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::timestamptz[], $7::bigint[], $8::text[], $9::text[],
	$10::boolean[], $11::text[]) WITH ORDINALITY
AS e (id, run, label, kind, ordinal, at, at_ns, state, reason, is_kill, event, line)
LEFT JOIN watchdog_processes p ON p.run = e.run
ORDER BY line
ON CONFLICT (id) DO NOTHING`

// column collects one column of rows.
func column[Row, T any](rows []Row, value func(*Row) T) []T {
	c := make([]T, len(rows))
	for i := range rows {
		c[i] = value(&rows[i])
	}
	return c
}

func queueAnalyses(b *pgx.Batch, runs []runRow, es []eventRow) {
	labels := append(column(runs, func(r *runRow) string { return r.label }), column(es, func(e *eventRow) string { return e.label })...)
	seen := append(column(runs, func(r *runRow) time.Time { return atNanos(r.started) }),
		column(es, func(e *eventRow) time.Time { return atNanos(e.at) })...)
	b.Queue(insertAnalysesSQL, labels, seen)
}

func queueRuns(b *pgx.Batch, rows []runRow) *pgx.QueuedQuery {
	text := func(field func(*runRow) string) []string { return column(rows, field) }
	return b.Queue(upsertRunsSQL,
		text(func(r *runRow) string { return r.run }),
		text(func(r *runRow) string { return r.label }),
		text(func(r *runRow) string { return r.name }),
		text(func(r *runRow) string { return r.unit }),
		text(func(r *runRow) string { return r.host }),
		text(func(r *runRow) string { return r.bootID }),
		column(rows, func(r *runRow) int64 { return r.uid }),
		column(rows, func(r *runRow) *int64 { return r.leaderPID }),
		text(func(r *runRow) string { return r.command }),
		column(rows, func(r *runRow) *int64 { return r.memoryMax }),
		column(rows, func(r *runRow) *float64 { return r.runtimeMax }),
		column(rows, func(r *runRow) *int64 { return r.memoryPeak }),
		text(func(r *runRow) string { return r.state }),
		text(func(r *runRow) string { return r.reason }),
		column(rows, func(r *runRow) time.Time { return atNanos(r.started) }),
		column(rows, func(r *runRow) int64 { return r.started }),
		column(rows, func(r *runRow) *time.Time {
			if r.endedAt == nil {
				return nil
			}
			return new(atNanos(*r.endedAt))
		}),
		column(rows, func(r *runRow) bool { return r.ended }),
		text(func(r *runRow) string { return r.record }))
}

func queueEvents(b *pgx.Batch, rows []eventRow) {
	text := func(field func(*eventRow) string) []string { return column(rows, field) }
	b.Queue(insertPostgresEventsSQL,
		text(func(e *eventRow) string { return e.id }),
		text(func(e *eventRow) string { return e.run }),
		text(func(e *eventRow) string { return e.label }),
		text(func(e *eventRow) string { return e.kind }),
		column(rows, func(e *eventRow) int32 { return int32(e.ordinal) }),
		column(rows, func(e *eventRow) time.Time { return atNanos(e.at) }),
		column(rows, func(e *eventRow) int64 { return e.at }),
		text(func(e *eventRow) string { return e.state }),
		text(func(e *eventRow) string { return e.reason }),
		column(rows, func(e *eventRow) bool { return e.isKill }),
		text(func(e *eventRow) string { return e.event }))
}

// insert writes rows in one transaction and one round trip.
func (p *Postgres) insert(ctx context.Context, doing string, runs []runRow, es []eventRow) error {
	ctx, cancel := context.WithTimeout(ctx, postgresTimeout)
	defer cancel()
	var b pgx.Batch
	b.Queue(turnSQL)
	queueAnalyses(&b, runs, es)
	if len(runs) > 0 {
		queueRuns(&b, runs)
	}
	if len(es) > 0 {
		queueEvents(&b, es)
	}
	return p.wrap(doing, p.pool.SendBatch(ctx, &b).Close())
}

// Begin implements Store.
func (p *Postgres) Begin(ctx context.Context, r *Run) error {
	row, err := newRunRow(r, false)
	if err != nil {
		return err
	}
	return p.insert(ctx, "begin run "+string(r.Run), []runRow{row}, nil)
}

// Append implements Store.
func (p *Postgres) Append(ctx context.Context, es ...Event) error {
	if len(es) == 0 {
		return nil
	}
	rows, err := newEventRows(es)
	if err != nil {
		return err
	}
	return p.insert(ctx, "append events", nil, rows)
}

func newEventRows(es []Event) ([]eventRow, error) {
	rows := make([]eventRow, len(es))
	for i := range es {
		row, err := newEventRow(&es[i])
		if err != nil {
			return nil, err
		}
		rows[i] = row
	}
	return rows, nil
}

// End implements Store.
func (p *Postgres) End(ctx context.Context, r *Run, es ...Event) error {
	doing := "end run " + string(r.Run)
	if !r.State.Final() {
		return p.wrap(doing, fmt.Errorf("state %q is not final", r.State))
	}
	row, err := newRunRow(r, true)
	if err != nil {
		return err
	}
	rows, err := newEventRows(es)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, postgresTimeout)
	defer cancel()
	return p.wrap(doing, pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		var first, second pgx.Batch
		written := int64(0)
		first.Queue(turnSQL)
		queueAnalyses(&first, []runRow{row}, rows)
		queueRuns(&first, []runRow{row}).Exec(func(tag pgconn.CommandTag) error {
			written = tag.RowsAffected()
			return nil
		})
		if err := tx.SendBatch(ctx, &first).Close(); err != nil {
			return err
		}
		if written == 0 {
			return ErrAlreadyEnded
		}
		if len(rows) == 0 {
			return nil
		}
		queueEvents(&second, rows)
		return tx.SendBatch(ctx, &second).Close()
	}))
}
