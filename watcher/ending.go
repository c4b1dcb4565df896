package watcher

import (
	"errors"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
)

// next does what is due and says when to come again (0: when something happens) and whether the run is over.
func (s *session) next() (wake time.Duration, over bool) {
	if s.enforcer == nil || !s.enforcer.Active() {
		if !s.gone {
			return s.nextAlive(), false
		}
		if populated, err := s.Box.Ledger.Populated(); errors.Is(err, cgroup.ErrGone) || err == nil && !populated {
			return 0, true
		}
		if wake := s.patience(); wake > s.Clock.Boottime() {
			return wake, false
		}
		s.beginOrphans()
	}
	wake, over = s.enforcer.Step(s.ctx)
	if over && s.orphans != nil {
		s.recordOrphans()
	}
	if !over && s.poll > 0 {
		wake = soonest(wake, s.Clock.Boottime()+emptyPoll)
	}
	return wake, over
}

// nextAlive is next while the main process lives.
func (s *session) nextAlive() (wake time.Duration) {
	if s.suspect != 0 {
		wake = soonest(wake, s.suspect+confirmAfter)
	}
	if s.poll > 0 {
		wake = soonest(wake, s.Clock.Boottime()+s.poll)
	}
	if s.overdue {
		wake = soonest(wake, s.enforceDeadline())
	}
	return wake
}

// enforceDeadline is the second line: RuntimeMaxSec has passed and the run still lives. Where systemd is at it, it gets the
// time that it needs; where it is not (its timer was lost, the scope abandoned), we do it.
func (s *session) enforceDeadline() (wake time.Duration) {
	if s.systemdIsStopping() {
		limit := s.Started + s.RuntimeMax + s.Grace + 2*deadlineSlack
		if s.Clock.Boottime() < limit {
			return limit
		}
	} else if st, err := s.Target.UnitState(s.ctx); err == nil && st.ActiveState == "deactivating" {
		s.unitChanged(st)
		return s.enforceDeadline()
	}
	s.enforcer = s.newEnforcer()
	s.enforcer.Begin(s.ctx, events.ReasonTimeout, "lictor", nil, s.Grace)
	wake, _ = s.enforcer.Step(s.ctx)
	return wake
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

// beginOrphans starts to end what the main process left behind.
func (s *session) beginOrphans() {
	pids, err := s.Box.Ledger.AllProcs()
	if err != nil {
		s.Log.Warn("left-over processes not listed", logRun, s.Run.Run, logError, err)
	}
	s.orphans = s.Processes.Describe(s.ctx, pids)
	if s.orphans == nil {
		s.orphans = []events.Process{}
	}
	s.enforcer = s.newEnforcer()
	s.enforcer.Begin(s.ctx, events.ReasonOrphan, "lictor", nil, s.Grace)
}

// recordOrphans writes one event with every left-over process and what became of it.
func (s *session) recordOrphans() {
	survivors, _ := s.Box.Ledger.AllProcs()
	list := outcomes(s.orphans, s.enforcer.term, s.enforcer.kill, survivors)
	s.orphans = nil
	if len(list) == 0 {
		return // they had gone by themselves before anybody was signalled
	}
	s.incident(events.KindOrphans, s.Clock.Now(), func(e *events.Event) {
		e.Reason = events.ReasonOrphan
		e.PID = &list[0].PID
		e.Detail = detail(events.OrphansDetail{Processes: list})
	})
}

// outcomes says of each process that was signalled how it ended; those that nobody signalled are left out, those that
// appeared meanwhile (a fork during the grace) are added by pid alone.
func outcomes(seen []events.Process, term, kill, survivors []int) []events.Process {
	how := map[int]string{}
	for _, pid := range term {
		how[pid] = "term"
	}
	for _, pid := range kill {
		how[pid] = "kill"
	}
	for _, pid := range survivors {
		how[pid] = "survived"
	}
	list := []events.Process{}
	for _, p := range seen {
		if o, ok := how[p.PID]; ok {
			p.Outcome = o
			list = append(list, p)
			delete(how, p.PID)
		}
	}
	for _, pids := range [][]int{term, kill, survivors} {
		for _, pid := range pids {
			if o, ok := how[pid]; ok {
				list = append(list, events.Process{PID: pid, Outcome: o})
				delete(how, pid)
			}
		}
	}
	return list
}

func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
