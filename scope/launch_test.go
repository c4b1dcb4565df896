package scope

import (
	"context"
	"errors"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/scope/scopetest"
)

// These tests launch real processes. Systemd and the hierarchy are played (see host); the integration tests have real ones.

func shell(script string) Spec { return Spec{Args: []string{"sh", "-c", script}} }

// untouched fails the test if anything is left of a launch that failed.
func (h *host) untouched() {
	h.t.Helper()
	if units := h.fake.Units(); len(units) != 0 {
		h.t.Errorf("units left: %v", units)
	}
	h.noChildren()
}

func TestLaunch(t *testing.T) {
	h := newHost(t)
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	spec := shell("echo ran; exit 7")
	spec.Stdout, spec.AnalysisID, spec.TasksMax, spec.Store = out, "Überprüfung 7", 50, "/somewhere/lictor.db"
	s, err := h.l.Launch(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	exit, err := s.Wait(t.Context())
	if err != nil || exit.Code != 7 || exit.Signal != 0 {
		t.Errorf("exit: got %+v, %v", exit, err)
	}
	if text, _ := os.ReadFile(out.Name()); string(text) != "ran\n" {
		t.Errorf("output: got %q", text)
	}
	runs, err := h.l.Ledgers()
	if err != nil || len(runs) != 1 || runs[0] != s.Spec.Run {
		t.Fatalf("ledgers: got %v, %v", runs, err)
	}
	led, err := h.l.Ledger(runs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer led.Group.Close()
	deadline := s.Started + DefaultRuntimeMax
	boot, _ := cgroup.BootID()
	want := Facts{Run: s.Spec.Run, AnalysisID: spec.AnalysisID, UID: uint32(os.Getuid()), BootID: boot, Leader: s.Leader, Launcher: s.Launcher,
		StartedAt: s.StartedAt.UTC().Round(0), Started: s.Started, Deadline: &deadline, MemoryMax: DefaultMemoryMax, TasksMax: 50,
		Grace: DefaultGrace, OOMPolicy: OOMKill, Owner: s.Keeper, OwnerExit: OwnerKill, Ancestors: s.Ancestors, Store: spec.Store, Command: spec.Args}
	if diff := cmp.Diff(want, led.Facts); diff != "" || !led.HasFacts || led.Keeper != s.Keeper || !led.Keeper.Alive() {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
	if err := s.Release(t.Context()); err != nil {
		t.Error(err)
	}
	s.Close()
	if _, ok := h.ledgerUnit(s); ok {
		t.Error("the ledger was not stopped")
	}
}

func (h *host) ledgerUnit(s *Scope) (string, bool) {
	for _, u := range h.fake.Units() {
		if u == s.Spec.Run.Ledger() {
			return u, true
		}
	}
	return "", false
}

func TestLaunchManyAtOnce(t *testing.T) {
	h := newHost(t)
	h.fake.OnUnit(nil)
	var one sync.Mutex // cgrouptest.Tree is for one goroutine
	h.fake.Handle("StartTransientUnit", func(c scopetest.Call) scopetest.Reply {
		one.Lock()
		defer one.Unlock()
		h.makeCgroups(c.Unit(), c.Properties())
		return h.fake.Default(c)
	})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			s, err := h.l.Launch(t.Context(), shell("exit 3"))
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if exit, err := s.Wait(t.Context()); err != nil || exit.Code != 3 {
				t.Errorf("exit: got %+v, %v", exit, err)
			}
		})
	}
	all.Wait()
	if _, ever := h.fake.Connections(); ever != 1 {
		t.Errorf("connections: got %d, want 1", ever)
	}
}

