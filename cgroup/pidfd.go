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

// Control calls fn with the pidfd, which is valid until fn returns: for epoll(7), which tells of the end of many.
func (p *Process) Control(fn func(fd int) error) error {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("process %d: %w", p.pid, err)
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = fn(int(fd)) }); err != nil {
		return fmt.Errorf("process %d: %w", p.pid, err)
	}
	return failed
}

// ErrNotReaped says that a process lives, or that its parent has not waited for it yet.
var ErrNotReaped = errors.New("not reaped yet")

// ErrNoExitInfo says that this kernel (before Linux 6.15) does not keep the exit status of a process for those who hold a pidfd.
var ErrNoExitInfo = errors.New("the kernel tells the exit status to the parent only")

// ExitStatus returns how the process ended, whoever its parent is, see PIDFD_INFO_EXIT in linux/pidfd.h. The kernel keeps that from
// the moment when the parent has waited for it, for as long as a pidfd that was opened before is open. Until then it is
// [ErrNotReaped].
func (p *Process) ExitStatus() (status unix.WaitStatus, err error) {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("process %d: %w", p.pid, err)
	}
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	var asked error
	if err := conn.Control(func(fd uintptr) { asked = unix.IoctlPidfdInfo(int(fd), &info) }); err != nil {
		return 0, fmt.Errorf("process %d: %w", p.pid, err)
	}
	return exitInfo(&info, asked)
}

// exitInfo reads the answer to PIDFD_GET_INFO. A kernel that has the call but keeps no exit status knows nothing (ESRCH) of a
// process that was reaped.
func exitInfo(info *unix.PidfdInfo, err error) (unix.WaitStatus, error) {
	switch {
	case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENOSYS):
		return 0, ErrNoExitInfo
	case err != nil:
		return 0, fmt.Errorf("pidfd info: %w", err)
	case info.Mask&unix.PIDFD_INFO_EXIT == 0:
		return 0, ErrNotReaped
	}
	return unix.WaitStatus(uint32(info.Exit_code)), nil
}

// Close lets the process go and ends a Wait.
func (p *Process) Close() error {
	p.closed.Store(true)
	return p.file.Close()
}
