package main

import (
	"context"
	"errors"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

// attend does for one run what is to be done. It returns whether, and after which pause, somebody should look again.
func (d *daemon) attend(ctx context.Context, id scope.RunID) (again bool, pause time.Duration) {
	place := slot{of: d.attending}
	if place.take(ctx) != nil {
		return false, 0
	}
	defer place.leave()
	led, err := d.launcher.Ledger(id)
	if errors.Is(err, cgroup.ErrGone) {
		return false, 0
	}
	if err != nil {
		d.log.Warn("ledger", "run", id, "error", err)
		return true, finishRetry
	}
	handed := false // to the fleet, with its ledger
	defer func() {
		if !handed {
			led.Group.Close()
		}
	}()
	if !led.HasFacts {
		return d.unlaunched(ctx, led)
	}
	room := d.room()
	self, err := scope.Self()
	if err != nil {
		d.log.Warn("own identity", "error", err)
		return true, finishRetry
	}
	if led.Keeper != self && led.Keeper.Alive() {
		if !room {
			return true, finishRetry
		}
		led.Group.Close() // neither to be held for as long as the keeper lives
		place.leave()
		err := watcher.WaitGone(ctx, led.Keeper.PID, led.Keeper.StartTicks)
		if err != nil && ctx.Err() == nil {
			d.log.Warn("keeper not waited for", "run", id, "error", err)
			return true, finishRetry
		}
		return err == nil, 0
	}
	populated, err := led.Group.Populated()
	who := d.callerOf(led)
	switch {
	case err != nil:
		return !errors.Is(err, cgroup.ErrGone), finishRetry
	case populated && room:
		handed, err = d.keep(ctx, led, who)
	case populated:
		place.leave() // there is a narrower one
		err = d.settle(ctx, led)
		again, pause = true, finishRetry
	default:
		err = d.finishFor(ctx, led, who, &place)
	}
	if err != nil && !errors.Is(err, cgroup.ErrGone) && ctx.Err() == nil {
		d.log.Error("run not settled", "run", id, "error", err)
		return true, finishRetry
	}
	return again, pause
}

// unlaunched looks after a ledger on which its launcher has written nothing.
func (d *daemon) unlaunched(ctx context.Context, led *scope.Ledger) (again bool, pause time.Duration) {
	populated, err := led.Group.Populated()
	if err == nil {
		err = d.settler.unlaunched(ctx, led, populated)
	}
	if errors.Is(err, cgroup.ErrGone) {
		return false, 0
	}
	return true, launchPause
}

// keep takes a run over that somebody else kept, and reports whether the ledger is the fleet's now.
func (d *daemon) keep(ctx context.Context, led *scope.Ledger, who *caller) (handed bool, err error) {
	self, err := scope.Self()
	if err != nil {
		return false, err
	}
	k, rec, err := d.settler.begun(ctx, led)
	if err != nil {
		return false, err
	}
	if k.run.State.Final() {
		return false, nil // somebody has moved in since
	}
	if err := scope.WriteKeeper(led.Group, self); err != nil {
		return false, err
	}
	w := d.keeper(ctx, k, rec, led)
	if who != nil {
		w.Target, w.LeaderGone = handedOver{followed{target{l: d.launcher, run: led.Run}, led.Facts.Leader}, who}, false
	}
	d.hand(ctx, w, led)
	return true, nil
}

// finishFor completes the record of a run that has ended, with what its launcher, if it has one that lives, says about how. It leaves its
// place to others while it waits for that.
func (d *daemon) finishFor(ctx context.Context, led *scope.Ledger, who *caller, place *slot) error {
	if who == nil {
		return d.settler.finish(ctx, led, false, nil)
	}
	place.leave()
	var exit *watcher.Exit
	if x, err := who.wait(ctx, led.Facts.Leader); err == nil {
		exit = &x
	}
	if err := place.take(ctx); err != nil {
		return err
	}
	if err := d.settler.finish(ctx, led, false, exit); err != nil {
		return err
	}
	d.tellEnd(ctx, led.Run)
	return nil
}

// tellEnd tells the launcher of a run that has ended how.
func (d *daemon) tellEnd(ctx context.Context, id scope.RunID) {
	who := d.forget(id)
	rec, err := d.settler.recorder("")
	if who == nil || err != nil {
		return
	}
	if run, err := rec.store.Run(ctx, events.RunID(id)); err == nil && run.State.Final() {
		who.ended(run)
	}
}

// hand gives a run, with its ledger, to the fleet.
func (d *daemon) hand(ctx context.Context, w *watcher.Keeper, led *scope.Ledger) {
	d.log.Info("keeping", "run", led.Run, "analysis", led.Facts.AnalysisID, "uid", led.Facts.UID)
	id, ledger := led.Run, led.Group // and not all the facts on it for as long as the run lives
	w.Recorder = blackBoxed{w.Recorder, d.history}
	d.history.Add(events.RunID(id))
	d.fleet.Keep(ctx, w, func(run *events.Run, err error) {
		d.history.Take(events.RunID(id))
		ledger.Close()
		if w.Box.Scope != nil {
			w.Box.Scope.Close()
		}
		if err != nil {
			d.log.Error("run not settled", "run", id, "error", err)
			d.mu.Lock()
			d.busy[id] = true // or the next sweep would be surprised
			d.mu.Unlock()
			d.workers.Go(func() { d.lookAgain(ctx, id, finishRetry) })
			return
		}
		d.log.Info("ended", "run", run.Run, "summary", run.Summary())
		d.tellEnd(ctx, id)
	})
}

// keeper is the keeper of a run that was kept by somebody else before.
func (d *daemon) keeper(ctx context.Context, k *keeping, rec *recorder, led *scope.Ledger) *watcher.Keeper {
	k.kernelNo = d.kernelNo
	f := led.Facts
	box := watcher.Box{Ledger: led.Group, Ancestors: f.Ancestors}
	if g, err := led.Scope(); err == nil {
		box.Scope = g
	}
	w := k.keeper(rec, led.Run, box)
	w.Target = followed{target: target{l: d.launcher, run: led.Run}, leader: f.Leader}
	w.TakenOver, w.LeaderGone = true, !f.Leader.Alive()
	w.Started, w.Grace = f.Started, f.Grace
	if f.Deadline != nil {
		w.RuntimeMax = *f.Deadline - f.Started
	}
	if d.kernel != nil {
		w.Kernel = d.kernel.Since(f.Started)
	}
	if st, err := cgroup.ReadStat(f.Leader.PID); err == nil && st.StartTicks == f.Leader.StartTicks {
		w.Comm = st.Comm
	}
	if f.OwnerExit != scope.OwnerKeep {
		w.Owner = &watcher.Owner{PID: f.Owner.PID, StartTicks: f.Owner.StartTicks,
			Process: w.Processes.Describe(ctx, []int{f.Owner.PID})[0]}
	}
	return w
}

// followed is a run of which this process is not the parent, among many.
type followed struct {
	target
	leader scope.ProcessID
}

// Wait implements watcher.Target.
func (t followed) Wait(ctx context.Context) (watcher.Exit, error) {
	return watcher.WaitExit(ctx, t.leader.PID, t.leader.StartTicks)
}

// Leader implements watcher.Stranger.
func (t followed) Leader() (pid int, startTicks uint64) { return t.leader.PID, t.leader.StartTicks }

// Ended implements watcher.Stranger.
func (t followed) Ended(ctx context.Context, p *cgroup.Process) (watcher.Exit, error) {
	return watcher.ExitOf(ctx, p)
}

// Follow implements watcher.Follower.
func (t followed) Follow(ctx context.Context, fn func(watcher.UnitState), lost func(error)) (stop func(), err error) {
	return t.l.Follow(ctx, t.run, func(st scope.UnitState) { fn(unitState(st, true)) }, lost)
}
