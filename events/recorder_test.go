package events_test

import (
	"errors"
	"path/filepath"
	"testing"
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
