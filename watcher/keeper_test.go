package watcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cgroup/cgrouptest"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
	"github.com/scidex/lictor/watcher"
)

const (
	testLedgerPath = "/lictor.slice/lictor-abc.slice"
	testScopePath  = testLedgerPath + "/lictor-abc.scope"
)

// fakeTarget is a run without systemd: its main process ends when the test says so.
type fakeTarget struct {
	exit     chan watcher.Exit
	unit     watcher.UnitState
	released chan bool // mayHaveFailed, when released
}

func (f *fakeTarget) Wait(ctx context.Context) (watcher.Exit, error) {
	select {
	case x := <-f.exit:
		return x, nil
	case <-ctx.Done():
		return watcher.Exit{}, ctx.Err()
	}
}
func (f *fakeTarget) UnitState(context.Context) (watcher.UnitState, error) { return f.unit, nil }
func (f *fakeTarget) Monitor(ctx context.Context, _ func(watcher.UnitState)) error {
	<-ctx.Done()
	return ctx.Err()
}
func (f *fakeTarget) Release(_ context.Context, mayHaveFailed bool) error {
	f.released <- mayHaveFailed
	return nil
}

// rig is a keeper on a fake cgroup tree and a store in memory.
type rig struct {
	*cgrouptest.Tree
	keeper *watcher.Keeper
	target *fakeTarget
	store  *eventstest.Memory
	done   chan error
	record *events.Run
}

