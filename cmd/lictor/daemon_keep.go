package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

// The daemon's half of a run that a launcher has handed over: see api.Conn for what the two say to each other.

// helloTime is how long a new caller may take to say what it wants.
const helloTime = 10 * time.Second

// Keep implements api.Backend.
func (b *backend) Keep(peer api.Peer, c *api.Conn) {
	b.workers.Add(1)
	defer b.workers.Done()
	defer c.Close()
	defer context.AfterFunc(b.ctx, c.Close)()
	c.SetReadDeadline(time.Now().Add(helloTime))
	m, err := c.First()
	c.SetReadDeadline(time.Time{})
	if err == nil {
		switch {
		case m.Offer != nil:
			err = b.offered(b.ctx, peer, c, m.Offer)
		case m.Resume != nil:
			err = b.resumed(b.ctx, peer, c, m.Resume)
		default:
			err = client.NewProblem(http.StatusBadRequest, "neither an offer nor a resume", "lictor run does it")
		}
	}
	if err != nil {
		b.log.Debug("caller", "pid", peer.PID, "uid", peer.UID, "error", err)
		b.refuse(c, err)
	}
}

// refuse tells a caller why not.
func (b *backend) refuse(c *api.Conn, err error) {
	var p *client.Problem
	if !errors.As(problem(err), &p) {
		p = client.NewProblem(http.StatusInternalServerError, err.Error(), "journalctl -u lictor tells more")
	}
	_ = c.Tell(api.ToLauncher{Refused: p})
}

// offered confines a caller's child and keeps the run from then on.
func (b *backend) offered(ctx context.Context, peer api.Peer, c *api.Conn, o *api.Offer) error {
	launcher, err := identify(peer)
	if err != nil {
		return err
	}
	run, offer, err := b.app.readOffer(o, peer, launcher)
	if err != nil {
		return err
	}
	rec, err := b.settler.recorder("")
	if err != nil {
		return err
	}
	if !b.room() {
		return client.NewProblem(http.StatusServiceUnavailable, "the daemon has no descriptors left for one more run",
			"try again when a run has ended; root can raise LimitNOFILE= of lictor.service")
	}
	who := newCaller(launcher, peer.UID)
	who.attach(c)
	if err := b.admit(ctx, rec, offer.Spec.Run, who); err != nil {
		return err
	}
	defer b.attended(offer.Spec.Run)
	s, err := b.launcher.Confine(ctx, offer, func(ctx context.Context, s *scope.Scope) error {
		begun(run, s)
		return rec.Begin(ctx, run)
	})
	if err != nil {
		b.forget(offer.Spec.Run)
		b.notStarted(ctx, rec, run, err)
		return err
	}
	defer s.Close()
	run.State, run.Degraded = events.StateRunning, s.Degraded
	err = c.Tell(api.ToLauncher{Confined: &api.Confined{Degraded: s.Degraded}})
	if err == nil {
		err = letGo(c)
	}
	if err != nil {
		b.forget(offer.Spec.Run)
		b.launcher.TakeBack(ctx, s)
		b.notStarted(ctx, rec, run, err)
		return nil // the caller knows: it is its own failure
	}
	if err := b.keepOffered(ctx, rec, run, who); err != nil {
		b.log.Error("run not kept", "run", run.Run, "error", err) // the sweep takes it over
		return err
	}
	b.listenTo(ctx, c, who, offer.Spec.Run)
	return nil
}

// identify is the process at the other end, beyond the reuse of its number.
func identify(peer api.Peer) (scope.ProcessID, error) {
	ticks, err := cgroup.StartTicks(peer.PID)
	if err != nil {
		return scope.ProcessID{}, client.NewProblem(http.StatusForbidden, "the caller has ended, or is in another pid namespace", "")
	}
	return scope.ProcessID{PID: peer.PID, StartTicks: ticks}, nil
}

// launchError is why the caller did not start a confined child.
type launchError struct{ api.Failure }

