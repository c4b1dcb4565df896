package watcher

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
)

// Owner is a process without which a run is not to live on.
type Owner struct {
	PID        int
	StartTicks uint64
	Process    events.Process // as it was described while it lived
}

// watchOwner waits for the end of the owner, if there is one.
func (m *member) watchOwner(ctx context.Context) {
	for m.Owner != nil {
		err := m.awaitGone(ctx, m.Owner.PID, m.Owner.StartTicks, func(*cgroup.Process) { m.post(input{ownerless: true}) })
		if err == nil || ctx.Err() != nil {
			return
		}
		m.Log.Warn("owner not watched", logRun, m.Run.Run, logPID, m.Owner.PID, logError, err)
		pause(ctx, waitRetry)
	}
}

// awaitGone has gone called when a process has ended, unless the keeping of the run ends before. With Deaths it returns at once,
// without them when that has happened. The process is nil if it had ended before, and held until gone returns.
func (m *member) awaitGone(ctx context.Context, pid int, startTicks uint64, gone func(*cgroup.Process)) error {
	p, err := cgroup.OpenProcess(pid, startTicks)
	if errors.Is(err, cgroup.ErrNoProcess) {
		gone(nil)
		return nil
	}
	if err != nil {
		return err
	}
	end := func() {
		gone(p)
		p.Close()
	}
	if m.fleet.Deaths == nil {
		if err := p.Wait(ctx); err != nil {
			return errors.Join(err, p.Close())
		}
		end()
		return nil
	}
	id, err := m.fleet.Deaths.Add(p, func() { m.goOn(end) })
	if err != nil {
		return errors.Join(err, p.Close())
	}
	context.AfterFunc(ctx, func() {
		m.fleet.Deaths.Forget(id)
		p.Close()
	})
	return nil
}

// WaitGone waits until the process that has this pid and started at startTicks has ended; it need not be a child of ours. It
// costs nothing while it waits.
func WaitGone(ctx context.Context, pid int, startTicks uint64) error {
	p, err := cgroup.OpenProcess(pid, startTicks)
	if errors.Is(err, cgroup.ErrNoProcess) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Wait(ctx)
}

// WaitExit is WaitGone for one whose end is of interest: it returns how the process ended, or [ErrNotParent] if the kernel does not
// tell that, or not soon enough: its parent may take its time.
func WaitExit(ctx context.Context, pid int, startTicks uint64) (Exit, error) {
	p, err := cgroup.OpenProcess(pid, startTicks)
	if errors.Is(err, cgroup.ErrNoProcess) {
		return Exit{}, ErrNotParent
	}
	if err != nil {
		return Exit{}, err
	}
	defer p.Close()
	if err := p.Wait(ctx); err != nil {
		return Exit{}, err
	}
	return ExitOf(ctx, p)
}

// ExitOf is how a process has ended that was held before it did; see WaitExit.
func ExitOf(ctx context.Context, p *cgroup.Process) (Exit, error) {
	if p == nil {
		return Exit{}, ErrNotParent
	}
	for wait := time.Millisecond; wait < reapPatience; wait *= 2 {
		status, err := p.ExitStatus()
		switch {
		case err == nil:
			return exitOf(status), nil
		case !errors.Is(err, cgroup.ErrNotReaped):
			return Exit{}, ErrNotParent
		}
		pause(ctx, wait)
	}
	return Exit{}, ErrNotParent
}

// reapPatience bounds the pauses, twice as long each time, in which the parent of a process that has ended may wait for it.
const reapPatience = 2 * time.Second

func exitOf(status unix.WaitStatus) Exit {
	if status.Signaled() {
		return Exit{Signal: status.Signal(), Via: "pidfd"}
	}
	return Exit{Code: status.ExitStatus(), Via: "pidfd"}
}

// abandonedIntent is the intent to end a run whose owner is gone.
func abandonedIntent(c Clock, o *Owner) Intent {
	i := NewIntent(c, events.ReasonAbandoned, "lictor", nil, unix.SIGTERM)
	i.Owner = &o.Process
	return i
}
