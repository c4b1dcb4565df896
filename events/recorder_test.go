package events_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

// recorder returns a Recorder over a store in memory, and a function that says what arrived in the journal.
func recorder(t *testing.T, fail func(op string) error) (*events.Recorder, *eventstest.Memory, func() []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	server := listen(t, path)
	j := events.NewJournal(events.JournalOptions{Socket: path})
	m := &eventstest.Memory{Fail: fail}
	arrived := func() []string {
		t.Helper()
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range drain(t, server) {
			got = append(got, f["LICTOR_KIND"]+" "+f["UNIT"])
		}
		return got
	}
	return events.NewRecorder(m, j), m, arrived
}

func TestRecorder(t *testing.T) {
	rec, m, arrived := recorder(t, nil)
	ctx := t.Context()
	r := eventstest.NewRun("7f3k7m1d2c5h")
	if err := rec.Begin(ctx, r); err != nil {
		t.Fatal(err)
	}
	started := events.NewEvent(r, events.KindStarted, 0, time.Now())
	for range 2 { // the second time is a retry
		if err := rec.Append(ctx, started); err != nil {
			t.Fatal(err)
		}
	}
	ended, e := eventstest.Ended(r)
	if err := rec.End(ctx, ended, events.NewEvent(r, events.KindOrphans, 0, time.Now()), e); err != nil {
		t.Fatal(err)
	}
	if err := rec.End(ctx, ended, e); !errors.Is(err, events.ErrAlreadyEnded) {
		t.Errorf("second End: %v, want ErrAlreadyEnded", err)
	}
	unit := "lictor-7f3k7m1d2c5h.scope"
	if diff := cmp.Diff([]string{"started " + unit, "orphans " + unit, "ended " + unit}, arrived()); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
	if got, err := m.Run(ctx, r.Run); err != nil || got.State != events.StateKilled {
		t.Errorf("store: %+v, %v", got, err)
	}
}

// The disk is full. journald hears of everything, once, and the caller hears of the error.
func TestRecorderStoreFails(t *testing.T) {
	full, broken := errors.New("disk full"), true
	rec, m, arrived := recorder(t, func(string) error {
		if broken {
			return full
		}
		return nil
	})
	ctx := t.Context()
	r := eventstest.NewRun("7f3k7m1d2c5h")
	ended, e := eventstest.Ended(r)
	if err := rec.Begin(ctx, r); !errors.Is(err, full) {
		t.Errorf("Begin: %v, want %v", err, full)
	}
	for range 3 {
		if err := rec.Append(ctx, events.NewEvent(r, events.KindIntent, 0, time.Now())); !errors.Is(err, full) {
			t.Errorf("Append: %v, want %v", err, full)
		}
		if err := rec.End(ctx, ended, e); !errors.Is(err, full) {
			t.Errorf("End: %v, want %v", err, full)
		}
	}
	broken = false
	if err := rec.End(ctx, ended, e); err != nil {
		t.Error(err)
	}
	unit := "lictor-7f3k7m1d2c5h.scope"
	if diff := cmp.Diff([]string{"intent " + unit, "ended " + unit}, arrived()); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
	if got, err := m.Run(ctx, r.Run); err != nil || got.State != events.StateKilled {
		t.Errorf("store after it recovered: %+v, %v", got, err)
	}
}

// Somebody else ended the run: that one tells journald.
func TestRecorderAlreadyEnded(t *testing.T) {
	rec, m, arrived := recorder(t, nil)
	r := eventstest.NewRun("7f3k7m1d2c5h")
	ended, e := eventstest.Ended(r)
	if err := m.End(t.Context(), ended, e); err != nil {
		t.Fatal(err)
	}
	if err := rec.End(t.Context(), ended, e); !errors.Is(err, events.ErrAlreadyEnded) {
		t.Errorf("End: %v, want ErrAlreadyEnded", err)
	}
	if got := arrived(); len(got) != 0 {
		t.Errorf("journal: %q, want nothing", got)
	}
}

