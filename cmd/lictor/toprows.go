package main

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/scidex/lictor/events"
)

// topRow is a run in the list.
type topRow struct {
	listed
	cpu      float64 // percent of one processor, since the last refresh
	cpuKnown bool
}

// topEnded is a run that is still shown.
type topEnded struct {
	run   *events.Run
	until time.Time
}

// stillShown are the ended runs to show. One whose end was watched stays from then on, whenever it really ended.
func stillShown(shown map[events.RunID]topEnded, s *topSample, before map[events.RunID]listed) map[events.RunID]topEnded {
	if shown = maps.Clone(shown); shown == nil {
		shown = map[events.RunID]topEnded{}
	}
	for _, r := range s.ended {
		if _, known := shown[r.Run]; known {
			continue
		}
		from := s.at
		if _, watched := before[r.Run]; !watched && r.EndedAt != nil {
			from = *r.EndedAt
		}
		shown[r.Run] = topEnded{r, from.Add(endedStay)}
	}
	maps.DeleteFunc(shown, func(_ events.RunID, e topEnded) bool { return !e.until.After(s.at) })
	for _, r := range s.live {
		delete(shown, r.Run.Run)
	}
	return shown
}

// byID are the live runs of a sample, which may be nil.
func (s *topSample) byID() map[events.RunID]listed {
	runs := map[events.RunID]listed{}
	if s != nil {
		for _, r := range s.live {
			runs[r.Run.Run] = r
		}
	}
	return runs
}

// measured is a row with its share of a processor since the previous sample, or since its start if it was not in there.
func measured(r listed, now time.Time, before map[events.RunID]listed, previous *topSample) topRow {
	row := topRow{listed: r}
	used := liveOf(r).CPUSeconds
	then := liveOf(before[r.Run.Run]).CPUSeconds
	switch {
	case used == nil:
	case then == nil:
		row.cpu, row.cpuKnown = r.cpuPercent(now)
	case now.After(previous.at):
		row.cpu, row.cpuKnown = 100*max(*used-*then, 0)/now.Sub(previous.at).Seconds(), true
	}
	return row
}

// topOrder is what the list is sorted by.
type topOrder string

const (
	byMemory topOrder = "memory"
	byCPU    topOrder = "cpu"
	byAge    topOrder = "age"
	byLeft   topOrder = "left"
	byPeak   topOrder = "peak"
)

func orderNames() []string {
	return []string{string(byMemory), string(byCPU), string(byAge), string(byLeft), string(byPeak)}
}

// sorted puts live runs first, in the order that was chosen, then those that have ended, the last one first.
func (m topModel) sorted() topModel {
	m.rows = slices.Clone(m.rows)
	slices.SortFunc(m.rows, func(a, b topRow) int {
		if a.State.Final() != b.State.Final() {
			return order(a.State.Final())
		}
		return cmp.Or(m.compare(a, b), b.StartedAt.Compare(a.StartedAt), cmp.Compare(a.Run.Run, b.Run.Run))
	})
	return m
}

func (m topModel) compare(a, b topRow) int {
	if a.State.Final() {
		return cmp.Compare(m.ended[b.Run.Run].until.UnixNano(), m.ended[a.Run.Run].until.UnixNano())
	}
	x, known := m.weight(a)
	y, both := m.weight(b)
	switch {
	case known != both: // what is not known is last, either way round
		return order(!known)
	case m.reverse:
		return cmp.Compare(x, y)
	}
	return cmp.Compare(y, x)
}

// weight is what is compared: the largest is first.
func (m topModel) weight(r topRow) (float64, bool) {
	switch m.order {
	case byCPU:
		return r.cpu, r.cpuKnown
	case byAge:
		return r.age(m.sample.at).Seconds(), true
	case byLeft: // who has the least left
		left, limited := r.left(m.sample.at)
		return -left.Seconds(), limited
	case byPeak:
		return orZero(r.peak())
	}
	return orZero(r.memory())
}

func orZero(n *uint64) (float64, bool) {
	if n == nil {
		return 0, false
	}
	return float64(*n), true
}
