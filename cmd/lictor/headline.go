package main

import (
	"cmp"
	"fmt"

	"github.com/scidex/lictor/events"
)

// headline answers in one sentence: did it die, and why.
func (s story) headline() string {
	switch s.State {
	case events.StateStarting:
		return "is starting."
	case events.StateRunning:
		return "is running: " + s.progress() + "."
	case events.StateGrace:
		if n := len(s.Survivors); n > 0 {
			return "is being ended" + s.because() + ", and " + count(n, "process", "processes") + " of it outlived SIGKILL so far: the kernel must let go first."
		}
		return "is being ended" + s.because() + ": SIGTERM was sent, SIGKILL follows after " + duration(s.Limits.GraceSeconds) + "."
	case events.StateDone:
		return "finished by itself" + s.despite() + "."
	case events.StateLost:
		return "was lost: how it ended is not known."
	case events.StateEnded:
		if s.Released {
			return "was released by " + s.by() + ": it lives on without limits"
		}
		return "ended, and nothing that lictor knows of forced it; it was adopted, so only its parent knows its exit status" + s.despite() + "."
	case events.StateFailed:
		return s.failure() + "."
	}
	return "was killed: " + s.cause() + "."
}

// progress is how far a live run has come.
func (s story) progress() string {
	text := shortSpan(s.age(s.now)) + " so far"
	if left, ok := s.left(s.now); ok {
		return text + ", " + shortSpan(left) + " left"
	}
	return text + ", without a time limit"
}

// because is why a live run is being ended, if that is known.
func (s story) because() string {
	switch s.Reason {
	case events.ReasonNone:
		return ""
	case events.ReasonStop, events.ReasonSignal:
		return " because somebody asked for it"
	}
	return " because " + s.cause()
}

// despite tells of incidents in a run that did not end it.
func (s story) despite() string {
	if s.OOM.Kills > 0 || s.OOM.GroupKills > 0 {
		return ", but the kernel killed inside it for memory on the way"
	}
	return ""
}

// failure is how a run failed that nobody ended.
func (s story) failure() string {
	if s.Reason == events.ReasonStartFailed {
		return "could not be started: " + s.startError()
	}
	switch x := s.Exit; {
	case x != nil && x.Kind == events.ExitExited && x.Code != nil:
		return fmt.Sprintf("failed by itself: its main process exited with status %d", *x.Code)
	case x != nil && x.Kind == events.ExitSignaled && x.Signal != nil:
		return fmt.Sprintf("crashed: its main process died of %s, a signal of its own making", *x.Signal)
	}
	return "failed: the exit status of its main process is not known"
}

// startError is what stood in the way of a start.
func (s story) startError() string {
	for _, e := range s.Evidence {
		if e.Why != "" {
			return e.Why
		}
	}
	if s.Exit != nil && s.Exit.Code != nil {
		switch *s.Exit.Code {
		case 126:
			return "the command cannot be executed"
		case 127:
			return "the command was not found"
		}
	}
	return "the cause was not recorded"
}

// cause is the reason of a kill as a clause.
func (s story) cause() string {
	switch s.Reason {
	case events.ReasonOOM:
		return "it reached its own memory limit"
	case events.ReasonOOMAncestor:
		return "a memory limit above it was reached, and the kernel chose it"
	case events.ReasonOOMHost:
		return "the host ran out of memory, and the kernel chose it"
	case events.ReasonOOMUnknown:
		return "the kernel killed it for memory; whose limit was reached is not known"
	case events.ReasonOomd:
		return "systemd-oomd ended it because of memory pressure"
	case events.ReasonTimeout:
		return "it reached its time limit" + s.timeLimit()
	case events.ReasonStop:
		return s.stopped()
	case events.ReasonAbandoned:
		return "its owner was gone, and it was not to live on without it"
	case events.ReasonOrphan:
		return "it was left over after its parent had died"
	case events.ReasonSignal:
		return s.signalled()
	case events.ReasonNone:
		return "why was not recorded"
	}
	return string(s.Reason)
}

func (s story) timeLimit() string {
	if s.Limits.RuntimeMaxSeconds == nil {
		return ""
	}
	return " of " + duration(*s.Limits.RuntimeMaxSeconds)
}

func (s story) stopped() string {
	switch s.By {
	case "systemd":
		return "systemd stopped its scope (systemctl stop, or the session or the machine went down)"
	case "", "unknown":
		return "somebody stopped it"
	}
	return s.by() + " stopped it"
}

func (s story) signalled() string {
	signal := "a signal"
	if s.Exit != nil && s.Exit.Signal != nil {
		signal = *s.Exit.Signal
	}
	if s.By == "" || s.By == "unknown" {
		return signal + " ended it, and who sent that is not known"
	}
	return s.by() + " sent it " + signal
}

// by is who did it, in words.
func (s story) by() string {
	switch s.By {
	case "kernel":
		return "the kernel"
	case "launcher":
		return "its launcher"
	case "terminal":
		return "its terminal (an interrupt key or a hang-up)"
	}
	return cmp.Or(s.By, "somebody unknown")
}
