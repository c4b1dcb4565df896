package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/migrations"
)

// readDeadline bounds a command that reads and ends. The store waits for other writers at most half of it.
const readDeadline = time.Minute

// OpenReader opens the store for queries. It does not create one: where no run has been yet, the store is empty.
func (a *App) OpenReader() (*events.SQLite, error) {
	path, err := a.StorePath()
	if err != nil {
		return nil, err
	}
	return events.OpenSQLiteReadOnly(path)
}

// openStore opens the own store for reading and writing, and creates it if it is not there.
func (a *App) openStore(ctx context.Context) (*events.SQLite, error) {
	path, err := a.StorePath()
	if err != nil {
		return nil, err
	}
	return a.openStoreAt(ctx, path)
}

func (a *App) openStoreAt(ctx context.Context, path string) (*events.SQLite, error) {
	s, err := events.OpenSQLite(ctx, path, migrations.SQLite)
	if err != nil {
		return nil, a.explainStore(err)
	}
	return s, nil
}

// read settles, opens the store, calls fn and closes it.
func (a *App) read(ctx context.Context, fn func(context.Context, events.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, readDeadline)
	defer cancel()
	a.settle(ctx)
	store, err := a.openReaders(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	return a.explainStore(fn(ctx, store))
}

// resolve finds the run that a person means. One that only the kernel knows (it is in no record, or in that of another
// store) is found too.
func (a *App) resolve(ctx context.Context, s events.Reader, text string) (*events.Run, error) {
	run, err := s.Resolve(ctx, text)
	if !errors.Is(err, events.ErrNotFound) || text == "" {
		return run, err
	}
	var found *events.Run
	for id, l := range a.live(ctx) {
		if l.Record == nil || !strings.HasPrefix(string(id), text) && l.Record.AnalysisID != text {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w: %q", events.ErrAmbiguous, text)
		}
		found = l.Record
	}
	if found == nil {
		return nil, err
	}
	return found, nil
}

// explainStore adds what helps to the errors of a store that a person can do something about.
func (a *App) explainStore(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, events.ErrNotFound):
		return withHint(err, "lictor ps -a lists the runs")
	case errors.Is(err, events.ErrAmbiguous):
		return withHint(err, "give more characters of the id")
	case errors.Is(err, migrations.ErrNewer):
		return withHint(err, "use the lictor that wrote it, or a newer one")
	case errors.Is(err, events.ErrSchema):
		return withHint(err, "lictor db migrate")
	case errors.Is(err, events.ErrDamaged):
		return withHint(err, "lictor db check --set-aside begins a new one")
	case errors.Is(err, fs.ErrPermission) && a.Mode() == ModeSystem && a.UID != 0:
		return withHint(err, "lictor --user for the own runs, or ask as root")
	}
	return err
}
