package watcher

import (
	"context"
	"slices"

	"github.com/scidex/lictor/events"
)

// alarm names those who are still there after SIGKILL was sent again and again: on the ledger, in the store, in the journal and
// in our log. Whoever has been named before, by whomever, is not named again.
func (e *Enforcer) alarm(ctx context.Context) {
	pids, err := e.Ledger.AllProcs()
	if err != nil || len(pids) == 0 {
		return
	}
	intents, err := ReadIntents(e.Ledger)
	if err != nil {
		e.Log.Warn("intents not read", logRun, e.Run.Run, logError, err)
	}
	named := Survivors(intents)
	list := e.Processes.Describe(ctx, pids[:min(len(pids), maxIntentProcesses)])
	e.intent.Survivors = list
	e.addStep(events.KindSurvived)
	_ = e.intent.mark(e.Ledger, e.intent.name())
	fresh := slices.DeleteFunc(slices.Clone(list), func(p events.Process) bool { return names(named, p.PID) })
	if len(fresh) == 0 {
		return
	}
	for _, p := range fresh {
		e.Log.Error("it outlives SIGKILL: it hangs in the kernel", logRun, e.Run.Run, logPID, p.PID, "comm", p.Comm, "state", p.State, "wchan", p.WChan)
	}
	at := e.Clock.Now()
	e.record(ctx, events.KindSurvived, func(n int) events.Event {
		ev := events.NewEvent(e.Run, events.KindSurvived, n, at)
		ev.Reason, ev.PID = e.intent.Reason, &fresh[0].PID
		ev.Detail = detail(events.SurvivedDetail{Processes: fresh, Kills: e.esc.Tries})
		return ev
	})
}

// Survivors are those whom any intent names as having outlived SIGKILL.
func Survivors(intents []Intent) (list []events.Process) {
	for _, i := range intents {
		for _, p := range i.Survivors {
			if !names(list, p.PID) {
				list = append(list, p)
			}
		}
	}
	return list
}

func names(list []events.Process, pid int) bool {
	return slices.ContainsFunc(list, func(p events.Process) bool { return p.PID == pid })
}

// escalation is how far an intent has been carried out by its author, so that somebody else goes on there.
func (i Intent) escalation() Escalation {
	e := Escalation{Grace: i.Grace}
	switch {
	case len(i.Survivors) > 0: // one more SIGKILL at once, and then now and then
		e.Phase, e.Tries = PhaseSurvived, killTries+2
	case i.Outcome == OutcomeSent:
		e.Phase, e.Since = PhaseTerm, i.Boottime
	}
	return e
}

// leave says on the ledger that we do not go on with an ending that is not over.
func (e *Enforcer) leave() {
	e.intent.Left = true
	_ = e.intent.mark(e.Ledger, e.intent.name())
}

// Unfinished returns the ending that somebody has announced and does not carry out any more: its author is gone, or would not
// wait any longer. The first one counts.
func Unfinished(intents []Intent) (Intent, bool) {
	return unfinished(intents, processExists)
}

func unfinished(intents []Intent, exists func(pid int) bool) (Intent, bool) {
	for _, i := range intents {
		if i.Action == ActStop && i.Outcome != OutcomeVoid && (i.Left || !exists(i.Author)) {
			return i, true
		}
	}
	return Intent{}, false
}
