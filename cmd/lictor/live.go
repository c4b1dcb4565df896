package main

import (
	"context"

	"github.com/scidex/lictor/cmd/lictor/client"
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

func (live *Live) numbers() client.LiveNumbers {
	return client.LiveNumbers{MemoryBytes: live.Memory(), MemoryCurrentBytes: live.MemoryCurrent, MemoryPeakBytes: live.MemoryPeak,
		CPUSeconds: live.CPUSeconds, Tasks: live.Tasks, PIDs: live.PIDs, Cgroup: live.Cgroup}
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
	runs := map[events.RunID]*Live{}
	if c := a.elsewhere(); c != nil {
		list, err := c.Live(ctx)
		if err != nil {
			a.talk("live scopes are not known: %v", err)
		}
		for i := range list {
			runs[list[i].Run] = liveThere(&list[i])
		}
		return runs
	}
	if a.Scopes == nil {
		return nil
	}
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

// liveHere is how the daemon tells of a live run; liveThere is that as it was heard.
func liveHere(l *Live) client.Live {
	c := client.Live{Run: l.Run, State: l.State, Numbers: l.numbers(), Survivors: l.Survivors, Record: l.Record}
	if l.Limits != nil {
		limits := l.Limits(events.Limits{})
		c.Limits = &limits
	}
	return c
}

func liveThere(c *client.Live) *Live {
	n := c.Numbers
	l := &Live{Run: c.Run, State: c.State, MemoryCurrent: n.MemoryCurrentBytes, MemoryPeak: n.MemoryPeakBytes, CPUSeconds: n.CPUSeconds,
		Tasks: n.Tasks, PIDs: n.PIDs, Survivors: c.Survivors, Cgroup: n.Cgroup, Record: c.Record}
	if n.MemoryBytes != nil && n.MemoryCurrentBytes != nil {
		inactive := *n.MemoryCurrentBytes - min(*n.MemoryCurrentBytes, *n.MemoryBytes)
		l.InactiveFile = &inactive
	}
	if now := c.Limits; now != nil { // those that can change on a live run
		l.Limits = func(was events.Limits) events.Limits {
			was.MemoryMaxBytes, was.MemorySwapMaxBytes, was.MemoryHighBytes = now.MemoryMaxBytes, now.MemorySwapMaxBytes, now.MemoryHighBytes
			was.TasksMax, was.CPUQuotaPercent = now.TasksMax, now.CPUQuotaPercent
			return was
		}
	}
	return l
}
