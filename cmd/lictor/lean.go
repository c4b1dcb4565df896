package main

import (
	"runtime/debug"
	"runtime/metrics"

	"golang.org/x/sys/unix"
)

// The daemon has little to do and much to remember, for as long as the machine runs: it holds on to no memory that it needs now and
// then only.

// daemonGC is how much garbage the daemon may have beside what it needs, in percent.
const daemonGC = 50

// stayLean is called before there is much memory. With transparent huge pages each table of Go's runtime, and each hole in its heap,
// would take 2 MiB that the kernel does not get back.
func stayLean() {
	_ = unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0)
	debug.SetGCPercent(daemonGC)
}

// heapUse is what the Go heap holds, in bytes.
type heapUse struct {
	live    uint64 // what was in use when garbage was last collected
	objects uint64 // what is in use now, and garbage
	free    uint64 // what nobody uses and the kernel has not got back
}

// idleMost is how much memory may lie idle, in bytes.
const idleMost = 2 << 20

// lavish reports whether so much of the heap lies idle that it is worth a collection to give it back.
func (h heapUse) lavish() bool {
	idle := h.free
	if h.objects > h.live {
		idle += h.objects - h.live
	}
	return idle > max(idleMost, h.live/4)
}

// giveBack gives the kernel back what a burst of work has needed: Go itself keeps a tenth more than it ever needed at a time, and does
// not look for garbage while nothing is done.
func giveBack() {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(s)
	if (heapUse{live: s[0].Value.Uint64(), objects: s[1].Value.Uint64(), free: s[2].Value.Uint64()}).lavish() {
		debug.FreeOSMemory()
	}
}
