package events

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// postgresSchema is the schema version that the statements of this package are written for.
const postgresSchema = 1

const (
	// postgresTimeout bounds one call, its wait for other hosts that write included. Nothing that is enforced depends on it:
	// the records are in the spool.
	postgresTimeout = 30 * time.Second
	// postgresConnect bounds the time to connect to each address of the server.
	postgresConnect = 10 * time.Second
	// postgresClose bounds the farewell: a server that hangs does not answer it.
	postgresClose = time.Second
	// postgresPool is how many connections one process has at most.
	postgresPool = 4
)

// ErrSchema says that a PostgreSQL database has not the tables of this lictor. `lictor db migrate` makes them, unless a newer
// lictor has.
var ErrSchema = errors.New("the database has another schema")

// Postgres is the Store that many hosts share. It connects when it is first used, and again after every failure. Only the
// context and a timeout of its own end a call on a server that hangs; whether a write that was broken off took place is then
// unknown, which does no harm: all writes are idempotent.
type Postgres struct {
	pool *pgxpool.Pool
	name string // for people: without the password
}

// OpenPostgres returns the store at a connection URL, postgres://user@host/database. What it leaves out comes from where libpq
// has it: the PG* variables, ~/.pgpass. Nothing is dialled yet.
func OpenPostgres(ctx context.Context, url string) (*Postgres, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, badURL(err)
	}
	config.MaxConns = postgresPool
	config.MinConns, config.MinIdleConns = 0, 0
	config.ConnConfig.ConnectTimeout = postgresConnect
	setNames(config.ConnConfig)
	config.AfterConnect = checkSchema
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, badURL(err)
	}
	return &Postgres{pool: pool, name: databaseName(config.ConnConfig)}, nil
}

// PostgresDB returns the database at a connection URL, whatever is in it, to be migrated.
func PostgresDB(url string) (db *sql.DB, name string, err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, "", badURL(err)
	}
	config.ConnectTimeout = postgresConnect
	setNames(config)
	return stdlib.OpenDB(*config), databaseName(config), nil
}

// badURL is the error of a URL that cannot be used. The library leaves the password out of its own.
func badURL(err error) error {
	return fmt.Errorf("database: %w", err)
}

func setNames(config *pgx.ConnConfig) {
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "lictor"
	}
	config.RuntimeParams["client_encoding"] = "UTF8"
}

func databaseName(c *pgx.ConnConfig) string {
	if strings.HasPrefix(c.Host, "/") {
		return fmt.Sprintf("%q in %s", c.Database, c.Host)
	}
	return fmt.Sprintf("%q on %s", c.Database, c.Host)
}

// checkSchema looks at each new connection: a server may come back with another database.
func checkSchema(ctx context.Context, conn *pgx.Conn) error {
	if e := conn.PgConn().ParameterStatus("server_encoding"); e != "UTF8" {
		return fmt.Errorf("%w: its encoding is %s, lictor needs UTF8", ErrSchema, e)
	}
	var have int
	err := conn.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&have)
	switch {
	case sqlState(err) == undefinedTable:
		return fmt.Errorf("%w: it has no tables of lictor", ErrSchema)
	case err != nil:
		return err
	case have != postgresSchema:
		return fmt.Errorf("%w: it has version %d, this lictor needs %d", ErrSchema, have, postgresSchema)
	}
	return nil
}

// Name is how people are told of the database.
func (p *Postgres) Name() string { return p.name }

// Identity is the name that the database has given itself when it was made, so that a spool knows what is in it.
func (p *Postgres) Identity(ctx context.Context) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, postgresTimeout)
	defer cancel()
	err = p.pool.QueryRow(ctx, "SELECT id::text FROM lictor_database").Scan(&id)
	return id, p.wrap("identity", err)
}

// wrap names the store and what was being done in an error.
func (p *Postgres) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("database %s: %s: %w", p.name, doing, err)
}

// Close closes the connections, or leaves those that do not end in time to themselves.
func (p *Postgres) Close() error {
	closed := make(chan struct{})
	go func() {
		p.pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(postgresClose):
	}
	return nil
}

// Error codes of PostgreSQL (its manual, appendix A).
const (
	undefinedTable      = "42P01"
	foreignKeyViolation = "23503"
)

func sqlState(err error) string {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}

// Refused reports whether PostgreSQL will never take what it was given, however often it is asked: it is a matter of the data
// (class 22), of a constraint (23) or of a size (54). All other errors may pass.
func Refused(err error) bool {
	code := sqlState(err)
	if len(code) != 5 || code == foreignKeyViolation { // an analysis that was deleted at that moment
		return false
	}
	switch code[:2] {
	case "22", "23", "54":
		return true
	}
	return false
}
