package events

import "context"

// row is a row of a result, of either database.
type row interface{ Scan(dest ...any) error }

// reading is what both databases have in common when they are asked.
type reading struct {
	dialect dialect
	plain   func([]byte) ([]byte, error) // the JSON that was stored, of the text that comes back
	query   func(ctx context.Context, doing, stmt string, args []any, each func(row) error) error
}

func (r reading) queryRuns(ctx context.Context, where string, args ...any) (runs []*Run, err error) {
	err = r.query(ctx, "read runs", "SELECT record FROM watchdog_processes "+where, args, func(row row) error {
		var text []byte
		if err := row.Scan(&text); err != nil {
			return err
		}
		b, err := r.plain(text)
		if err != nil {
			return err
		}
		run, err := DecodeRun(b)
		runs = append(runs, run)
		return err
	})
	if err != nil {
		return nil, err
	}
	return runs, nil
}

func (r reading) run(ctx context.Context, id RunID) (*Run, error) {
	runs, err := r.queryRuns(ctx, "WHERE run = ?", Clean(string(id)))
	return only(runs, id, err)
}

func (r reading) runs(ctx context.Context, q RunQuery) ([]*Run, error) {
	where, args, err := q.stmt(r.dialect)
	if err != nil {
		return nil, err
	}
	return r.queryRuns(ctx, where, args...)
}

func (r reading) count(ctx context.Context, q RunQuery) (n int, err error) {
	stmt, args, err := q.count(r.dialect)
	if err != nil {
		return 0, err
	}
	err = r.query(ctx, "count runs", stmt, args, func(row row) error { return row.Scan(&n) })
	return n, err
}

func (r reading) events(ctx context.Context, q EventQuery, stmt string, args []any) (es []Event, err error) {
	position := q.After
	err = r.query(ctx, "read events", stmt, args, func(row row) error {
		var (
			text    []byte
			ordinal int
		)
		if err := row.Scan(&position, &ordinal, &text); err != nil {
			return err
		}
		b, err := r.plain(text)
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
