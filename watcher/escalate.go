package watcher

import "time"

// Phase is how far the ending of a scope has come.
type Phase int

// The phases.
const (
	PhaseNone     Phase = iota // nothing was sent
	PhaseTerm                  // SIGTERM was sent, the grace runs
	PhaseKill                  // SIGKILL was sent
	PhaseSurvived              // SIGKILL was sent again and again and somebody is still there (D state)
	PhaseEmpty                 // nobody is left
)

// Action is what to do next.
type Action int

// The actions.
const (
	ActionNone   Action = iota
	ActionTerm          // SIGTERM to every process
	ActionKill          // SIGKILL to every process (cgroup.kill)
	ActionGiveUp        // name the survivors
)

// Escalation is the way from SIGTERM to an empty scope, as a value: Next is a pure function of it, the time and whether
// anybody is left. A late or repeated call does nothing twice.
type Escalation struct {
	Phase Phase
	Grace time.Duration // between SIGTERM and SIGKILL
	Since time.Duration // CLOCK_BOOTTIME at which the last signal was due
	Tries int           // how often SIGKILL was sent
}

// killRetry is the pause after the first SIGKILL; it doubles with each of killTries. A process that is still there after
// that (31 s) hangs in the kernel, and sending more does not help.
const (
	killRetry = time.Second
	killTries = 5
)

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
		return e, ActionKill, now + killRetry
	case PhaseKill:
		due := e.Since + killRetry<<(e.Tries-1)
		switch {
		case now < due:
			return e, ActionNone, due
		case e.Tries >= killTries:
			e.Phase = PhaseSurvived
			return e, ActionGiveUp, 0
		}
		e.Since, e.Tries = now, e.Tries+1
		return e, ActionKill, now + killRetry<<(e.Tries-1)
	}
	return e, ActionNone, 0
}
