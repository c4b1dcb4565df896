package cgroup

import (
	"errors"
	"fmt"
	"io"
)

// MemoryEvents are the counters of memory.events or memory.events.local. All but Low are times, not bytes, and only grow
// while the cgroup lives. Work with differences: a notification says "look again", not how often.
type MemoryEvents struct {
	Low     uint64 // reclaimed although below memory.low
	High    uint64 // throttled because above memory.high
	Max     uint64 // about to go over memory.max
	OOM     uint64 // reached the limit and reclaim failed; not a kill yet
	OOMKill uint64 // processes of the cgroup killed by any OOM killer, the host's included
	// OOMGroupKill is how often a whole cgroup was killed at once (memory.oom.group); Linux 5.17. HasGroupKill
	// tells a 0 that the kernel wrote from a kernel that does not count.
	OOMGroupKill uint64
	HasGroupKill bool
}

// ParseMemoryEvents reads memory.events:
//
//	low 0
//	high 0
//	max 1137
//	oom 6
//	oom_kill 3
//	oom_group_kill 1
//
// Unknown keys are ignored; newer kernels have more. A file without max, oom or oom_kill is malformed.
func ParseMemoryEvents(r io.Reader) (MemoryEvents, error) {
	b, err := readBounded(r)
	if err != nil {
		return MemoryEvents{}, err
	}
	return parseMemoryEvents(b)
}

func parseMemoryEvents(b []byte) (MemoryEvents, error) {
	var e MemoryEvents
	var seenMax, seenOOM, seenKill bool
	line := keyed{rest: b}.next()
	for ; line.ok; line = line.next() {
		switch string(line.key) {
		case "low":
			e.Low = line.n
		case "high":
			e.High = line.n
		case "max":
			e.Max, seenMax = line.n, true
		case "oom":
			e.OOM, seenOOM = line.n, true
		case "oom_kill":
			e.OOMKill, seenKill = line.n, true
		case "oom_group_kill":
			e.OOMGroupKill, e.HasGroupKill = line.n, true
		}
	}
	if line.bad {
		return MemoryEvents{}, malformed(line.key)
	}
	if !seenMax || !seenOOM || !seenKill {
		return MemoryEvents{}, fmt.Errorf("max, oom or oom_kill is missing in %q", string(b))
	}
	return e, nil
}

// MemoryEvents reads memory.events: what happened in the cgroup and everything below it, removed descendants included
// (unless [FS.MemoryLocalEvents]). Without the memory controller it is [ErrUnsupported].
func (g *Group) MemoryEvents() (MemoryEvents, error) {
	return g.readMemoryEvents("memory.events")
}

// MemoryEventsLocal reads memory.events.local: what happened in the cgroup itself, that is, because of its own limits, or
// to its own processes.
func (g *Group) MemoryEventsLocal() (MemoryEvents, error) {
	return g.readMemoryEvents("memory.events.local")
}

func (g *Group) readMemoryEvents(file string) (MemoryEvents, error) {
	var buf [256]byte
	b, err := g.read(file, buf[:])
	if err != nil {
		return MemoryEvents{}, err
	}
	e, err := parseMemoryEvents(b)
	if err != nil {
		return MemoryEvents{}, fileError(g.path, file, err)
	}
	return e, nil
}

// MemoryCurrent is the memory charged to the cgroup and its descendants now, in bytes, page cache included
// (memory.current).
func (g *Group) MemoryCurrent() (uint64, error) { return g.readUint("memory.current") }

// MemoryPeak is the most that MemoryCurrent ever was, in bytes (memory.peak); unset before Linux 5.19 and without the
// memory controller.
func (g *Group) MemoryPeak() (Value, error) { return g.readValue("memory.peak") }

// MemorySwapCurrent is the swap in use, in bytes (memory.swap.current); [ErrUnsupported] on a kernel without swap accounting.
func (g *Group) MemorySwapCurrent() (uint64, error) { return g.readUint("memory.swap.current") }

// MemoryOOMGroup reports whether the kernel's OOM killer takes the whole cgroup or one process (memory.oom.group).
func (g *Group) MemoryOOMGroup() (bool, error) {
	n, err := g.readUint("memory.oom.group")
	return n != 0, err
}

// readUint reads a file that holds a number and cannot hold "max". A missing file is ErrUnsupported.
func (g *Group) readUint(file string) (uint64, error) {
	v, err := g.readValue(file)
	if err != nil {
		return 0, err
	}
	n, ok := v.Uint64()
	if !v.IsSet() {
		return 0, fileError(g.path, file, ErrUnsupported)
	}
	if !ok {
		return 0, fileError(g.path, file, errors.New("max where a number belongs"))
	}
	return n, nil
}

// readValue reads a single-value file. A missing file is unset.
func (g *Group) readValue(file string) (Value, error) {
	var buf [32]byte
	b, err := g.read(file, buf[:])
	if errors.Is(err, ErrUnsupported) {
		return Unset, nil
	}
	if err != nil {
		return Unset, err
	}
	v, err := parseValue(b)
	if err != nil {
		return Unset, fileError(g.path, file, err)
	}
	return v, nil
}
