package watcher

import "time"

// Phase is how far the ending of a scope has come.
type Phase int

// The phases.
const (
	PhaseNone     Phase = iota // nothing was sent
	PhaseTerm                  // SIGTERM was sent, the grace runs
	PhaseKill                  // SIGKILL was sent
	PhaseSurvived              // SIGKILL was sent again and again, and is now and then: somebody hangs in the kernel (D state)
	PhaseEmpty                 // nobody is left
)

// Action is what to do next.
type Action int

// The actions.
const (
	ActionNone  Action = iota
	ActionTerm         // SIGTERM to every process
	ActionKill         // SIGKILL to every process (cgroup.kill)
	ActionAlarm        // the same, and name those who survived so far, once
)

// Escalation is the way from SIGTERM to an empty scope, as a value: Next is a pure function of it, the time and whether
// anybody is left. A late or repeated call does nothing twice.
type Escalation struct {
	Phase Phase
	Grace time.Duration // between SIGTERM and SIGKILL
	Since time.Duration // CLOCK_BOOTTIME at which the last signal was due
	Tries int           // how often SIGKILL was sent
}

// killRetry is the pause after the first SIGKILL; it doubles with each one, up to killRetryMax. A process that is still there
// after killTries of them (15 s) hangs in the kernel: whoever can free it (a disk, a server, an administrator) must be told.
// One SIGKILL is enough for it, whenever the kernel lets go; those that follow are for processes that came later.
const (
	killRetry    = time.Second
	killRetryMax = time.Minute
	killTries    = 4
)

// killPause is the pause after the given number of SIGKILLs.
func killPause(tries int) time.Duration {
	const doublings = 6 // 64 s
	return min(killRetry<<min(tries-1, doublings), killRetryMax)
}

// Next returns the escalation after now, what to do, and when to ask again (0: only when something changes).
func (e Escalation) Next(now time.Duration, populated bool) (Escalation, Action, time.Duration) {
	if !populated {
		e.Phase = PhaseEmpty
		return e, ActionNone, 0
	}
	switch e.Phase {
	case PhaseNone:
		e.Phase, e.Since = PhaseTerm, now
		return e, ActionTerm, now + e.Grace
	case PhaseTerm:
		if due := e.Since + e.Grace; now < due {
			return e, ActionNone, due
		}
		e.Phase, e.Since, e.Tries = PhaseKill, now, 1
		return e, ActionKill, now + killPause(1)
	case PhaseKill, PhaseSurvived:
		if due := e.Since + killPause(e.Tries); now < due {
			return e, ActionNone, due
		}
		action := ActionKill
		e.Since, e.Tries = now, e.Tries+1
		if e.Phase == PhaseKill && e.Tries > killTries {
			e.Phase, action = PhaseSurvived, ActionAlarm
		}
		return e, action, now + killPause(e.Tries)
	}
	return e, ActionNone, 0
}