// Whatever goes wrong before the barrier opens, nothing of the analysis has run and nothing is left.
func TestLaunchTakesBack(t *testing.T) {
	elsewhere := func(h *host) {
		h.makes = func(ledger string, pid int) { h.tree.Join("/elsewhere", pid) }
		h.tree.Make("/elsewhere")
	}
	tests := []struct {
		name    string
		prepare func(*host)
		spec    func(*Spec)
		want    error
		text    string
	}{
		{name: "no manager", prepare: func(h *host) { h.fake.Die() }, want: ErrNoManager},
		{name: "D9 unit exists", prepare: func(h *host) {
			h.fake.Handle("StartTransientUnit", func(scopetest.Call) scopetest.Reply {
				return scopetest.Fail("org.freedesktop.systemd1.UnitExists", "already there")
			})
		}, want: ErrUnitExists},
		{name: "D3 failed job", prepare: func(h *host) { h.fake.JobsEnd("failed") }, text: `ended as "failed"`},
		{name: "D3 bus breaks in the call", prepare: func(h *host) {
			h.fake.Handle("StartTransientUnit", func(c scopetest.Call) scopetest.Reply {
				h.fake.Default(c)
				h.fake.Drop()
				return scopetest.Reply{Silent: true}
			})
		}, want: ErrDisconnected},
		{name: "another cgroup", prepare: elsewhere, want: ErrNotConfined},
		{name: "another limit", prepare: func(h *host) {
			h.makes = func(ledger string, pid int) { h.tree.Write(h.only(ledger), "memory.max", "max") }
		}, want: ErrNotConfined},
		{name: "swap", prepare: func(h *host) {
			h.makes = func(ledger string, pid int) { h.tree.Write(h.only(ledger), "memory.swap.max", "max") }
		}, want: ErrNotConfined},
		{name: "no memory controller", prepare: func(h *host) {
			h.makes = func(ledger string, pid int) { h.tree.WithoutController(h.only(ledger), "memory") }
		}, want: ErrNotConfined},
		{name: "another number of tasks", spec: func(s *Spec) { s.TasksMax = 9 }, prepare: func(h *host) {
			h.makes = func(ledger string, pid int) { h.tree.Write(h.only(ledger), "pids.max", "max") }
		}, want: ErrNotConfined},
		{name: "not active", prepare: func(h *host) {
			h.makes = func(ledger string, pid int) {
				h.fake.Set(path.Base(h.only(ledger)), map[string]any{"ActiveState": "inactive"})
			}
		}, want: ErrNotConfined},
		{name: "child killed at the barrier", prepare: func(h *host) {
			h.makes = func(ledger string, pid int) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				eventually(h.t, "it is dead", func() bool {
					st, err := cgroup.ReadStat(pid)
					return err != nil || st.State == 'Z'
				})
				h.tree.Leave(pid)
			}
		}, want: ErrDied},
		{name: "not prepared", prepare: func(h *host) {
			h.l.Prepared = func(context.Context, *Scope) error { return os.ErrPermission }
		}, want: os.ErrPermission},
		{name: "exec", prepare: func(h *host) {}, spec: func(s *Spec) { s.Args = []string{"/proc/self/mem"} }, want: syscall.EACCES},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			mark := path.Join(t.TempDir(), "ran")
			spec := shell("touch " + mark)
			if tt.spec != nil {
				tt.spec(&spec)
			}
			tt.prepare(h)
			_, err := h.l.Launch(t.Context(), spec)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error: got %v, want %v %s", err, tt.want, tt.text)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			h.untouched()
			if _, err := os.Stat(mark); err == nil {
				t.Error("the analysis ran")
			}
		})
	}
}

// only returns the scope in a ledger.
func (h *host) only(ledger string) string {
	g, err := h.tree.FS().Open(ledger)
	if err != nil {
		h.t.Fatal(err)
	}
	defer g.Close()
	names, err := g.Children()
	if err != nil || len(names) != 1 {
		h.t.Fatalf("children of %s: %v, %v", ledger, names, err)
	}
	return ledger + "/" + names[0]
}

