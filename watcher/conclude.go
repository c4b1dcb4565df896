package watcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/scidex/lictor/events"
)

// errNotAsked is why systemd was not consulted about an end that needs no explanation.
var errNotAsked = errors.New("not asked: the main process exited by itself at once")

// Finish does what is left to do for a run whose keeper is gone and whose processes are: it reads the ledger, decides,
// records and releases. It may be called by several processes at once; one of them writes the record.
func (k *Keeper) Finish(ctx context.Context) (*events.Run, error) {
	e := Evidence{LeaderPID: k.LeaderPID, Comm: k.Comm, LedgerPath: k.Box.Ledger.Path(), Started: k.Started,
		RuntimeMax: k.RuntimeMax, Alive: k.recorded(ctx)}
	last, err := readLast(k.Box.Ledger)
	if err != nil {
		k.Log.Warn("exit status not read from the ledger", logRun, k.Run.Run, logError, err)
	}
	if last != nil {
		e.Exit, e.LeaderAt, e.Alive = &last.Exit, last.Boottime, last.Alive
	}
	if _, wall := k.end(false); wall != nil {
		e.Removed = k.Started + time.Duration(*wall*float64(time.Second))
	}
	if last == nil && k.Exit != nil {
		e.Exit, e.LeaderAt = k.Exit, e.Removed
	}
	return k.conclude(ctx, e, nil)
}

// recorded are the counters that earlier oom events of the run account for: what the main process survived.
func (k *Keeper) recorded(ctx context.Context) Counters {
	var c Counters
	list, err := k.Recorder.Events(ctx, events.EventQuery{Run: k.Run.Run, Kinds: []events.Kind{events.KindOOM}})
	if err != nil {
		return c
	}
	for _, ev := range list {
		if d, ok := oomDetail(ev); ok && !d.Terminal {
			c.OOMKill += d.Kills
			c.OOMGroupKill += d.GroupKills
			if d.WhoseLimit == LimitOwn {
				c.OOM++
			}
		}
	}
	return c
}

// conclude gathers the last evidence, decides, records and releases.
// s is nil in a process that was not there while the run lived.
func (k *Keeper) conclude(ctx context.Context, e Evidence, s *session) (*events.Run, error) {
	k.gather(ctx, &e, s)
	v := Decide(e)
	if k.Killers != nil && v.unexplained(e) {
		k.consultKillers(ctx, &e)
		v = Decide(e)
	}
	run := k.finished(e, v, s)
	err := k.Recorder.End(ctx, run, k.lastEvents(ctx, run, e, v)...)
	if err != nil && !errors.Is(err, events.ErrAlreadyEnded) {
		return run, fmt.Errorf("end of run %s not recorded, its ledger is kept: %w", run.Run, err)
	}
	unsure := run.State == events.StateLost || run.State == events.StateEnded
	if err := k.Target.Release(ctx, run.Reason != events.ReasonNone || unsure || e.Ledger.OOMKill > 0); err != nil {
		return run, fmt.Errorf("run %s not released: %w", run.Run, err)
	}
	return run, nil
}

// gather reads what can be read only now: the ledger of an empty run, systemd's view, intents, the kernel log.
func (k *Keeper) gather(ctx context.Context, e *Evidence, s *session) {
	e.Adopted = k.Run.Adopted
	e.Ledger, e.LedgerErr = readCounters(k.Box, e.Ledger)
	if e.UnitErr == nil {
		e.Unit, e.UnitErr = askUnit(ctx, k.Target)
		s.seen(e) // whatever systemd said before it answered
	}
	e.Intents = k.intents(ctx)
	if e.Ledger.OOMKill > 0 {
		e.Ancestors = k.ancestors()
		e.Around = k.around()
		k.consultKernel(ctx, e)
	}
}

// unitTries is how often systemd is asked about a unit while it does not answer in time, which is minutes: on a machine where nobody gets
// a turn three times 25 s were not enough, and a time limit went on record as a stranger's signal.
const unitTries = 12

// askUnit asks systemd about the unit of a run that has ended, and again if it is too busy: what it says is evidence, which it
// keeps until the run is released, and only a late record is true then. One that cannot be reached at all is not asked twice.
func askUnit(ctx context.Context, t Target) (st UnitState, err error) {
	for range unitTries {
		st, err = t.UnitState(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			break
		}
	}
	return st, err
}

