package events_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

// Another process holds the write lock and does not let go: the call ends with its context, not with busy_timeout, and
// the store works again afterwards.
func TestSQLiteLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lictor.db")
	s := openAt(t, path)
	unlock := lockDatabase(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := s.Begin(ctx, eventstest.NewRun("aaaaaaaaaaaa"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Begin: %v, want DeadlineExceeded", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("Begin took %v, its deadline was 100ms", took)
	}
	if _, err := s.Runs(t.Context(), events.RunQuery{}); err != nil {
		t.Errorf("a reader had to wait for a writer: %v", err)
	}
	unlock()
	if err := s.Begin(t.Context(), eventstest.NewRun("aaaaaaaaaaaa")); err != nil {
		t.Errorf("Begin after the lock was released: %v", err)
	}
}

// lockDatabase begins a write transaction and returns what ends it.
func lockDatabase(t *testing.T, path string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}
}

// S1: the disk fills up. What was acknowledged stays readable, writing says why it failed, and it works again when there
// is room.
func TestSQLiteDiskFull(t *testing.T) {
	dir := smallDisk(t, 1<<20)
	s := openAt(t, filepath.Join(dir, "lictor.db"))
	acknowledged := 0
	var err error
	for ; err == nil; acknowledged++ {
		r := eventstest.NewRun(events.RunID(fmt.Sprintf("run%09d", acknowledged)))
		r.Command = []string{strings.Repeat("x", 20000)}
		err = s.Begin(t.Context(), r)
	}
	acknowledged--
	if !strings.Contains(err.Error(), "full") {
		t.Errorf("writing to a full disk: %v, want an error that says so", err)
	}
	runs, err := s.Runs(t.Context(), events.RunQuery{})
	if err != nil || len(runs) != acknowledged {
		t.Errorf("%d runs are readable, %v; %d were acknowledged", len(runs), err, acknowledged)
	}
	if err := unix.Mount("none", dir, "", unix.MS_REMOUNT, "size=8388608"); err != nil {
		t.Fatal(err)
	}
	if err := s.Begin(t.Context(), eventstest.NewRun("zzzzzzzzzzzz")); err != nil {
		t.Errorf("writing when there is room again: %v", err)
	}
}

// S1: the file system is remounted read-only and back.
func TestSQLiteReadOnlyRemount(t *testing.T) {
	dir := smallDisk(t, 8<<20)
	path := filepath.Join(dir, "lictor.db")
	s := openAt(t, path)
	if err := s.Begin(t.Context(), eventstest.NewRun("aaaaaaaaaaaa")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // open files would keep it writable
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := events.OpenSQLite(t.Context(), path, nil); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to a read-only file system: %v, want EROFS", err)
	}
	reader, err := events.OpenSQLiteReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	if runs, err := reader.Runs(t.Context(), events.RunQuery{}); err != nil || len(runs) != 1 {
		t.Errorf("reading from it: %d runs, %v", len(runs), err)
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	if err := unix.Mount("none", dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	if err := openAt(t, path).Begin(t.Context(), eventstest.NewRun("bbbbbbbbbbbb")); err != nil {
		t.Errorf("writing after it is writable again: %v", err)
	}
}

// Somebody else's store: the error says that it is a matter of permission.
func TestSQLiteNotOurs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "lictor.db")
	openAt(t, path)
	for name, mode := range map[string]os.FileMode{"directory": 0o700, "file": 0o755} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			if err := unix.Setfsuid(65534); err != nil {
				done <- err
				done <- err
				return
			}
			s, err := events.OpenSQLiteReadOnly(path)
			if err == nil {
				_, err = s.Runs(context.Background(), events.RunQuery{})
				s.Close()
			}
			done <- err
			_, err = events.OpenSQLite(context.Background(), path, nil)
			done <- err
		}()
		for _, op := range []string{"reading", "writing"} {
			if err := <-done; !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s in a %s of another user: %v, want ErrPermission", op, name, err)
			}
		}
	}
}

// smallDisk mounts a file system of its own for a test.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
