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

// input is what has happened to a run since its last turn.
type input struct {
	end       *leaderEnd
	look      bool // something changed, or the time has come
	memory    bool // memory.events changed, which may say no more than that the limit was touched again
	tasks     bool // the same of pids.events
	unit      bool // systemd said something about it
	ownerless bool // the owner has ended
}

func (in input) empty() bool { return in == input{} }

func (in input) and(more input) input {
	if more.end != nil {
		in.end = more.end
	}
	in.look, in.unit, in.ownerless = in.look || more.look, in.unit || more.unit, in.ownerless || more.ownerless
	in.memory, in.tasks = in.memory || more.memory, in.tasks || more.tasks
	return in
}

// countersOnly reports whether nothing is known to have happened but that counters changed.
func (in input) countersOnly() bool {
	in.memory, in.tasks = false, false
	return in.empty()
}

// session is one run under way. Turns are taken one at a time, and own everything here; unitChanged is called from the
// connection to systemd and touches what mu guards.
type session struct {
	*Keeper

	poke func(input)   // asks for a turn
	poll time.Duration // pause between looks without notifications; 0 with

	wake     time.Duration // when the last turn wanted the next one
	counters Counters
	alive    Counters      // counters that the main process is known to have survived
	suspect  time.Duration // when an out-of-memory kill was seen that it may not survive; 0 is none
	fork     bool          // a tasks-limit event is on record
	gone     bool          // the main process has ended
	goneAt   time.Duration // when we were told
	exit     *Exit         // nil if its parent cannot say
	enforcer *Enforcer
	overdue  bool          // RuntimeMax and its slack have passed
	takeUpAt time.Duration // when it was last looked for endings that somebody has left unfinished

	ownerless bool
	startTold bool          // the started event is on record
	emptyAt   time.Duration // when the run was found empty without an exit status; 0 is not yet

	forsaken bool // systemd was found to take the run for ended while it runs

	mu           sync.Mutex
	inactive     bool // the unit is inactive or failed
	deactivating time.Duration
	stopJob      bool
	steps        []events.Step
}

// isEnding reports whether the run is in its grace: we or systemd have begun to end it.
func (s *session) isEnding() bool {
	if s.enforcer != nil && s.enforcer.Active() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deactivating != 0 && !s.inactive
}

// resume takes over what an earlier keeper of the run has seen.
func (s *session) resume(ctx context.Context) {
	if !s.TakenOver {
		s.takeUpAt = s.Clock.Boottime() // nobody can have left anything yet
		return
	}
	s.alive = s.recorded(ctx)
	last, err := readLast(s.Box.Ledger)
	if err != nil {
		s.Log.Warn("exit status not read from the ledger", logRun, s.Run.Run, logError, err)
	}
	switch {
	case last != nil:
		s.gone, s.goneAt, s.exit, s.alive = true, last.Boottime, &last.Exit, last.Alive
	case s.LeaderGone:
		s.gone, s.goneAt = true, s.Clock.Boottime()
	}
}

// turn does what is due after in, and says when to come again (0: when something happens) and whether the run is over: nobody
// of it is left, or what is left survives everything.
func (s *session) turn(ctx context.Context, in input) (wake time.Duration, over bool) {
	if in.countersOnly() && s.onlyTouched(in) {
		return s.wake, false
	}
	s.wake, over = s.wholeTurn(ctx, in)
	return s.wake, over
}

func (s *session) wholeTurn(ctx context.Context, in input) (wake time.Duration, over bool) {
	if in.end != nil {
		s.leaderEnded(*in.end)
	}
	s.ownerless = s.ownerless || in.ownerless
	s.overdue = s.RuntimeMax > 0 && s.Clock.Boottime() >= s.limit()
	if in.look || in.memory || in.tasks {
		s.look(ctx)
	}
	s.recordStart(ctx)
	s.noticeForsaken()
	if wake, over = s.next(ctx); over && !s.gone {
		return s.awaitExit()
	}
	s.emptyAt = 0
	return wake, over
}

