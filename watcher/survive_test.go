package watcher_test

import (
	"encoding/json"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/cgroup/cgrouptest"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
	"github.com/scidex/lictor/watcher"
)

// hung is an enforcer of a run in which a process hangs, on a clock that the test sets.
func hung(t *testing.T) (tree *cgrouptest.Tree, e *watcher.Enforcer, now *time.Duration) {
	t.Helper()
	tree = cgrouptest.New(t)
	tree.Make(testScopePath)
	const nobody = 1 << 30 // nobody can be signalled by accident
	tree.Join(testScopePath, nobody)
	run := &events.Run{API: events.API, Run: "abc", Unit: "lictor-abc.scope", StartedAt: time.Now().UTC()}
	store := &eventstest.Memory{}
	if err := store.Begin(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	now = new(time.Duration)
	*now = time.Hour
	return tree, &watcher.Enforcer{Run: run, Ledger: tree.Open(testLedgerPath), Recorder: store,
		Processes: watcher.NewProcessTable(), Log: slog.New(slog.DiscardHandler),
		Clock: watcher.Clock{Boottime: func() time.Duration { return *now }, Now: time.Now}}, now
}

func kindsOf(t *testing.T, r watcher.Recorder) (kinds []events.Kind) {
	t.Helper()
	list, err := r.Events(t.Context(), events.EventQuery{Run: "abc"})
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range list {
		kinds = append(kinds, ev.Kind)
	}
	return kinds
}

// TestK14Enforcer: a process that outlives SIGKILL is named once, killed again and again ever less often, and the ending is over
// when it is gone, and not before.
func TestK14Enforcer(t *testing.T) {
	tree, e, now := hung(t)
	e.Begin(t.Context(), watcher.NewIntent(e.Clock, events.ReasonStop, "uid 0", nil, 15), 10*time.Second)
	steps := 0
	for start := *now; *now < start+time.Hour; steps++ {
		wake, over := e.Step(t.Context())
		if over || !e.Active() {
			t.Fatalf("over after %v although somebody is there", *now-start)
		}
		if wake <= *now {
			t.Fatalf("at %v: to be called again at %v", *now-start, wake-start)
		}
		*now = wake
	}
	if steps > 75 {
		t.Errorf("%d steps in an hour, want about one a minute", steps)
	}
	want := []events.Kind{events.KindIntent, events.KindKill, events.KindSurvived}
	if diff := cmp.Diff(want, kindsOf(t, e.Recorder)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	list, err := watcher.ReadIntents(e.Ledger)
	if err != nil || len(list) != 1 || len(list[0].Survivors) != 1 || list[0].Survivors[0].PID != 1<<30 {
		t.Errorf("intents %+v, %v: want one that names the survivor", list, err)
	}
	tree.Leave(1 << 30)
	if wake, over := e.Step(t.Context()); !over || wake != 0 || e.Phase() != watcher.PhaseEmpty {
		t.Errorf("over %v, wake %v, phase %v when nobody is left", over, wake, e.Phase())
	}
}

// TestK14Resume: somebody else goes on where the author of a stop has left it, without another announcement, SIGTERM or alarm.
func TestK14Resume(t *testing.T) {
	_, e, now := hung(t)
	e.Begin(t.Context(), watcher.NewIntent(e.Clock, events.ReasonStop, "uid 0", nil, 15), 0)
	for e.Phase() != watcher.PhaseSurvived {
		wake, _ := e.Step(t.Context())
		*now = max(wake, *now)
	}
	if _, found := watcher.Unfinished(intentsOn(t, e)); found {
		t.Error("unfinished although its author lives and goes on")
	}
	before := kindsOf(t, e.Recorder)
	if phase := e.End(t.Context()); phase != watcher.PhaseSurvived {
		t.Fatalf("phase %v, want to give up", phase)
	}
	i, found := watcher.Unfinished(intentsOn(t, e))
	if !found || i.By != "uid 0" {
		t.Fatalf("unfinished: %+v, %v", i, found)
	}
	next := &watcher.Enforcer{Run: e.Run, Ledger: e.Ledger, Recorder: e.Recorder, Processes: e.Processes, Clock: e.Clock, Log: e.Log}
	next.Resume(i)
	*now += time.Hour
	if wake, over := next.Step(t.Context()); over || wake != *now+time.Minute || next.Phase() != watcher.PhaseSurvived {
		t.Errorf("over %v, wake in %v, phase %v", over, wake-*now, next.Phase())
	}
	if diff := cmp.Diff(before, kindsOf(t, e.Recorder)); diff != "" {
		t.Errorf("events (-before +after):\n%s", diff)
	}
}

func intentsOn(t *testing.T, e *watcher.Enforcer) []watcher.Intent {
	t.Helper()
	list, err := watcher.ReadIntents(e.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestKeepTakesUpStop: a stop whose author died before SIGTERM is carried through by the keeper.
func TestKeepTakesUpStop(t *testing.T) {
	r := newRig(t)
	left := sleeper(t)
	r.Join(testScopePath, left.Process.Pid)
	i := watcher.NewIntent(watcher.SystemClock, events.ReasonStop, "uid 7", nil, 15)
	i.Author = 1 << 30
	text, err := json.Marshal(i)
	if err == nil {
		err = r.Open(testLedgerPath).SetXattr("user.lictor.intent.x", string(text))
	}
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = left.Wait()
		r.Leave(left.Process.Pid)
		r.target.exit <- watcher.Exit{Signal: 15}
	}()
	r.keeper.TakenOver = true
	r.start(t)
	released, err := r.wait(t)
	<-gone
	if err != nil || !released || r.record.Reason != events.ReasonStop || r.record.By != "uid 7" {
		t.Errorf("reason %q by %q, error %v, released %v: want the stop", r.record.Reason, r.record.By, err, released)
	}
}

// TestEscaped: each escaped process is on record once, whoever finds it; none is signalled that may not be.
func TestEscaped(t *testing.T) {
	_, e, _ := hung(t)
	bystander := sleeper(t)
	defer bystander.Wait()
	defer bystander.Process.Kill()
	pid := bystander.Process.Pid
	x := watcher.Escape{Marked: watcher.Marked{PID: pid, StartTicks: 1, Cgroup: "/x", Run: "abc"}, SameUID: true, AfterStart: true}
	if fresh := e.Escaped(t.Context(), 0, []watcher.Escape{x}); len(fresh) != 1 {
		t.Errorf("%d are new, want 1", len(fresh))
	}
	again := &watcher.Enforcer{Run: e.Run, Ledger: e.Ledger, Recorder: e.Recorder, Processes: e.Processes, Clock: e.Clock, Log: e.Log}
	if fresh := again.Escaped(t.Context(), 0, []watcher.Escape{x}); len(fresh) != 0 {
		t.Errorf("%d are new the second time, want none", len(fresh))
	}
	x.MayKill = true // but its start time is that of another process
	e.Escaped(t.Context(), 0, []watcher.Escape{x})
	want := []events.Kind{events.KindEscaped, events.KindIntent}
	if diff := cmp.Diff(want, kindsOf(t, e.Recorder)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if bystander.Process.Signal(syscall.Signal(0)) != nil {
		t.Error("the bystander was signalled")
	}
}
