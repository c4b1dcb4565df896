package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a process held by a pidfd, see pidfd_open(2): whoever gets its number later is another one. It need not be a
// child of ours.
type Process struct {
	pid    int
	file   *os.File
	closed atomic.Bool
}

// OpenProcess returns the process that has this pid and started at startTicks (see [StartTicks]), or [ErrNoProcess] if that
// one has ended.
func OpenProcess(pid int, startTicks uint64) (*Process, error) {
	fd, err := ignoringEINTR(func() (int, error) { return unix.PidfdOpen(pid, 0) })
	if err != nil {
		return nil, procError(pid, err)
	}
	_ = unix.SetNonblock(fd, true) // so that the runtime's poller waits for it; it cannot fail
	p := &Process{pid: pid, file: os.NewFile(uintptr(fd), "pidfd")}
	switch st, err := ReadStat(pid); {
	case err != nil:
		_ = p.Close()
		return nil, err
	case st.StartTicks != startTicks || st.State == 'Z' || st.State == 'X':
		_ = p.Close()
		return nil, procError(pid, ErrNoProcess)
	}
	return p, nil
}

// Wait blocks until the process has ended, and costs nothing until then. It returns ctx's error when that is done first, and
// os.ErrClosed after Close. Only one goroutine may wait.
func (p *Process) Wait(ctx context.Context) error {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("process %d: %w", p.pid, err)
	}
	defer context.AfterFunc(ctx, func() { _ = p.file.SetReadDeadline(time.Unix(1, 0)) })()
	for {
		if err := p.file.SetReadDeadline(time.Time{}); err != nil {
			return fmt.Errorf("process %d: %w", p.pid, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := conn.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return err == nil && n > 0
		})
		switch {
		case err == nil:
			return nil
		case p.closed.Load():
			return fmt.Errorf("process %d: %w", p.pid, os.ErrClosed)
		case !errors.Is(err, os.ErrDeadlineExceeded): // else ctx, or a late AfterFunc of an earlier Wait
			return fmt.Errorf("process %d: %w", p.pid, err)
		}
	}
}

// Close lets the process go and ends a Wait.
func (p *Process) Close() error {
	p.closed.Store(true)
	return p.file.Close()
}
