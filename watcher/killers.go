package watcher

import (
	"context"
	"syscall"
	"time"

	"github.com/scidex/lictor/events"
)

// The programs that kill for memory besides the kernel and say so.
const (
	KillerOomd     = "systemd-oomd"
	KillerEarlyoom = "earlyoom"
)

// KillerEntry is a journal entry in which another killer says what it did.
type KillerEntry struct {
	By      string         `json:"by"`            // KillerOomd or KillerEarlyoom
	At      time.Duration  `json:"boottime_ns"`   // when journald got it
	PID     int            `json:"pid,omitempty"` // whom it signalled; 0: everybody in the scope of the run
	Signal  syscall.Signal `json:"signal"`        // with what
	Message string         `json:"message"`       // in its own words
}

// Killers are the words of other killers about a run.
type Killers interface {
	// Entries returns those that may be about the run. Only what journald itself vouches for counts: who has written it.
	Entries(ctx context.Context) ([]KillerEntry, error)
	// Active reports whether one of them runs, so that it may still be about to write.
	Active() bool
}

// xattrOomd is what systemd-oomd writes on a cgroup before it kills it (increment_oomd_xattr in its source, since systemd
// 248). The cgroup goes with its last process; whoever has it open can read the attribute even then.
const xattrOomd = "user.oomd_ooms"

// How long a killer that runs gets to write its entry. It acts first and tells then, and journald takes a moment.
const (
	killerPause = 200 * time.Millisecond
	killerTries = 5
)

// How close an entry of earlyoom is to the end that it explains. The signal may take a while to take effect, and the entry to
// be written; much earlier ones were survived.
const (
	killerBefore = 30 * time.Second
	killerLag    = 5 * time.Second
)

// unexplained reports whether another killer may be, or is, behind an end: nothing of ours and nothing of the kernel's explains
// it.
func (v Verdict) unexplained(e Evidence) bool {
	switch {
	case v.State == events.StateLost, v.State == events.StateEnded, v.Reason == events.ReasonOomd:
		return true
	case v.Reason != events.ReasonSignal || v.By != "unknown":
		return false
	}
	return e.Exit.Signal == syscall.SIGKILL || e.Exit.Signal == syscall.SIGTERM
}

// consultKillers asks other killers. It costs a process and some waiting, so only ends that nothing explains are worth it.
func (k *Keeper) consultKillers(ctx context.Context, e *Evidence) {
	if k.Box.Scope != nil {
		if _, found, err := k.Box.Scope.LastXattr(xattrOomd); err == nil {
			e.OomdMark = found
		}
	}
	e.KillersAsked = true
	for try := 1; ; try++ {
		e.Killers, e.KillersErr = k.Killers.Entries(ctx)
		if e.killerTold() || e.KillersErr != nil || try == killerTries || !k.Killers.Active() || ctx.Err() != nil {
			return
		}
		pause(ctx, killerPause)
	}
}

// killerTold reports whether another killer has said, by its mark or in the journal, that it ended the run.
func (e Evidence) killerTold() bool {
	e.Unit = UnitState{} // not in its own words
	_, found := e.otherKiller()
	return found
}

// otherKiller says which other killer has ended the run, if that is proven.
func (e Evidence) otherKiller() (cause, bool) {
	if e.byOomd() {
		return cause{events.ReasonOomd, KillerOomd, e.end()}, true
	}
	for _, entry := range e.Killers {
		if entry.By == KillerEarlyoom && e.explains(entry) {
			return cause{events.ReasonSignal, KillerEarlyoom, e.end()}, true
		}
	}
	return cause{}, false
}

// byOomd: systemd-oomd kills a whole cgroup with SIGKILL. It marks the cgroup before; systemd finds the mark when the cgroup is
// empty and says so in the journal, and its Result is then that of an out-of-memory kill that the kernel has not counted.
func (e Evidence) byOomd() bool {
	if e.Exit != nil && e.Exit.Signal != syscall.SIGKILL {
		return false
	}
	for _, entry := range e.Killers {
		if entry.By == KillerOomd {
			return true
		}
	}
	return e.OomdMark || e.Unit.Known && e.Unit.Result == "oom-kill" && e.LedgerErr == nil && e.Ledger.OOMKill == 0
}

// explains reports whether an entry about one process explains how the main process ended: it names it, with the signal of which
// it died, while it lived and not long before its end.
func (e Evidence) explains(entry KillerEntry) bool {
	return entry.PID == e.LeaderPID && e.Exit != nil && entry.Signal == e.Exit.Signal && e.LeaderAt != 0 &&
		entry.At >= e.Started && entry.At >= e.LeaderAt-killerBefore && entry.At <= e.LeaderAt+killerLag
}
