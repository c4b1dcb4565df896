package watcher

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/scidex/lictor/events"
)

// Evidence is everything that is known about an end. Decide turns it into a verdict; nothing else does.
type Evidence struct {
	LeaderPID  int
	Comm       string        // of the main process when it was last seen
	LedgerPath string        // cgroup path
	Started    time.Duration // CLOCK_BOOTTIME, as are all times here: the wall clock can be set
	RuntimeMax time.Duration // 0 is none

	Adopted  bool          // its parent is a stranger, who alone is told how it exited
	Exit     *Exit         // nil: its parent was not there to see
	LeaderAt time.Duration // when the main process was found to have ended; 0 is not known

	Removed time.Duration // when systemd removed the scope's cgroup, of a run whose end nobody saw; 0 is not known

	Ledger    Counters // read when the scope was empty
	LedgerErr error
	// Alive are the counters as of the last look at which the main process was alive: what was added since may have ended it.
	Alive     Counters
	Ancestors map[string]uint64 // cgroup path → times it hit its own limit while the run lived

	Kills     []KernelKill // of this run's processes, since Alive
	Earlier   []KernelKill // of this run's processes, before
	KernelErr error        // why the kernel log could not be read
	KillsLost bool         // the kernel overwrote a part of its log

	Unit         UnitState
	UnitErr      error
	Deactivating time.Duration // when systemd was first seen stopping the scope; 0 is never

	Intents []Intent

	OomdMark     bool // systemd-oomd's mark is on the cgroup of the scope
	Killers      []KillerEntry
	KillersAsked bool
	KillersErr   error // why the journal could not be read

	Around []events.Evidence // how the host and lictor.slice stood when an out-of-memory kill was looked into
}

// sources lists what was consulted, whether it could be read and what it said: the proof that goes with a verdict.
func (e Evidence) sources() []events.Evidence {
	list := []events.Evidence{
		source("ledger", e.LedgerErr, map[string]any{"memory.events": e.Ledger, "before_the_end": e.Alive}),
		e.waitStatus(),
		e.unit(),
	}
	if len(e.Intents) > 0 {
		list = append(list, source("intent", nil, map[string]any{"intents": e.Intents}))
	}
	if e.KillersAsked {
		list = append(list, source("journal", e.KillersErr, map[string]any{"killers": e.Killers}))
	}
	if e.OomdMark {
		list = append(list, source("scope", nil, map[string]any{xattrOomd: true}))
	}
	list = append(list, e.Around...)
	if e.Ledger.OOMKill > 0 {
		list = append(list, source("ancestors", nil, map[string]any{"oom": e.Ancestors}))
		if e.KernelErr != nil {
			list = append(list, source("kernel-log", e.KernelErr, nil))
		} else {
			list = append(list, source("kernel-log", nil, map[string]any{"kills": len(e.Kills), "lost": e.KillsLost}))
		}
	}
	return list
}

func (e Evidence) waitStatus() events.Evidence {
	if e.Exit == nil {
		return source("wait-status", ErrNotParent, nil)
	}
	x := e.Exit.Record()
	return source(cmp.Or(e.Exit.Via, "wait-status"), nil, map[string]any{"kind": x.Kind, "code": x.Code, "signal": x.Signal})
}

func (e Evidence) unit() events.Evidence {
	switch {
	case e.UnitErr != nil:
		return source("unit", e.UnitErr, nil)
	case !e.Unit.Known:
		return source("unit", nil, e.withJob(map[string]any{"Result": "success", "forgotten": true}))
	}
	v := e.withJob(map[string]any{"Result": e.Unit.Result, "ActiveState": e.Unit.ActiveState})
	if e.Deactivating != 0 {
		v["deactivating_after_seconds"] = seconds(e.Deactivating - e.Started)
	}
	return source("unit", nil, v)
}

// withJob adds that a job was seen, which proves a stop.
func (e Evidence) withJob(v map[string]any) map[string]any {
	if e.Unit.StopJob {
		v["job"] = true
	}
	return v
}

func source(name string, err error, values map[string]any) events.Evidence {
	if err != nil {
		return events.Evidence{Source: name, Why: err.Error()}
	}
	text, err := json.Marshal(values)
	if err != nil {
		return events.Evidence{Source: name, Why: err.Error()}
	}
	return events.Evidence{Source: name, Read: true, Values: text}
}

// inside reports whether a cgroup path from the kernel log is the run's.
func (e Evidence) inside(path string) bool {
	return path == e.LedgerPath || strings.HasPrefix(path, e.LedgerPath+"/")
}

// above reports whether a cgroup path from the kernel log is one that the ledger is in.
func (e Evidence) above(path string) bool {
	return path == "/" || strings.HasPrefix(e.LedgerPath, path+"/")
}

// kernelSaysEnough reports whether the kernel log need not be read again for those who were killed since Alive.
func (e Evidence) kernelSaysEnough() bool {
	if e.Exit != nil && e.Exit.Signal == syscall.SIGKILL {
		return e.named(e.LeaderPID)
	}
	return len(e.Kills) > 0
}

// ofRun keeps the kills of this run's processes: by cgroup where the log names it, else only the main process by its pid. A
// kill that cannot be placed belongs to nobody.
func (e Evidence) ofRun(kills []KernelKill) []KernelKill {
	return slices.DeleteFunc(slices.Clone(kills), func(k KernelKill) bool {
		switch {
		case k.TaskMemcg != "":
			return !e.inside(k.TaskMemcg)
		case k.Group != "":
			return !e.inside(k.Group)
		}
		return k.PID != e.LeaderPID
	})
}
