package events

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
)

// sqliteSchema is the schema version that the statements of this package are written for.
const sqliteSchema = 2

const (
	// sqliteTimeout bounds one call, its wait for other writers and its fsync included. A disk that takes longer is as
	// good as dead; nothing that the kernel enforces depends on it.
	sqliteTimeout = time.Minute
	// busyTimeout is how long SQLite itself waits for another process's lock.
	busyTimeout = 30 * time.Second
)

// SQLite is the embedded Store: one file, in write-ahead log mode, shared by all processes of its owner.
//
// It has one connection that writes and, once something is read, some that read; they are opened when they are first
// needed. A process that exits without Close loses nothing that was acknowledged: the log is on disk and the next process
// reads it.
type SQLite struct {
	path    string
	writer  *sql.DB // nil in a store that is only read
	migrate func(context.Context, *sql.DB) error

	preparing atomic.Bool                          // or done
	prepared  atomic.Pointer[map[string]*sql.Stmt] // by text, of writer

	mu       sync.Mutex
	file     os.FileInfo // what the path meant when it was opened
	reader   *sql.DB     // nil until something is read
	read     os.FileInfo // of reader
	stamper  *sql.Conn   // of reader; nil until Stamp is asked for
	closed   bool
	replaced []Event // of damaged files that were set aside
}

// OpenSQLite opens the store at path, readable and writable, and creates the file (0600) and its directory (0700) when
// they are missing. When the schema is not current, migrate is called to make it so. A file that is no database is set aside.
func OpenSQLite(ctx context.Context, path string, migrate func(context.Context, *sql.DB) error) (*SQLite, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", path, err)
	}
	s := &SQLite{path: abs, migrate: migrate}
	if s.writer, err = openPool(abs, writerDSN(abs), 1); err != nil {
		return nil, s.wrap("open", err)
	}
	err = s.openFile(ctx)
	if damaged(err) {
		err = s.Replace(ctx, err)
	}
	if err != nil {
		s.writer.Close()
		return nil, s.wrap("open", err)
	}
	return s, nil
}

// OpenSQLiteReadOnly opens the store at path for queries. A file that does not exist yet is an empty store, and is not
// created; once another process has created it, it is read. Writing to such a store is an error.
func OpenSQLiteReadOnly(path string) (*SQLite, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", path, err)
	}
	return &SQLite{path: abs}, nil
}

// createFile makes an empty database file that nobody else can read. SQLite would create it with the umask's mode, and
// gives its log and shared-memory files the mode of the database. The file is not opened for that: closing it would drop
// the locks of another handle in this process, because POSIX locks belong to the process.
func createFile(path string) error {
	if _, err := os.Stat(path); err == nil {
		return accessible(path, unix.R_OK|unix.W_OK)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := unix.Mknod(path, unix.S_IFREG|0o600, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "create", Path: path, Err: err}
	}
	return nil
}

// accessible returns why a file cannot be opened: SQLite does not say.
func accessible(path string, mode uint32) error {
	if err := unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS); err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	return nil
}

// readers is how many queries run at once, that of Stamp included. One connection stays open between them.
const readers = 5

// openPool returns a pool of at most n connections to the file at path, none of which is open yet.
func openPool(path, dsn string, n int) (*sql.DB, error) {
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	// fdatasync is what SQLite uses wherever its build finds it: a commit is as durable, and ten times as fast on ext4. The
	// switch is process-wide; where there is none, fsync stays.
	_, _ = sqlite.Fdatasync(true)
	db := sql.OpenDB(connector{c, filepath.Dir(path)})
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(1)
	return db, nil
}

// connector opens connections to a database in a directory.
type connector struct {
	driver.Connector
	dir string
}

// Connect implements driver.Connector. SQLite opens the database, and its log by name when it first reads: no file may be set aside between
// the two, or a damaged database has the log of the new one.
//
// The log stays in place when the last connection is closed: creating and removing it costs every `lictor run` two commits of the file
// system's journal, several milliseconds on a busy disk.
func (k connector) Connect(ctx context.Context) (driver.Conn, error) {
	unlock, err := lockDir(ctx, k.dir, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer unlock()
	c, err := k.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if f, ok := c.(sqlite.FileControl); ok {
		_, err = f.FileControlPersistWAL("main", 1)
	}
	if e, ok := c.(driver.ExecerContext); ok && err == nil {
		_, err = e.ExecContext(ctx, "PRAGMA user_version", nil)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// bringUpToDate compares schema versions, which also opens the file and so finds out whether it is a database.
func (s *SQLite) bringUpToDate(ctx context.Context) error {
	have, err := schemaVersion(ctx, s.writer)
	if err != nil || have == sqliteSchema {
		return err
	}
	return s.migrate(ctx, s.writer)
}

func schemaVersion(ctx context.Context, db *sql.DB) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, sqliteTimeout)
	defer cancel()
	var v int
	err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&v)
	return v, err
}

// wrap names the store and what was being done in an error.
func (s *SQLite) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	if broken(err) && full(s.path) && !strings.Contains(err.Error(), "full") { // SQLite calls it an I/O error, then
		return fmt.Errorf("store %q: %s: its file system is full: %w", s.path, doing, err)
	}
	return fmt.Errorf("store %q: %s: %w", s.path, doing, err)
}

// full reports whether there is no room for a page where a file is.
func full(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(filepath.Dir(path), &st) == nil && st.Bavail*uint64(st.Bsize) < 64<<10
}

// reconnect closes the connections that are not in use. The next call opens what it needs.
func (s *SQLite) reconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unstamp()
	for _, db := range []*sql.DB{s.writer, s.reader} {
		if db != nil {
			db.SetMaxIdleConns(0) // closes those that are idle
			db.SetMaxIdleConns(1)
		}
	}
}

// Close closes the connections. The last process that does writes the log back into the database file, which takes about
// as long as a write; a process that is about to exit may do without.
func (s *SQLite) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.unstamp()
	var errs []error
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return s.wrap("close", errors.Join(errs...))
}
