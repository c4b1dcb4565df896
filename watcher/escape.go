package watcher

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
)

// The variables that mark the processes of a run: every one has the first; the second is there only if what leaves the scope is
// to be killed.
const (
	markRun   = "LICTOR_RUN"
	markNonce = "LICTOR_NONCE"
)

// Marked is a process that carries the marker of a run in its environment. Anybody can write that into an own process: it is a
// reason to look, and no proof.
type Marked struct {
	PID        int
	StartTicks uint64
	UIDs       []uint32 // real, effective, saved, file system
	Cgroup     string   // path
	Run        events.RunID
	Nonce      string // "" if it has none
}

// Home is the run that a marked process says it is of.
type Home struct {
	Run        events.RunID
	Ledger     string // cgroup path
	UID        uint32
	StartTicks uint64 // of the main process, the first one of the run
	Leader     int
	Nonce      string // "": nothing outside is ever killed
}

// Escape is a process outside the scope of the run whose marker it carries.
type Escape struct {
	Marked
	SameUID    bool // it is the run's user who runs it
	AfterStart bool // it is younger than the run
	// MayKill says that it was started by the run: it has the run's user, is younger, and knows the number that was given to the
	// run alone.
	MayKill bool
}

// Judge says whether m has escaped from the run, and what may be done about it.
func (h Home) Judge(m Marked) (Escape, bool) {
	if m.Run != h.Run || m.Cgroup == "" || m.Cgroup == h.Ledger || strings.HasPrefix(m.Cgroup, h.Ledger+"/") {
		return Escape{}, false
	}
	e := Escape{Marked: m, SameUID: len(m.UIDs) > 0, AfterStart: m.StartTicks >= h.StartTicks}
	for _, uid := range m.UIDs {
		e.SameUID = e.SameUID && uid == h.UID
	}
	e.MayKill = h.Nonce != "" && m.Nonce == h.Nonce && e.SameUID && e.AfterStart
	return e, true
}

// maxEscapes is how many processes of one run are put on record as escaped: a run that lets thousands go must not fill the
// store.
const maxEscapes = 100

// Escaped records processes that have escaped, each once, and kills those that may be. It returns those that were not known.
func (e *Enforcer) Escaped(ctx context.Context, leader int, list []Escape) (fresh []Escape) {
	known, err := e.knownEscapes(ctx)
	if err != nil {
		e.Log.Warn("escapes not recorded", logRun, e.Run.Run, logError, err)
		return nil
	}
	for _, x := range list {
		if !known[x.Identity()] && len(known)+len(fresh) < maxEscapes {
			fresh = append(fresh, x)
			e.recordEscape(ctx, x)
		}
		if x.MayKill {
			e.killEscaped(ctx, leader, x)
		}
	}
	return fresh
}

// knownEscapes are those that are on record.
func (e *Enforcer) knownEscapes(ctx context.Context) (map[Identity]bool, error) {
	list, err := e.Recorder.Events(ctx, events.EventQuery{Run: e.Run.Run, Kinds: []events.Kind{events.KindEscaped}})
	known := map[Identity]bool{}
	for _, ev := range list {
		var d events.EscapedDetail
		if json.Unmarshal(ev.Detail, &d) == nil {
			known[Identity{d.Process.PID, d.StartTicks}] = true
		}
	}
	return known, err
}

// Identity is a process beyond the reuse of its number.
type Identity struct {
	PID        int
	StartTicks uint64
}

// Identity is who it is.
func (m Marked) Identity() Identity { return Identity{m.PID, m.StartTicks} }

func (e *Enforcer) recordEscape(ctx context.Context, x Escape) {
	at := e.Clock.Now()
	p := e.Processes.Describe(ctx, []int{x.PID})[0]
	e.record(ctx, events.KindEscaped, func(n int) events.Event {
		ev := events.NewEvent(e.Run, events.KindEscaped, n, at)
		ev.PID = &x.PID
		ev.Detail = detail(events.EscapedDetail{Process: p, StartTicks: x.StartTicks, Cgroup: x.Cgroup, SameUID: x.SameUID,
			AfterStart: x.AfterStart, Kill: x.MayKill})
		return ev
	})
}

// killEscaped ends a process that has escaped. Its identity is checked again on a pidfd. The main process may be the one that
// left: then this is the end of the run, and announced as such.
func (e *Enforcer) killEscaped(ctx context.Context, leader int, x Escape) {
	send := func() bool {
		err := cgroup.SignalPID(x.PID, x.StartTicks, unix.SIGKILL)
		if err != nil {
			e.Log.Warn("signal", logRun, e.Run.Run, logPID, x.PID, logError, err)
		}
		return err == nil
	}
	if x.PID == leader {
		e.Announce(ctx, events.ReasonStop, "lictor", nil, unix.SIGKILL, send)
		return
	}
	if e.announced(ctx, x.PID) { // it did not go at once
		send()
		return
	}
	at := e.Clock.Now()
	e.record(ctx, events.KindIntent, func(n int) events.Event { // without a reason: it is not the run that is ended
		ev := events.NewEvent(e.Run, events.KindIntent, n, at)
		ev.PID = &x.PID
		ev.Detail = detail(events.IntentDetail{Action: ActSignal, Signal: "SIGKILL", By: "lictor", PIDs: []int{x.PID}})
		return ev
	})
	if send() {
		e.step(ctx, events.KindKill, "SIGKILL", []int{x.PID})
	}
}

// announced reports whether an intent to end one process is on record.
func (e *Enforcer) announced(ctx context.Context, pid int) bool {
	list, err := e.Recorder.Events(ctx, events.EventQuery{Run: e.Run.Run, Kinds: []events.Kind{events.KindIntent}})
	if err != nil {
		e.Log.Warn("intents not read", logRun, e.Run.Run, logError, err)
	}
	return slices.ContainsFunc(list, func(ev events.Event) bool { return ev.PID != nil && *ev.PID == pid })
}
