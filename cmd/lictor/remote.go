package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
)

// noHost is the value of LICTOR_HOST for a lictor that wants no daemon.
const noHost = "none"

// client is the door to the daemon, nil if it is not wanted: --host or LICTOR_HOST name another socket, a URL, or none, and --user is
// about the own manager. Nothing is dialled.
func (a *App) client() *client.Client {
	host := cmp.Or(a.host, a.Getenv("LICTOR_HOST"))
	if host == noHost || a.user {
		return nil
	}
	c, err := client.New(host, a.Getenv("LICTOR_TOKEN"))
	if err != nil {
		return nil // checkHost has said so
	}
	return c
}

// checkHost refuses a host that nobody can be reached at.
func (a *App) checkHost() error {
	host := cmp.Or(a.host, a.Getenv("LICTOR_HOST"))
	if host == noHost {
		return nil
	}
	if _, err := client.New(host, ""); err != nil {
		return withHint(withCode(exitUsage, err), "--host /run/lictor/api.sock, --host http://127.0.0.1:7717, or --host none")
	}
	return nil
}

// elsewhere is client for a daemon that may be another machine's: everything is asked of it, nothing is read here. Else nil.
func (a *App) elsewhere() *client.Client {
	if c := a.client(); c != nil && c.Remote() {
		return c
	}
	return nil
}

// onlyHere refuses what cannot be done on another machine.
func (a *App) onlyHere(what, instead string) error {
	if a.elsewhere() == nil {
		return nil
	}
	return withHint(usageError("%s: not possible over --host URL", what), instead)
}

// remote is client for an ordinary user who wants to see or do something with runs of the system's manager, nil if nobody
// answers. Root needs nobody for that, but elsewhere.
func (a *App) remote(ctx context.Context) *client.Client {
	c := a.client()
	if c != nil && c.Remote() {
		return c
	}
	if a.UID == 0 || c == nil || !c.Present(ctx) {
		return nil
	}
	return c
}

// modes are the managers that a listing is about.
func (a *App) modes(ctx context.Context) []Mode {
	if a.Mode() == ModeUser && a.remote(ctx) != nil {
		return []Mode{ModeUser, ModeSystem}
	}
	return []Mode{a.Mode()}
}

// openReaders opens all that the caller may read: the own store, and what the daemon shows.
func (a *App) openReaders(ctx context.Context) (events.Reader, error) {
	c := a.remote(ctx)
	if c != nil && (a.Mode() == ModeSystem || c.Remote()) {
		return c.Store(), nil
	}
	own, err := a.OpenReader()
	if err != nil {
		return nil, err
	}
	if c == nil {
		return own, nil
	}
	return &union{own, c.Store()}, nil
}

// union reads two stores as one.
type union struct{ own, remote events.Reader }

func (u *union) Close() error { return errors.Join(u.own.Close(), u.remote.Close()) }

func (u *union) Run(ctx context.Context, id events.RunID) (*events.Run, error) {
	run, err := u.own.Run(ctx, id)
	if errors.Is(err, events.ErrNotFound) {
		return u.remote.Run(ctx, id)
	}
	return run, err
}

// Resolve implements events.Reader. Of two runs of one name the later one is meant, as in one store.
func (u *union) Resolve(ctx context.Context, text string) (*events.Run, error) {
	own, err := u.own.Resolve(ctx, text)
	if err != nil && !errors.Is(err, events.ErrNotFound) {
		return nil, err
	}
	remote, failed := u.remote.Resolve(ctx, text)
	switch {
	case errors.Is(failed, events.ErrNotFound):
		return own, err
	case failed != nil:
		return nil, failed
	case own != nil && own.StartedAt.After(remote.StartedAt):
		return own, nil
	}
	return remote, nil
}

func (u *union) Runs(ctx context.Context, q events.RunQuery) ([]*events.Run, error) {
	list, err := u.own.Runs(ctx, q)
	if err != nil {
		return nil, err
	}
	more, err := u.remote.Runs(ctx, q)
	if err != nil {
		return nil, err
	}
	list = append(list, more...)
	slices.SortStableFunc(list, func(a, b *events.Run) int { return b.StartedAt.Compare(a.StartedAt) })
	if q.Limit > 0 {
		list = list[:min(q.Limit, len(list))]
	}
	return list, nil
}

func (u *union) Count(ctx context.Context, q events.RunQuery) (int, error) {
	n, err := u.own.Count(ctx, q)
	if err != nil {
		return 0, err
	}
	more, err := u.remote.Count(ctx, q)
	return n + more, err
}

// remoteBits is how much of a position in both stores is that in the daemon's.
const remoteBits = 32

// Events implements events.Reader. The events are in the order of their time. A position has two in it.
func (u *union) Events(ctx context.Context, q events.EventQuery) ([]events.Event, error) {
	var here, there int64
	mine, theirs := q, q
	mine.After, mine.Cursor = q.After>>remoteBits, &here
	theirs.After, theirs.Cursor = q.After&(1<<remoteBits-1), &there
	list, err := u.own.Events(ctx, mine)
	if err != nil {
		return nil, err
	}
	more, err := u.remote.Events(ctx, theirs)
	if err != nil {
		return nil, err
	}
	list = append(list, more...)
	slices.SortStableFunc(list, func(a, b events.Event) int { return a.At.Compare(b.At) })
	if q.Last > 0 {
		list = list[max(0, len(list)-q.Last):]
	}
	if q.Cursor != nil {
		*q.Cursor = here<<remoteBits | there
	}
	return list, nil
}

func (u *union) KillsSince(ctx context.Context, t time.Time) (int, error) {
	n, err := u.own.KillsSince(ctx, t)
	if err != nil {
		return 0, err
	}
	more, err := u.remote.KillsSince(ctx, t)
	return n + more, err
}
