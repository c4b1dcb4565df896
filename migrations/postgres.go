package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// PostgresVersion is the schema version that this binary writes, the number of the last file in postgres/.
const PostgresVersion = 1

// postgresTimeout bounds a whole migration, the wait for another host that is migrating included.
const postgresTimeout = 10 * time.Minute

// Postgres brings a PostgreSQL database up to date, under an advisory lock, so that several hosts may do it at once. db must
// belong to a role that may create tables.
func Postgres(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, postgresTimeout)
	defer cancel()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, uint64(postgresTimeout/time.Second)))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	dir, err := fs.Sub(files, "postgres")
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	have, err := PostgresHas(ctx, db)
	if err != nil {
		return err
	}
	if have > PostgresVersion {
		return fmt.Errorf("%w: it has schema version %d, this one knows %d", ErrNewer, have, PostgresVersion)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, dir, goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			err = partial.Err // without a list of what went well
		}
		return fmt.Errorf("migrate the database: %w", err)
	}
	return nil
}

// PostgresHas returns the schema version of a database, 0 of one without a schema.
func PostgresHas(ctx context.Context, db *sql.DB) (int, error) {
	var have int
	var exists bool
	err := db.QueryRowContext(ctx, "SELECT to_regclass('goose_db_version') IS NOT NULL").Scan(&exists)
	if err == nil && exists {
		err = db.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&have)
	}
	if err != nil {
		return 0, fmt.Errorf("schema version: %w", err)
	}
	return have, nil
}
