package watcher

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
	"golang.org/x/sys/unix"
)

// Enforcer ends the processes of one run: SIGTERM, grace, SIGKILL, with an intent on disk and on the ledger before the
// first signal and a record of every step. All signals go to members of the ledger's cgroup and to nobody else.
type Enforcer struct {
	Run       *events.Run
	Ledger    *cgroup.Group
	Recorder  Recorder
	Processes ProcessTable
	Clock     Clock
	Log       *slog.Logger

	esc    Escalation
	intent Intent
	term   []int // who got SIGTERM
	kill   []int // who got SIGKILL

	orphans []events.Process // of an orphan intent
}

// recordTimeout bounds one write to the store on the way to a signal: a full disk or a stuck one must not keep a run-away
// alive.
const recordTimeout = 500 * time.Millisecond

// Begin announces an ending: the intent is written and the escalation starts with the next Step. Grace 0 means SIGKILL
// follows at once.
func (e *Enforcer) Begin(ctx context.Context, i Intent, grace time.Duration) {
	i.Grace = grace
	e.intent = i
	e.esc = Escalation{Grace: grace}
	e.announce(ctx, i, grace)
}

// Resume goes on with an ending that somebody else has begun and cannot finish. It was announced then.
func (e *Enforcer) Resume(i Intent) {
	e.intent, e.orphans = i, i.Processes
	e.esc = i.escalation()
}

// NewIntent is an intent of this process, now.
func NewIntent(c Clock, reason events.Reason, by string, uid *uint32, sig unix.Signal) Intent {
	return Intent{At: c.Now().UTC(), Boottime: c.Boottime(), Reason: reason, By: by, UID: uid, Action: ActStop,
		Signal: unix.SignalName(sig), Author: os.Getpid()}
}

// Announce writes down that sig is about to be sent to the run, once, by whom and on whose word. send then does it and
// reports whether anybody got it.
func (e *Enforcer) Announce(ctx context.Context, reason events.Reason, by string, uid *uint32, sig unix.Signal, send func() bool) {
	e.intent = NewIntent(e.Clock, reason, by, uid, sig)
	e.intent.Action = ActSignal
	e.announce(ctx, e.intent, 0)
	e.outcome(send())
}

// Signal sends sig to every process of the run and returns who got it.
func (e *Enforcer) Signal(ctx context.Context, reason events.Reason, by string, uid *uint32, sig unix.Signal) (pids []int) {
	e.Announce(ctx, reason, by, uid, sig, func() bool {
		pids = e.signal(sig)
		return len(pids) > 0
	})
	return pids
}

// announce writes an intent to the ledger and to the store. The kill does not depend on either: a verdict without an
// intent is only less precise, a run-away that lives on is not.
func (e *Enforcer) announce(ctx context.Context, i Intent, grace time.Duration) {
	if err := i.mark(e.Ledger, i.name()); err != nil && !errors.Is(err, cgroup.ErrGone) {
		e.Log.Warn("intent not written to the ledger", logError, err)
	}
	e.record(ctx, events.KindIntent, func(n int) events.Event { return i.event(e.Run, n, grace) })
}

// record appends one event with the next free ordinal of its kind.
func (e *Enforcer) record(ctx context.Context, kind events.Kind, build func(ordinal int) events.Event) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	prior, err := e.Recorder.Events(ctx, events.EventQuery{Run: e.Run.Run, Kinds: []events.Kind{kind}})
	if err == nil {
		err = e.Recorder.Append(ctx, build(len(prior)))
	}
	if err != nil {
		e.Log.Warn("event not recorded", logKind, kind, logError, err)
	}
}

// Active reports whether an ending is under way.
func (e *Enforcer) Active() bool { return e.intent.Reason != "" && e.esc.Phase != PhaseEmpty }

// Phase is how far it has come.
func (e *Enforcer) Phase() Phase { return e.esc.Phase }

// Survivors are those who outlived SIGKILL for so long that they were named, be they gone by now or not.
func (e *Enforcer) Survivors() []events.Process { return e.intent.Survivors }

// Step does what is due and returns when to call it again (0: when the population changes) and whether it is over: nobody
// is left. Those who hang in the kernel can take for ever.
func (e *Enforcer) Step(ctx context.Context) (wake time.Duration, over bool) {
	populated, err := e.Ledger.Populated()
	if errors.Is(err, cgroup.ErrGone) {
		populated, err = false, nil
	}
	if err != nil {
		e.Log.Warn("population unknown", logError, err)
		populated = true
	}
	var action Action
	e.esc, action, wake = e.esc.Next(e.Clock.Boottime(), populated)
	switch action {
	case ActionTerm:
		e.terminate(ctx)
	case ActionKill:
		e.killAll(ctx)
	case ActionAlarm:
		e.killAll(ctx)
		e.alarm(ctx)
	}
	over = e.esc.Phase == PhaseEmpty
	if over && e.intent.Reason == events.ReasonOrphan {
		e.recordOrphans(ctx)
	}
	return wake, over
}

