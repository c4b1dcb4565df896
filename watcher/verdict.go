package watcher

import (
	"cmp"
	"math"
	"slices"
	"syscall"
	"time"

	"github.com/scidex/lictor/events"
	"golang.org/x/sys/unix"
)

// Whose limit an out-of-memory kill was for.
const (
	LimitOwn      = "own"
	LimitAncestor = "ancestor"
	LimitHost     = "host"
	LimitUnknown  = "unknown"
)

// Verdict is why a run ended.
type Verdict struct {
	State      events.State
	Reason     events.Reason
	By         string
	WhoseLimit string // of the last out-of-memory kill; empty without one
	// TerminalOOM says that an out-of-memory kill ended the main process, be it the reason or not: a timeout followed by an
	// OOM during the grace is a timeout.
	TerminalOOM bool
}

// cause is something that would have ended the run, and when.
type cause struct {
	reason events.Reason
	by     string
	at     time.Duration
}

// Decide is the verdict on an end. The first cause that is proven wins; what no cause explains is told from the exit
// status alone, and what nobody saw is lost, never guessed.
func Decide(e Evidence) Verdict {
	v := Verdict{TerminalOOM: e.terminalOOM()}
	if e.Ledger.OOMKill > 0 {
		v.WhoseLimit = e.whoseLimit(e.newest())
	}
	if c, ok := e.firstCause(v); ok {
		v.State, v.Reason, v.By = events.StateKilled, c.reason, c.by
		return v
	}
	if c, ok := e.otherKiller(); ok {
		v.State, v.Reason, v.By = events.StateKilled, c.reason, c.by
		return v
	}
	v.State, v.Reason, v.By = e.byExit()
	return v
}

// firstCause returns the earliest proven cause.
func (e Evidence) firstCause(v Verdict) (first cause, ok bool) {
	for _, c := range e.causes(v) {
		if !ok || c.at < first.at {
			first, ok = c, true
		}
	}
	return first, ok
}

func (e Evidence) causes(v Verdict) []cause {
	var cs []cause
	for _, i := range e.Intents {
		if i.Outcome == OutcomeVoid || i.Reason == events.ReasonOrphan || !e.aliveAt(i.Boottime) {
			continue
		}
		if i.Action == ActSignal && !e.diedOf(i.Signal) {
			continue
		}
		cs = append(cs, cause{i.Reason, i.By, i.Boottime})
	}
	if e.timedOut() {
		cs = append(cs, cause{events.ReasonTimeout, "systemd", e.Started + e.RuntimeMax})
	}
	if e.stoppedBySystemd(v.TerminalOOM) {
		cs = append(cs, cause{events.ReasonStop, "systemd", e.stopAt()})
	}
	if v.TerminalOOM {
		cs = append(cs, cause{oomReasons[v.WhoseLimit], "kernel", e.end()})
	}
	return cs
}

var oomReasons = map[string]events.Reason{
	LimitOwn:      events.ReasonOOM,
	LimitAncestor: events.ReasonOOMAncestor,
	LimitHost:     events.ReasonOOMHost,
	LimitUnknown:  events.ReasonOOMUnknown,
}

// end is when the main process ended; if nobody saw it, after everything that is dated.
func (e Evidence) end() time.Duration {
	if e.LeaderAt == 0 {
		return math.MaxInt64
	}
	return e.LeaderAt
}

// aliveAt reports whether the main process can have felt what was done at t.
func (e Evidence) aliveAt(t time.Duration) bool { return t <= e.end() }

func (e Evidence) diedOf(signal string) bool {
	return e.Exit != nil && e.Exit.Signal != 0 && unix.SignalName(e.Exit.Signal) == signal
}

// timedOut: Result=timeout alone proves nothing, since a stop whose SIGTERM is ignored ends the same way; the limit must
// have passed too. An earlier cause still comes first.
func (e Evidence) timedOut() bool {
	if e.RuntimeMax <= 0 || !e.Unit.Known || e.Unit.Result != "timeout" {
		return false
	}
	felt := e.end()
	switch {
	case e.Deactivating != 0:
		felt = e.Deactivating
	case e.LeaderAt == 0 && e.Removed != 0:
		felt = e.Removed
	}
	return felt >= e.Started+e.RuntimeMax-clockSlack
}

// clockSlack is how much earlier than we computed systemd's timer may end: its clock and ours are rounded, and its timers
// are coalesced.
const clockSlack = 100 * time.Millisecond

// stoppedBySystemd: a live scope gets no other job than stop, and nothing else makes it deactivate while its Result stays
// success. Afterwards systemd forgets the unit, or keeps it as failed by timeout if SIGTERM was not obeyed. It deactivates
// after an out-of-memory kill too (OOMPolicy), and its Result, which says so, does not survive a daemon-reexec; but for that
// there is no job.
func (e Evidence) stoppedBySystemd(terminalOOM bool) bool {
	switch {
	case e.UnitErr != nil:
		return false
	case e.Unit.Known && e.Unit.Result == "timeout":
		return !e.timedOut()
	case e.Unit.Known && e.Unit.Result != "success":
		return false
	}
	return e.Unit.StopJob || e.Deactivating != 0 && !terminalOOM
}