// limit is when the keeper looks whether systemd has ended a run at its RuntimeMax.
func (s *session) limit() time.Duration { return s.Started + s.RuntimeMax + deadlineSlack }

// awaitExit gives the exit status of a main process that has left its cgroup a moment to arrive: its parent is told later.
func (s *session) awaitExit() (wake time.Duration, over bool) {
	now := s.Clock.Boottime()
	if s.emptyAt == 0 {
		s.emptyAt = now
	}
	return s.emptyAt + dying, now >= s.emptyAt+dying
}

// recordStart writes that the run was let go, once it is old enough for that.
func (s *session) recordStart(ctx context.Context) {
	if s.startTold || s.TakenOver || s.Clock.Boottime() < s.Started+startAfter {
		return
	}
	s.startTold = true
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	if err := s.Recorder.Append(ctx, startedEvent(s.Run)); err != nil {
		s.Log.Warn("event not recorded", logRun, s.Run.Run, logKind, events.KindStarted, logError, err)
	}
}

func (s *session) leaderEnded(end leaderEnd) {
	if s.gone { // its last keeper knew more
		return
	}
	s.gone, s.goneAt = true, s.Clock.Boottime()
	if end.err != nil { // ErrNotParent
		return
	}
	s.exit = &end.exit
	err := Last{Exit: end.exit, Boottime: s.goneAt, Alive: s.alive}.mark(s.Box.Ledger)
	if err != nil && !errors.Is(err, cgroup.ErrGone) {
		s.Log.Warn("exit status not written to the ledger", logRun, s.Run.Run, logError, err)
	}
}

// onlyTouched reports whether nothing is new but how often a limit was touched. A run that thrashes touches it without end, and to
// find that out should cost next to nothing: one file is read, and not the forty system calls of a look.
func (s *session) onlyTouched(in input) bool {
	c := s.counters
	var err error
	if in.memory {
		c, err = readMemory(s.Box, c)
	}
	if in.tasks {
		c = readTasks(s.Box, c)
	}
	if err != nil || !touched(s.counters, c) || c.PidsMax > 0 && !s.fork {
		return false
	}
	if s.counters = c; !s.gone && s.suspect == 0 {
		s.alive = c // as after a look: nothing was counted that the main process may not survive
	}
	return true
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

// unkilled is how long a limit that was hit without a kill so far may have one yet. All kills of a machine wait for one another, and for the
// console that each is written to. Where the hit is taken for past before its kill is counted, nobody knows whose limit it was.
const unkilled = time.Minute

// doubt is how long the main process must live on until what was counted is past.
func (s *session) doubt(since Counters) time.Duration {
	if since.OOMKill == 0 {
		return unkilled
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
	if u.ActiveState != "" {
		s.inactive = u.ActiveState == "inactive" || u.ActiveState == "failed"
	}
	switch u.SubState {
	case "stop-sigterm":
		s.addStep(events.Step{Step: "term", At: now, By: "systemd"})
	case "stop-sigkill":
		s.addStep(events.Step{Step: "kill", At: now, By: "systemd"})
	}
	s.poke(input{unit: true})
}

// noticeForsaken notices a scope that is over for systemd, and its time limit with it, while processes are in it: it was empty for a
// moment, or systemd lost it (systemd#36781), or gave up killing it. The kernel's limits hold on, and the time limit is ours.
func (s *session) noticeForsaken() {
	s.mu.Lock()
	inactive := s.inactive
	s.mu.Unlock()
	if s.forsaken || s.gone || !inactive {
		return
	}
	if populated, err := s.Box.Ledger.Populated(); err != nil || !populated {
		return
	}
	s.forsaken = true
	s.Run.Degraded = append(s.Run.Degraded, "scope: over for systemd while its processes ran; lictor alone kept its time limit")
	s.Log.Warn("the scope is over for systemd while its processes run; its time limit is ours alone", logRun, s.Run.Run)
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
