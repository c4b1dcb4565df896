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

// watchOwner waits for the end of the owner. An owner that this process is itself needs no watching: whoever comes next sees
// that it is gone.
func (s *session) watchOwner(ctx context.Context) {
	if s.Owner == nil {
		return
	}
	p, err := cgroup.OpenProcess(s.Owner.PID, s.Owner.StartTicks)
	if err == nil {
		defer p.Close()
		err = p.Wait(ctx)
	}
	switch {
	case err == nil, errors.Is(err, cgroup.ErrNoProcess):
		s.ownerless <- struct{}{}
	case ctx.Err() == nil:
		s.Log.Warn("owner not watched", logRun, s.Run.Run, logPID, s.Owner.PID, logError, err)
	}
}

// abandonedIntent is the intent to end a run whose owner is gone.
func abandonedIntent(c Clock, o *Owner) Intent {
	i := NewIntent(c, events.ReasonAbandoned, "lictor", nil, unix.SIGTERM)
	i.Owner = &o.Process
	return i
}
