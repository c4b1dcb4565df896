package main

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/scidex/lictor/cmd/lictor/internal/metrics"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

// scrapeTime bounds what a look at the metrics asks the store.
const scrapeTime = 5 * time.Second

// newMetrics returns what the daemon counts.
func (d *daemon) newMetrics() *metrics.Metrics {
	return metrics.New(metrics.Sources{
		Version:    readBuild(debug.ReadBuildInfo()).Version,
		Runs:       d.countRuns,
		Memory:     d.fleetMemory,
		Pending:    d.pending,
		Overflows:  d.fleet.Overflows,
		Mismatches: d.mismatches.Load,
	})
}

// wrote is told of every write to the store.
func (d *daemon) wrote(ended *events.Run, err error) {
	switch {
	case err == nil && ended != nil:
		d.metrics.Ended(ended, time.Now())
	case err != nil && !errors.Is(err, events.ErrAlreadyEnded):
		d.metrics.StoreFailed()
	}
}

// kept is how many runs of a user, nil for all, the daemon keeps, and of how many the end has been begun: by it, by systemd, or by
// somebody's word, which is an intent on record.
func (d *daemon) kept(uid *uint32) (kept, ending int) {
	kept, begun := d.fleet.Ending(uid)
	rec, err := d.settler.recorder("")
	if err != nil {
		return kept, len(begun)
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	intents, err := rec.store.Events(ctx, events.EventQuery{Kinds: []events.Kind{events.KindIntent}, Live: true, UID: uid})
	if err != nil {
		return kept, len(begun)
	}
	for _, e := range intents {
		if readAs[events.IntentDetail](e.Detail).Action == watcher.ActStop {
			begun[e.Run] = true
		}
	}
	return kept, len(begun)
}

func (d *daemon) countRuns() (live, ending int, ok bool) {
	_, ending = d.kept(nil)
	rec, err := d.settler.recorder("")
	if err != nil {
		return 0, 0, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	live, err = rec.store.Count(ctx, events.RunQuery{Live: true})
	return live, ending, err == nil
}

func (d *daemon) fleetMemory() (usage uint64, limit *uint64, ok bool) {
	usage, most, err := scope.FleetMemory(d.launcher.FS(), d.launcher.FleetPath())
	if err != nil {
		return 0, nil, false
	}
	if n, finite := most.Uint64(); finite {
		limit = &n
	}
	return usage, limit, true
}

// pending counts what waits for the database that was written to last, if one is configured.
func (d *daemon) pending() (n int, ok bool) {
	c, err := d.app.LoadConfig()
	if err != nil || c.Settings[keyDatabase].Text == "" {
		return 0, false
	}
	rec, err := d.settler.recorder("")
	if err != nil {
		return 0, false
	}
	s, isSQLite := rec.store.(*events.SQLite)
	if !isSQLite {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	list, err := s.Spools(ctx)
	if err != nil {
		return 0, false
	}
	if len(list) == 0 { // it was never reached
		size, err := s.Size(ctx)
		return size.Events, err == nil
	}
	return list[0].Pending, true
}

// Metrics implements api.Backend.
func (b *backend) Metrics() http.Handler { return b.metrics.Handler() }
