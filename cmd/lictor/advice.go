package main

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
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

// again is the command line that starts the same run with one flag changed; limits that the person had asked for stay.
func (s story) again(flag, value string) []string {
	args := []string{"lictor", "run"}
	if s.Manager == "user" && s.UID == 0 {
		args = append(args, "--user")
	}
	args = append(args, flag, value)
	for _, f := range s.askedFor() {
		if f[0] != flag {
			args = append(args, f[0], f[1])
		}
	}
	return append(append(args, "--"), s.Command...)
}

// askedFor are the flags that the run was started with, as far as its limits tell.
func (s story) askedFor() (flags [][2]string) {
	l := s.Limits
	add := func(flag, limit, value string) {
		if value != "" && !slices.Contains(l.Default, limit) {
			flags = append(flags, [2]string{flag, value})
		}
	}
	add("-m", "MemoryMax", given(l.MemoryMaxBytes, sizeArgument))
	add("-t", "RuntimeMaxSec", given(l.RuntimeMaxSeconds, timeArgument))
	add("--grace", "TimeoutStopSec", timeArgument(l.GraceSeconds))
	add("--memory-swap-max", "MemorySwapMax", given(l.MemorySwapMaxBytes, sizeArgument))
	add("--memory-high", "MemoryHigh", given(l.MemoryHighBytes, sizeArgument))
	add("--tasks-max", "TasksMax", given(l.TasksMax, func(n uint64) string { return strconv.FormatUint(n, 10) }))
	add("--cpu-quota", "CPUQuota", given(l.CPUQuotaPercent, func(p float64) string { return fmt.Sprintf("%g%%", p) }))
	if l.OOMPolicy == "continue" {
		add("--oom-policy", "OOMPolicy", l.OOMPolicy)
	}
	return flags
}

// given writes a limit, or nothing if there is none.
func given[T any](limit *T, write func(T) string) string {
	if limit == nil {
		return ""
	}
	return write(*limit)
}

// roundSize rounds n up to a size that a person would write: at most three significant binary digits (2G, 2.5G, 3G, … 4G,
// 5G).
func roundSize(n uint64) uint64 {
	if n < 8 {
		return max(n, 1)
	}
	step := uint64(1) << (bits.Len64(n-1) - 3)
	if n > math.MaxUint64-step {
		return n
	}
	return (n + step - 1) / step * step
}

// sizeArgument writes n exactly, as a flag takes it: 3G, 2560M.
func sizeArgument(n uint64) string {
	for _, u := range []struct {
		shift int
		name  string
	}{{40, "T"}, {30, "G"}, {20, "M"}, {10, "K"}} {
		if n != 0 && n%(1<<u.shift) == 0 {
			return strconv.FormatUint(n>>u.shift, 10) + u.name
		}
	}
	return strconv.FormatUint(n, 10)
}

// timeArgument writes a number of seconds as a flag takes it: 1h, 90min, 45s.
func timeArgument(s float64) string {
	n := int64(s)
	switch {
	case float64(n) != s:
		return fmt.Sprintf("%gs", s)
	case n%3600 == 0 && n > 0:
		return fmt.Sprintf("%dh", n/3600)
	case n%60 == 0 && n > 0:
		return fmt.Sprintf("%dmin", n/60)
	}
	return fmt.Sprintf("%ds", n)
}

func lastElement(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}
