package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
	"golang.org/x/sys/unix"
)

// maxUnlaunched is the age after which a ledger without facts belongs to nobody: its launcher died before it came so far,
// and no launch takes that long.
const maxUnlaunched = 2 * time.Minute

// settleAtEnd is how many other runs a launcher looks at when its own is over. Others do the rest.
const settleAtEnd = 16

// settler finishes the runs whose keeper has died. Its methods may be called from several goroutines.
type settler struct {
	app      *App
	launcher *scope.Launcher
	act      bool                     // end what is still alive, too
	report   func(string)             // what was done, for people; nil: nobody asks
	wrote    func(*events.Run, error) // is told of every write to a store; may be nil

	only scope.RunID // look for strays of this run only; "" is all

	sweeping sync.Mutex // guards the next two
	sweep    *watcher.Sweep
	judged   map[watcher.Identity]bool // strays that were looked into

	mu   sync.Mutex
	tell map[string]*telling // by path of the store, opened when needed; "" is the own one
}

// did says what was done.
func (s *settler) did(format string, args ...any) {
	if s.report != nil {
		s.report(fmt.Sprintf(format, args...))
	}
}

// settleAll is App.Settle: what a listing does first.
func settleAll(ctx context.Context, a *App) error {
	if a.Mode() == ModeSystem && a.UID != 0 {
		return nil // only root can, and does when it looks
	}
	l, err := scope.NewLauncher(scope.Manager(a.Mode()))
	if err != nil {
		return nil // no cgroup v2: nothing can be alive, and the store alone speaks
	}
	defer l.Disconnect()
	s := a.newSettler(l)
	defer s.close()
	return s.all(ctx, 0)
}

// settleOthers looks at some other runs when the own one is over.
func (k *keeping) settleOthers(ctx context.Context) {
	s := k.app.newSettler(k.launcher)
	defer s.close()
	if err := s.ledgers(ctx, settleAtEnd); err != nil {
		k.log.Debug("other runs not settled", "error", err)
	}
}

func (a *App) newSettler(l *scope.Launcher) *settler {
	return &settler{app: a, launcher: l, tell: map[string]*telling{}, judged: map[watcher.Identity]bool{}}
}

func (s *settler) close() {
	for _, t := range s.tell {
		t.close()
	}
}

// recorder opens a store, once. Runs of another store than the own one are finished there; if that cannot be opened any
// more, in the own one.
func (s *settler) recorder(path string) (*recorder, error) {
	if own, err := s.app.StorePath(); err == nil && path == own {
		path = ""
	}
	if _, err := os.Stat(path); path != "" && err != nil {
		path = ""
	}
	s.mu.Lock()
	t := s.tell[path]
	if t == nil {
		t = s.app.startTelling(path, s.wrote)
		s.tell[path] = t
	}
	s.mu.Unlock()
	rec, err := t.recorder()
	if err != nil { // it may open the next time
		s.mu.Lock()
		if s.tell[path] == t {
			delete(s.tell, path)
		}
		s.mu.Unlock()
	}
	return rec, err
}

// all looks at every ledger, then at the runs on record as alive that have none.
func (s *settler) all(ctx context.Context, limit int) error {
	return errors.Join(s.ledgers(ctx, limit), s.lost(ctx), s.forgetFailed(ctx))
}

// forgetFailed completes releases whose author died in their middle. It asks systemd, so only those do it that act anyway.
func (s *settler) forgetFailed(ctx context.Context) error {
	if !s.act {
		return nil
	}
	runs, err := s.launcher.ForgetFailed(ctx)
	for _, run := range runs {
		s.did("released the failed scope of %s", run)
	}
	return err
}

// ledgers looks at up to limit ledgers; 0 is all.
func (s *settler) ledgers(ctx context.Context, limit int) error {
	runs, err := s.launcher.Ledgers()
	if err != nil {
		return err
	}
	if limit > 0 && len(runs) > limit {
		runs = runs[:limit]
	}
	var errs []error
	for _, run := range runs {
		if err := s.ledger(ctx, run); err != nil && !errors.Is(err, cgroup.ErrGone) {
			errs = append(errs, fmt.Errorf("run %s: %w", run, err))
		}
	}
	return errors.Join(errs...)
}

// ledger looks at one run.
func (s *settler) ledger(ctx context.Context, id scope.RunID) error {
	led, err := s.launcher.Ledger(id)
	if err != nil {
		return err
	}
	defer led.Group.Close()
	if led.HasFacts && led.Keeper.Alive() {
		return nil
	}
	populated, err := led.Group.Populated()
	if err != nil {
		return err
	}
	switch {
	case populated && !s.act:
		return nil
	case !led.HasFacts:
		return s.unlaunched(ctx, led, populated)
	}
	return s.finish(ctx, led, populated, nil)
}

