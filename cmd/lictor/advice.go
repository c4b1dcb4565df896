package main

import (
	"math"
	"strconv"
	"time"

	"github.com/scidex/lictor/events"
)

// Codes of advice, for programs.
const (
	adviseRaiseMemory   = "raise-memory"
	adviseRaiseRuntime  = "raise-runtime"
	adviseLookAtChild   = "look-at-children" // a worker was killed for memory in a run that went on
	adviseLookAtSlice   = "look-at-slice"    // a limit above the run was hit
	adviseLookAtHost    = "look-at-host"     // the host ran out of memory
	adviseLookAtKernel  = "look-at-kernel-log"
	adviseLookAtOomd    = "look-at-oomd"
	adviseLookAtJournal = "look-at-journal" // somebody unknown sent a signal
	adviseLookAtCore    = "look-at-core"
	adviseKeepRunning   = "keep-running" // the run may outlive its owner
	adviseDoctor        = "doctor"
	adviseLookAtBoots   = "look-at-boots"
)

// advise returns what may help next time, or nil.
func (s story) advise() *events.Advice {
	if !s.State.Final() {
		return nil
	}
	switch s.Reason {
	case events.ReasonOOM:
		return s.raiseMemory(adviseRaiseMemory, "give it more memory")
	case events.ReasonTimeout:
		return s.raiseRuntime()
	case events.ReasonOOMAncestor:
		return s.lookAtSlice()
	case events.ReasonOOMHost:
		return command(adviseLookAtHost, "run less at once, or cap the sum with MemoryMax of lictor.slice", "lictor", "status")
	case events.ReasonOOMUnknown:
		return s.journal(adviseLookAtKernel, "the kernel log may name the limit", "-k")
	case events.ReasonOomd:
		return s.journal(adviseLookAtOomd, "systemd-oomd says why it acted", "-u", "systemd-oomd")
	case events.ReasonAbandoned:
		return command(adviseKeepRunning, "let it outlive its owner", s.again("--on-owner-exit", "keep")...)
	case events.ReasonSignal:
		if s.By == "" || s.By == "unknown" {
			return s.journal(adviseLookAtJournal, "another program may have logged that it sent the signal")
		}
	case events.ReasonStartFailed:
		if s.Exit != nil && s.Exit.Code != nil { // 126 or 127: it is the command, not the machine
			return nil
		}
		return command(adviseDoctor, "see what is missing on this machine", "lictor", "doctor")
	case events.ReasonNone:
		return s.adviseUnforced()
	}
	return nil
}

// adviseUnforced is for runs that nothing forced to end.
func (s story) adviseUnforced() *events.Advice {
	switch {
	case s.State == events.StateLost:
		return command(adviseLookAtBoots, "see whether the machine went down", "journalctl", "--list-boots")
	case s.OOM.Kills > 0 && s.OOM.WhoseLimit != "ancestor" && s.OOM.WhoseLimit != "host":
		return s.raiseMemory(adviseLookAtChild, "a process of it was killed for memory: its results may be incomplete")
	case s.State == events.StateFailed && s.Exit != nil && s.Exit.Signal != nil && s.LeaderPID != nil:
		return command(adviseLookAtCore, "systemd-coredump may have kept the core", "coredumpctl", "info", strconv.Itoa(*s.LeaderPID))
	}
	return nil
}

func command(code, text string, args ...string) *events.Advice {
	return &events.Advice{Code: code, Text: text, Command: args}
}

// raiseMemory asks for half as much again, or for what the command has been seen to need.
func (s story) raiseMemory(code, text string) *events.Advice {
	if s.Limits.MemoryMaxBytes == nil {
		return nil
	}
	want := *s.Limits.MemoryMaxBytes + *s.Limits.MemoryMaxBytes/2
	for _, r := range s.history {
		if peak := r.Usage.MemoryPeakBytes; peak != nil && r.State == events.StateDone {
			want = max(want, *peak+*peak/8)
		}
	}
	return command(code, text, s.again("-m", sizeArgument(roundSize(want)))...)
}

// raiseRuntime asks for twice the time.
func (s story) raiseRuntime() *events.Advice {
	if s.Limits.RuntimeMaxSeconds == nil {
		return nil
	}
	want := 2 * *s.Limits.RuntimeMaxSeconds
	for _, r := range s.history {
		if d, ok := r.Duration(); ok && r.State == events.StateDone {
			want = max(want, math.Ceil(d.Minutes()*1.25)*60)
		}
	}
	return command(adviseRaiseRuntime, "give it more time", s.again("-t", timeArgument(want))...)
}

// lookAtSlice points to the limit above the run that was hit most.
func (s story) lookAtSlice() *events.Advice {
	unit, most := "lictor.slice", uint64(0)
	for path, times := range s.ancestors() {
		if name := lastElement(path); times > most && name != "" {
			unit, most = name, times
		}
	}
	args := []string{"systemctl", "status", unit}
	if s.Manager == "user" {
		args = []string{"systemctl", "--user", "status", unit}
	}
	return command(adviseLookAtSlice, "run less at once, or raise MemoryMax of "+unit, args...)
}

// journal points to what was logged around the end.
func (s story) journal(code, text string, args ...string) *events.Advice {
	if s.EndedAt == nil {
		return nil
	}
	const clock = "2006-01-02 15:04:05"
	end := s.EndedAt.In(s.now.Location())
	args = append([]string{"journalctl"}, args...)
	args = append(args, "--since", end.Add(-10*time.Second).Format(clock), "--until", end.Add(5*time.Second).Format(clock))
	return command(code, text, args...)
}
