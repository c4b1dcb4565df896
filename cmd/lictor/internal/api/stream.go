package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/scidex/lictor/events"
)

// A stream is GET /api/v1/events with "Accept: text/event-stream" (WHATWG HTML, server-sent events): what happens, as it is put on
// record. The id of an event is its position in the store, so that a client that comes back with Last-Event-ID gets what it missed,
// in order and without gaps.
//
// All clients that may see the same share a view: one reader of the store and the last events in memory. It reads while somebody
// listens, and then only when the store has changed. A client has no queue of its own: one that is slow reads later, from the view or,
// when that no longer reaches back, from the store; one that takes nothing at all is hung up on.

const (
	streamPoll  = 200 * time.Millisecond // between two looks whether the store has changed
	streamBeat  = 15 * time.Second       // between two signs of life on a stream on which nothing happens
	streamStall = 15 * time.Second       // for a client to take what it was sent
	streamKeep  = 4096                   // events that a view has in memory
	streamPage  = 1000                   // events in one reading or writing
)

// streams are the views that somebody looks at.
type streams struct {
	mu    sync.Mutex
	views map[string]*view
}

// frame is an event as it is sent.
type frame struct {
	position int64
	run      events.RunID
	analysis string
	kind     events.Kind
	kill     bool
	text     []byte
}

// view is what clients that may see the same are shown.
type view struct {
	store events.Reader
	stop  context.CancelFunc

	clients int // guarded by streams.mu

	mu      sync.Mutex
	frames  []frame       // the last ones
	since   int64         // position of the one before them
	last    int64         // position up to which everything is known
	file    int           // counts the stores that were replaced by others: positions begin again then
	changed chan struct{} // closed when there is more
}

// place is where a client is.
type place struct {
	file     int
	position int64
}

func newFrame(e *events.Event, position int64) (frame, error) {
	b, err := events.EncodeEvent(e)
	if err != nil {
		return frame{}, err
	}
	return frame{position: position, run: e.Run, analysis: e.AnalysisID, kind: e.Kind, kill: e.IsKill(),
		text: fmt.Appendf(nil, "id: %d\nevent: %s\ndata: %s\n\n", position, e.Kind, b)}, nil
}

// viewOf is the same for all callers that may see the same.
func viewOf(p Peer) string {
	if p.All() {
		return "all"
	}
	return strconv.FormatUint(uint64(p.UID), 10)
}

// join returns the view that a caller is to be shown; leave gives it back.
func (s *Server) join(r *http.Request, p Peer) (*view, error) {
	key := viewOf(p)
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	if v := s.streams.views[key]; v != nil {
		v.clients++
		return v, nil
	}
	store, err := s.store(r, p)
	if err != nil {
		return nil, err
	}
	v := &view{store: store, clients: 1, changed: make(chan struct{})}
	seen := s.backend.Stamp(r.Context())
	if _, err := store.Events(r.Context(), events.EventQuery{Last: 1, Cursor: &v.last}); err != nil {
		return nil, err
	}
	v.since = v.last
	ctx, stop := context.WithCancel(context.WithoutCancel(r.Context()))
	v.stop = func() {
		stop()
		delete(s.streams.views, key)
	}
	s.streams.views[key] = v
	go v.follow(ctx, s, seen)
	return v, nil
}

func (s *Server) leave(v *view) {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	if v.clients--; v.clients == 0 {
		v.stop()
	}
}

// follow reads what is new until nobody listens. It begins with the stamp that the store had before it was read.
func (v *view) follow(ctx context.Context, s *Server, seen string) {
	tick := time.NewTicker(streamPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := s.backend.Stamp(ctx)
		if now == seen && now != "" {
			continue
		}
		if was, _, ok := strings.Cut(seen, ":"); ok && now != "" && !strings.HasPrefix(now, was+":") {
			v.restart()
		}
		if now != "" {
			seen = now
		}
		if err := v.read(ctx); err != nil && ctx.Err() == nil {
			s.tell.Warn("api", "stream", err)
			seen, _, _ = strings.Cut(seen, ":")
			seen += ":"
		}
	}
}

// restart begins again with a store that has taken the place of the one that was read.
func (v *view) restart() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.frames, v.since, v.last = nil, 0, 0
	v.file++
}

// read adds what the store has got since.
func (v *view) read(ctx context.Context) error {
	for {
		v.mu.Lock()
		after := v.last
		v.mu.Unlock()
		list, cursor, err := readFrames(ctx, v.store, after)
		if err != nil || len(list) == 0 {
			return err
		}
		v.mu.Lock()
		v.frames = append(v.frames, list...)
		if drop := len(v.frames) - streamKeep; drop > 0 {
			v.since = v.frames[drop-1].position
			v.frames = slices.Delete(v.frames, 0, drop)
		}
		v.last = cursor
		close(v.changed)
		v.changed = make(chan struct{})
		v.mu.Unlock()
	}
}

