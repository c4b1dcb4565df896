package events

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// numbered writes the placeholders of a statement as PostgreSQL has them: $1 for the first ?.
func numbered(stmt string) string {
	var b strings.Builder
	n := 0
	for _, r := range stmt {
		if r == '?' {
			n++
			b.WriteString("$" + strconv.Itoa(n))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// between adds that a time, kept in a column and with its nanoseconds in another, is at or after since and before until.
func (c *conditions) between(column, nanoseconds string, since, until time.Time) {
	if !since.IsZero() {
		n := nanos(since)
		c.add(column+" >= ? AND "+nanoseconds+" >= ?", atNanos(n), n)
	}
	if !until.IsZero() {
		n := nanos(until)
		c.add(column+" <= ? AND "+nanoseconds+" < ?", atNanos(n), n)
	}
}

// postgres returns what follows FROM watchdog_processes.
func (q RunQuery) postgres() (string, []any, error) {
	var c conditions
	if q.Live {
		c.add("NOT ended")
	}
	in(&c, "state", q.States)
	if q.AnalysisID != "" {
		c.add("label = ?", Clean(q.AnalysisID))
	}
	if q.Command != nil {
		command, err := marshal(q.Command)
		if err != nil {
			return "", nil, err
		}
		c.add("command = ?::text::jsonb", string(command))
	}
	if !q.Since.IsZero() {
		c.add("started_ns >= ?", nanos(q.Since))
	}
	if !q.Until.IsZero() {
		c.add("started_ns < ?", nanos(q.Until))
	}
	if q.UID != nil {
		c.add("uid = ?", int64(*q.UID))
	}
	if q.Host != "" {
		c.add("host = ?", Clean(q.Host))
	}
	if q.Name != "" {
		c.add("name = ? AND name <> ''", Clean(q.Name))
	}
	order := " ORDER BY started_ns DESC, run DESC"
	if q.Prefix != "" {
		prefix := Clean(string(q.Prefix))
		c.add("run >= ? AND run < ?", prefix, prefix+beyond)
		order = " ORDER BY run"
	}
	if q.Limit > 0 {
		order += " LIMIT ?"
		c.args = append(c.args, q.Limit)
	}
	return c.where() + order, c.args, nil
}

// postgres returns the query for position, ordinal and event.
func (q EventQuery) postgres() (string, []any) {
	var c conditions
	if q.Run != "" {
		c.add("run = ?", Clean(string(q.Run)))
	}
	if q.AnalysisID != "" {
		c.add("label = ?", Clean(q.AnalysisID))
	}
	in(&c, "kind", q.Kinds)
	if q.KillsOnly {
		c.add("is_kill")
	}
	c.between("at", "at_ns", q.Since, q.Until)
	if q.After > 0 {
		c.add("position > ?", q.After)
	}
	if q.UID != nil {
		c.add("uid = ?", int64(*q.UID))
	}
	if q.Host != "" {
		c.add("host = ?", Clean(q.Host))
	}
	stmt := "SELECT position, ordinal, event FROM watchdog_events " + c.where() + " ORDER BY position"
	if q.Limit > 0 {
		stmt += " LIMIT ?"
		c.args = append(c.args, q.Limit)
	}
	if q.Last <= 0 {
		return stmt, c.args
	}
	c.args = append(c.args, q.Last)
	return "SELECT * FROM (" + stmt + " DESC LIMIT ?) AS last ORDER BY position", c.args
}

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
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("%w: %q", ErrNotFound, id)
	}
	return runs[0], nil
}

// Runs implements Store.
func (p *Postgres) Runs(ctx context.Context, q RunQuery) ([]*Run, error) {
	where, args, err := q.postgres()
	if err != nil {
		return nil, err
	}
	return p.queryRuns(ctx, where, args...)
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
