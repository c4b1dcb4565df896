package scope

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/scope/scopetest"
)

// watched is what a Monitor was told.
type watched struct {
	mu     sync.Mutex
	states []UnitState
}

func (w *watched) add(st UnitState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.states = append(w.states, st)
}

func (w *watched) last(n int) []UnitState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]UnitState(nil), w.states[max(0, len(w.states)-n):]...)
}

const testRun = RunID("0123456789ab")

func monitored(t *testing.T) (h *host, seen *watched, stop context.CancelFunc, end <-chan error) {
	t.Helper()
	h, seen = newHost(t), &watched{}
	h.fake.Set(testRun.Scope(), map[string]any{"ActiveState": "active", "SubState": "running"})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ended := make(chan error, 1)
	go func() { ended <- h.l.Monitor(ctx, testRun, seen.add) }()
	eventually(t, "it is monitored", func() bool { return h.l.monitor(testRun) != nil })
	return h, seen, cancel, ended
}

func TestMonitor(t *testing.T) {
	h, seen, stop, end := monitored(t)
	if got, want := seen.last(9), []UnitState{{ActiveState: "active", SubState: "running", Result: "success"}}; !cmp.Equal(got, want) {
		t.Errorf("at first: got %+v, want %+v", got, want)
	}
	h.fake.Change(testRun.Scope(), "Unit", map[string]any{"ActiveState": "deactivating", "SubState": "stop-sigterm"})
	h.fake.Change("another.scope", "Unit", map[string]any{"ActiveState": "failed"})
	h.fake.RemoveJob(5, testRun.Scope(), "done")
	h.fake.Emit(scopetest.JobRemoved(":1.666", 6, testRun.Scope(), "done"))
	// UnitState asks behind all that: what systemd said before its answer has been told.
	if _, err := h.l.UnitState(t.Context(), testRun); err != nil {
		t.Fatal(err)
	}
	want := []UnitState{{ActiveState: "active", SubState: "running", Result: "success"},
		{ActiveState: "deactivating", SubState: "stop-sigterm"}, {StopJob: true}}
	if got := seen.last(9); !cmp.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	stop()
	wantError(t, result(t, end), context.Canceled)
	if h.l.monitor(testRun) != nil {
		t.Error("still monitored")
	}
}

// When the bus goes, the monitor ends and UnitState asks over the launcher's own connection.
func TestMonitorEndsWithTheBus(t *testing.T) {
	h, _, _, end := monitored(t)
	h.fake.Handle("Get", func(c scopetest.Call) scopetest.Reply {
		h.fake.Handle("Get", nil)
		h.fake.Drop()
		return scopetest.Reply{Silent: true}
	})
	st, err := h.l.UnitState(t.Context(), testRun)
	if err != nil || st.ActiveState != "active" {
		t.Errorf("state: got %+v, %v", st, err)
	}
	wantError(t, result(t, end), ErrDisconnected)
}

