package watcher

import (
	"context"
	"errors"

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
func (s *session) watchOwner(ctx context.Context) {
	for s.Owner != nil {
		err := WaitGone(ctx, s.Owner.PID, s.Owner.StartTicks)
		if err == nil {
			s.poke(input{ownerless: true})
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.Log.Warn("owner not watched", logRun, s.Run.Run, logPID, s.Owner.PID, logError, err)
		pause(ctx, waitRetry)
	}
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

// abandonedIntent is the intent to end a run whose owner is gone.
func abandonedIntent(c Clock, o *Owner) Intent {
	i := NewIntent(c, events.ReasonAbandoned, "lictor", nil, unix.SIGTERM)
	i.Owner = &o.Process
	return i
}
