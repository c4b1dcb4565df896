package main

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/internal/history"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/watcher"
)

// blackBoxed writes what a killed run held into its ended event.
type blackBoxed struct {
	watcher.Recorder
	history *history.Sampler
}

// End implements watcher.Recorder.
func (b blackBoxed) End(ctx context.Context, run *events.Run, es ...events.Event) error {
	if run.State == events.StateKilled {
		now := cgroup.Boottime()
		if box := newBlackBox(b.history.Samples(run.Run), now); box != nil {
			for i := range es {
				if es[i].Kind == events.KindEnded {
					es[i].Detail = withBlackBox(es[i].Detail, box)
				}
			}
		}
	}
	return b.Recorder.End(ctx, run, es...)
}

// newBlackBox is what was read, nil if that is nothing: the last minute whole, of the time before ever less.
func newBlackBox(all []history.Sample, now time.Duration) *events.BlackBox {
	box := &events.BlackBox{}
	for _, s := range all {
		box.Seconds = append(box.Seconds, -math.Round((now-s.At).Seconds()*10)/10)
		box.MemoryBytes = append(box.MemoryBytes, s.Bytes)
	}
	if len(box.Seconds) == 0 {
		return nil
	}
	return box
}

// withBlackBox adds it to a detail. One that is no JSON object stays as it is.
func withBlackBox(detail json.RawMessage, box *events.BlackBox) json.RawMessage {
	members := map[string]any{}
	if len(detail) > 0 {
		if err := json.Unmarshal(detail, &members); err != nil {
			return detail
		}
	}
	members["black_box"] = box
	text, err := json.Marshal(members)
	if err != nil {
		return detail
	}
	return text
}
