package events

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Recorder writes to the store and then tells journald. When the store fails (a full disk), journald is told all the same,
// once, and the error is returned: whoever tries again later does not repeat the journal entry.
type Recorder struct {
	// Wrote, if not nil, is told of every write: the record of a run that has ended with it, else nil, and how it went. Set it before the
	// first write.
	Wrote func(ended *Run, err error)

	store   Store
	journal *Journal // nil: nobody is told

	mu     sync.Mutex
	live   map[RunID]*told
	last   <-chan struct{} // closed when all writes so far are through; nil before the first
	coming []Event         // on their way to the store
}

// told is what a Recorder remembers of a live run: what the journal entries name, and which there are. A whole Run, empty for the most
// part, would be three times as large.
type told struct {
	id                        RunID
	analysisID, unit, manager string
	limits                    Limits
	events                    map[string]bool // nil: none
}

func (t *told) run() *Run {
	return &Run{Run: t.id, AnalysisID: t.analysisID, Unit: t.unit, Manager: t.manager, Limits: t.limits}
}

// NewRecorder returns a Recorder. The journal may be nil; running and closing it is the caller's business.
func NewRecorder(s Store, j *Journal) *Recorder {
	rec := &Recorder{store: s, journal: j, live: make(map[RunID]*told)}
	rec.Alarm()
	return rec
}

// Alarm tells the journal of a store that began anew. Whoever has it begin anew calls it; otherwise the next write does.
func (rec *Recorder) Alarm() {
	s, ok := rec.store.(interface{ Replaced() []Event })
	if !ok || rec.journal == nil {
		return
	}
	for _, e := range s.Replaced() {
		rec.journal.Send(e, nil)
	}
}

// inTurn lets write have the store when all earlier writes are through, and returns what it returns, or, when ctx is done before
// that, the error of ctx: the write is done all the same, later. A disk that hangs in fsync(2) must not hang who waits for it:
// nothing ends that but the disk.
// Events that are on their way until then are es.
func (rec *Recorder) inTurn(ctx context.Context, es []Event, write func(context.Context) error) error {
	done, through := make(chan error, 1), make(chan struct{})
	rec.mu.Lock()
	before := rec.last
	rec.last = through
	rec.coming = append(rec.coming, es...)
	rec.mu.Unlock()
	go func() {
		defer close(through)
		if before != nil {
			<-before
		}
		err := write(context.WithoutCancel(ctx)) // the store has a timeout of its own
		rec.mu.Lock()
		rec.coming = rec.coming[len(es):] // they come in turn, too
		rec.mu.Unlock()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Begin is Store.Begin. Events of this run name its unit in the journal from now on, so a keeper that takes over a run
// calls it too; in the store that changes nothing.
func (rec *Recorder) Begin(ctx context.Context, r *Run) error {
	rec.remember(r)
	begun := *r // the caller goes on with it
	return rec.inTurn(ctx, nil, func(ctx context.Context) error { return rec.wrote(nil, rec.store.Begin(ctx, &begun)) })
}

// Append is Store.Append. When it returns because ctx is done, the events are on their way, and Events returns them already.
func (rec *Recorder) Append(ctx context.Context, es ...Event) error {
	es = slices.Clone(es)
	return rec.inTurn(ctx, es, func(ctx context.Context) error {
		err := rec.wrote(nil, rec.store.Append(ctx, es...))
		rec.tell(nil, es)
		return err
	})
}

// End is Store.End. Events of a run that somebody else has ended are not told: the other one does that. When it returns nil,
// journald has the events, too, unless it is late: who releases a run after that and dies has told.
func (rec *Recorder) End(ctx context.Context, r *Run, es ...Event) error {
	ended := *r
	es = slices.Clone(es)
	return rec.inTurn(ctx, nil, func(ctx context.Context) error {
		err := rec.wrote(&ended, rec.store.End(ctx, &ended, es...))
		if !errors.Is(err, ErrAlreadyEnded) {
			rec.tell(&ended, es)
		}
		if err == nil || errors.Is(err, ErrAlreadyEnded) {
			rec.forget(ended.Run)
		}
		if err == nil && rec.journal != nil {
			ctx, cancel := context.WithTimeout(ctx, flushPatience)
			defer cancel()
			rec.journal.Flush(ctx)
		}
		return err
	})
}

func (rec *Recorder) wrote(ended *Run, err error) error {
	if rec.Wrote != nil {
		rec.Wrote(ended, err)
	}
	return err
}

// flushPatience is how long the end of a run waits for journald.
const flushPatience = 100 * time.Millisecond

// Again tells journald what the store has of a run since a point in time: the process that wrote it may have died before it told.
// An entry that is there already comes a second time, with the same LICTOR_EVENT_ID.
func (rec *Recorder) Again(ctx context.Context, r *Run, since time.Time) error {
	if rec.journal == nil {
		return nil
	}
	es, err := rec.store.Events(ctx, EventQuery{Run: r.Run, Since: since})
	if err != nil {
		return err
	}
	rec.tell(r, es)
	return nil
}

// Events is Store.Events for the events of one run of one kind, with those that are on their way to the store.
func (rec *Recorder) Events(ctx context.Context, q EventQuery) ([]Event, error) {
	rec.mu.Lock()
	coming := slices.Clone(rec.coming)
	rec.mu.Unlock()
	es, err := rec.store.Events(ctx, q)
	if err != nil {
		return nil, err
	}
	for i := range coming {
		e := coming[i]
		if e.Run == q.Run && slices.Contains(q.Kinds, e.Kind) &&
			!slices.ContainsFunc(es, func(have Event) bool { return eventID(&have) == eventID(&e) }) {
			es = append(es, e)
		}
	}
	return es, nil
}

func (rec *Recorder) remember(r *Run) *told {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if t := rec.live[r.Run]; t != nil {
		return t
	}
	t := &told{id: r.Run, analysisID: r.AnalysisID, unit: r.Unit, manager: r.Manager, limits: r.Limits}
	rec.live[r.Run] = t
	return t
}

func (rec *Recorder) forget(id RunID) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	delete(rec.live, id)
}

// tell sends those events to the journal that were not sent before. Without r, what Begin was given stands for the run.
func (rec *Recorder) tell(r *Run, es []Event) {
	if rec.journal == nil {
		return
	}
	rec.Alarm()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for i := range es {
		e, run := es[i], r
		if t := rec.live[e.Run]; t != nil {
			if t.events[eventID(&e)] {
				continue
			}
			if t.events == nil {
				t.events = map[string]bool{}
			}
			t.events[eventID(&e)] = true
			if run == nil {
				run = t.run()
			}
		}
		rec.journal.Send(e, run)
	}
}
