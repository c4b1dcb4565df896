package api

import (
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"slices"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
)

// What callers read. Everything is restricted to the runs that they may see.

// maxRows bounds one answer; a caller with more asks again from where it ended.
const maxRows = 10000

// store is what the caller may see.
func (s *Server) store(r *http.Request, p Peer) (events.Reader, error) {
	store, err := s.backend.Store(r.Context())
	if err != nil || p.All() {
		return store, err
	}
	return events.ForUser(store, p.UID), nil
}

// find returns the run in the path.
func (s *Server) find(r *http.Request, p Peer) (*events.Run, error) {
	store, err := s.store(r, p)
	if err != nil {
		return nil, err
	}
	return store.Run(r.Context(), events.RunID(r.PathValue("run")))
}

func (s *Server) run(r *http.Request, p Peer) (any, error) {
	run, err := s.find(r, p)
	if err != nil {
		return nil, err
	}
	return s.current(run), nil
}

// current is a record as it is now: what the store has of a live run is how it began.
func (s *Server) current(run *events.Run) *events.Run {
	if run.State.Final() {
		return run
	}
	return s.backend.Current(run)
}

// runsPage is how many records are in memory at a time for one answer.
const runsPage = 200

// records yields the records that a query selects in pages, at least one, live ones as they are now.
func (s *Server) records(ctx context.Context, store events.Reader, q events.RunQuery) iter.Seq2[[]*events.Run, error] {
	rest, want := q.Limit, q.States
	if rest <= 0 || rest > maxRows {
		rest = maxRows
	}
	if wantsLive(q) {
		q.States = append(slices.Clone(want), events.StateStarting, events.StateRunning, events.StateGrace)
	}
	return func(yield func([]*events.Run, error) bool) {
		for rest > 0 {
			q.Limit = min(rest, runsPage)
			list, err := store.Runs(ctx, q)
			if err != nil {
				yield(nil, err)
				return
			}
			n := len(list)
			if n > 0 {
				q.After = events.RunKey{StartedAt: list[n-1].StartedAt, Run: list[n-1].Run}
			}
			for i := range list {
				list[i] = s.current(list[i])
			}
			if len(want) > 0 {
				list = slices.DeleteFunc(list, func(r *events.Run) bool { return !slices.Contains(want, r.State) })
			}
			rest -= len(list)
			if !yield(list, nil) || n < q.Limit {
				return
			}
		}
	}
}

// wantsLive reports whether a query names states that the store does not know.
func wantsLive(q events.RunQuery) bool {
	return slices.ContainsFunc(q.States, func(s events.State) bool { return !s.Final() })
}

// count is how many records a query selects.
func (s *Server) count(ctx context.Context, store events.Reader, q events.RunQuery) (n int, err error) {
	if !wantsLive(q) {
		return store.Count(ctx, q)
	}
	q.Limit = 0
	for list, err := range s.records(ctx, store, q) {
		if n += len(list); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// runs answers with a list of records, which is written as it is read: however many there are, a page of them is in memory.
func (s *Server) runs(w http.ResponseWriter, r *http.Request) {
	q, err := decodeRunQuery(r.URL.Query())
	var store events.Reader
	if err == nil {
		store, err = s.store(r, peerFrom(r.Context()))
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if r.URL.Query().Get("count") == "true" {
		s.answer(func(r *http.Request, _ Peer) (any, error) {
			n, err := s.count(r.Context(), store, q)
			return client.CountAnswer{Runs: n}, err
		}).ServeHTTP(w, r)
		return
	}
	control := http.NewResponseController(w)
	begin := []byte("[")
	for list, err := range s.records(r.Context(), store, q) {
		_ = control.SetWriteDeadline(time.Now().Add(answerTime))
		switch {
		case err != nil && string(begin) == "[":
			s.fail(w, r, err)
			return
		case err != nil:
			panic(http.ErrAbortHandler) // half a list must not look like a whole one
		}
		w.Header().Set("Content-Type", "application/json")
		for _, run := range list {
			text, err := json.Marshal(run)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			if _, err := w.Write(append(begin, text...)); err != nil {
				return
			}
			begin = []byte(",")
		}
	}
	if string(begin) == "[" {
		_, _ = w.Write(begin)
	}
	_, _ = w.Write([]byte("]\n"))
}

func (s *Server) resolve(r *http.Request, p Peer) (any, error) {
	store, err := s.store(r, p)
	if err != nil {
		return nil, err
	}
	run, err := store.Resolve(r.Context(), r.URL.Query().Get("name"))
	if err != nil {
		return nil, err
	}
	return s.current(run), nil
}

func (s *Server) events(r *http.Request, p Peer) (any, error) {
	q, err := decodeEventQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	store, err := s.store(r, p)
	if err != nil {
		return nil, err
	}
	answer := client.EventsAnswer{Cursor: q.After}
	q.Cursor = &answer.Cursor
	switch {
	case q.Limit > 0 || q.Last == 0 && q.After > 0: // a page
		q.Limit = min(cmp.Or(q.Limit, maxRows), maxRows)
	case q.Last == 0 || q.Last > maxRows:
		q.Last = maxRows
	}
	answer.Events, err = store.Events(r.Context(), q)
	for _, e := range answer.Events {
		answer.Ordinals = append(answer.Ordinals, e.Ordinal)
	}
	return answer, err
}

func (s *Server) kills(r *http.Request, p Peer) (any, error) {
	d := decoder{values: r.URL.Query()}
	since := d.time("since")
	if d.err != nil {
		return nil, d.err
	}
	if since.IsZero() {
		since = time.Now().Add(-24 * time.Hour)
	}
	store, err := s.store(r, p)
	if err != nil {
		return nil, err
	}
	n, err := store.KillsSince(r.Context(), since)
	return client.KillsAnswer{Kills: n}, err
}

func (s *Server) live(r *http.Request, p Peer) (any, error) {
	list, err := s.backend.Live(r.Context(), p.only())
	return append([]client.Live{}, list...), err
}

func (s *Server) summary(r *http.Request, p Peer) (any, error) {
	store, err := s.store(r, p)
	if err != nil {
		return nil, err
	}
	return s.backend.Summary(r.Context(), store, p.only())
}

func (s *Server) processes(r *http.Request, p Peer) (any, error) {
	run, err := s.find(r, p)
	if err != nil {
		return nil, err
	}
	list, err := s.backend.Processes(r.Context(), run)
	return append([]events.Process{}, list...), err
}