func (e *launchError) Error() string { return e.Failure.Error }

// letGo waits until the caller has let its child go. An error says that the analysis never ran.
func letGo(c *api.Conn) error {
	opening := false
	for {
		m, err := c.Next()
		switch {
		case err != nil && opening: // it may run: whoever looks at its processes knows more
			return nil
		case err != nil:
			return &launchError{api.Failure{Error: "its launcher ended before it let the command go"}}
		case m.Opened:
			return nil
		case m.Failed != nil:
			return &launchError{*m.Failed}
		case m.Opening:
			opening = true
		}
	}
}

// notStarted ends the record of a run that was begun and could not be started.
func (d *daemon) notStarted(ctx context.Context, rec *recorder, run *events.Run, cause error) {
	if run.LeaderPID == nil {
		return
	}
	code := 0
	if e, ok := errors.AsType[*launchError](cause); ok {
		code = e.Code
	}
	ended, ev := startFailed(run, d.app.Now(), cause, code)
	if err := rec.End(ctx, ended, ev); err != nil && !errors.Is(err, events.ErrAlreadyEnded) {
		d.log.Error("the failed start was not recorded", "run", run.Run, "error", err)
	}
}

// keepOffered puts a confined run into the fleet.
func (d *daemon) keepOffered(ctx context.Context, rec *recorder, run *events.Run, who *caller) error {
	led, err := d.launcher.Ledger(scope.RunID(run.Run))
	if err != nil {
		return err
	}
	k := &keeping{app: d.app, launcher: d.launcher, run: run, log: d.log}
	w := d.keeper(ctx, k, rec, led)
	w.TakenOver, w.LeaderGone = false, false
	w.Target = handedOver{followed{target{l: d.launcher, run: led.Run}, led.Facts.Leader}, who}
	d.hand(ctx, w, led)
	return nil
}

// admit reserves a run id for a caller, within its quota. The reservation ends with attended, the caller's place with forget.
func (d *daemon) admit(ctx context.Context, rec *recorder, id scope.RunID, who *caller) error {
	taken := client.NewProblem(http.StatusConflict, fmt.Sprintf("run id %q is taken", id), "leave it to lictor run to make one")
	if _, err := rec.store.Run(ctx, events.RunID(id)); !errors.Is(err, events.ErrNotFound) {
		if err == nil {
			err = taken
		}
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy[id] || d.callers[id] != nil || d.fleet.Keeps(events.RunID(id)) {
		return taken
	}
	if err := d.quota.admit(who.uid, d.liveOf(who.uid), d.app.Now()); err != nil {
		return err
	}
	d.busy[id] = true
	d.callers[id] = who
	return nil
}

// liveOf counts the runs of a user. d.mu is held.
func (d *daemon) liveOf(uid uint32) (n int) {
	for _, c := range d.callers {
		if c.uid == uid {
			n++
		}
	}
	return n
}

// attended ends a reservation.
func (d *daemon) attended(id scope.RunID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.busy, id)
}

// forget ends the place of a caller and returns it, nil if there is none.
func (d *daemon) forget(id scope.RunID) *caller {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.callers[id]
	delete(d.callers, id)
	return c
}

// callerOf returns the caller of a run that is found, nil if its parent is dead or was never one.
func (d *daemon) callerOf(led *scope.Ledger) *caller {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.callers[led.Run]; c != nil {
		return c
	}
	p := led.Facts.Launcher
	if p == (scope.ProcessID{}) || p == led.Keeper || !p.Alive() {
		return nil
	}
	c := newCaller(p, led.Facts.UID)
	d.callers[led.Run] = c
	return c
}

