package events

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// query runs a query and hands each row to scan.
func (p *Postgres) query(ctx context.Context, doing, stmt string, args []any, scan func(pgx.Rows) error) error {
	ctx, cancel := context.WithTimeout(ctx, postgresTimeout)
	defer cancel()
	rows, err := p.pool.Query(ctx, numbered(stmt), args...)
	if err != nil {
		return p.wrap(doing, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return p.wrap(doing, err)
		}
	}
	return p.wrap(doing, rows.Err())
}

// plainJSON is the text that encoding/json writes for a value, of the text that PostgreSQL's jsonb has for it.
func plainJSON(b []byte) ([]byte, error) {
	var compact, out bytes.Buffer
	if err := json.Compact(&compact, b); err != nil {
		return nil, fmt.Errorf("stored record: %w", err)
	}
	json.HTMLEscape(&out, compact.Bytes())
	return out.Bytes(), nil
}

func (p *Postgres) queryRuns(ctx context.Context, where string, args ...any) ([]*Run, error) {
	var runs []*Run
	err := p.query(ctx, "read runs", "SELECT record::text FROM watchdog_processes "+where, args, func(rows pgx.Rows) error {
		b, err := plainJSON(rows.RawValues()[0])
		if err != nil {
			return err
		}
		r, err := DecodeRun(b)
		runs = append(runs, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return runs, nil
}

// Run implements Store.
func (p *Postgres) Run(ctx context.Context, id RunID) (*Run, error) {
	runs, err := p.queryRuns(ctx, "WHERE run = ?", Clean(string(id)))
	return only(runs, id, err)
}

// Runs implements Store.
func (p *Postgres) Runs(ctx context.Context, q RunQuery) ([]*Run, error) {
	where, args, err := q.stmt(postgresDialect)
	if err != nil {
		return nil, err
	}
	return p.queryRuns(ctx, where, args...)
}

// Count implements Store.
func (p *Postgres) Count(ctx context.Context, q RunQuery) (n int, err error) {
	stmt, args, err := q.count(postgresDialect)
	if err != nil {
		return 0, err
	}
	err = p.query(ctx, "count runs", stmt, args, func(rows pgx.Rows) error { return rows.Scan(&n) })
	return n, err
}

// Events implements Store.
func (p *Postgres) Events(ctx context.Context, q EventQuery) ([]Event, error) {
	stmt, args := q.postgres()
	var (
		es       []Event
		position = q.After
	)
	err := p.query(ctx, "read events", stmt, args, func(rows pgx.Rows) error {
		var (
			text    []byte
			ordinal int
		)
		if err := rows.Scan(&position, &ordinal, &text); err != nil {
			return err
		}
		b, err := plainJSON(text)
		if err != nil {
			return err
		}
		e, err := DecodeEvent(b, ordinal)
		es = append(es, e)
		q.at(position)
		return err
	})
	if err != nil {
		return nil, err
	}
	if q.Cursor != nil {
		*q.Cursor = position
	}
	return es, nil
}

// KillsSince implements Store.
func (p *Postgres) KillsSince(ctx context.Context, t time.Time) (int, error) {
	n := 0
	err := p.query(ctx, "count kills", "SELECT count(*) FROM watchdog_events WHERE is_kill AND at >= ? AND at_ns >= ?",
		[]any{atNanos(nanos(t)), nanos(t)}, func(rows pgx.Rows) error { return rows.Scan(&n) })
	return n, err
}

// Resolve implements Store.
func (p *Postgres) Resolve(ctx context.Context, text string) (*Run, error) {
	return Resolve(ctx, text,
		func(ctx context.Context, prefix string, limit int) ([]*Run, error) {
			return p.Runs(ctx, RunQuery{Prefix: RunID(prefix), Limit: limit})
		},
		func(ctx context.Context, text string) (*Run, error) { return latestLabelled(ctx, p, text) })
}
