package main

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/internal/history"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

func TestNewBlackBox(t *testing.T) {
	const now = 1000 * time.Second
	got := newBlackBox([]history.Sample{{At: now - 61*time.Second, Bytes: 2}, {At: now - 1230*time.Millisecond, Bytes: 3}}, now)
	if d := cmp.Diff(&events.BlackBox{Seconds: []float64{-61, -1.2}, MemoryBytes: []uint64{2, 3}}, got); d != "" {
		t.Error(d)
	}
	if got := newBlackBox(nil, now); got != nil {
		t.Errorf("nothing was read: %+v", got)
	}
}

// The ended event of a killed run has what it held, beside what it had; that of another run has not.
func TestBlackBoxed(t *testing.T) {
	h := history.NewSampler(func(events.RunID) (uint64, error) { return 7 << 20, nil }, cgroup.Boottime)
	store := &eventstest.Memory{}
	rec := blackBoxed{events.NewRecorder(store, nil), h}
	for id, state := range map[events.RunID]events.State{"aaaaaaaaaaaa": events.StateKilled, "bbbbbbbbbbbb": events.StateDone} {
		run := eventstest.NewRun(id)
		if err := store.Begin(context.Background(), run); err != nil {
			t.Fatal(err)
		}
		h.Add(id)
		ended, e := eventstest.Ended(run)
		ended.State, e.State = state, state
		e.Detail = json.RawMessage(`{"by":"kernel"}`)
		if err := rec.End(context.Background(), ended, e); err != nil {
			t.Fatal(err)
		}
		es, err := store.Events(context.Background(), events.EventQuery{Run: id})
		if err != nil || len(es) != 1 {
			t.Fatal(es, err)
		}
		d := readAs[events.EndedDetail](es[0].Detail)
		if d.By != "kernel" || (d.BlackBox != nil) != (state == events.StateKilled) {
			t.Errorf("%s: %s", state, es[0].Detail)
		}
		if state == events.StateKilled && (len(d.BlackBox.MemoryBytes) != 1 || d.BlackBox.MemoryBytes[0] != 7<<20) {
			t.Errorf("%s", es[0].Detail)
		}
	}
}