func TestRecorderWithoutJournal(t *testing.T) {
	m := new(eventstest.Memory)
	rec := events.NewRecorder(m, nil)
	r := eventstest.NewRun("7f3k7m1d2c5h")
	ended, e := eventstest.Ended(r)
	for _, err := range []error{rec.Begin(t.Context(), r), rec.Append(t.Context(), e), rec.End(t.Context(), ended, e)} {
		if err != nil {
			t.Error(err)
		}
	}
}

// slowStore is a store whose disk takes its time.
type slowStore struct {
	*eventstest.Memory
	fsync time.Duration
}

func (s slowStore) Append(ctx context.Context, es ...events.Event) error {
	time.Sleep(s.fsync) // nothing ends fsync(2)
	return s.Memory.Append(ctx, es...)
}

// S5: fsync takes 10 s. Whoever has to go on goes on after what it can spare; nothing is lost, nothing is out of order, and what is on
// its way counts already, for the next ordinal.
func TestS5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(eventstest.Memory)
		rec := events.NewRecorder(slowStore{m, 10 * time.Second}, nil)
		r := eventstest.NewRun("7f3k7m1d2c5h")
		if err := rec.Begin(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for i := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			es, err := rec.Events(ctx, events.EventQuery{Run: r.Run, Kinds: []events.Kind{events.KindIntent}})
			if err != nil || len(es) != i {
				t.Errorf("%d events are known, %v; want %d", len(es), err, i)
			}
			err = rec.Append(ctx, events.NewEvent(r, events.KindIntent, len(es), time.Now()))
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Append: %v, want DeadlineExceeded", err)
			}
			cancel()
		}
		if took := time.Since(start); took != 1500*time.Millisecond {
			t.Errorf("it took %v, want 1.5s", took)
		}
		ended, e := eventstest.Ended(r)
		if err := rec.End(t.Context(), ended, e); err != nil {
			t.Fatal(err)
		}
		es, err := m.Events(t.Context(), events.EventQuery{Run: r.Run})
		if err != nil || len(es) != 4 || es[3].Kind != events.KindEnded {
			t.Fatalf("stored: %v, %v", es, err)
		}
		for i, e := range es[:3] {
			if e.Ordinal != i {
				t.Errorf("event %d has ordinal %d", i, e.Ordinal)
			}
		}
	})
}

// A keeper that died may not have told journald: the next one tells again, with the same ids.
func TestRecorderAgain(t *testing.T) {
	rec, m, arrived := recorder(t, nil)
	ctx := t.Context()
	r := eventstest.NewRun("7f3k7m1d2c5h")
	now := time.Now()
	ended, e := eventstest.Ended(r)
	if err := m.End(ctx, ended, events.NewEvent(r, events.KindStarted, 0, now.Add(-time.Hour)), e); err != nil {
		t.Fatal(err)
	}
	if err := m.Append(ctx, events.NewEvent(r, events.KindIntent, 0, now)); err != nil {
		t.Fatal(err)
	}
	if err := rec.Again(ctx, ended, now.Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"intent lictor-7f3k7m1d2c5h.scope"}, arrived()); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
}

// Flush returns when journald has everything, or when it is not worth waiting for.
func TestJournalFlush(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	server := listen(t, path)
	j := events.NewJournal(events.JournalOptions{Socket: path})
	var running sync.WaitGroup
	running.Go(func() { _ = j.Run(context.Background()) })
	r := eventstest.NewRun("7f3k7m1d2c5h")
	for i := range 5 {
		j.Send(events.NewEvent(r, events.KindIntent, i, time.Now()), r)
	}
	j.Flush(t.Context())
	if n := len(drain(t, server)); n != 5 {
		t.Errorf("%d entries arrived, want 5", n)
	}
	if err := j.Close(t.Context()); err != nil {
		t.Error(err)
	}
	running.Wait()
	j.Flush(t.Context()) // of one that is closed
	hung := events.NewJournal(events.JournalOptions{Socket: path})
	hung.Send(events.NewEvent(r, events.KindIntent, 0, time.Now()), r)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	hung.Flush(ctx) // nobody sends
}