// A launch can be called off at every call that it makes.
func TestLaunchCalledOff(t *testing.T) {
	for _, member := range []string{"AddMatch", "StartTransientUnit", "Get"} {
		for _, after := range []bool{false, true} {
			name := member + " never answered"
			if after {
				name = member + " answered"
			}
			t.Run(name, func(t *testing.T) {
				h := newHost(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				h.fake.Handle(member, func(c scopetest.Call) scopetest.Reply {
					h.fake.Handle(member, nil) // what cleans up is answered
					cancel()
					if r := h.fake.Default(c); after {
						return r
					}
					return scopetest.Reply{Silent: true}
				})
				s, err := h.l.Launch(ctx, shell("true"))
				if err == nil {
					s.Close()
					t.Fatal("launched")
				}
				wantError(t, err, context.Canceled)
				h.untouched()
			})
		}
	}
}

func TestD3LaunchEndsAtItsDeadline(t *testing.T) {
	h := newHost(t)
	h.fake.JobsEnd("")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := h.l.Launch(ctx, shell("true"))
	wantError(t, err, context.DeadlineExceeded)
	h.untouched()
}

// TestD9ForeignUnits: the name of the scope is taken. The launch fails, and neither that unit nor the slice around it is touched.
func TestD9ForeignUnits(t *testing.T) {
	h := newHost(t)
	spec := shell("true")
	spec.Run = NewRunID()
	for _, unit := range []string{spec.Run.Scope(), spec.Run.Ledger()} {
		h.fake.Set(unit, map[string]any{"Description": "somebody else's"})
	}
	_, err := h.l.Launch(t.Context(), spec)
	wantError(t, err, ErrUnitExists)
	adopt := adoptSpec(h.stray())
	adopt.Run = spec.Run
	_, err = h.l.Adopt(t.Context(), adopt)
	wantError(t, err, ErrUnitExists)
	if got := h.fake.Units(); len(got) != 2 {
		t.Errorf("units: got %v, want both left alone", got)
	}
	for _, method := range []string{"StopUnit", "ResetFailedUnit"} {
		if calls := h.fake.Calls(method); len(calls) != 0 {
			t.Errorf("%s was called for somebody else's unit: %v", method, calls)
		}
	}
}

func TestD11UnknownProperty(t *testing.T) {
	tests := []struct {
		name    string
		unknown []string
		want    []string // what is degraded
		err     error
	}{
		{"none", nil, nil, nil},
		{"OOMPolicy", []string{"OOMPolicy"}, []string{"OOMPolicy"}, nil},
		{"both", []string{"OOMPolicy", "RuntimeMaxUSec"}, []string{"OOMPolicy", "RuntimeMaxUSec"}, nil},
		{"one that matters", []string{"MemoryMax"}, nil, ErrUnknownProperty},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.fake.Handle("StartTransientUnit", func(c scopetest.Call) scopetest.Reply {
				for _, name := range tt.unknown {
					if _, ok := c.Properties()[name]; ok {
						return scopetest.Fail("org.freedesktop.DBus.Error.PropertyReadOnly", "Cannot set property "+name)
					}
				}
				return h.fake.Default(c)
			})
			s, err := h.l.Launch(t.Context(), shell("true"))
			if tt.err != nil {
				wantError(t, err, tt.err)
				h.untouched()
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := s.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			if len(s.Degraded) != len(tt.want) {
				t.Errorf("degraded: got %q, want %q", s.Degraded, tt.want)
			}
			for i, d := range s.Degraded {
				if !strings.HasPrefix(d, tt.want[i]+": ") {
					t.Errorf("degraded: got %q, want %q", d, tt.want[i])
				}
			}
		})
	}
}

func TestLimitsThatAManagerHasNotGot(t *testing.T) {
	h := newHost(t)
	h.makes = func(ledger string, pid int) {
		h.tree.WithoutController(h.only(ledger), "pids")
		h.tree.WithoutController(h.only(ledger), "cpu")
		h.tree.Omit(h.only(ledger), "memory.swap.max")
	}
	spec := shell("true")
	spec.TasksMax, spec.CPUQuota = 10, 0.5
	s, err := h.l.Launch(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if got := strings.Join(s.Degraded, "\n"); !strings.Contains(got, "TasksMax") || !strings.Contains(got, "CPUQuota") ||
		!strings.Contains(got, "MemorySwapMax") {
		t.Errorf("degraded: got %q", s.Degraded)
	}
}

// Disconnect waits for the calls that are under way, and the next call connects again.
func TestDisconnectCutsNobodyOff(t *testing.T) {
	h := newHost(t)
	h.fake.JobsEnd("")
	asked, answer := make(chan bool, 1), make(chan bool)
	h.fake.Handle("StopUnit", func(scopetest.Call) scopetest.Reply {
		asked <- true
		<-answer
		return scopetest.Reply{Body: []any{managerPath + "/job/1"}}
	})
	end := make(chan error, 1)
	go func() { end <- h.l.StopUnit(t.Context(), testUnit) }()
	<-asked
	h.l.Disconnect()
	h.l.Disconnect()
	close(answer)
	if err := result(t, end); err != nil {
		t.Errorf("a call was cut off: %v", err)
	}
	eventually(t, "the connection is closed", func() bool { open, _ := h.fake.Connections(); return open == 0 })
	if v, err := h.l.Version(t.Context()); err != nil || v != "257.8-1~fake" {
		t.Errorf("version: got %q, %v", v, err)
	}
	h.fake.Drop()
	eventually(t, "a new connection is made", func() bool { return h.l.Connect(t.Context()) == nil })
}

// Somebody who dials a manager that does not answer keeps nobody else longer than he wants to wait.
func TestWaitingForADialIsBounded(t *testing.T) {
	h := newHost(t)
	asked := make(chan bool, 2)
	h.fake.Handle("AddMatch", func(scopetest.Call) scopetest.Reply { asked <- true; return scopetest.Reply{Silent: true} })
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- h.l.Connect(ctx) }()
	<-asked
	short, done := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer done()
	wantError(t, h.l.Connect(short), context.DeadlineExceeded)
	h.l.Disconnect()
	cancel()
	wantError(t, result(t, end), ErrNoManager)
}
