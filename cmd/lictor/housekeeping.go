package main

import (
	"context"
	"errors"
	"time"

	"github.com/scidex/lictor/events"
)

// The daemon's housekeeping: the records are checked once, and every hour what is too old is forgotten. It waits a moment first,
// in which there is more important work.
const (
	houseFirst = 30 * time.Second
	houseEvery = time.Hour
)

func (d *daemon) housekeeping(ctx context.Context) {
	if sleep(ctx, houseFirst) != nil {
		return
	}
	if err := d.checkStore(ctx); err != nil && ctx.Err() == nil {
		d.log.Error("records not checked", "error", err)
	}
	for {
		sum, err := d.app.prune(ctx)
		if err != nil && ctx.Err() == nil {
			d.log.Warn("records not pruned", "error", err)
		}
		if sum != (events.Pruned{}) {
			d.log.Info("pruned", "events", sum.Events, "runs", sum.Runs)
		}
		if sum.Lost > 0 {
			d.log.Error("records were forgotten before their time: the store is at its cap", "events", sum.Lost, "key", keyStoreMax)
		}
		if sleep(ctx, houseEvery) != nil {
			return
		}
	}
}

// checkStore sets a damaged store aside.
func (d *daemon) checkStore(ctx context.Context) error {
	s, err := d.app.openStore(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	err = s.Check(ctx)
	if errors.Is(err, events.ErrDamaged) {
		d.log.Error("the store is damaged", "error", err)
		rec, open := d.settler.recorder("")
		if open != nil {
			return open
		}
		store, ok := rec.store.(*events.SQLite) // so that its recorder tells the journal
		if !ok {
			return err
		}
		err = store.Replace(ctx, err)
		rec.Alarm()
	}
	return err
}
