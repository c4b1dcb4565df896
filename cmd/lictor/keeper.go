package main

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
	"golang.org/x/sys/unix"
)

// keeping is one run in the hands of this process: launcher and keeper in one, as it is without a daemon.
type keeping struct {
	app      *App
	launcher *scope.Launcher
	run      *events.Run
	tell     *telling
	kernel   *watcher.KernelLog
	kernelNo error // why there is no kernel log
	owner    events.Process
	log      *slog.Logger
}

// newKeeping begins to open what the keeper needs, beside the launch that follows.
func (a *App) newKeeping(l *scope.Launcher, run *events.Run) *keeping {
	k := &keeping{app: a, launcher: l, run: run, tell: a.startTelling("", nil), log: a.logger()}
	l.Prepared = k.prepared
	return k
}

// launch starts the analysis. A run that could not be started but was on record already gets its end there, too.
func (k *keeping) launch(ctx context.Context, spec scope.Spec) (*scope.Scope, error) {
	if spec.Owner != (scope.ProcessID{}) {
		k.owner = watcher.NewProcessTable().Describe(ctx, []int{spec.Owner.PID})[0]
	}
	s, err := k.launcher.Launch(ctx, spec)
	if errors.Is(err, scope.ErrUnitExists) && k.app.handed == nil { // else somebody was told this id
		k.startFailed(ctx, err)
		k.closeKernel()
		spec.Run = k.app.newRunID()
		k.run.Run, k.run.Unit, k.run.LeaderPID = events.RunID(spec.Run), spec.Run.Scope(), nil
		s, err = k.launcher.Launch(ctx, spec)
	}
	if err != nil {
		k.startFailed(ctx, err)
		return nil, err
	}
	k.run.State, k.run.Degraded = events.StateRunning, s.Degraded
	return s, nil
}

// prepared writes the record of a run that is about to start, while systemd makes its units.
func (k *keeping) prepared(ctx context.Context, s *scope.Scope) error {
	begun(k.run, s)
	k.kernel, k.kernelNo = watcher.OpenKernelLog() // from here on: nothing of the run has happened yet
	rec, err := k.tell.recorder()
	if err != nil {
		return err
	}
	return rec.Begin(ctx, k.run)
}

// startFailed ends the record of a run that was begun and could not be started. If its id was somebody's before, the record is
// that one's.
func (k *keeping) startFailed(ctx context.Context, cause error) {
	rec, err := k.tell.recorder()
	if err != nil || k.run.LeaderPID == nil {
		return
	}
	if have, err := rec.store.Run(ctx, k.run.Run); err == nil && have.Keeper != k.run.Keeper {
		return
	}
	code := 0
	if exec, ok := errors.AsType[*scope.ExecError](cause); ok {
		code = exec.Code()
	}
	run, ev := startFailed(k.run, k.app.Now(), cause, code)
	if err := rec.End(ctx, run, ev); err != nil && !errors.Is(err, events.ErrAlreadyEnded) {
		k.app.talk("the failed start was not recorded: %v", err)
	}
}

// startFailed is the end of a run that was begun and could not be started. Code is that of a failed execve, else 0.
func startFailed(begun *events.Run, now time.Time, cause error, code int) (*events.Run, events.Event) {
	run := *begun
	at := now.UTC()
	run.State, run.Reason, run.By, run.EndedAt = events.StateFailed, events.ReasonStartFailed, "lictor", &at
	run.Exit = &events.Exit{Kind: events.ExitUnknown}
	if code != 0 {
		run.Exit = &events.Exit{Kind: events.ExitExited, Code: &code}
	}
	run.Evidence = []events.Evidence{{Source: "launcher", Read: false, Why: cause.Error()}}
	ev := events.NewEvent(&run, events.KindEnded, 0, at)
	ev.State, ev.Reason = run.State, run.Reason
	return &run, ev
}

