package watcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Deadline fires once at a time on CLOCK_BOOTTIME, the clock that goes on in suspend and that nobody can set. Until then
// it wakes nobody.
//
// A time.Timer would not do: Go's monotonic clock is CLOCK_MONOTONIC, which stands still in suspend, and so does
// systemd's RuntimeMaxSec. A run that was started half an hour ago by any clock on the wall is over its half hour
// for its owner; a Deadline sees that at the moment of resume. It does not wake the host.
type Deadline struct {
	file   *os.File
	closed atomic.Bool
}

// NewDeadline returns a Deadline that fires at the given time on CLOCK_BOOTTIME; if that has passed, at once.
func NewDeadline(at time.Duration) (*Deadline, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("deadline: %w", os.NewSyscallError("timerfd_create", err))
	}
	d := &Deadline{file: os.NewFile(uintptr(fd), "timerfd")} // non-blocking, so the runtime's poller waits for it
	if err := d.Reset(at); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Reset moves the deadline, also for a Wait that is under way. If it had fired and nobody had waited, that is forgotten.
func (d *Deadline) Reset(at time.Duration) error {
	conn, err := d.file.SyscallConn()
	if err != nil {
		return d.error(err)
	}
	// Zero would disarm the timer; a nanosecond after boot is as long ago.
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, at.Nanoseconds()))}
	var setErr error
	err = conn.Control(func(fd uintptr) {
		setErr = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil)
	})
	if err != nil {
		return d.error(err)
	}
	if setErr != nil {
		return d.error(os.NewSyscallError("timerfd_settime", setErr))
	}
	return nil
}

// Wait blocks until the deadline has passed and returns nil, once for each deadline set. It returns ctx's error when
// that is done first, and os.ErrClosed after Close. Only one goroutine may wait.
func (d *Deadline) Wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = d.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		if err := d.file.SetReadDeadline(time.Time{}); err != nil {
			return d.error(err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var expirations [8]byte
		_, err := d.file.Read(expirations[:])
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) { // else ctx, or a late AfterFunc of an earlier Wait
			return d.error(err)
		}
	}
}

// Close frees the timer and ends a Wait.
func (d *Deadline) Close() error {
	d.closed.Store(true)
	return d.file.Close()
}

// error says os.ErrClosed in the places where package os has an error of its own for a closed file.
func (d *Deadline) error(err error) error {
	if d.closed.Load() {
		err = os.ErrClosed
	}
	return fmt.Errorf("deadline: %w", err)
}
