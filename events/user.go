package events

import (
	"context"
	"fmt"
	"time"
)

// ForUser is what a user may see of a store: the own runs and their events. Of another's run it says what it says of one that
// does not exist. Close does nothing: the store is somebody else's.
func ForUser(s Reader, uid uint32) Reader { return userReader{s, uid} }

type userReader struct {
	all Reader
	uid uint32
}

func (u userReader) Run(ctx context.Context, id RunID) (*Run, error) {
	run, err := u.all.Run(ctx, id)
	if err == nil && run.UID != u.uid {
		return nil, fmt.Errorf("%w: %q", ErrNotFound, id)
	}
	return run, err
}

func (u userReader) Resolve(ctx context.Context, text string) (*Run, error) {
	return Resolve(ctx, text,
		func(ctx context.Context, prefix string, limit int) ([]*Run, error) {
			return u.Runs(ctx, RunQuery{Prefix: RunID(prefix), Limit: limit})
		},
		func(ctx context.Context, text string) (*Run, error) { return latestLabelled(ctx, u, text) })
}

// latest returns the run that started last, nil of none.
func latest(runs []*Run) (last *Run) {
	for _, r := range runs {
		if last == nil || r.StartedAt.After(last.StartedAt) {
			last = r
		}
	}
	return last
}

func (u userReader) Runs(ctx context.Context, q RunQuery) ([]*Run, error) {
	q.UID = &u.uid
	return u.all.Runs(ctx, q)
}

func (u userReader) Count(ctx context.Context, q RunQuery) (int, error) {
	q.UID = &u.uid
	return u.all.Count(ctx, q)
}

func (u userReader) Events(ctx context.Context, q EventQuery) ([]Event, error) {
	q.UID = &u.uid
	return u.all.Events(ctx, q)
}

func (u userReader) KillsSince(ctx context.Context, t time.Time) (int, error) {
	list, err := u.Events(ctx, EventQuery{KillsOnly: true, Since: t})
	return len(list), err
}

func (userReader) Close() error { return nil }
