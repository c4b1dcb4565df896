package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scidex/lictor/events"
)

// The rows of an explanation. Each returns the empty string where it has nothing to say.

const column5 = "     " // between the facts of one row

// limits are the limits that matter for this end, and what was used of them.
func (s story) limits() string {
	var parts []string
	if s.Reason != events.ReasonTimeout {
		parts = append(parts, s.memoryLimit())
	} else {
		parts = append(parts, s.runtimeLimit())
	}
	if peak := s.peak(); peak != nil {
		text := "Peak " + events.FormatBytes(*peak)
		if s.Reason == events.ReasonTimeout && s.Limits.MemoryMaxBytes != nil {
			text += " of " + events.FormatBytes(*s.Limits.MemoryMaxBytes)
		}
		parts = append(parts, text)
	}
	switch {
	case s.Reason.OutOfMemory():
		parts = append(parts, s.swapLimit())
	case s.Reason != events.ReasonTimeout:
		parts = append(parts, s.runtimeLimit())
	}
	return strings.Join(parts, column5)
}

func (s story) memoryLimit() string {
	return "MemoryMax " + bytesOr(s.Limits.MemoryMaxBytes, "none") + s.ifDefault("MemoryMax")
}

func (s story) runtimeLimit() string {
	if s.Limits.RuntimeMaxSeconds == nil {
		return "RuntimeMaxSec none"
	}
	return "RuntimeMaxSec " + duration(*s.Limits.RuntimeMaxSeconds) + s.ifDefault("RuntimeMaxSec")
}

func (s story) swapLimit() string {
	switch n := s.Limits.MemorySwapMaxBytes; {
	case n == nil:
		return "Swap not limited"
	case *n == 0:
		return "Swap not allowed"
	default:
		return "Swap up to " + events.FormatBytes(*n)
	}
}

func (s story) ifDefault(limit string) string {
	if slices.Contains(s.Limits.Default, limit) {
		return " (default)"
	}
	return ""
}

// killed names who was killed for memory. The counters of the kernel are not process counts, so no number is made of them.
func (s story) killed() string {
	if !s.Reason.OutOfMemory() {
		return ""
	}
	if len(s.Victims) == 0 {
		return "SIGKILL by the kernel; the names of the victims are not known" + s.whyNot("kernel-log")
	}
	text := victim(s.Victims[0]) + ", SIGKILL by the kernel"
	switch others := len(s.Victims) - 1; {
	case s.OOM.GroupKills > 0 && others > 0:
		text += fmt.Sprintf(", and the other %s of the scope (oom-policy kill)", count(others, "process", "processes"))
	case s.OOM.GroupKills > 0:
		text += ", and whatever else was in the scope (oom-policy kill)"
	case others > 0:
		text += fmt.Sprintf(", and %s", count(others, "other process", "other processes"))
	}
	return text
}

func victim(v events.Victim) string {
	text := fmt.Sprintf("pid %d", v.PID)
	if v.Comm != "" {
		text += " " + v.Comm
	}
	if v.RSSAnonBytes != nil {
		text += " (anonymous memory " + preciseBytes(*v.RSSAnonBytes) + ")"
	}
	return text
}

// ended tells how the end went: the signals and how they were obeyed, or what the exit status said.
func (s story) ended() string {
	if !s.State.Final() || s.Reason.OutOfMemory() {
		return ""
	}
	if text := s.escalation(); text != "" {
		return text
	}
	if s.State == events.StateKilled && s.Exit != nil && s.Exit.Signal != nil && s.Reason != events.ReasonSignal {
		return "its main process died of " + *s.Exit.Signal
	}
	return ""
}

// when is the time of the end.
func (s story) when() string {
	if !s.State.Final() {
		return "started " + stamp(s.StartedAt.In(s.now.Location()))
	}
	if s.EndedAt == nil {
		return "at an unknown time; it was started " + stamp(s.StartedAt.In(s.now.Location()))
	}
	text := stamp(s.EndedAt.In(s.now.Location()))
	if d, ok := s.Duration(); ok {
		text += ", " + events.FormatDuration(d) + " after its start"
	}
	return text
}

// before is how the same command did earlier.
func (s story) before() string {
	if !s.State.Final() || s.Reason == events.ReasonStop || s.Reason == events.ReasonStartFailed {
		return ""
	}
	var did []string
	for _, r := range s.history {
		switch d, ok := r.Duration(); {
		case s.Reason == events.ReasonTimeout && ok && r.State == events.StateDone:
			did = append(did, events.FormatDuration(d))
		case s.Reason != events.ReasonTimeout && r.Usage.MemoryPeakBytes != nil:
			did = append(did, events.FormatBytes(*r.Usage.MemoryPeakBytes))
		}
	}
	if len(did) == 0 {
		return ""
	}
	did = did[max(0, len(did)-5):]
	if s.Reason == events.ReasonTimeout {
		return "the same command finished after " + strings.Join(did, ", ")
	}
	return "the same command peaked at " + strings.Join(did, ", ")
}

// survived names processes that even SIGKILL did not end.
func (s story) survived() string {
	if len(s.Survivors) == 0 {
		return ""
	}
	if s.State.Final() {
		return processes(s.Survivors) + " outlived SIGKILL until the kernel let go"
	}
	return processes(s.Survivors) + ": SIGKILL was sent, and will take effect when the kernel lets go"
}

// stamp is a point in time as systemd writes it.
func stamp(t time.Time) string { return t.Format("Mon 2006-01-02 15:04:05 MST") }

func duration(s float64) string { return events.FormatDuration(seconds(s)) }

// shortSpan is a duration in whole seconds.
func shortSpan(d time.Duration) string { return events.FormatDuration(d.Truncate(time.Second)) }

// preciseBytes is n with three digits, for comparing it with a limit: 1.93G.
func preciseBytes(n uint64) string {
	v, unit := float64(n), "B"
	for _, u := range []string{"K", "M", "G", "T", "P", "E"} {
		if v < 999.5 {
			break
		}
		v, unit = v/1024, u
	}
	digits := 0
	if unit != "B" && v < 99.95 {
		digits = 1
	}
	if unit != "B" && v < 9.995 {
		digits = 2
	}
	text := fmt.Sprintf("%.*f", digits, v)
	if digits > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text + unit
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// processes names a few processes.
func processes(list []events.Process) string {
	const most = 4
	var names []string
	for _, p := range list[:min(len(list), most)] {
		name := fmt.Sprintf("pid %d", p.PID)
		if comm := cmp.Or(p.Comm, strings.Join(p.Cmdline[:min(1, len(p.Cmdline))], "")); comm != "" {
			name += " " + comm
		}
		switch {
		case p.State == "D" && p.WChan != "":
			name += " (D state, in " + p.WChan + ")"
		case p.State == "D":
			name += " (D state)"
		}
		names = append(names, name)
	}
	if more := len(list) - most; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}
