package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// cacheDir is where images, guests and the ssh key are kept: LICTOR_TESTBED_CACHE, else lictor-testbed in the
// user's cache directory.
func cacheDir() (string, error) {
	dir := os.Getenv("LICTOR_TESTBED_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("cache directory: %w", err)
		}
		dir = filepath.Join(base, "lictor-testbed")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	return dir, nil
}

// lock takes an exclusive lock on the file at path, which it creates, and waits for whoever holds it. The lock goes
// with the process at the latest.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	release := func() { f.Close() }
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return release, nil
	}
	say("waiting for another testbed that holds %s", path)
	got := make(chan error)
	go func() {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		select {
		case got <- err:
		case <-ctx.Done(): // nobody waits for it any more
			release()
		}
	}()
	select {
	case err := <-got:
		if err != nil {
			release()
			return nil, fmt.Errorf("lock %q: %w", path, err)
		}
		return release, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("lock %q: %w", path, context.Cause(ctx))
	}
}
