package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
)

// SQLiteVersion is the schema version that this binary writes, the number of the last file in sqlite/.
const SQLiteVersion = 2

// sqliteTimeout bounds a whole migration, the wait for another process that is migrating included. The schema is small;
// what takes long is a full scan of a large history on a slow disk.
const sqliteTimeout = 2 * time.Minute

// ErrNewer says that the database was written by a newer lictor. Nothing was changed; use the newer binary.
var ErrNewer = errors.New("the database is newer than this lictor")

// SQLite brings a SQLite database up to date. It is safe to call from several processes at once, and cheap when there is
// nothing to do. db must allow at least one connection and its transactions must begin with BEGIN IMMEDIATE.
func SQLite(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, sqliteTimeout)
	defer cancel()
	if done, err := upToDate(ctx, db); done || err != nil {
		return err
	}
	path, err := databasePath(ctx, db)
	if err != nil {
		return err
	}
	unlock, err := lockFile(ctx, path)
	if err != nil {
		return err
	}
	defer unlock()
	if done, err := upToDate(ctx, db); done || err != nil {
		return err // another process did it while we waited
	}
	if err := useWAL(ctx, db); err != nil {
		return err
	}
	return up(ctx, db)
}

// upToDate compares the version in the file with ours.
func upToDate(ctx context.Context, db *sql.DB) (bool, error) {
	var have int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return false, fmt.Errorf("schema version: %w", err)
	}
	if have > SQLiteVersion {
		return false, fmt.Errorf("%w: it has schema version %d, this one knows %d", ErrNewer, have, SQLiteVersion)
	}
	return have == SQLiteVersion, nil
}

// databasePath returns the file behind db, empty for one in memory.
func databasePath(ctx context.Context, db *sql.DB) (string, error) {
	var path string
	err := db.QueryRowContext(ctx, "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&path)
	if err != nil {
		return "", fmt.Errorf("path of the database: %w", err)
	}
	return path, nil
}

// useWAL switches the file to write-ahead logging, which it remembers. In a transaction this would be refused, so it is
// not part of a migration. Readers of the still empty file make it fail for a moment even under busy_timeout.
func useWAL(ctx context.Context, db *sql.DB) error {
	for {
		var mode string
		err := db.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
		if err == nil && (mode == "wal" || mode == "memory") {
			return nil
		}
		if err == nil {
			return fmt.Errorf("write-ahead log: the database stays in journal mode %q", mode)
		}
		if !busy(err) || wait(ctx, retryEvery) != nil {
			return fmt.Errorf("write-ahead log: %w", err)
		}
	}
}

// busy reports whether another connection was in the way. The interface is that of modernc.org/sqlite's Error.
func busy(err error) bool {
	const sqliteBusy = 5
	var e interface{ Code() int }
	return errors.As(err, &e) && e.Code()&0xff == sqliteBusy
}

// up lets goose apply what is missing.
func up(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(files, "sqlite")
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	return nil
}
