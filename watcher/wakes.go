package watcher

import (
	"container/heap"
	"math"
	"time"
)

// never is a time on CLOCK_BOOTTIME that no host reaches.
const never = time.Duration(math.MaxInt64)

// wake is when a run is to be looked at.
type wake struct {
	member *member
	at     time.Duration // CLOCK_BOOTTIME; 0 is not at all
	index  int           // in the heap
}

// wakes are the times at which runs are to be looked at, the soonest first.
type wakes struct{ heap wakeHeap }

// set puts w at a time, or takes it out with 0.
func (ws *wakes) set(w *wake, at time.Duration) {
	ws.remove(w)
	if at > 0 {
		w.at = at
		heap.Push(&ws.heap, w)
	}
}

func (ws *wakes) remove(w *wake) {
	if w.at > 0 {
		heap.Remove(&ws.heap, w.index)
		w.at = 0
	}
}

// next is the soonest time.
func (ws *wakes) next() time.Duration {
	if len(ws.heap) == 0 {
		return never
	}
	return ws.heap[0].at
}

// due takes out one whose time has come; nil if there is none.
func (ws *wakes) due(now time.Duration) *wake {
	if ws.next() > now {
		return nil
	}
	w := ws.heap[0]
	ws.remove(w)
	return w
}

// wakeHeap implements heap.Interface.
type wakeHeap []*wake

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h wakeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is part of heap.Interface.
func (h *wakeHeap) Push(x any) {
	w := x.(*wake)
	w.index = len(*h)
	*h = append(*h, w)
}

// Pop is part of heap.Interface.
func (h *wakeHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return w
}
