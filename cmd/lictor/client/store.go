package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/scidex/lictor/events"
)

// Store is the daemon's store as far as the caller may see it.
func (c *Client) Store() events.Reader { return remoteStore{c} }

type remoteStore struct{ c *Client }

func (remoteStore) Close() error { return nil }

func (s remoteStore) Run(ctx context.Context, id events.RunID) (*events.Run, error) {
	var run events.Run
	return found(&run, s.c.call(ctx, http.MethodGet, "/api/v1/runs/"+url.PathEscape(string(id)), nil, nil, &run))
}

// Resolve implements events.Store. The caller is restricted to what it may see in any case.
func (s remoteStore) Resolve(ctx context.Context, text string) (*events.Run, error) {
	var run events.Run
	return found(&run, s.c.call(ctx, http.MethodGet, "/api/v1/resolve", url.Values{"name": {text}}, nil, &run))
}

func found(run *events.Run, err error) (*events.Run, error) {
	if err != nil {
		return nil, err
	}
	return run, nil
}

func (s remoteStore) Runs(ctx context.Context, q events.RunQuery) (list []*events.Run, err error) {
	return list, s.c.call(ctx, http.MethodGet, "/api/v1/runs", EncodeRunQuery(q), nil, &list)
}

// Count implements events.Store.
func (s remoteStore) Count(ctx context.Context, q events.RunQuery) (int, error) {
	var answer CountAnswer
	v := EncodeRunQuery(q)
	v.Set("count", "true")
	err := s.c.call(ctx, http.MethodGet, "/api/v1/runs", v, nil, &answer)
	return answer.Runs, err
}

func (s remoteStore) Events(ctx context.Context, q events.EventQuery) ([]events.Event, error) {
	var answer EventsAnswer
	if err := s.c.call(ctx, http.MethodGet, "/api/v1/events", EncodeEventQuery(q), nil, &answer); err != nil {
		return nil, err
	}
	if q.Cursor != nil {
		*q.Cursor = answer.Cursor
	}
	for i := range min(len(answer.Events), len(answer.Ordinals)) {
		answer.Events[i].Ordinal = answer.Ordinals[i]
	}
	return answer.Events, nil
}

func (s remoteStore) KillsSince(ctx context.Context, t time.Time) (int, error) {
	var answer KillsAnswer
	err := s.c.call(ctx, http.MethodGet, "/api/v1/kills", url.Values{"since": {t.UTC().Format(time.RFC3339Nano)}}, nil, &answer)
	return answer.Kills, err
}

// EventsAnswer is what GET /api/v1/events answers.
type EventsAnswer struct {
	Events   []events.Event `json:"events"`
	Ordinals []int          `json:"ordinals"` // of the events; not part of their JSON
	Cursor   int64          `json:"cursor"`
}

// CountAnswer is what GET /api/v1/runs?count=true answers.
type CountAnswer struct {
	Runs int `json:"runs"`
}

// KillsAnswer is what GET /api/v1/kills answers.
type KillsAnswer struct {
	Kills int `json:"kills"`
}