func (e *Enforcer) terminate(ctx context.Context) {
	sent := e.signal(unix.SIGTERM)
	e.term = append(e.term, sent...)
	if len(sent) > 0 {
		e.addStep(events.KindTerm)
	}
	e.outcome(len(sent) > 0)
	if frozen, err := e.Ledger.Frozen(); err == nil && frozen {
		e.thaw()
	}
	if len(sent) > 0 {
		e.step(ctx, events.KindTerm, "SIGTERM", sent)
	}
}

// thaw lets a frozen run feel its SIGTERM. The freeze is on the scope, below the ledger.
func (e *Enforcer) thaw() {
	names, err := e.Ledger.Children()
	if err != nil {
		return
	}
	for _, n := range names {
		if g, err := e.Ledger.Child(n); err == nil {
			_ = g.Freeze(false)
			g.Close()
		}
	}
}

// killAll sends SIGKILL to everybody at once, through the directory of the ledger.
func (e *Enforcer) killAll(ctx context.Context) {
	pids, _ := e.Ledger.AllProcs()
	if e.esc.Tries == 1 && len(pids) > 0 {
		e.addStep(events.KindKill)
		_ = e.intent.mark(e.Ledger, e.intent.name()) // before it is felt: nobody may be left to wait for us
	}
	if err := e.Ledger.Kill(); err != nil && !errors.Is(err, cgroup.ErrGone) {
		e.Log.Warn("kill", logError, err)
		return
	}
	for _, pid := range pids {
		if e.esc.Tries == 1 || !slices.Contains(e.kill, pid) {
			e.kill = append(e.kill, pid)
		}
	}
	e.outcome(len(pids) > 0 || len(e.term) > 0)
	if e.esc.Tries == 1 {
		e.step(ctx, events.KindKill, "SIGKILL", pids)
	}
}

func (e *Enforcer) signal(sig unix.Signal) []int {
	results, err := e.Ledger.Signal(sig)
	if err != nil && !errors.Is(err, cgroup.ErrGone) {
		e.Log.Warn("signal", logError, err)
	}
	var sent []int
	for _, r := range results {
		if r.Err != nil {
			e.Log.Warn("signal", logPID, r.PID, logError, r.Err)
			continue
		}
		sent = append(sent, r.PID)
	}
	return sent
}

// outcome completes the intent on the ledger: whoever decides later must know whether anybody felt it.
func (e *Enforcer) outcome(felt bool) {
	if e.intent.Outcome == OutcomeSent {
		return
	}
	e.intent.Outcome = OutcomeVoid
	if felt {
		e.intent.Outcome = OutcomeSent
	}
	_ = e.intent.mark(e.Ledger, e.intent.name())
}

func (e *Enforcer) addStep(kind events.Kind) {
	e.intent.Steps = append(e.intent.Steps, events.Step{Step: string(kind), At: e.Clock.Now().UTC(), By: "lictor"})
}

func (e *Enforcer) step(ctx context.Context, kind events.Kind, signal string, pids []int) {
	at := e.Clock.Now()
	e.record(ctx, kind, func(n int) events.Event {
		ev := events.NewEvent(e.Run, kind, n, at)
		ev.Reason = e.intent.Reason
		ev.Detail = detail(events.StepDetail{By: "lictor", Signal: signal, PIDs: pids})
		return ev
	})
}

// End carries an ending through that was begun or resumed: Step until nobody is left, somebody survives SIGKILL, or ctx ends.
// It returns the phase; from PhaseSurvived the keeper of the run goes on.
func (e *Enforcer) End(ctx context.Context) Phase {
	for {
		wake, over := e.Step(ctx)
		if e.Phase() == PhaseSurvived {
			e.leave()
			return e.Phase()
		}
		if over || ctx.Err() != nil {
			return e.Phase()
		}
		e.await(ctx, wake)
	}
}

// emptyPoll is how often End looks whether the run is empty. It is used by short-lived commands only; the keeper is told by
// inotify.
const emptyPoll = 50 * time.Millisecond

// await waits until wake, or a moment.
func (e *Enforcer) await(ctx context.Context, wake time.Duration) {
	d := emptyPoll
	if left := wake - e.Clock.Boottime(); wake > 0 && left < d {
		d = max(left, time.Millisecond)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