func newRig(t *testing.T) *rig {
	t.Helper()
	before := openFiles(t)
	t.Cleanup(func() { // runs last: everything else is closed by then
		goleak.VerifyNone(t)
		if after := openFiles(t); after > before {
			t.Errorf("%d descriptors, %d before", after, before)
		}
	})
	r := &rig{Tree: cgrouptest.New(t), store: &eventstest.Memory{}, done: make(chan error, 1),
		target: &fakeTarget{exit: make(chan watcher.Exit, 1), released: make(chan bool, 1), unit: watcher.UnitState{Known: true, Result: "success"}}}
	r.Make(testScopePath)
	ledger, scope := r.Open(testLedgerPath), r.Open(testScopePath)
	pid := os.Getpid() // somebody who is alive
	run := &events.Run{API: events.API, Run: "abc", Unit: "lictor-abc.scope", StartedAt: time.Now().UTC(), LeaderPID: &pid}
	r.keeper = &watcher.Keeper{Run: run, Target: r.target, Box: watcher.Box{Ledger: ledger, Scope: scope}, Recorder: r.store,
		Processes: watcher.NewProcessTable(), Clock: watcher.SystemClock, Log: slog.New(slog.DiscardHandler),
		Started: cgroup.Boottime(), Grace: 10 * time.Second, LeaderPID: pid, Comm: "python3", KernelErr: os.ErrPermission}
	if err := r.store.Begin(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	return r
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func (r *rig) start(t *testing.T) {
	t.Helper()
	go func() {
		var err error
		r.record, err = r.keeper.Keep(t.Context())
		r.done <- err
	}()
}

// wait returns whether the ledger was released and what Keep returned.
func (r *rig) wait(t *testing.T) (released bool, err error) {
	t.Helper()
	select {
	case err = <-r.done:
	case <-time.After(30 * time.Second):
		t.Fatal("the keeper does not end")
	}
	select {
	case <-r.target.released:
		return true, err
	default:
		return false, err
	}
}

func (r *rig) kinds(t *testing.T) (kinds []events.Kind) {
	t.Helper()
	list, err := r.store.Events(t.Context(), events.EventQuery{Run: "abc"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func TestKeepDone(t *testing.T) {
	r := newRig(t)
	r.start(t)
	r.target.exit <- watcher.Exit{}
	released, err := r.wait(t)
	if err != nil || !released || r.record.State != events.StateDone {
		t.Errorf("state %q, error %v, released %v", r.record.State, err, released)
	}
	if got := r.kinds(t); len(got) != 2 || got[0] != events.KindStarted || got[1] != events.KindEnded {
		t.Errorf("events %v, want started and ended", got)
	}
}

// TestKeepRecordThenRelease: without a record on disk the ledger stays.
func TestKeepRecordThenRelease(t *testing.T) {
	full := errors.New("disk full")
	for _, tt := range []struct {
		name     string
		fail     error
		released bool
	}{{"store fails", full, false}, {"somebody else was first", events.ErrAlreadyEnded, true}} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.keeper.Recorder = failingEnd{r.store, tt.fail}
			r.start(t)
			r.target.exit <- watcher.Exit{Code: 3}
			released, err := r.wait(t)
			if released != tt.released || (err == nil) != tt.released {
				t.Errorf("released %v, error %v", released, err)
			}
			if r.record == nil || r.record.State != events.StateFailed {
				t.Errorf("record %+v, want the verdict all the same", r.record)
			}
		})
	}
}

type failingEnd struct {
	watcher.Recorder
	err error
}

func (f failingEnd) End(context.Context, *events.Run, ...events.Event) error { return f.err }

// TestKeepOOMInSteps: the kernel counts oom, then oom_kill, then sends the signal; a look in between must not make the kill
// somebody else's.
func TestKeepOOMInSteps(t *testing.T) {
	r := newRig(t)
	r.start(t)
	steps := []cgroup.MemoryEvents{{Max: 10, HasGroupKill: true}, {Max: 20, OOM: 1, HasGroupKill: true},
		{Max: 20, OOM: 1, OOMKill: 1, OOMGroupKill: 1, HasGroupKill: true}}
	for _, s := range steps {
		r.SetMemoryEvents(testLedgerPath, s)
		time.Sleep(400 * time.Millisecond) // long enough for the notifier to have told, whatever it does
	}
	r.target.exit <- watcher.Exit{Signal: syscall.SIGKILL}
	if released, err := r.wait(t); err != nil || !released {
		t.Errorf("error %v, released %v", err, released)
	}
	if r.record.Reason != events.ReasonOOM || r.record.OOM.WhoseLimit != watcher.LimitOwn || r.record.By != "kernel" {
		t.Errorf("verdict %q of the %q limit by %q, want oom, own, kernel", r.record.Reason, r.record.OOM.WhoseLimit, r.record.By)
	}
}

// countedLimits counts how often the run is looked at as a whole.
type countedLimits struct{ looks atomic.Int32 }

func (c *countedLimits) Foreign() (before, after events.Limits, err error) {
	c.looks.Add(1)
	return before, after, nil
}
func (c *countedLimits) Current(begun events.Limits) (events.Limits, error) { return begun, nil }

// TestKeepThrashing: a limit that is touched again and again is no reason for a whole look; what happens among it is.
func TestKeepThrashing(t *testing.T) {
	r := newRig(t)
	limits := &countedLimits{}
	r.keeper.Box.Limits = limits
	r.start(t)
	for n := uint64(1); len(r.events(t, events.KindStarted)) == 0; n++ {
		r.SetMemoryEvents(testLedgerPath, cgroup.MemoryEvents{Max: n, HasGroupKill: true})
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // for a look under way
	before := limits.looks.Load()
	for n := range uint64(100) {
		r.SetMemoryEvents(testLedgerPath, cgroup.MemoryEvents{Max: 1000 + n, HasGroupKill: true})
		time.Sleep(20 * time.Millisecond)
	}
	if n := limits.looks.Load() - before; n > 1 {
		t.Errorf("%d whole looks while nothing but max rose", n)
	}
	r.SetMemoryEvents(testLedgerPath, cgroup.MemoryEvents{Max: 2000, OOM: 1, OOMKill: 1, HasGroupKill: true})
	for deadline := time.Now().Add(20 * time.Second); len(r.events(t, events.KindOOM)) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the kill that the main process survived is not on record")
		}
	}
	r.target.exit <- watcher.Exit{}
	if released, err := r.wait(t); err != nil || !released {
		t.Errorf("error %v, released %v", err, released)
	}
	if r.record.State != events.StateDone || r.record.OOM.Kills != 1 {
		t.Errorf("state %q, %d kills; want done and 1", r.record.State, r.record.OOM.Kills)
	}
}

// inactiveTarget is a run whose scope systemd takes for ended.
type inactiveTarget struct {
	*fakeTarget
	told chan bool
}

func (i inactiveTarget) Monitor(ctx context.Context, fn func(watcher.UnitState)) error {
	fn(watcher.UnitState{ActiveState: "inactive"})
	close(i.told)
	<-ctx.Done()
	return ctx.Err()
}

// TestD10Inactive: systemd takes a scope for ended while its processes run. The record says so; that is no end.
func TestD10Inactive(t *testing.T) {
	r := newRig(t)
	told := make(chan bool)
	r.keeper.Target = inactiveTarget{r.target, told}
	left := sleeper(t)
	r.Join(testScopePath, left.Process.Pid)
	r.start(t)
	<-told
	r.SetMemoryEvents(testLedgerPath, cgroup.MemoryEvents{HasGroupKill: true}) // one more look, after what was told
	deadline := time.Now().Add(20 * time.Second)
	for len(r.events(t, events.KindStarted)) == 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	_ = left.Process.Kill()
	_ = left.Wait()
	r.Leave(left.Process.Pid)
	r.target.exit <- watcher.Exit{}
	if released, err := r.wait(t); err != nil || !released {
		t.Errorf("error %v, released %v", err, released)
	}
	if r.record.State != events.StateDone || len(r.record.Degraded) != 1 || !strings.HasPrefix(r.record.Degraded[0], "scope: ") {
		t.Errorf("state %q, degraded %q", r.record.State, r.record.Degraded)
	}
}

func (r *rig) events(t *testing.T, kind events.Kind) []events.Event {
	t.Helper()
	list, err := r.store.Events(t.Context(), events.EventQuery{Run: "abc", Kinds: []events.Kind{kind}})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestKeepLeftOvers: what the main process leaves behind is ended and listed; a bystander is not touched.
func TestKeepLeftOvers(t *testing.T) {
	r := newRig(t)
	left, bystander := sleeper(t), sleeper(t)
	r.Join(testScopePath, left.Process.Pid)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = left.Wait()
		r.Leave(left.Process.Pid)
	}()
	r.start(t)
	r.target.exit <- watcher.Exit{}
	released, err := r.wait(t)
	<-gone
	if err != nil || !released || r.record.State != events.StateDone {
		t.Errorf("state %q, error %v, released %v", r.record.State, err, released)
	}
	list, _ := r.store.Events(t.Context(), events.EventQuery{Run: "abc", Kinds: []events.Kind{events.KindOrphans}})
	var d events.OrphansDetail
	if len(list) != 1 || json.Unmarshal(list[0].Detail, &d) != nil || len(d.Processes) != 1 || d.Processes[0].PID != left.Process.Pid ||
		d.Processes[0].Outcome != "term" {
		t.Errorf("orphans %+v, want the one process, ended by SIGTERM", list)
	}
	if bystander.Process.Signal(syscall.Signal(0)) != nil {
		t.Error("the bystander was ended")
	}
	_ = bystander.Process.Kill()
	_ = bystander.Wait()
}

func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}
