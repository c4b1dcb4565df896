package watcher

import (
	"context"
	"errors"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
	"golang.org/x/sys/unix"
)

// next does what is due and says when to come again (0: when something happens) and whether the run is over.
func (s *session) next(ctx context.Context) (wake time.Duration, over bool) {
	if s.enforcer == nil || !s.enforcer.Active() {
		if !s.gone {
			return s.nextAlive(ctx), false
		}
		if populated, err := s.Box.Ledger.Populated(); errors.Is(err, cgroup.ErrGone) || err == nil && !populated {
			return 0, true
		}
		if wake := s.patience(); wake > s.Clock.Boottime() {
			return wake, false
		}
		if !s.takeUp() {
			s.enforcer = s.newEnforcer()
			s.enforcer.Begin(ctx, s.enforcer.OrphanIntent(ctx), s.Grace)
		}
	}
	wake, over = s.enforcer.Step(ctx)
	switch {
	case over || s.poll == 0:
	case s.enforcer.Phase() == PhaseSurvived:
		wake = soonest(wake, s.Clock.Boottime()+s.poll)
	default:
		wake = soonest(wake, s.Clock.Boottime()+emptyPoll)
	}
	return wake, over
}

// takeUp goes on with an ending whose author is gone: a lictor stop that was interrupted or that would not wait any longer for
// processes that hang in the kernel, or an earlier keeper.
func (s *session) takeUp() bool {
	s.takeUpAt = s.Clock.Boottime()
	intents, err := ReadIntents(s.Box.Ledger)
	if err != nil && !errors.Is(err, cgroup.ErrGone) {
		s.Log.Warn("intents not read", logRun, s.Run.Run, logError, err)
	}
	i, found := Unfinished(intents)
	if found {
		s.enforcer = s.newEnforcer()
		s.enforcer.Resume(i)
	}
	return found
}

// nextAlive is next while the main process lives.
func (s *session) nextAlive(ctx context.Context) (wake time.Duration) {
	if s.suspect != 0 {
		wake = soonest(wake, s.nextDoubt())
	}
	if s.poll > 0 {
		wake = soonest(wake, s.Clock.Boottime()+s.poll)
	}
	if !s.startTold && !s.TakenOver {
		wake = soonest(wake, s.Started+startAfter)
	}
	if s.LookEvery > 0 {
		wake = soonest(wake, s.Clock.Boottime()+s.LookEvery)
	}
	switch {
	case s.Clock.Boottime() >= s.takeUpAt+takeUpEvery && s.takeUp():
		step, _ := s.enforcer.Step(ctx)
		wake = soonest(wake, step)
	case s.Ending != nil:
		wake = soonest(wake, s.end(ctx, *s.Ending))
	case s.overdue:
		wake = soonest(wake, s.enforceDeadline(ctx))
	case s.ownerless:
		wake = soonest(wake, s.end(ctx, abandonedIntent(s.Clock, s.Owner)))
	case s.RuntimeMax > 0:
		wake = soonest(wake, s.limit())
	}
	return wake
}

// end begins to end the run.
func (s *session) end(ctx context.Context, i Intent) (wake time.Duration) {
	s.enforcer = s.newEnforcer()
	s.enforcer.Begin(ctx, i, s.Grace)
	wake, _ = s.enforcer.Step(ctx)
	return wake
}

// nextDoubt is when to look again whether the main process outlives a kill. One that is dying gets another moment.
func (s *session) nextDoubt() time.Duration {
	return max(s.suspect+s.doubt(s.counters.Since(s.alive)), s.Clock.Boottime()+confirmAfter/4)
}

// enforceDeadline is the second line: RuntimeMaxSec has passed and the run still lives. Where systemd is at it, it gets the
// time that it needs; where it is not (its timer was lost, the scope abandoned), we do it.
func (s *session) enforceDeadline(ctx context.Context) (wake time.Duration) {
	if s.systemdIsStopping() {
		limit := s.Started + s.RuntimeMax + s.Grace + 2*deadlineSlack
		if s.Clock.Boottime() < limit {
			return limit
		}
	} else if st, err := s.Target.UnitState(ctx); err == nil && st.ActiveState == "deactivating" {
		s.unitChanged(st)
		return s.enforceDeadline(ctx)
	}
	return s.end(ctx, NewIntent(s.Clock, events.ReasonTimeout, "lictor", nil, unix.SIGTERM))
}

// patience is until when processes that outlive the main process are left to themselves: those that somebody is ending
// already get the time that this takes, others a moment.
func (s *session) patience() time.Duration {
	switch {
	case s.systemdIsStopping() || s.pastLimit():
		return s.goneAt + s.Grace + deadlineSlack
	case s.counters.Since(s.alive).OOMGroupKill > 0:
		return s.goneAt + dying
	}
	return s.goneAt + settle
}

// pastLimit: systemd sends SIGTERM at the limit, so a main process that ended after it was most likely told to.
func (s *session) pastLimit() bool {
	return s.RuntimeMax > 0 && s.goneAt >= s.Started+s.RuntimeMax-clockSlack
}

func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