// resumed has the launcher of a run again, after the daemon was away.
func (b *backend) resumed(ctx context.Context, peer api.Peer, c *api.Conn, r *api.Resume) error {
	launcher, err := identify(peer)
	if err != nil {
		return err
	}
	id := scope.RunID(r.Run)
	rec, err := b.settler.recorder("")
	if err != nil {
		return err
	}
	var who *caller
	if id.Valid() {
		if led, err := b.launcher.Ledger(id); err == nil {
			if led.HasFacts && led.Facts.Launcher == launcher && led.Facts.UID == peer.UID {
				who = b.callerOf(led)
			}
			led.Group.Close()
		}
	}
	if who != nil {
		who.attach(c)
		for _, p := range r.Passed {
			b.passOn(ctx, id, p, func() bool { return true })
		}
		if r.Exit != nil {
			who.exited(*r.Exit)
		}
	}
	run, err := events.ForUser(rec.store, peer.UID).Run(ctx, r.Run) // after attach: whoever ends it now tells us
	switch {
	case err == nil && run.State.Final():
		return c.Tell(api.ToLauncher{Ended: run})
	case who == nil:
		return fmt.Errorf("%w: %q", events.ErrNotFound, r.Run)
	}
	if err := c.Tell(api.ToLauncher{Resumed: true}); err != nil {
		return err
	}
	select { // whoever has not looked at it yet does now
	case b.look <- id:
	default:
	}
	b.listenTo(ctx, c, who, id)
	return nil
}

// listenTo hears what a launcher says until its connection ends.
func (b *backend) listenTo(ctx context.Context, c *api.Conn, who *caller, id scope.RunID) {
	defer who.detach(c)
	for {
		m, err := c.Next()
		switch {
		case err != nil:
			return
		case m.Exit != nil:
			who.exited(*m.Exit)
		case m.Pass != nil:
			b.passOn(ctx, id, *m.Pass, nil)
		case m.Stop:
			b.stopFor(ctx, id)
		}
	}
}

// passOn gives a launcher's signal to the main process, announced as such. A send other than nil has done so already.
func (d *daemon) passOn(ctx context.Context, id scope.RunID, p api.Pass, send func() bool) {
	sig := unix.Signal(p.Signal)
	if sig <= 0 || sig > 64 {
		return
	}
	err := d.withEnforcer(ctx, id, func(e *watcher.Enforcer, led *scope.Ledger) {
		by := "launcher"
		switch {
		case p.FromTerminal:
			by, send = "terminal", func() bool { return true }
		case send == nil:
			send = func() bool { return cgroup.SignalPID(led.Facts.Leader.PID, led.Facts.Leader.StartTicks, sig) == nil }
		}
		e.Announce(ctx, events.ReasonSignal, by, nil, sig, send)
	})
	if err != nil {
		d.log.Debug("signal not passed on", "run", id, "error", err)
	}
}

// stopFor ends a run because the service that launched it is stopped.
func (d *daemon) stopFor(ctx context.Context, id scope.RunID) {
	d.workers.Go(func() {
		err := d.withEnforcer(ctx, id, func(e *watcher.Enforcer, led *scope.Ledger) {
			e.Begin(ctx, watcher.NewIntent(watcher.SystemClock, events.ReasonStop, "launcher", nil, unix.SIGTERM), led.Facts.Grace)
			e.End(ctx)
		})
		if err != nil {
			d.log.Warn("run not stopped", "run", id, "error", err)
		}
	})
}

func (d *daemon) withEnforcer(ctx context.Context, id scope.RunID, do func(*watcher.Enforcer, *scope.Ledger)) error {
	led, err := d.launcher.Ledger(id)
	if err != nil {
		return err
	}
	defer led.Group.Close()
	rec, err := d.settler.recorder("")
	if err != nil {
		return err
	}
	run, err := rec.store.Run(ctx, events.RunID(id))
	if err != nil {
		return err
	}
	do(&watcher.Enforcer{Run: run, Ledger: led.Group, Recorder: rec, Processes: watcher.NewProcessTable(),
		Clock: watcher.SystemClock, Log: d.log}, led)
	return nil
}
