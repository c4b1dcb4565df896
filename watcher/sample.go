package watcher

import (
	"time"

	"github.com/scidex/lictor/cgroup"
)

// Counters are the counters of a run that only grow, as the kernel keeps them on its ledger.
type Counters struct {
	MemoryMax    uint64 `json:"max"` // times the limit was touched
	OOM          uint64 `json:"oom"`
	OOMKill      uint64 `json:"oom_kill"`
	OOMGroupKill uint64 `json:"oom_group_kill"`
	PidsMax      uint64 `json:"pids_max"` // forks refused at TasksMax
}

// Since returns what was added to c after earlier. A counter never goes back.
func (c Counters) Since(earlier Counters) Counters {
	return Counters{
		MemoryMax:    c.MemoryMax - min(c.MemoryMax, earlier.MemoryMax),
		OOM:          c.OOM - min(c.OOM, earlier.OOM),
		OOMKill:      c.OOMKill - min(c.OOMKill, earlier.OOMKill),
		OOMGroupKill: c.OOMGroupKill - min(c.OOMGroupKill, earlier.OOMGroupKill),
		PidsMax:      c.PidsMax - min(c.PidsMax, earlier.PidsMax),
	}
}

// touched reports whether nothing is new since earlier but that limits were touched, which is nobody's end.
func touched(earlier, now Counters) bool {
	earlier.MemoryMax, earlier.PidsMax = now.MemoryMax, now.PidsMax
	return earlier == now
}

// readCounters reads the ledger.
func readCounters(b Box, last Counters) (Counters, error) {
	c, err := readMemory(b, last)
	if err != nil {
		return last, err
	}
	return readTasks(b, c), nil
}

func readMemory(b Box, last Counters) (Counters, error) {
	ev, err := b.Ledger.MemoryEvents()
	if err != nil {
		return last, err
	}
	return Counters{MemoryMax: ev.Max, OOM: ev.OOM, OOMKill: ev.OOMKill, OOMGroupKill: ev.OOMGroupKill, PidsMax: last.PidsMax}, nil
}

// readTasks reads the fork counter. It is the scope's: before Linux 6.12 pids.events is not hierarchical. Once the scope is gone the
// last value seen stands.
func readTasks(b Box, c Counters) Counters {
	for _, g := range []*cgroup.Group{b.Scope, b.Ledger} {
		if g == nil {
			continue
		}
		if n, err := g.PidsEvents(); err == nil {
			c.PidsMax = max(c.PidsMax, n)
		}
	}
	return c
}

// finalUsage is what a run used, read from its ledger when it is empty. Nil is not known.
type finalUsage struct {
	peak, tasks *uint64
	cpu         *float64
}

func readUsage(ledger *cgroup.Group) finalUsage {
	var u finalUsage
	if v, err := ledger.MemoryPeak(); err == nil {
		if n, ok := v.Uint64(); ok {
			u.peak = &n
		}
	}
	if v, err := ledger.PidsPeak(); err == nil {
		if n, ok := v.Uint64(); ok {
			u.tasks = &n
		}
	}
	if d, err := ledger.CPUUsage(); err == nil {
		s := seconds(d)
		u.cpu = &s
	}
	return u
}

func seconds(d time.Duration) float64 { return d.Round(time.Microsecond).Seconds() }
