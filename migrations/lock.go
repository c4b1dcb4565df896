package migrations

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// retryEvery is the pause between two tries for something that another process holds for milliseconds.
const retryEvery = 5 * time.Millisecond

// lockFile takes the migration lock of the database at path and returns how to give it back. The kernel gives it back too
// when the process dies. The lock file stays: removing it would let two processes lock two different files. It is not the
// database file itself, because closing that would drop SQLite's own locks on it (POSIX locks belong to the process).
func lockFile(ctx context.Context, path string) (func(), error) {
	if path == "" {
		return func() {}, nil // in memory: nobody else can see it
	}
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("migration lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("migration lock %q: %w", f.Name(), err)
		}
		if err := wait(ctx, retryEvery); err != nil {
			f.Close()
			return nil, fmt.Errorf("migration lock %q, held by another process: %w", f.Name(), err)
		}
	}
}

// wait pauses, or returns early with the error of ctx.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