// keep watches the run until its end is on record.
func (k *keeping) keep(ctx context.Context, s *scope.Scope, signals *signals) (*events.Run, error) {
	rec, err := k.tell.recorder()
	if err != nil {
		return k.run, err // not reached: prepared has asked before
	}
	keeper := k.keeper(rec, s.Spec.Run, watcher.Box{Ledger: s.Ledger, Scope: s.Group, Ancestors: s.Ancestors})
	keeper.Target = target{l: k.launcher, run: s.Spec.Run, scope: s}
	if owner := s.Spec.Owner; owner != (scope.ProcessID{}) && s.Spec.OnOwnerExit != scope.OwnerKeep {
		keeper.Owner = &watcher.Owner{PID: owner.PID, StartTicks: owner.StartTicks, Process: k.owner}
	}
	keeper.LookEvery = lookEvery
	keeper.Started, keeper.Grace, keeper.RuntimeMax = s.Started, s.Spec.Grace, max(0, s.Spec.RuntimeMax)
	if st, err := cgroup.ReadStat(s.Leader.PID); err == nil {
		keeper.Comm = st.Comm
	}
	enforcer := &watcher.Enforcer{Run: k.run, Ledger: s.Ledger, Recorder: rec, Processes: keeper.Processes,
		Clock: watcher.SystemClock, Log: k.log}
	passing := signals.pass(ctx, s, enforcer)
	defer passing()
	defer k.sweepEscapes(ctx, s.Spec.Run)()
	if k.app.tune != nil {
		k.app.tune(keeper)
	}
	return keeper.Keep(ctx)
}

// lookEvery is how often a launcher looks at its run although nothing has happened, for what nothing tells of.
const lookEvery = time.Minute

// keeper is what keeping a run and finishing somebody else's have in common.
func (k *keeping) keeper(rec watcher.Recorder, run scope.RunID, box watcher.Box) *watcher.Keeper {
	fs := k.launcher.FS()
	box.LocalOOMs = func(path string) (uint64, error) { return scope.LocalOOMs(fs, path) }
	box.Limits = inForce{ledger: box.Ledger, scope: box.Scope}
	fleet := path.Dir(box.Ledger.Path())
	box.Fleet = func() (uint64, cgroup.Value, error) { return scope.FleetMemory(fs, fleet) }
	w := &watcher.Keeper{Run: k.run, Target: target{l: k.launcher, run: run}, Box: box, Recorder: rec,
		Processes: watcher.NewProcessTable(), Clock: watcher.SystemClock, Log: k.log, KernelErr: k.kernelNo,
		Advise: func(r *events.Run) *events.Advice { return story{listed: listed{Run: r}, now: k.app.Now()}.advise() }}
	w.Killers = killerJournal{run: run, fs: fs, reader: k.app.killers}
	if k.kernel != nil {
		w.Kernel = k.kernel
	}
	if k.run.LeaderPID != nil {
		w.LeaderPID = *k.run.LeaderPID
	}
	return w
}

func (k *keeping) close() {
	k.tell.close()
	if k.kernel != nil {
		_ = k.kernel.Close()
	}
	k.launcher.Disconnect()
}

// calmDown makes a launcher that waits for a long run as small and quiet as it can be: no connection to systemd's private
// socket, where every unit of the machine would wake it, and no more memory than it needs: where transparent huge pages are
// on, the kernel would fill up again what was given back (they are off for processes that would be forked later, too; none are).
func (k *keeping) calmDown() (stop func()) {
	t := time.AfterFunc(calmAfter, func() {
		k.launcher.Disconnect()
		shrink()
	})
	return func() { t.Stop() }
}

// shrink gives back what a launch needed and waiting does not.
func shrink() {
	_ = unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0)
	debug.SetGCPercent(50)
	debug.FreeOSMemory()
}

// target is a run as package watcher needs it.
type target struct {
	l     *scope.Launcher
	run   scope.RunID
	scope *scope.Scope // nil if we are not its parent
}

