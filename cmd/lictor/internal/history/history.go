// Package history remembers how much memory live runs held: every second where it moves, seldom where it does not.
//
// Nothing tells when memory.current changes, so it has to be read. A run that lies still costs nothing but a look in each sweep of the
// daemon; one that was seen to move is read once a second until it lies still again.
package history

import "time"

const (
	// recent is how many samples are kept as they were taken; older ones are thinned, so that a chart spans the whole life of a run.
	recent = 60
	older  = 60
	// still is how many samples in a row without a move end the reading.
	still = 5
)

// Sample is what a run held at a time.
type Sample struct {
	At    time.Duration // CLOCK_BOOTTIME
	Bytes uint64
}

// Ring are the samples of one run: the last ones, and of those before them ever fewer.
type Ring struct {
	last   []Sample // at most recent
	old    []Sample // at most older
	stride int      // of the samples that leave last, each stride-th goes to old
	passed int      // those that have left last
	calm   int      // samples in a row without a move
}

// Add adds a sample.
func (r *Ring) Add(s Sample) {
	if n := len(r.last); n > 0 && !moved(r.last[n-1].Bytes, s.Bytes) {
		r.calm++
	} else {
		r.calm = 0
	}
	if len(r.last) == recent {
		r.age(r.last[0])
		r.last = append(r.last[:0], r.last[1:]...)
	}
	r.last = append(r.last, s)
}

// moved reports whether two readings differ by more than what a program that waits does.
func moved(a, b uint64) bool {
	d := max(a, b) - min(a, b)
	return d > 64<<10 && d > a/100
}

func (r *Ring) age(s Sample) {
	r.stride = max(r.stride, 1)
	if r.passed++; (r.passed-1)%r.stride != 0 {
		return
	}
	if len(r.old) == older {
		kept := r.old[:0]
		for i := 0; i < older; i += 2 {
			kept = append(kept, r.old[i])
		}
		r.old = kept
		r.stride *= 2
	}
	r.old = append(r.old, s)
}

// Still reports whether the run has not moved for a while.
func (r *Ring) Still() bool { return r.calm >= still }

// Samples returns all, oldest first.
func (r *Ring) Samples() []Sample {
	return append(append(make([]Sample, 0, len(r.old)+len(r.last)), r.old...), r.last...)
}
