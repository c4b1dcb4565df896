package watcher

import (
	"context"

	"github.com/scidex/lictor/events"
	"golang.org/x/sys/unix"
)

// OrphanIntent is the intent to end the processes that the main process left behind, with their context.
func (e *Enforcer) OrphanIntent(ctx context.Context) Intent {
	pids, err := e.Ledger.AllProcs()
	if err != nil {
		e.Log.Warn("left-over processes not listed", logRun, e.Run.Run, logError, err)
	}
	i := NewIntent(e.Clock, events.ReasonOrphan, "lictor", nil, unix.SIGTERM)
	e.orphans = e.Processes.Describe(ctx, pids)
	i.Processes = e.orphans[:min(len(e.orphans), maxIntentProcesses)]
	return i
}

// recordOrphans writes one event with every left-over process and what became of it. Those that had gone by themselves
// before anybody was signalled are not left-overs.
func (e *Enforcer) recordOrphans(ctx context.Context) {
	list := outcomes(e.orphans, e.term, e.kill, pidsIn(e.intent.Survivors))
	if len(list) == 0 {
		return
	}
	at := e.Clock.Now()
	e.record(ctx, events.KindOrphans, func(n int) events.Event {
		ev := events.NewEvent(e.Run, events.KindOrphans, n, at)
		fillOrphans(&ev, list)
		return ev
	})
}

func pidsIn(list []events.Process) (pids []int) {
	for _, p := range list {
		pids = append(pids, p.PID)
	}
	return pids
}

func fillOrphans(ev *events.Event, list []events.Process) {
	ev.Reason = events.ReasonOrphan
	if len(list) > 0 {
		ev.PID = &list[0].PID
	}
	ev.Detail = detail(events.OrphansDetail{Processes: list})
}

// orphansUntold returns the left-overs of an intent whose author died before it could say what became of them.
func orphansUntold(intents []Intent) (list []events.Process, found bool) {
	for _, i := range intents {
		if i.Reason == events.ReasonOrphan && i.Outcome != OutcomeVoid {
			return i.Processes, true
		}
	}
	return nil, false
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
