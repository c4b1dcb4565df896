package watcher

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
)

// leaderEnd is what the parent of the main process was told.
type leaderEnd struct {
	exit Exit
	err  error
}

// session is one Keep under way. One goroutine runs loop and owns everything here; unitChanged is called from the
// connection to systemd and touches what mu guards.
type session struct {
	*Keeper

	left    chan leaderEnd // one value
	notices chan []Notice
	due     chan struct{} // one value: the deadline
	unit    chan struct{} // room for one: something about the unit changed

	ownerless chan struct{} // one value: the owner has ended
	poll      time.Duration // pause between looks without notifications; 0 with

	counters Counters
	alive    Counters      // counters that the main process is known to have survived
	suspect  time.Duration // when an out-of-memory kill was seen that it may not survive; 0 is none
	fork     bool          // a tasks-limit event is on record
	gone     bool          // the main process has ended
	goneAt   time.Duration // when we were told
	exit     *Exit         // nil if its parent cannot say
	enforcer *Enforcer
	overdue  bool // RuntimeMax and its slack have passed
	orphaned bool // the owner has ended

	mu           sync.Mutex
	deactivating time.Duration
	stopJob      bool
	steps        []events.Step
}

// loop returns when nobody of the run is left, or when what is left survives everything.
func (s *session) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	left := s.left
	for {
		select {
		case end := <-left:
			left = nil
			s.leaderEnded(end)
		case <-s.notices:
			s.look(ctx)
		case <-s.unit:
		case <-s.due:
			s.overdue = true
		case <-s.ownerless:
			s.orphaned = true
		case <-timer.C:
			s.look(ctx)
		case <-ctx.Done():
			return
		}
		wake, over := s.next(ctx)
		if over {
			s.reaped(left)
			return
		}
		timer.Stop()
		if wake > 0 {
			timer.Reset(max(time.Millisecond, wake-s.Clock.Boottime()))
		}
	}
}

// reaped waits for the exit status of a main process that has left its cgroup: its parent is told a moment later.
func (s *session) reaped(left <-chan leaderEnd) {
	if left == nil {
		return
	}
	t := time.NewTimer(dying)
	defer t.Stop()
	select {
	case end := <-left:
		s.leaderEnded(end)
	case <-t.C:
	}
}

func (s *session) leaderEnded(end leaderEnd) {
	s.gone, s.goneAt = true, s.Clock.Boottime()
	if end.err != nil {
		s.Log.Warn("exit status unknown", logRun, s.Run.Run, logError, end.err)
		return
	}
	s.exit = &end.exit
	err := Last{Exit: end.exit, Boottime: s.goneAt, Alive: s.alive}.mark(s.Box.Ledger)
	if err != nil && !errors.Is(err, cgroup.ErrGone) {
		s.Log.Warn("exit status not written to the ledger", logRun, s.Run.Run, logError, err)
	}
}

// look reads the counters and records what is new.
func (s *session) look(ctx context.Context) {
	c, err := readCounters(s.Box, s.counters)
	if err != nil {
		if !errors.Is(err, cgroup.ErrGone) {
			s.Log.Warn("counters not read", logRun, s.Run.Run, logError, err)
		}
		return
	}
	s.counters = c
	s.lookAtLimits(ctx)
	if c.PidsMax > 0 && !s.fork {
		s.fork = true
		s.incident(ctx, events.KindTasksLimit, s.Clock.Now(), func(e *events.Event) {
			e.Detail = detail(map[string]any{"forks_refused": c.PidsMax, "tasks_max": s.Run.Limits.TasksMax})
		})
	}
	if !s.gone {
		s.survived(ctx, c)
	}
}

// survived decides whether the main process has outlived the out-of-memory kills counted so far. It has if it is still
// there, with no SIGKILL on its way, some time after they were counted. The kernel counts in three steps, oom when the limit is
// hit, oom_kill when a victim is chosen, then the signal, so a look in between must not take the first for something past.
func (s *session) survived(ctx context.Context, c Counters) {
	since := c.Since(s.alive)
	if since.OOMKill == 0 && since.OOM == 0 {
		s.alive, s.suspect = c, 0
		return
	}
	now := s.Clock.Boottime()
	if s.suspect == 0 {
		s.suspect = now
	}
	if now < s.suspect+s.doubt(since) || isDying(s.LeaderPID) {
		return
	}
	if since.OOMKill > 0 {
		s.oomIncident(ctx)
	}
	s.alive, s.suspect = c, 0
}