// unlaunched releases a ledger whose launch was never finished. Its process, if there is one, waits at the barrier and ends
// by itself when its launcher does.
func (s *settler) unlaunched(ctx context.Context, led *scope.Ledger, populated bool) error {
	made, err := led.Group.ModTime()
	if err != nil || populated || time.Since(made) < maxUnlaunched {
		return err
	}
	s.did("released the units of %s, whose launch was never finished", led.Run)
	return s.launcher.Release(ctx, led.Run, true)
}

// finish ends what is left of a run whose keeper is gone, if it may, and completes its record.
// What the parent of its main process says about how that ended may be nil.
func (s *settler) finish(ctx context.Context, led *scope.Ledger, populated bool, exit *watcher.Exit) error {
	k, rec, err := s.keeping(ctx, led)
	if err != nil {
		return err
	}
	defer k.closeKernel()
	if k.run.State.Final() { // its keeper died between record and release
		if populated {
			return nil // somebody has moved in since
		}
		if err := rec.Again(ctx, k.run, time.Time{}); err != nil {
			return err
		}
		s.did("released %s", led.Run)
		return s.launcher.Release(ctx, led.Run, true)
	}
	w := k.keeper(rec, led.Run, watcher.Box{Ledger: led.Group, Ancestors: led.Facts.Ancestors})
	w.Started, w.Grace, w.Exit = led.Facts.Started, led.Facts.Grace, exit
	if d := led.Facts.Deadline; d != nil {
		w.RuntimeMax = *d - led.Facts.Started
	}
	if populated {
		intents, err := watcher.ReadIntents(led.Group)
		if err != nil {
			return err
		}
		begun, found := watcher.Unfinished(intents)
		if !found && livesOn(led) {
			return nil
		}
		if err := s.end(ctx, led, k, w, begun); err != nil {
			return err
		}
	}
	run, err := w.Finish(ctx)
	if err == nil {
		s.did("finished the record of %s", run.Summary())
	}
	return err
}

// livesOn reports whether a run whose keeper is gone is to be left alone: it is within its time, and its owner lives or is
// not needed.
func livesOn(led *scope.Ledger) bool {
	f := led.Facts
	return f.Leader.Alive() && (f.Deadline == nil || cgroup.Boottime() <= *f.Deadline) &&
		(f.OwnerExit == scope.OwnerKeep || f.Owner != led.Keeper && f.Owner.Alive())
}

// end terminates a run that nobody keeps any more: abandoned or overdue, or left-overs of one whose main process is gone. What
// somebody has begun to that end and left unfinished goes on.
func (s *settler) end(ctx context.Context, led *scope.Ledger, k *keeping, w *watcher.Keeper, intent watcher.Intent) error {
	self, err := scope.Self()
	if err != nil {
		return err
	}
	if err := scope.WriteKeeper(led.Group, self); err != nil {
		return err
	}
	e := &watcher.Enforcer{Run: k.run, Ledger: led.Group, Recorder: w.Recorder, Processes: w.Processes,
		Clock: watcher.SystemClock, Log: k.log}
	if intent.Reason != events.ReasonNone {
		e.Resume(intent)
	} else {
		intent = endingOf(ctx, led, e)
		e.Begin(ctx, intent, led.Facts.Grace)
	}
	if phase := e.End(ctx); phase != watcher.PhaseEmpty {
		return fmt.Errorf("SIGKILL was sent, and these hang in the kernel: %s", processes(e.Survivors()))
	}
	s.did("ended what was left of %s (%s)", led.Run, intent.Reason)
	return nil
}

// endingOf is why a run that nobody keeps any more is ended.
func endingOf(ctx context.Context, led *scope.Ledger, e *watcher.Enforcer) watcher.Intent {
	intent := watcher.NewIntent(watcher.SystemClock, events.ReasonAbandoned, "lictor", nil, unix.SIGTERM)
	intent.Owner = &events.Process{PID: led.Facts.Owner.PID}
	switch d := led.Facts.Deadline; {
	case !led.Facts.Leader.Alive():
		return e.OrphanIntent(ctx)
	case d != nil && cgroup.Boottime() > *d:
		intent.Reason = events.ReasonTimeout
	}
	return intent
}

// keeping takes a run over, with the kernel log as far as it goes back.
func (s *settler) keeping(ctx context.Context, led *scope.Ledger) (*keeping, *recorder, error) {
	k, rec, err := s.begun(ctx, led)
	if err == nil {
		k.kernel, k.kernelNo = watcher.OpenKernelLogSince(led.Facts.Started)
	}
	return k, rec, err
}

// untold is how far back the events of a run go of which its last keeper may not have told journald.
const untold = 5 * time.Minute