// intents reads the intents on the ledger. Whoever wrote one may still be busy sending its signal; a moment later it is
// known whether anybody felt it.
func (k *Keeper) intents(ctx context.Context) []Intent {
	for tries := 0; ; tries++ {
		list, err := ReadIntents(k.Box.Ledger)
		if err != nil {
			k.Log.Warn("intents not read", logRun, k.Run.Run, logError, err)
		}
		open := slices.ContainsFunc(list, func(i Intent) bool { return i.Outcome == "" && processExists(i.Author) })
		if !open || tries == 20 || ctx.Err() != nil {
			return list
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// ancestors says how often each cgroup above has hit its own limit since the run started.
func (k *Keeper) ancestors() map[string]uint64 {
	rose := map[string]uint64{}
	for path, before := range k.Box.Ancestors {
		if now, err := k.Box.LocalOOMs(path); err == nil && now > before {
			rose[path] = now - before
		}
	}
	return rose
}

// consultKernel reads the kernel log for the victims. The kernel prints its line a moment after it has sent the signal.
func (k *Keeper) consultKernel(ctx context.Context, e *Evidence) {
	if k.Kernel == nil {
		e.KernelErr = k.KernelErr
		return
	}
	for range 5 {
		kills, lost, err := k.Kernel.Kills()
		k.kills = append(k.kills, e.ofRun(kills)...)
		mine := k.kills
		e.Earlier, e.Kills = mine[:k.told], mine[k.told:]
		e.KillsLost = e.KillsLost || lost
		if e.KernelErr = err; err != nil || e.kernelSaysEnough() {
			return
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// finished is the record of the run with its end.
func (k *Keeper) finished(e Evidence, v Verdict, s *session) *events.Run {
	run := *k.Run
	run.Limits = k.limits()
	run.State, run.Reason, run.By = v.State, v.Reason, v.By
	run.Exit = e.Exit.Record()
	run.OOM = events.OOM{Kills: e.Ledger.OOMKill, GroupKills: e.Ledger.OOMGroupKill, WhoseLimit: v.WhoseLimit}
	run.Victims = k.withCommands(e.victims(v.TerminalOOM))
	u := readUsage(k.Box.Ledger)
	run.Usage = events.Usage{MemoryPeakBytes: u.peak, CPUSeconds: u.cpu, TasksPeak: u.tasks}
	run.EndedAt, run.Usage.WallSeconds = k.end(s != nil)
	run.Survivors = Survivors(e.Intents)
	run.Escalation = escalation(e, v, s.seenSteps(), &run)
	run.Evidence = e.sources()
	if k.Advise != nil {
		run.Advice = k.Advise(&run)
	}
	return &run
}

// withCommands adds what we know of the main process.
func (k *Keeper) withCommands(vs []events.Victim) []events.Victim {
	for i := range vs {
		if vs[i].PID == k.LeaderPID {
			vs[i].Cmdline = k.Run.Command
		}
	}
	return vs
}

// end says when the run ended and how long it took. A keeper that was there knows; one that comes later reads when
// systemd removed the scope's cgroup, which is the last change to the ledger's directory.
func (k *Keeper) end(present bool) (*time.Time, *float64) {
	if present {
		at, wall := k.Clock.Now().UTC(), seconds(k.Clock.Boottime()-k.Started)
		return &at, &wall
	}
	at, err := k.Box.Ledger.ModTime()
	if err != nil {
		return nil, nil
	}
	now := k.Clock.Now().Round(0) // by the wall clock, as at
	lasted, ok := unseenLength(at.Sub(k.Run.StartedAt), now.Sub(at), k.Clock.Boottime()-k.Started)
	at = at.UTC()
	if !ok {
		return &at, nil
	}
	wall := seconds(lasted)
	return &at, &wall
}

// stepSlack is how far two clocks may drift apart, slewing and rounding included, until one of them was set.
const stepSlack = 2 * time.Second

// unseenLength is how long a run lasted of which only the date of its end is left, by a clock that may have been set at any time:
// dated is from the date of its start to that of its end, since from there to now, age from its start to now by a clock that
// nobody can set. Whichever of the two spans the step was in, the other one is right, and as long as no length that cannot be
// gives that away, nobody knows which.
func unseenLength(dated, since, age time.Duration) (lasted time.Duration, ok bool) {
	counted := age - since
	can := func(d time.Duration) bool { return d >= -stepSlack && d <= age+stepSlack }
	switch {
	case (dated - counted).Abs() <= stepSlack, can(dated) && !can(counted):
		lasted = dated
	case can(counted) && !can(dated):
		lasted = counted
	default:
		return 0, false
	}
	return min(max(lasted, 0), age), true
}

// escalation lists the steps that ended the run: systemd's as they were seen, ours as they were recorded.
func escalation(e Evidence, v Verdict, steps []events.Step, run *events.Run) []events.Step {
	for _, i := range e.Intents {
		steps = append(steps, i.Steps...)
	}
	if len(steps) == 0 && v.By != "systemd" {
		return nil
	}
	steps = append(steps, deduced(e, v, steps, run)...)
	slices.SortStableFunc(steps, func(a, b events.Step) int { return a.At.Compare(b.At) })
	if run.EndedAt != nil {
		steps = append(steps, events.Step{Step: "empty", At: *run.EndedAt})
	}
	return steps
}

// deduced are systemd's steps that nobody was there to see but the outcome proves: at its limit a scope gets SIGTERM, and
// SIGKILL if it is still there after the grace (systemd.kill(5)).
func deduced(e Evidence, v Verdict, seen []events.Step, run *events.Run) []events.Step {
	if v.By != "systemd" || v.Reason != events.ReasonTimeout {
		return nil
	}
	has := func(step string) bool {
		return slices.ContainsFunc(seen, func(s events.Step) bool { return s.Step == step })
	}
	var out []events.Step
	limit := run.StartedAt.Add(e.RuntimeMax)
	if !has("term") {
		out = append(out, events.Step{Step: "term", At: limit, By: "systemd"})
	}
	if !has("kill") && e.Exit != nil && e.Exit.Signal == 9 {
		grace := time.Duration(run.Limits.GraceSeconds * float64(time.Second))
		out = append(out, events.Step{Step: "kill", At: limit.Add(grace), By: "systemd"})
	}
	return out
}

// lastEvents are the events that go with the end: what is not on record yet, and the end itself. The start is among them: a
// short run has it written only now, and one that has it already loses nothing.
func (k *Keeper) lastEvents(ctx context.Context, run *events.Run, e Evidence, v Verdict) []events.Event {
	at := k.Clock.Now()
	if run.EndedAt != nil {
		at = *run.EndedAt
	}
	list := []events.Event{startedEvent(k.Run)}
	if since := e.Ledger.Since(e.Alive); since.OOMKill > 0 {
		prior, err := k.Recorder.Events(ctx, events.EventQuery{Run: run.Run, Kinds: []events.Kind{events.KindOOM}})
		if err != nil {
			k.Log.Warn("oom events not read", logRun, run.Run, logError, err)
		}
		ev := events.NewEvent(run, events.KindOOM, len(prior), at)
		fillOOM(&ev, e, v.TerminalOOM)
		list = append(list, ev)
	}
	if untold, found := orphansUntold(e.Intents); found {
		prior, err := k.Recorder.Events(ctx, events.EventQuery{Run: run.Run, Kinds: []events.Kind{events.KindOrphans}})
		if err == nil && len(prior) == 0 {
			ev := events.NewEvent(run, events.KindOrphans, 0, at)
			fillOrphans(&ev, untold)
			list = append(list, ev)
		}
	}
	return append(list, endedEvent(run, at))
}

func startedEvent(run *events.Run) events.Event {
	kind := events.KindStarted
	if run.Adopted {
		kind = events.KindAdopted
	}
	ev := events.NewEvent(run, kind, 0, run.StartedAt)
	ev.State, ev.Reason, ev.PID = "", "", run.LeaderPID
	return ev
}

func endedEvent(run *events.Run, at time.Time) events.Event {
	ev := events.NewEvent(run, events.KindEnded, 0, at)
	ev.State, ev.Reason, ev.PID = run.State, run.Reason, run.LeaderPID
	ev.MemoryBytes, ev.DurationSeconds = run.Usage.MemoryPeakBytes, run.Usage.WallSeconds
	ev.Detail = detail(map[string]any{"by": run.By, "exit": run.Exit, "oom": run.OOM})
	return ev
}