// readFrames reads a page of the store.
func readFrames(ctx context.Context, store events.Reader, after int64) (list []frame, cursor int64, err error) {
	var positions []int64
	es, err := store.Events(ctx, events.EventQuery{After: after, Limit: streamPage, Cursor: &cursor, Positions: &positions})
	if err != nil {
		return nil, after, err
	}
	for i := range es {
		f, err := newFrame(&es[i], positions[i])
		if err != nil {
			return nil, after, err
		}
		list = append(list, f)
	}
	return list, cursor, nil
}

// begin is the place of a client that has seen what is before a position, or, without one, of who wants what happens next. A position
// that nothing has yet is one of a store that is no more.
func (v *view) begin(after int64) place {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case after == 0:
		after = v.last
	case after > v.last:
		after = 0
	}
	return place{v.file, after}
}

// next returns what comes after a place, up to a page, and the place to go on with. Without anything it returns what will be closed when
// there is more. What is too long ago for memory is read from the store.
func (v *view) next(ctx context.Context, after place) (list []frame, to place, more <-chan struct{}, err error) {
	v.mu.Lock()
	if after.file != v.file {
		after = place{file: v.file}
	}
	to = after
	if after.position < v.since {
		since, last := v.since, v.last
		v.mu.Unlock()
		if list, _, err = readFrames(ctx, v.store, after.position); err != nil {
			return nil, after, nil, err
		}
		list = slices.DeleteFunc(list, func(f frame) bool { return f.position > last }) // nobody is ahead of the view
		to.position = since                                                             // if there is nothing, it is forgotten
		if n := len(list); n > 0 {
			to.position = list[n-1].position
		}
		return list, to, nil, nil
	}
	defer v.mu.Unlock()
	if after.position >= v.last {
		return nil, after, v.changed, nil
	}
	i, _ := slices.BinarySearchFunc(v.frames, after.position+1, func(f frame, position int64) int { return int(min(max(f.position-position, -1), 1)) })
	list = slices.Clone(v.frames[i:min(i+streamPage, len(v.frames))])
	if len(list) == 0 {
		to.position = v.last
		return nil, to, v.changed, nil
	}
	to.position = list[len(list)-1].position
	return list, to, nil, nil
}

// streamFilter is what of a view a client wants.
func streamFilter(q events.EventQuery) func(*frame) bool {
	return func(f *frame) bool {
		return (q.Run == "" || q.Run == f.run) && (q.AnalysisID == "" || q.AnalysisID == f.analysis) &&
			(len(q.Kinds) == 0 || slices.Contains(q.Kinds, f.kind)) && (!q.KillsOnly || f.kill)
	}
}

// stream answers until the client goes, or takes nothing any more.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	q, err := decodeEventQuery(r.URL.Query())
	after := q.After
	if id := r.Header.Get("Last-Event-ID"); id != "" && err == nil {
		if after, err = strconv.ParseInt(id, 10, 64); err != nil || after < 0 {
			err = NewProblem(http.StatusBadRequest, "Last-Event-ID "+strconv.Quote(id)+": not the id of an event", "leave it out to begin with what happens next")
		}
	}
	if err != nil {
		writeProblem(w, err)
		return
	}
	v, err := s.join(r, peerFrom(r.Context()))
	if err != nil {
		writeProblem(w, err)
		return
	}
	defer s.leave(v)
	at := v.begin(after)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	control, wanted := http.NewResponseController(w), streamFilter(q)
	_ = control.SetReadDeadline(time.Time{}) // bodyTime is over for who listens
	send := func(text []byte) bool {
		_ = control.SetWriteDeadline(time.Now().Add(streamStall))
		_, err := w.Write(text)
		return err == nil && control.Flush() == nil
	}
	if !send([]byte("retry: 1000\n\n")) {
		return
	}
	for {
		list, to, more, err := v.next(r.Context(), at)
		if err != nil {
			return // the client comes back
		}
		at = to
		if len(list) == 0 && more == nil {
			continue // the store had nothing that this caller may see; memory goes on
		}
		if len(list) == 0 {
			beat := time.NewTimer(streamBeat)
			select {
			case <-r.Context().Done():
				beat.Stop()
				return
			case <-s.closing:
				beat.Stop()
				return
			case <-more:
				beat.Stop()
			case <-beat.C:
				if !send([]byte(": still here\n\n")) {
					return
				}
			}
			continue
		}
		var text bytes.Buffer
		for i := range list {
			if wanted(&list[i]) {
				text.Write(list[i].text)
			}
		}
		if text.Len() > 0 && !send(text.Bytes()) {
			return
		}
	}
}
