package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// A database file that is damaged is set aside, under another name, and a new one takes its place: records that will be written are
// worth more than an error, and what can be saved of the old ones a person can save (`sqlite3 FILE .recover`). Other processes have
// the old file open. They find out at their next write, before it counts as written, and write it to the new one.

// ErrDamaged says that the database file is not what SQLite wrote.
var ErrDamaged = errors.New("the database file is damaged")

// damaged reports whether an error of SQLite says so.
func damaged(err error) bool {
	if errors.Is(err, ErrDamaged) {
		return true
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}

// ReplacedDetail is the detail of a store-replaced event.
type ReplacedDetail struct {
	Path  string `json:"path"`
	Aside string `json:"aside"` // where the damaged file is
	Why   string `json:"why"`
	Host  string `json:"host"`
}

// Check reads the whole database and returns ErrDamaged if something in it is wrong.
func (s *SQLite) Check(ctx context.Context) error {
	rows, err := s.writer.QueryContext(ctx, "PRAGMA quick_check(1)")
	if err != nil {
		return s.wrap("check", err)
	}
	defer rows.Close()
	var result string
	for rows.Next() {
		if err := rows.Scan(&result); err != nil {
			return s.wrap("check", err)
		}
	}
	if err := rows.Err(); err != nil {
		return s.wrap("check", err)
	}
	if result != "ok" {
		return s.wrap("check", fmt.Errorf("%w: %s", ErrDamaged, result))
	}
	return nil
}

// Replace sets the database file aside, because of an error that says that it is damaged, and goes on with a new one.
func (s *SQLite) Replace(ctx context.Context, why error) error {
	s.mu.Lock()
	bad := s.file
	s.mu.Unlock()
	aside, err := setAside(ctx, s.path, bad)
	if err != nil {
		return s.wrap("set aside", err)
	}
	if err := s.openFile(ctx); err != nil {
		return s.wrap("open anew", err)
	}
	if aside == "" {
		return nil // another process did it
	}
	host, _ := os.Hostname()
	detail, err := json.Marshal(ReplacedDetail{Path: s.path, Aside: aside, Why: why.Error(), Host: host})
	if err != nil {
		return err
	}
	now := time.Now()
	e := NewEvent(&Run{}, KindStoreReplaced, int(now.Unix()), now) // of no run; the ordinal makes it another one every time
	e.Detail = detail
	s.mu.Lock()
	s.replaced = append(s.replaced, e)
	s.mu.Unlock()
	return s.Append(ctx, e)
}

// Replaced returns the events of files that were set aside through this handle, once each.
func (s *SQLite) Replaced() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	es := s.replaced
	s.replaced = nil
	return es
}

// setAside renames a database file and its log, if it is still the one that was found damaged, and returns its new name. The log
// goes first: it must not be applied to the new file.
func setAside(ctx context.Context, path string, bad os.FileInfo) (string, error) {
	unlock, err := lockDir(ctx, filepath.Dir(path), unix.LOCK_EX)
	if err != nil {
		return "", err
	}
	defer unlock()
	now, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(now, bad) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000Z")
	for _, suffix := range []string{"-wal", "-shm", ""} {
		if err := os.Rename(path+suffix, aside+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return aside, syncDir(filepath.Dir(path))
}

// lockDir takes the lock of a directory of databases, shared by those who open one, and not while one is set aside. A directory that is not
// there or cannot be locked has none: what is wrong with it SQLite says. The kernel gives the lock back when the process dies.
func lockDir(ctx context.Context, path string, how int) (unlock func(), err error) {
	d, err := os.Open(path)
	if err != nil {
		return func() {}, nil //nolint:nilerr // see above
	}
	for {
		err := unix.Flock(int(d.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return func() { d.Close() }, nil
		}
		if err := pause(ctx, busyPause); err != nil {
			d.Close()
			return nil, fmt.Errorf("lock of %q: %w", path, err)
		}
	}
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// moved reports whether the path means another file by now than the one that is open.
func (s *SQLite) moved() bool {
	now, err := os.Stat(s.path)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file == nil || !os.SameFile(now, s.file)
}

// openFile opens whatever the path means now, and makes a database of it if there is none.
func (s *SQLite) openFile(ctx context.Context) error {
	for {
		err := createFile(s.path)
		if err == nil {
			err = s.identify()
		}
		if err == nil {
			s.reconnect()
			err = s.bringUpToDate(ctx)
		}
		if err == nil || !broken(err) && !errors.Is(err, os.ErrNotExist) || damaged(err) || !s.moved() || pause(ctx, busyPause) != nil {
			return err
		}
	}
}

// identify notes which file the path means. It is called before the file is opened: if that is another one by then, it is found
// out too early, which costs a reopen, and not too late.
func (s *SQLite) identify() error {
	fi, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file = fi
	return nil
}
