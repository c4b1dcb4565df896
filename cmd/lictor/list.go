package main

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/scidex/lictor/events"
)

// listed is a run in a listing: its record, and what the kernel says about it at this moment if it is alive.
type listed struct {
	*events.Run
	live *Live
}

// MarshalJSON writes the record of lictor/v1 with one more member, "live".
func (l listed) MarshalJSON() ([]byte, error) {
	record, err := json.Marshal(l.Run)
	if err != nil || l.live == nil {
		return record, err
	}
	now, err := json.Marshal(l.live.numbers())
	if err != nil {
		return nil, err
	}
	record = append(record[:len(record)-1], `,"live":`...)
	return append(append(record, now...), '}'), nil
}

// list joins what the store has with what is alive. The result is in the order of a listing: live runs first, newest first.
//
// The store decides whether a run has ended: its record is complete only then. Of a live one, the kernel knows the state
// better. A run that only the kernel knows (its record was lost, or is not written yet) is listed by what its ledger says.
func list(runs []*events.Run, live map[events.RunID]*Live, intents []events.Event) []listed {
	var out []listed
	seen := map[events.RunID]bool{}
	for _, r := range runs {
		seen[r.Run] = true
		out = append(out, join(r, live[r.Run], intents))
	}
	for id, l := range live {
		if !seen[id] && l.Record != nil {
			out = append(out, join(l.Record, l, intents))
		}
	}
	slices.SortStableFunc(out, func(a, b listed) int {
		if a.State.Final() != b.State.Final() {
			return order(a.State.Final())
		}
		return b.StartedAt.Compare(a.StartedAt)
	})
	return out
}

func order(last bool) int {
	if last {
		return 1
	}
	return -1
}

// join returns a run with its state brought up to date.
func join(r *events.Run, live *Live, intents []events.Event) listed {
	if r.State.Final() {
		return listed{Run: r}
	}
	now := *r
	if live != nil && live.State != "" {
		now.State = live.State
	}
	if live != nil && len(live.Survivors) > 0 {
		now.Survivors = live.Survivors
	}
	if live != nil && live.Limits != nil {
		now.Limits = live.Limits(now.Limits)
	}
	if e := lastIntent(r.Run, intents); e != nil {
		now.State, now.Reason = events.StateGrace, e.Reason
	}
	return listed{Run: &now, live: live}
}

// lastIntent returns the last word on why a run is being ended. A signal that was only passed on ends nothing.
func lastIntent(run events.RunID, es []events.Event) *events.Event {
	for _, e := range slices.Backward(es) {
		ending := (e.Kind == events.KindIntent || e.Kind == events.KindTerm) && e.Reason != "" && e.Reason != events.ReasonSignal
		if e.Run == run && ending {
			return &e
		}
	}
	return nil
}

// age is how long a run has lasted: until its end, or until now.
func (l listed) age(now time.Time) time.Duration {
	if d, ok := l.Duration(); ok {
		return d
	}
	return now.Sub(l.StartedAt)
}

// left is the time until RuntimeMaxSec, and whether there is such a limit.
func (l listed) left(now time.Time) (time.Duration, bool) {
	if l.Limits.RuntimeMaxSeconds == nil {
		return 0, false
	}
	return max(seconds(*l.Limits.RuntimeMaxSeconds)-l.age(now), 0), true
}

// memory is what a live run holds on to, nil if it is not known.
func (l listed) memory() *uint64 {
	if l.live == nil {
		return nil
	}
	return l.live.Memory()
}

func (l listed) peak() *uint64 {
	if l.live != nil && l.live.MemoryPeak != nil {
		return l.live.MemoryPeak
	}
	return l.Usage.MemoryPeakBytes
}

// cpuPercent is the share of one processor that a live run has used since its start, as ps(1) counts it.
func (l listed) cpuPercent(now time.Time) (float64, bool) {
	if l.live == nil || l.live.CPUSeconds == nil || l.age(now) <= 0 {
		return 0, false
	}
	return 100 * *l.live.CPUSeconds / l.age(now).Seconds(), true
}

// shortIDs returns what each run is called in a listing: its first characters, more only where they are the same.
func shortIDs(runs []events.RunID) map[events.RunID]string {
	short := map[events.RunID]string{}
	runs = slices.Compact(slices.Sorted(slices.Values(runs)))
	for length := events.ShortIDLen; len(short) < len(runs); length++ {
		count := map[string]int{}
		for _, r := range runs {
			count[prefix(r, length)]++
		}
		for _, r := range runs {
			if _, done := short[r]; !done && (count[prefix(r, length)] == 1 || length >= len(r)) {
				short[r] = prefix(r, length)
			}
		}
	}
	return short
}

func prefix(id events.RunID, length int) string { return string(id[:min(len(id), length)]) }
