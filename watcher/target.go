package watcher

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
)

// ErrNotParent is what Target.Wait returns in a process that is not the parent of the main process.
var ErrNotParent = errors.New("the exit status is known to the parent only")

// Target is a run as the keeper needs it.
type Target interface {
	// Wait waits for the end of the main process.
	Wait(ctx context.Context) (Exit, error)
	// UnitState asks systemd about the scope. Known is false if it has no such unit any more.
	UnitState(ctx context.Context) (UnitState, error)
	// Monitor tells fn of every change of the scope unit until ctx ends. Fields that did not change are empty.
	Monitor(ctx context.Context, fn func(UnitState)) error
	// Release makes systemd forget the run. A unit that may have failed needs more for that.
	Release(ctx context.Context, mayHaveFailed bool) error
}

// Stranger is a Target whose main process is not a child of this process. A fleet with Deaths waits for its end with all others' and
// does not call Wait.
type Stranger interface {
	Leader() (pid int, startTicks uint64)
	// Ended returns how the main process ended, or ErrNotParent. P has held it; nil: it had ended before.
	Ended(ctx context.Context, p *cgroup.Process) (Exit, error)
}

// Follower is a Target whose unit can be followed without a goroutine that waits. A fleet calls Follow instead of Monitor.
type Follower interface {
	// Follow tells fn of every change of the scope unit, from how it is now on, until stop is called. If it ends by itself, lost is
	// called.
	Follow(ctx context.Context, fn func(UnitState), lost func(error)) (stop func(), err error)
}

// Exit is how the main process ended: by Signal if that is not 0, else with Code.
type Exit struct {
	Code   int            `json:"code"`
	Signal syscall.Signal `json:"signal"`
	Via    string         `json:"via,omitempty"` // pidfd: the kernel told somebody who is not the parent; empty: the parent knows
}

// UnitState is what systemd says about a scope, see org.freedesktop.systemd1(5).
type UnitState struct {
	Known       bool   // systemd knows the unit
	StopJob     bool   // a job was or is at work on it; a live scope gets no other job than stop
	ActiveState string // active, deactivating, inactive, failed
	SubState    string // running, stop-sigterm, stop-sigkill, …
	Result      string // success, timeout, oom-kill, resources
}

// Recorder is where a keeper writes. The methods are those of events.Store.
type Recorder interface {
	Append(ctx context.Context, es ...events.Event) error
	End(ctx context.Context, r *events.Run, es ...events.Event) error
	Events(ctx context.Context, q events.EventQuery) ([]events.Event, error)
}

// Box is where a run lives: its cgroups and the limits above it.
type Box struct {
	Ledger *cgroup.Group
	Scope  *cgroup.Group // nil if it is gone
	// Ancestors says how often each cgroup above the ledger had hit its own memory limit when the run started
	// (memory.events.local, oom); LocalOOMs reads it again.
	Ancestors map[string]uint64
	LocalOOMs func(path string) (uint64, error)
	Limits    LimitsInForce // may be nil
	// Fleet reads memory.current and memory.max of the slice that holds all runs; may be nil.
	Fleet func() (current uint64, limit cgroup.Value, err error)
}

// Clock is what time it is for a keeper: CLOCK_BOOTTIME for decisions, the wall clock for what people read.
type Clock struct {
	Boottime func() time.Duration
	Now      func() time.Time
}

// SystemClock is the kernel's.
var SystemClock = Clock{Boottime: cgroup.Boottime, Now: time.Now}