// begun finds the record of a run in the store, or makes it from its ledger if the store has none.
func (s *settler) begun(ctx context.Context, led *scope.Ledger) (*keeping, *recorder, error) {
	rec, err := s.recorder(led.Facts.Store)
	if err != nil {
		return nil, nil, err
	}
	log := s.app.logger()
	run, err := rec.store.Run(ctx, events.RunID(led.Run))
	if err != nil {
		run = runOfFacts(led, string(s.app.Mode()))
	}
	if err != nil && !errors.Is(err, events.ErrNotFound) { // a disk that fails must not keep a run-away alive
		log.Warn("record not read, the ledger has to do", "run", led.Run, "error", err)
		rec = &recorder{Recorder: rec.Recorder, store: rec.store, fromLedger: true}
	}
	if !run.State.Final() {
		if err := s.begin(ctx, rec, run); err != nil {
			log.Warn("record not begun", "run", led.Run, "error", err)
		}
	}
	return &keeping{app: s.app, launcher: s.launcher, run: run, log: log}, rec, nil
}

// begin has the store know of a run that is taken over, if that is to be had in time, and journald what its last keeper may not have
// told.
func (s *settler) begin(ctx context.Context, rec *recorder, run *events.Run) error {
	ctx, cancel := context.WithTimeout(ctx, beginPatience)
	defer cancel()
	return errors.Join(rec.Begin(ctx, run), rec.Again(ctx, run, s.app.Now().Add(-untold)))
}

// beginPatience bounds the wait for the store when a run is taken over: somebody has to look after it.
const beginPatience = 5 * time.Second

func (k *keeping) closeKernel() {
	if k.kernel != nil {
		_ = k.kernel.Close()
		k.kernel = nil
	}
}

// runOfFacts is the record of a run that no store of ours knows.
func runOfFacts(led *scope.Ledger, manager string) *events.Run {
	f := led.Facts
	pid := f.Leader.PID
	run := &events.Run{API: events.API, Run: events.RunID(f.Run), AnalysisID: f.AnalysisID, Unit: f.Run.Scope(),
		BootID: f.BootID, Manager: manager, UID: f.UID, Adopted: f.Adopted, Command: f.Command, LeaderPID: &pid, State: events.StateRunning,
		StartedAt: f.StartedAt, Degraded: f.Degraded, Keeper: events.Keeper{PID: led.Keeper.PID, StartTicks: led.Keeper.StartTicks}}
	run.Limits = limitsOf(f, events.Limits{GraceSeconds: f.Grace.Seconds(), OOMPolicy: string(f.OOMPolicy)})
	if f.Deadline != nil {
		s := (*f.Deadline - f.Started).Seconds()
		run.Limits.RuntimeMaxSeconds = &s
	}
	return run
}

func finite(n uint64) *uint64 {
	if n == scope.NoLimit {
		return nil
	}
	return &n
}

// lost ends the records of runs that are on record as alive but have no ledger: the host went down, or somebody else
// removed their units. Nobody can know any more how they ended.
func (s *settler) lost(ctx context.Context) error {
	store, err := s.app.OpenReader()
	if err != nil {
		return err
	}
	defer store.Close()
	live, err := store.LiveIDs(ctx)
	if err != nil || len(live) == 0 {
		return err
	}
	ledgers, err := s.launcher.Ledgers() // after the records: a run has its record before its ledger
	if err != nil {
		return err
	}
	boot, err := cgroup.BootID()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range without(live, ledgers) {
		run, err := store.Run(ctx, id)
		if errors.Is(err, events.ErrNotFound) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
		} else if why := s.whyLost(run, boot); why != "" && !run.State.Final() {
			errs = append(errs, s.loseRun(ctx, run, why))
		}
	}
	return errors.Join(errs...)
}

// without are the live runs that have no ledger: few as a rule, so that the records of a thousand are not read for them.
func without(live []events.RunID, ledgers []scope.RunID) []events.RunID {
	there := make(map[events.RunID]bool, len(ledgers))
	for _, id := range ledgers {
		there[events.RunID(id)] = true
	}
	return slices.DeleteFunc(live, func(id events.RunID) bool { return there[id] })
}

// whyLost says why a run cannot be finished from evidence, or "" if it can or is alive.
func (s *settler) whyLost(run *events.Run, boot string) string {
	if run.BootID != boot {
		return "the host went down while it ran"
	}
	if (scope.ProcessID{PID: run.Keeper.PID, StartTicks: run.Keeper.StartTicks}).Alive() {
		return ""
	}
	led, err := s.launcher.Ledger(scope.RunID(run.Run))
	switch {
	case err == nil:
		led.Group.Close()
		return ""
	case errors.Is(err, cgroup.ErrGone):
		return "its ledger was removed before its end was on record"
	}
	return ""
}

func (s *settler) loseRun(ctx context.Context, run *events.Run, why string) error {
	rec, err := s.recorder("")
	if err != nil {
		return err
	}
	run.State, run.By, run.Exit = events.StateLost, "unknown", &events.Exit{Kind: events.ExitUnknown}
	run.Evidence = []events.Evidence{{Source: "ledger", Why: why}}
	ev := events.NewEvent(run, events.KindEnded, 0, s.app.Now())
	ev.State = run.State
	if err := rec.End(ctx, run, ev); err != nil && !errors.Is(err, events.ErrAlreadyEnded) {
		return err
	}
	s.did("lost %s: %s", run.Run, why)
	return nil
}
