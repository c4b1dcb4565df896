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

// reading asks this database. Its jsonb writes JSON in another way than encoding/json.
func (p *Postgres) reading() reading {
	return reading{postgresDialect, plainJSON, func(ctx context.Context, doing, stmt string, args []any, each func(row) error) error {
		return p.query(ctx, doing, stmt, args, func(rows pgx.Rows) error { return each(rows) })
	}}
}

// Run implements Store.
func (p *Postgres) Run(ctx context.Context, id RunID) (*Run, error) { return p.reading().run(ctx, id) }

// Runs implements Store.
func (p *Postgres) Runs(ctx context.Context, q RunQuery) ([]*Run, error) {
	return p.reading().runs(ctx, q)
}

// Count implements Store.
func (p *Postgres) Count(ctx context.Context, q RunQuery) (int, error) {
	return p.reading().count(ctx, q)
}

// Events implements Store.
func (p *Postgres) Events(ctx context.Context, q EventQuery) ([]Event, error) {
	stmt, args := q.postgres()
	return p.reading().events(ctx, q, stmt, args)
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