// stopAt is when systemd began to stop the scope. A job that was only seen when it had ended began before the main process
// ended.
func (e Evidence) stopAt() time.Duration {
	if e.Deactivating != 0 {
		return e.Deactivating
	}
	return e.end() - 1
}

// terminalOOM reports whether an out-of-memory kill ended the main process. An OOM long ago never relabels a later exit:
// only what was counted since the last look at the living process is considered.
func (e Evidence) terminalOOM() bool {
	if e.LedgerErr != nil {
		return false
	}
	if e.named(e.LeaderPID) { // nobody survives being a victim, whatever a look before its end took it for
		return e.Exit == nil || e.Exit.Signal == syscall.SIGKILL || e.Exit.Signal == syscall.SIGTERM
	}
	since := e.Ledger.Since(e.Alive)
	if since.OOMKill == 0 && since.OOMGroupKill == 0 {
		return false
	}
	if e.Exit == nil { // a group kill takes the main process with it; a single kill may have been anybody
		return since.OOMGroupKill > 0
	}
	switch e.Exit.Signal {
	case syscall.SIGKILL:
		return since.OOMGroupKill > 0 || !e.kernelNamesAll(since.OOMKill)
	case syscall.SIGTERM:
		// The kernel counts a kill before it sends the signal, and systemd, woken by the count, sends SIGTERM (OOMPolicy). On
		// a busy machine that one can be first; the kernel's then finds the process dying.
		return since.OOMGroupKill > 0
	}
	return false
}

// named reports whether the kernel log names a process of the run as killed for memory.
func (e Evidence) named(pid int) bool {
	is := func(k KernelKill) bool { return k.PID == pid }
	return slices.ContainsFunc(e.Kills, is) || slices.ContainsFunc(e.Earlier, is)
}

// kernelNamesAll reports whether the kernel log is known to name as many victims as were counted, so that one who is not
// among them was killed by somebody else.
func (e Evidence) kernelNamesAll(n uint64) bool {
	return e.KernelErr == nil && !e.KillsLost && uint64(len(e.Kills)) >= n
}

// newest are the counters of the last out-of-memory kills: those that the main process did not survive, else all.
func (e Evidence) newest() Counters {
	if since := e.Ledger.Since(e.Alive); since.OOMKill > 0 {
		return since
	}
	return e.Ledger
}

// whoseLimit tells whose memory limit was hit when the counters rose by since. The counters decide; the kernel log helps
// where they cannot.
func (e Evidence) whoseLimit(since Counters) string {
	if since.OOM > 0 {
		return LimitOwn
	}
	for _, k := range slices.Concat(e.Kills, e.Earlier) {
		switch {
		case k.Global:
			return LimitHost
		case k.OOMMemcg != "" && e.above(k.OOMMemcg):
			return LimitAncestor
		}
	}
	for _, n := range e.Ancestors {
		if n > 0 {
			return LimitAncestor
		}
	}
	return LimitUnknown
}

// byExit is the verdict of the exit status alone.
func (e Evidence) byExit() (events.State, events.Reason, string) {
	switch {
	case e.Exit == nil && e.Adopted && e.LedgerErr == nil:
		return events.StateEnded, events.ReasonNone, ""
	case e.Exit == nil:
		return events.StateLost, events.ReasonNone, "unknown"
	case e.Exit.Signal == 0 && e.Exit.Code == 0:
		return events.StateDone, events.ReasonNone, ""
	case e.Exit.Signal == 0 || ownMaking(e.Exit.Signal):
		return events.StateFailed, events.ReasonNone, ""
	}
	return events.StateKilled, events.ReasonSignal, "unknown"
}

// ownMaking are the signals by which a process ends itself: faults, abort, broken pipe, limits that it set itself.
func ownMaking(s syscall.Signal) bool {
	switch s {
	case syscall.SIGSEGV, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGSYS, syscall.SIGTRAP,
		syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGVTALRM, syscall.SIGPROF, syscall.SIGXCPU, syscall.SIGXFSZ:
		return true
	}
	return false
}

// victims lists who was killed for memory: whom the kernel log names, and the main process if an OOM ended it and the log
// does not say.
func (e Evidence) victims(terminalOOM bool) []events.Victim {
	var out []events.Victim
	named := false
	for _, k := range slices.Concat(e.Earlier, e.Kills) {
		if k.PID == e.LeaderPID {
			named = true
		}
		out = append(out, events.Victim{PID: k.PID, Comm: k.Comm, UID: k.UID, RSSAnonBytes: k.AnonRSS, Source: "kernel-log"})
	}
	if terminalOOM && !named && e.Exit != nil {
		out = append([]events.Victim{{PID: e.LeaderPID, Comm: e.Comm, Source: cmp.Or(e.Exit.Via, "wait-status")}}, out...)
	}
	return out
}

// Record is x as it stands in a record; nil is not known.
func (x *Exit) Record() *events.Exit {
	switch {
	case x == nil:
		return &events.Exit{Kind: events.ExitUnknown}
	case x.Signal != 0:
		name := unix.SignalName(x.Signal)
		return &events.Exit{Kind: events.ExitSignaled, Signal: &name}
	}
	code := x.Code
	return &events.Exit{Kind: events.ExitExited, Code: &code}
}
