package events

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
)

// SQLiteSchema is the schema version that the statements are written for.
const SQLiteSchema = sqliteSchema

// Writer is the connection that writes.
func Writer(s *SQLite) *sql.DB { return s.writer }

// Explain returns how PostgreSQL would find the answer to a query.
func (p *Postgres) Explain(ctx context.Context, stmt string, args ...any) (plan string, err error) {
	err = p.query(ctx, "explain", "EXPLAIN "+stmt, args, func(rows pgx.Rows) error {
		plan += string(rows.RawValues()[0]) + "\n"
		return nil
	})
	return plan, err
}

// Postgres is the query as PostgreSQL is asked.
func (q EventQuery) Postgres() (string, []any) { return q.postgres() }

// Postgres is the query as PostgreSQL is asked.
func (q RunQuery) Postgres() (string, []any, error) {
	where, args, err := q.stmt(postgresDialect)
	return "SELECT record FROM watchdog_processes " + where, args, err
}

// Failing returns why the database does not take anything at present, nil if it does.
func (f *Forwarder) Failing() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failing
}
