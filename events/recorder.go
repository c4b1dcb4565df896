package events

import (
	"context"
	"errors"
	"sync"
)

// Recorder writes to the store and then tells journald. When the store fails (a full disk), journald is told all the same,
// once, and the error is returned: whoever tries again later does not repeat the journal entry.
type Recorder struct {
	store   Store
	journal *Journal // nil: nobody is told

	mu   sync.Mutex
	live map[RunID]*told
}

// told is what a Recorder remembers of a live run.
type told struct {
	run    Run // as it was begun: the unit that the journal entries name, and the limits
	events map[string]bool
}

// NewRecorder returns a Recorder. The journal may be nil; running and closing it is the caller's business.
func NewRecorder(s Store, j *Journal) *Recorder {
	rec := &Recorder{store: s, journal: j, live: make(map[RunID]*told)}
	rec.alarm()
	return rec
}

// alarm tells the journal of a store that began anew.
func (rec *Recorder) alarm() {
	s, ok := rec.store.(interface{ Replaced() []Event })
	if !ok || rec.journal == nil {
		return
	}
	for _, e := range s.Replaced() {
		rec.journal.Send(e, nil)
	}
}

// Begin is Store.Begin. Events of this run name its unit in the journal from now on, so a keeper that takes over a run
// calls it too; in the store that changes nothing.
func (rec *Recorder) Begin(ctx context.Context, r *Run) error {
	rec.remember(r)
	return rec.store.Begin(ctx, r)
}

// Append is Store.Append.
func (rec *Recorder) Append(ctx context.Context, es ...Event) error {
	err := rec.store.Append(ctx, es...)
	rec.tell(nil, es)
	return err
}

// End is Store.End. Events of a run that somebody else has ended are not told: the other one does that.
func (rec *Recorder) End(ctx context.Context, r *Run, es ...Event) error {
	err := rec.store.End(ctx, r, es...)
	if !errors.Is(err, ErrAlreadyEnded) {
		rec.tell(r, es)
	}
	if err == nil || errors.Is(err, ErrAlreadyEnded) {
		rec.forget(r.Run)
	}
	return err
}

func (rec *Recorder) remember(r *Run) *told {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if t := rec.live[r.Run]; t != nil {
		return t
	}
	t := &told{run: Run{Run: r.Run, AnalysisID: r.AnalysisID, Unit: r.Unit, Manager: r.Manager, Limits: r.Limits},
		events: make(map[string]bool)}
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
	rec.alarm()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for i := range es {
		e, run := es[i], r
		if t := rec.live[e.Run]; t != nil {
			if t.events[eventID(&e)] {
				continue
			}
			t.events[eventID(&e)] = true
			if run == nil {
				run = &t.run
			}
		}
		rec.journal.Send(e, run)
	}
}
