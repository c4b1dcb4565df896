package main

import (
	"context"

	"github.com/scidex/lictor/events"
)

// Live is what the kernel says about one run at this moment, read from its ledger cgroup. Nil is not known.
type Live struct {
	Run   events.RunID
	State events.State // starting, running or grace

	MemoryCurrent *uint64 // memory.current, bytes
	InactiveFile  *uint64 // memory.stat inactive_file, bytes: page cache that the kernel takes back first
	MemoryPeak    *uint64 // memory.peak, bytes
	CPUSeconds    *float64
	Tasks         *uint64
	PIDs          []int            // members of the scope
	Survivors     []events.Process // of those, who was named as having outlived SIGKILL
	Cgroup        string           // path of the scope below the cgroup root

	// Limits returns the limits of the record with those that were changed since. Nil: they are as in the record.
	Limits func(events.Limits) events.Limits

	// Record is what the ledger itself says about the run, for one that the store does not know.
	Record *events.Run
}

// liveNumbers is Live in JSON.
type liveNumbers struct {
	MemoryBytes        *uint64  `json:"memory_bytes"` // MEM of `lictor ps`
	MemoryCurrentBytes *uint64  `json:"memory_current_bytes"`
	MemoryPeakBytes    *uint64  `json:"memory_peak_bytes"`
	CPUSeconds         *float64 `json:"cpu_seconds"`
	Tasks              *uint64  `json:"tasks"`
	PIDs               []int    `json:"pids,omitempty"`
	Cgroup             string   `json:"cgroup,omitempty"`
}

func (live *Live) numbers() liveNumbers {
	return liveNumbers{live.Memory(), live.MemoryCurrent, live.MemoryPeak, live.CPUSeconds, live.Tasks, live.PIDs, live.Cgroup}
}

// Memory returns what the run holds on to: memory.current without the page cache that it can lose any time.
func (live *Live) Memory() *uint64 {
	if live.MemoryCurrent == nil || live.InactiveFile == nil {
		return live.MemoryCurrent
	}
	n := *live.MemoryCurrent - min(*live.MemoryCurrent, *live.InactiveFile)
	return &n
}

// liveSource tells which runs are alive. It lists every run whose ledger exists in the manager of the mode.
type liveSource interface {
	Live(ctx context.Context, mode Mode) ([]Live, error)
}

// live returns the live runs by id. Where they cannot be known that is said, and the store alone speaks.
func (a *App) live(ctx context.Context) map[events.RunID]*Live {
	if a.Scopes == nil {
		return nil
	}
	runs := map[events.RunID]*Live{}
	for _, mode := range a.modes(ctx) {
		list, err := a.Scopes.Live(ctx, mode)
		if err != nil {
			a.talk("live scopes are not known: %v", err)
		}
		for i := range list {
			runs[list[i].Run] = &list[i]
		}
	}
	return runs
}