// doubt is how long the main process must live on until what was counted is past. A limit that was hit without a kill so far
// may have one yet.
func (s *session) doubt(since Counters) time.Duration {
	if since.OOMKill == 0 {
		return dying
	}
	return confirmAfter
}

// oomIncident records out-of-memory kills that the main process survived.
func (s *session) oomIncident(ctx context.Context) {
	e := s.evidence()
	s.consultKernel(ctx, &e)
	if e.Ledger.Since(e.Alive).OOM == 0 {
		e.Ancestors = s.ancestors()
	}
	s.told += len(e.Kills)
	s.incident(ctx, events.KindOOM, s.Clock.Now(), func(ev *events.Event) { fillOOM(ev, e, false) })
}

// fillOOM describes the out-of-memory kills since e.Alive.
func fillOOM(ev *events.Event, e Evidence, terminal bool) {
	since := e.Ledger.Since(e.Alive)
	whose := e.whoseLimit(since)
	ev.Reason = oomReasons[whose]
	e.Earlier = nil
	victims := e.victims(terminal)
	if len(victims) > 0 {
		ev.PID, ev.MemoryBytes = &victims[0].PID, victims[0].RSSAnonBytes
	}
	ev.Detail = detail(events.OOMDetail{Kills: since.OOMKill, GroupKills: since.OOMGroupKill, WhoseLimit: whose,
		Victims: victims, Terminal: terminal})
}

// incident appends an event of the living run.
func (s *session) incident(ctx context.Context, kind events.Kind, at time.Time, fill func(*events.Event)) {
	enf := s.newEnforcer()
	enf.record(ctx, kind, func(n int) events.Event {
		ev := events.NewEvent(s.Run, kind, n, at)
		fill(&ev)
		return ev
	})
}

func (s *session) newEnforcer() *Enforcer {
	return &Enforcer{Run: s.Run, Ledger: s.Box.Ledger, Recorder: s.Recorder, Processes: s.Processes, Clock: s.Clock, Log: s.Log}
}

// unitChanged is told by systemd, in order.
func (s *session) unitChanged(u UnitState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopJob = s.stopJob || u.StopJob
	now := s.Clock.Now().UTC()
	if u.ActiveState == "deactivating" && s.deactivating == 0 {
		s.deactivating = s.Clock.Boottime()
	}
	switch u.SubState {
	case "stop-sigterm":
		s.addStep(events.Step{Step: "term", At: now, By: "systemd"})
	case "stop-sigkill":
		s.addStep(events.Step{Step: "kill", At: now, By: "systemd"})
	}
	select {
	case s.unit <- struct{}{}:
	default:
	}
}

// addStep keeps the first of each kind of step by each actor. mu is held.
func (s *session) addStep(st events.Step) {
	for _, have := range s.steps {
		if have.Step == st.Step && have.By == st.By {
			return
		}
	}
	s.steps = append(s.steps, st)
}

func (s *session) systemdIsStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deactivating != 0 || s.stopJob
}

// evidence is what the session itself knows.
func (s *session) evidence() Evidence {
	e := Evidence{LeaderPID: s.LeaderPID, Comm: s.Comm, LedgerPath: s.Box.Ledger.Path(), Started: s.Started,
		RuntimeMax: s.RuntimeMax, Exit: s.exit, LeaderAt: s.goneAt, Ledger: s.counters, Alive: s.alive}
	s.seen(&e)
	if s.needsNoUnit() {
		e.UnitErr = errNotAsked
	}
	return e
}

// atOnce is the age up to which an exit by itself is not looked into: nobody stops a run that young.
const atOnce = 200 * time.Millisecond

// needsNoUnit: asking systemd costs two round trips, which a short run should not pay.
func (s *session) needsNoUnit() bool {
	return s.exit != nil && s.exit.Signal == 0 && s.goneAt < s.Started+atOnce && !s.pastLimit() && !s.systemdIsStopping()
}

// seen adds what systemd has said so far.
func (s *session) seen(e *Evidence) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.Deactivating = s.deactivating
	e.Unit.StopJob = e.Unit.StopJob || s.stopJob
}

func (s *session) seenSteps() []events.Step {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.steps)
}