func (t target) Wait(ctx context.Context) (watcher.Exit, error) {
	if t.scope == nil {
		return watcher.Exit{}, watcher.ErrNotParent
	}
	x, err := t.scope.Wait(ctx)
	return watcher.Exit{Code: x.Code, Signal: x.Signal}, err
}

func (t target) UnitState(ctx context.Context) (watcher.UnitState, error) {
	st, err := t.l.UnitState(ctx, t.run)
	if errors.Is(err, scope.ErrNoUnit) {
		return watcher.UnitState{}, nil
	}
	return unitState(st, err == nil), err
}

func (t target) Monitor(ctx context.Context, fn func(watcher.UnitState)) error {
	return t.l.Monitor(ctx, t.run, func(st scope.UnitState) { fn(unitState(st, true)) })
}

func (t target) Release(ctx context.Context, mayHaveFailed bool) error {
	return t.l.Release(ctx, t.run, mayHaveFailed)
}

func unitState(st scope.UnitState, known bool) watcher.UnitState {
	return watcher.UnitState{Known: known, StopJob: st.StopJob, ActiveState: st.ActiveState, SubState: st.SubState,
		Result: st.Result}
}

// telling is a store and a journal that are being opened.
type telling struct {
	done    chan struct{}
	store   events.Store
	journal *events.Journal
	rec     *events.Recorder
	err     error
}

// journalPatience is how long a process waits at its end for a journald that does not take its last entries.
const journalPatience = time.Second

// startTelling opens the store and the journal in the background. An empty path is the own store; wrote, which may be nil, is told of
// every write.
func (a *App) startTelling(path string, wrote func(*events.Run, error)) *telling {
	t := &telling{done: make(chan struct{})}
	go func() {
		defer close(t.done)
		if path == "" {
			path, t.err = a.StorePath()
		}
		if t.err != nil {
			return
		}
		if t.store, t.err = a.openStoreAt(context.Background(), path); t.err != nil {
			return
		}
		t.journal = events.NewJournal(events.JournalOptions{})
		go func() { _ = t.journal.Run(context.Background()) }() // ends with close
		t.rec = events.NewRecorder(t.store, t.journal)
		t.rec.Wrote = wrote
	}()
	return t
}

// recorder waits until both are open.
func (t *telling) recorder() (*recorder, error) {
	<-t.done
	if t.err != nil {
		return nil, t.err
	}
	return &recorder{Recorder: t.rec, store: t.store}, nil
}

// close delivers what journald has not got yet. The store is left to the end of the process: what it has acknowledged is on
// disk, and to close it costs as much as to write a record.
func (t *telling) close() {
	<-t.done
	if t.err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), journalPatience)
	defer cancel()
	_ = t.journal.Close(ctx) // the store has it all
}

// recorder writes to store and journal and reads from the store.
type recorder struct {
	*events.Recorder
	store events.Store
	// fromLedger says that the record of the run could not be read when it was taken over.
	fromLedger bool
}

// End is events.Recorder.End. What a ledger does not tell of a run, its record may by now.
func (r *recorder) End(ctx context.Context, run *events.Run, es ...events.Event) error {
	if r.fromLedger {
		if have, err := r.store.Run(ctx, run.Run); err == nil {
			run.Name, run.Labels, run.Host, run.Cwd = have.Name, have.Labels, have.Host, have.Cwd
			run.Service, run.ServiceManager, run.Launcher = have.Service, have.ServiceManager, have.Launcher
		}
	}
	return r.Recorder.End(ctx, run, es...)
}

// logger is for what goes wrong beside the record. It is talk.
func (a *App) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: a.logLevel(slog.LevelWarn)}))
}

func (a *App) logLevel(normal slog.Level) slog.Level {
	if a.Getenv("LICTOR_DEBUG") != "" {
		return slog.LevelDebug
	}
	return normal
}

func shortID(id events.RunID) string {
	if len(id) > 8 {
		return string(id[:8])
	}
	return string(id)
}

func dirOf(path string) string {
	if strings.HasSuffix(path, "/") {
		return path
	}
	return filepath.Dir(path)
}