func TestUnitState(t *testing.T) {
	h := newHost(t)
	if _, err := h.l.UnitState(t.Context(), testRun); !errors.Is(err, ErrNoUnit) {
		t.Errorf("a unit that is not there: got %v", err)
	}
	h.fake.Set(testRun.Scope(), map[string]any{"ActiveState": "failed", "SubState": "failed", "Result": "oom-kill",
		"Job": scopetest.Job{ID: 3, Path: "/org/freedesktop/systemd1/job/3"}})
	got, err := h.l.UnitState(t.Context(), testRun)
	if want := (UnitState{"failed", "failed", "oom-kill", true}); got != want || err != nil {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

// Of many who ask at once a few are asked for, and the others wait for their turn, however long that takes, or until they give up.
func TestUnitStateInTurn(t *testing.T) {
	const names = 5 // that one question asks for
	h := newHost(t)
	h.fake.Handle("Get", func(scopetest.Call) scopetest.Reply { return scopetest.Reply{Silent: true} })
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	failed := make(chan error)
	for range 3 * questionsAtOnce {
		go func() {
			_, err := h.l.UnitState(ctx, testRun)
			failed <- err
		}()
	}
	eventually(t, "some are asked for", func() bool { return len(h.fake.Calls("Get")) >= questionsAtOnce*names })
	time.Sleep(100 * time.Millisecond) // enough for the others, if nothing held them back
	if got := len(h.fake.Calls("Get")); got != questionsAtOnce*names {
		t.Errorf("%d properties are asked for, want %d", got, questionsAtOnce*names)
	}
	giveUp()
	for range 3 * questionsAtOnce {
		wantError(t, result(t, failed), context.Canceled)
	}
	h.fake.Handle("Get", nil)
	if _, err := h.l.UnitState(t.Context(), testRun); !errors.Is(err, ErrNoUnit) {
		t.Errorf("the places are not free again: %v", err)
	}
}

func TestHasJob(t *testing.T) {
	tests := map[string]struct {
		v    any
		want bool
	}{
		"none":       {[]any{uint32(0), dbus.ObjectPath("/")}, false},
		"one":        {[]any{uint32(7), dbus.ObjectPath("/x")}, true},
		"empty":      {[]any{}, false},
		"wrong type": {[]any{"7"}, false},
		"no list":    {uint32(7), false},
		"nil":        {nil, false},
	}
	for name, tt := range tests {
		if got := hasJob(tt.v); got != tt.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

func TestChangedState(t *testing.T) {
	got := changedState(map[string]dbus.Variant{"SubState": dbus.MakeVariant("stop-sigkill"), "Result": dbus.MakeVariant(7)})
	if want := (UnitState{SubState: "stop-sigkill"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestFollow: many runs over the connection of the calls.
func TestFollow(t *testing.T) {
	h, seen := newHost(t), &watched{}
	h.fake.Set(testRun.Scope(), map[string]any{"ActiveState": "active", "SubState": "running"})
	lost := make(chan error, 3)
	follow := func(run RunID, fn func(UnitState)) (stop func()) {
		stop, err := h.l.Follow(t.Context(), run, fn, func(err error) { lost <- err })
		if err != nil {
			t.Fatal(err)
		}
		return stop
	}
	defer follow(testRun, seen.add)()
	defer follow(NewRunID(), func(UnitState) {})()
	follow(NewRunID(), func(UnitState) {})() // nobody is told of the loss of what was given up
	if len(seen.last(1)) != 1 {
		t.Error("not told how the unit is")
	}
	h.fake.Change(testRun.Scope(), "Unit", map[string]any{"ActiveState": "deactivating", "SubState": "stop-sigterm"})
	eventually(t, "the change is told", func() bool { return seen.last(1)[0].SubState == "stop-sigterm" })
	if _, ever := h.fake.Connections(); ever != 1 {
		t.Errorf("connections: got %d, want 1", ever)
	}
	h.fake.Drop()
	for range 2 {
		wantError(t, result(t, lost), ErrDisconnected)
	}
	if len(lost) > 0 {
		t.Errorf("told once more: %v", <-lost)
	}
}

// A start job whose end is told late is not taken for a stop, nor a unit for over that was not started yet: an adoption by another
// process, followed at once by a process that hears everything and was busy.
func TestFollowLateStart(t *testing.T) {
	h, seen := newHost(t), &watched{}
	values := map[string]any{"Result": "success", "ActiveState": "active", "SubState": "running", "LoadState": "loaded",
		"Job": scopetest.Job{Path: "/"}}
	h.fake.Handle("Get", func(c scopetest.Call) scopetest.Reply {
		property, _ := c.Body[1].(string)
		if len(h.fake.Calls("Get")) == 1 { // before the first answer
			h.fake.RemoveJob(7, testRun.Scope(), "done")
			h.fake.Change(testRun.Scope(), "Unit", map[string]any{"ActiveState": "inactive"})
		}
		return scopetest.Reply{Body: []any{dbus.MakeVariant(values[property])}}
	})
	stop, err := h.l.Follow(t.Context(), testRun, seen.add, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if got, want := seen.last(9), []UnitState{{ActiveState: "active", SubState: "running", Result: "success"}}; !cmp.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	h.fake.RemoveJob(8, testRun.Scope(), "done")
	eventually(t, "the end of a job is told", func() bool { return seen.last(1)[0].StopJob })
}

// A run that systemd says nothing of is not followed: whoever asked tries again.
func TestFollowUnanswered(t *testing.T) {
	h, seen := newHost(t), &watched{}
	h.fake.Handle("Get", func(scopetest.Call) scopetest.Reply {
		return scopetest.Fail("org.freedesktop.DBus.Error.LimitsExceeded", "busy")
	})
	if _, err := h.l.Follow(t.Context(), testRun, seen.add, func(error) {}); err == nil {
		t.Error("followed")
	}
	h.fake.RemoveJob(7, testRun.Scope(), "done")
	h.fake.Handle("Get", nil)
	h.fake.Set(testRun.Scope(), map[string]any{"ActiveState": "active"})
	if _, err := h.l.UnitState(t.Context(), testRun); err != nil {
		t.Fatal(err)
	}
	if got := seen.last(9); len(got) != 0 {
		t.Errorf("told %+v", got)
	}
}

// TestForgetFailed: only the failed scope of a run that has no ledger any more is reset.
func TestForgetFailed(t *testing.T) {
	h := newHost(t)
	alive := NewRunID()
	h.tree.Make(h.l.manager.FleetPath() + "/" + alive.Ledger())
	failed := failedUnits(testRun.Scope(), alive.Scope(), "lictor-x.scope")
	h.fake.Handle("ListUnitsByPatterns", func(scopetest.Call) scopetest.Reply { return scopetest.Reply{Body: []any{failed}} })
	runs, err := h.l.ForgetFailed(t.Context())
	if err != nil || !slices.Equal(runs, []RunID{testRun}) {
		t.Errorf("got %v, %v; want %s", runs, err, testRun)
	}
	reset := h.fake.Calls("ResetFailedUnit")
	if len(reset) != 1 || reset[0].Unit() != testRun.Scope() {
		t.Errorf("reset: got %v", reset)
	}
}

// unitStatus is the structure a(ssssssouso) of org.freedesktop.systemd1(5).
type unitStatus struct {
	Name, Description, Load, Active, Sub, Followed string
	Path                                           dbus.ObjectPath
	JobID                                          uint32
	JobType                                        string
	Job                                            dbus.ObjectPath
}

func failedUnits(names ...string) (list []unitStatus) {
	for _, name := range names {
		list = append(list, unitStatus{Name: name, Load: "loaded", Active: "failed", Sub: "failed", Path: unitPath(name), Job: "/"})
	}
	return list
}
