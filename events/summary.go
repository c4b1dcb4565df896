package events

import (
	"strconv"
	"strings"
	"time"
)

// Summary is the verdict in one line, without a full stop: `7f3k7m1d killed: oom (peak 2.0G of 2.0G after 1min 37s)`. What
// is not known is left out. It is safe to print.
func (r *Run) Summary() string {
	s := r.Run.Short() + " " + string(r.State)
	if why := r.why(); why != "" {
		s += ": " + why
	}
	if facts := r.facts(); len(facts) > 0 {
		s += " (" + strings.Join(facts, ", ") + ")"
	}
	return printable(s, maxSummary)
}

// maxSummary bounds the line; only a hostile record (a reason or a signal name from elsewhere) reaches it.
const maxSummary = 300

// why is the reason, or how a run ended that nobody ended.
func (r *Run) why() string {
	if r.Reason != ReasonNone {
		return string(r.Reason)
	}
	if r.State != StateFailed || r.Exit == nil {
		return ""
	}
	switch {
	case r.Exit.Kind == ExitExited && r.Exit.Code != nil:
		return "exit status " + strconv.Itoa(*r.Exit.Code)
	case r.Exit.Kind == ExitSignaled && r.Exit.Signal != nil:
		return *r.Exit.Signal
	default:
		return ""
	}
}

// facts are what a person asks next, most important first.
func (r *Run) facts() []string {
	switch r.Reason {
	case ReasonOOM:
		return r.memoryFacts("")
	case ReasonOOMAncestor:
		return r.memoryFacts("a limit above it was reached")
	case ReasonOOMHost:
		return r.memoryFacts("the host ran out of memory")
	case ReasonOOMUnknown:
		return r.memoryFacts("whose limit is not known")
	case ReasonOomd:
		return r.memoryFacts("by systemd-oomd")
	case ReasonTimeout:
		return some(r.after(), r.limited())
	case ReasonSignal:
		return some(phrase(r.signal(), by(r.By)), r.after())
	case ReasonStop, ReasonOrphan:
		return some(phrase(by(r.By), r.after()))
	case ReasonAbandoned:
		return some("its owner is gone", r.after())
	case ReasonStartFailed:
		return nil
	}
	if !r.State.Final() || r.State == StateLost {
		return nil
	}
	return some(phrase(r.peak(), r.after()))
}

// memoryFacts is `peak 2.0G of 2.0G after 1min 37s`, with a remark before it.
func (r *Run) memoryFacts(remark string) []string {
	if r.Usage.MemoryPeakBytes == nil && r.Limits.MemoryMaxBytes != nil {
		return some(remark, "limit "+FormatBytes(*r.Limits.MemoryMaxBytes), r.after())
	}
	return some(remark, phrase(r.peak(), r.after()))
}

// peak is `peak 1.2G of 2.0G`.
func (r *Run) peak() string {
	used, limit := r.Usage.MemoryPeakBytes, r.Limits.MemoryMaxBytes
	switch {
	case used != nil && limit != nil:
		return "peak " + FormatBytes(*used) + " of " + FormatBytes(*limit)
	case used != nil:
		return "peak " + FormatBytes(*used)
	default:
		return ""
	}
}

func (r *Run) after() string {
	if d, ok := r.Duration(); ok {
		return "after " + FormatDuration(d)
	}
	return ""
}

func (r *Run) limited() string {
	if r.Limits.RuntimeMaxSeconds == nil {
		return ""
	}
	return "limit " + FormatDuration(seconds(*r.Limits.RuntimeMaxSeconds))
}

func (r *Run) signal() string {
	if r.Exit != nil && r.Exit.Signal != nil {
		return *r.Exit.Signal
	}
	return ""
}

// Duration is how long the run lasted, by its own measure or by the difference of its times, and whether that is known.
func (r *Run) Duration() (time.Duration, bool) {
	switch {
	case r.Usage.WallSeconds != nil:
		return seconds(*r.Usage.WallSeconds), true
	case r.EndedAt != nil && !r.StartedAt.IsZero():
		return max(r.EndedAt.Sub(r.StartedAt), 0), true
	default:
		return 0, false
	}
}

// some returns those that are not empty.
func some(parts ...string) []string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
}

// phrase joins those that are not empty.
func phrase(parts ...string) string { return strings.Join(some(parts...), " ") }

// by is `by uid 1000`.
func by(who string) string {
	if who == "" {
		return ""
	}
	return "by " + who
}
