package watcher

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
)

func TestX2Judge(t *testing.T) {
	home := Home{Run: "abc", Ledger: testLedger, UID: 1000, StartTicks: 500, Leader: testLeader}
	armed := home
	armed.Nonce = "secret"
	child := Marked{PID: 7, StartTicks: 600, UIDs: []uint32{1000, 1000, 1000, 1000}, Cgroup: "/user.slice/x.scope", Run: "abc", Nonce: "secret"}
	with := func(change func(*Marked)) Marked {
		m := child
		change(&m)
		return m
	}
	type verdict struct{ Escaped, SameUID, AfterStart, MayKill bool }
	tests := []struct {
		name string
		home Home
		m    Marked
		want verdict
	}{
		{"started by the run, outside", armed, child, verdict{true, true, true, true}},
		{"nothing is to be killed", home, child, verdict{true, true, true, false}},
		{"nothing is to be killed, and it has no nonce", home, with(func(m *Marked) { m.Nonce = "" }), verdict{true, true, true, false}},
		{"in the scope", armed, with(func(m *Marked) { m.Cgroup = testScope }), verdict{}},
		{"in the ledger", armed, with(func(m *Marked) { m.Cgroup = testLedger }), verdict{}},
		{"in a cgroup whose name begins the same", armed, with(func(m *Marked) { m.Cgroup = testLedger + "x/y" }), verdict{true, true, true, true}},
		{"in no cgroup that can be told", armed, with(func(m *Marked) { m.Cgroup = "" }), verdict{}},
		{"of another run", armed, with(func(m *Marked) { m.Run = "abd" }), verdict{}},
		{"forged, without a nonce", armed, with(func(m *Marked) { m.Nonce = "" }), verdict{true, true, true, false}},
		{"forged, with another nonce", armed, with(func(m *Marked) { m.Nonce = "guess" }), verdict{true, true, true, false}},
		{"forged by root", armed, with(func(m *Marked) { m.UIDs = []uint32{0, 0, 0, 0} }), verdict{true, false, true, false}},
		{"a set-uid program", armed, with(func(m *Marked) { m.UIDs = []uint32{1000, 0, 0, 0} }), verdict{true, false, true, false}},
		{"its user cannot be told", armed, with(func(m *Marked) { m.UIDs = nil }), verdict{true, false, true, false}},
		{"older than the run", armed, with(func(m *Marked) { m.StartTicks = 499 }), verdict{true, true, false, false}},
		{"the main process itself", armed, with(func(m *Marked) { m.PID, m.StartTicks = testLeader, 500 }), verdict{true, true, true, true}},
	}
	for _, tt := range tests {
		x, escaped := tt.home.Judge(tt.m)
		got := verdict{escaped, x.SameUID, x.AfterStart, x.MayKill}
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestVariable(t *testing.T) {
	for environ, want := range map[string]string{
		"": "", "LICTOR_RUN=abc\x00": "abc", "A=LICTOR_RUN=x\x00LICTOR_RUN=abc": "abc", "LICTOR_RUN=first\x00LICTOR_RUN=second\x00": "first",
		"XLICTOR_RUN=x\x00LICTOR_RUNS=y\x00": "", "LICTOR_RUN": "", "\x00\x00LICTOR_RUN=\x00": "",
	} {
		if got := variable([]byte(environ), markRun); got != want {
			t.Errorf("%q: %q, want %q", environ, got, want)
		}
	}
}

func inSomeCgroup(int) (string, error) { return "/somewhere", nil }

func TestSweep(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	cmd.Env = []string{"LICTOR_RUN=abc", "LICTOR_NONCE=n"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	s := &Sweep{Table: NewProcessTable(), PathOf: inSomeCgroup}
	var got []Marked
	for end := time.Now().Add(eventually); len(got) == 0 && time.Now().Before(end); { // execve may still be under way
		list, err := s.Marked(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = slices.DeleteFunc(list, func(m Marked) bool { return m.PID != cmd.Process.Pid })
	}
	uid := uint32(os.Getuid())
	if len(got) != 1 || got[0].StartTicks == 0 {
		t.Fatalf("got %+v, want the process", got)
	}
	s.AtHome = func(run events.RunID, cgroup string) bool { return run == "abc" && cgroup == "/somewhere" }
	list, err := s.Marked(t.Context())
	if err != nil || slices.ContainsFunc(list, func(m Marked) bool { return m.PID == cmd.Process.Pid }) {
		t.Errorf("%+v, %v, want none of those at home", list, err)
	}
	got[0].StartTicks = 0
	want := []Marked{{PID: cmd.Process.Pid, UIDs: []uint32{uid, uid, uid, uid}, Cgroup: "/somewhere", Run: "abc", Nonce: "n"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestF8Sweep: processes whose files block are skipped, counted, and not tried again while they do; no readers pile up.
func TestF8Sweep(t *testing.T) {
	release := make(chan struct{})
	self, parent := os.Getpid(), os.Getppid()
	s := &Sweep{Table: NewProcessTable(), PathOf: inSomeCgroup, Environ: func(pid int, into *bytes.Buffer) error {
		switch pid {
		case parent:
			<-release
		case self:
			into.WriteString("LICTOR_RUN=abc\x00")
			return nil
		}
		return errors.New("not of interest")
	}}
	for sweep := range uint64(3) {
		list, err := s.Marked(t.Context())
		if err != nil || len(list) != 1 || list[0].PID != self {
			t.Fatalf("sweep %d: %+v, %v, want the one whose files do not block", sweep, list, err)
		}
		if got := s.Skipped(); got != sweep+1 {
			t.Errorf("sweep %d: %d skipped, want %d", sweep, got, sweep+1)
		}
		if n := len(s.hanging); n != 1 {
			t.Errorf("sweep %d: %d readers hang, want 1", sweep, n)
		}
	}
	close(release)
	for end := time.Now().Add(eventually); s.hangs(parent) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if s.hangs(parent) {
		t.Error("avoided although its files can be read again")
	}
}

func TestSweepEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	s := &Sweep{Table: NewProcessTable(), PathOf: inSomeCgroup, Environ: func(int, *bytes.Buffer) error {
		cancel()
		<-release
		return errors.New("blocked")
	}}
	if _, err := s.Marked(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the end of the context", err)
	}
}

// A sweep goes on where the last one was cut short: nobody is passed over for ever.
func TestSweepGoesOn(t *testing.T) {
	s := &Sweep{Table: NewProcessTable(), PathOf: inSomeCgroup}
	all, err := s.Table.pids(t.Context())
	if err != nil || len(all) < 2 {
		t.Fatal(all, err)
	}
	slices.Sort(all)
	last := all[len(all)/2]
	s.next = last
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	s.Environ = func(int, *bytes.Buffer) error {
		cancel()
		<-release
		return errors.New("too late")
	}
	if _, err := s.Marked(ctx); !errors.Is(err, context.Canceled) || s.next != last {
		t.Errorf("cut short: %v, next is %d, want %d", err, s.next, last)
	}
	close(release)
	var seen []int
	s.Environ = func(pid int, _ *bytes.Buffer) error {
		seen = append(seen, pid)
		return errors.New("not of interest")
	}
	if _, err := s.Marked(t.Context()); err != nil || s.next != 0 || len(seen) < len(all)/2 || seen[0] < last {
		t.Errorf("%v, looked at %v, want %d and more first; next is %d", err, seen, last, s.next)
	}
}

func TestFrom(t *testing.T) {
	for first, want := range map[int][]int{0: {1, 2, 5, 9}, 5: {5, 9, 1, 2}, 6: {9, 1, 2, 5}, 10: {1, 2, 5, 9}} {
		if got := from(first, []int{9, 1, 5, 2}); !slices.Equal(got, want) {
			t.Errorf("from %d: %v, want %v", first, got, want)
		}
	}
	if got := from(3, nil); len(got) != 0 {
		t.Errorf("of none: %v", got)
	}
}

func TestVariableIsCapped(t *testing.T) {
	environ := slices.Concat([]byte("LICTOR_RUN="), slices.Repeat([]byte("x"), 1000))
	if got := variable(environ, markRun); len(got) != maxMarker {
		t.Errorf("%d bytes, want %d", len(got), maxMarker)
	}
}
