//go:build integration

package cgroup_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
)

func TestRealKill(t *testing.T) {
	for _, tt := range []struct {
		name   string
		kill   func(*cgroup.Group) error
		frozen bool
	}{
		{name: "cgroup.kill", kill: (*cgroup.Group).Kill},
		{name: "cgroup.kill, frozen", kill: (*cgroup.Group).Kill, frozen: true},
		{name: "one by one", kill: (*cgroup.Group).KillOneByOne},
		{name: "one by one, frozen", kill: (*cgroup.Group).KillOneByOne, frozen: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSubtree(t)
			g, beside := s.make("run.scope"), s.make("run.scope2")
			below := s.make("run.scope/below")
			leader := startTree(t, g, 100)
			deep := start(t, below, "sleep", "1000")
			bystander, stranger := start(t, beside, "sleep", "1000"), startSleep(t)
			if tt.frozen {
				freeze(t, g)
			}
			if err := tt.kill(g); err != nil {
				t.Fatal(err)
			}
			eventually(t, "empty", isEmpty(g))
			for _, victim := range []*exec.Cmd{leader, deep} {
				if sig := endedBy(victim); sig != unix.SIGKILL {
					t.Errorf("a victim was ended by %v", sig)
				}
			}
			for _, p := range []*exec.Cmd{bystander, stranger} {
				if !isAlive(p.Process.Pid) {
					t.Error("a bystander is dead")
				}
			}
		})
	}
}

func freeze(t *testing.T, g *cgroup.Group) {
	t.Helper()
	if err := g.Freeze(true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "frozen", func() bool {
		frozen, err := g.Frozen()
		return err == nil && frozen
	})
}

const forkBomb = `
import os
while True:
    try: os.fork()
    except OSError: pass
`

// Both ways must end a program that forks as fast as it can.
func TestRealKillForkBomb(t *testing.T) {
	for name, kill := range map[string]func(*cgroup.Group) error{
		"cgroup.kill": (*cgroup.Group).Kill,
		"one by one":  (*cgroup.Group).KillOneByOne,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSubtree(t)
			g := s.make("bomb")
			s.write("bomb", "pids.max", "60")
			start(t, g, "python3", "-c", forkBomb)
			eventually(t, "a refused fork", func() bool {
				n, err := g.PidsEvents()
				return err == nil && n > 0
			})
			if err := kill(g); err != nil {
				t.Fatal(err)
			}
			eventually(t, "empty", isEmpty(g))
			if e, err := g.Events(); e.Frozen || err != nil {
				t.Errorf("afterwards: %+v, %v", e, err)
			}
		})
	}
}

const handlesTERM = `
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
while True: time.sleep(1000)
`

// A frozen process that handles SIGTERM handles it when it is thawed; one that does not, dies of it as it stands.
func TestRealFreeze(t *testing.T) {
	s := newSubtree(t)
	g := s.make("a")
	handles := prepare(g, "python3", "-c", handlesTERM)
	ready, err := handles.StdoutPipe()
	s.must(err)
	launch(t, handles)
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	dies := start(t, g, "sleep", "1000")
	freeze(t, g)
	if e, err := g.Events(); e != (cgroup.Events{Populated: true, Frozen: true}) || err != nil {
		t.Errorf("got %+v, %v", e, err)
	}
	if sent, err := g.Signal(unix.SIGTERM); len(sent) != 2 || err != nil {
		t.Errorf("signalled %v, %v", sent, err)
	}
	if sig := endedBy(dies); sig != unix.SIGTERM {
		t.Errorf("ended by %v", sig)
	}
	if !isAlive(handles.Process.Pid) {
		t.Error("a frozen process ran its handler")
	}
	if err := g.Freeze(false); err != nil {
		t.Fatal(err)
	}
	handles.Wait()
	if code := handles.ProcessState.ExitCode(); code != 7 {
		t.Errorf("after the thaw: exit status %d, want 7", code)
	}
}

func TestRealSignal(t *testing.T) {
	s := newSubtree(t)
	g, other := s.make("a"), s.make("b")
	s.make("a/below")
	stays, moves := start(t, g, "sleep", "1000"), start(t, g, "sleep", "1000")
	deep := start(t, s.open("a/below"), "sleep", "1000")
	s.write("b", "cgroup.procs", itoa(moves.Process.Pid))

	sent, err := g.Signal(unix.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, one := range sent {
		if one.Err != nil {
			t.Errorf("%d: %v", one.PID, one.Err)
		}
		pids = append(pids, one.PID)
	}
	want := []int{stays.Process.Pid, deep.Process.Pid}
	slices.Sort(want)
	if !slices.Equal(pids, want) {
		t.Errorf("signalled %v, want %v", pids, want)
	}
	if a, b := endedBy(stays), endedBy(deep); a != unix.SIGTERM || b != unix.SIGTERM {
		t.Errorf("ended by %v, %v", a, b)
	}
	if !isAlive(moves.Process.Pid) {
		t.Error("the process that was moved out is dead")
	}
	if pids, err := other.Procs(); !slices.Equal(pids, []int{moves.Process.Pid}) || err != nil {
		t.Errorf("b: %v, %v", pids, err)
	}
}

// Processes come, go and leave while Signal is at work: whoever was seen outside before it began lives.
func TestRealSignalRace(t *testing.T) {
	s := newSubtree(t)
	refuge := s.make("refuge")
	var saved []*exec.Cmd
	for range 20 {
		g := s.make("storm")
		startTree(t, g, 8)
		one := start(t, g, "sleep", "1000")
		s.write("refuge", "cgroup.procs", itoa(one.Process.Pid))
		saved = append(saved, one)
		done := make(chan error, 4)
		for range 4 {
			go func() {
				_, err := g.Signal(unix.SIGKILL)
				done <- err
			}()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := g.Kill(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "empty", isEmpty(g))
		s.rmdir("storm")
	}
	pids, err := refuge.Procs()
	if len(pids) != len(saved) || err != nil {
		t.Errorf("%d of %d in the refuge live, %v", len(pids), len(saved), err)
	}
}

// An unprivileged user rules a subtree that was delegated, and nothing else.
func TestRealDelegated(t *testing.T) {
	if path := os.Getenv("LICTOR_TEST_DELEGATED"); path != "" {
		testAsUser(t, path)
		return
	}
	const uid = 65534
	s := newSubtree(t)
	s.make("delegated")
	list, err := os.ReadFile("/sys/kernel/cgroup/delegate")
	s.must(err)
	s.must(os.Chown(s.dir("delegated"), uid, uid))
	for _, file := range append(strings.Fields(string(list)), "cgroup.kill") {
		if _, err := os.Stat(s.dir("delegated/" + file)); err == nil && strings.HasPrefix(file, "cgroup.") {
			s.must(os.Chown(s.dir("delegated/"+file), uid, uid))
		}
	}
	s.make("delegated/inner")
	s.must(os.Chown(s.dir("delegated/inner"), uid, uid))
	for _, file := range []string{"cgroup.procs", "cgroup.kill", "cgroup.freeze"} {
		s.must(os.Chown(s.dir("delegated/inner/"+file), uid, uid))
	}
	s.make("private")

	exe, err := os.Executable() // the test bed puts it where everybody may run it
	s.must(err)
	inside := exec.Command(exe, "-test.run=^TestRealDelegated$", "-test.v")
	inside.Dir = "/"
	inside.Env = append(os.Environ(), "LICTOR_TEST_DELEGATED="+s.path)
	inside.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: uid, Gid: uid, Groups: []uint32{}},
		UseCgroupFD: true, CgroupFD: s.open("delegated/inner").FD(),
	}
	out, err := inside.CombinedOutput()
	t.Logf("%s", out)
	// The test in there ends by killing its own cgroup.
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL || strings.Contains(string(out), "FAIL") ||
		!strings.Contains(string(out), "about to kill") {
		t.Errorf("got %v, want SIGKILL after the last line", err)
	}
}

func testAsUser(t *testing.T, path string) {
	fs, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	open := func(name string) *cgroup.Group {
		g, err := fs.Open(path + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	own, private := open("delegated/inner"), open("private")
	if _, err := private.MemoryEvents(); err != nil {
		t.Errorf("reading is everybody's: %v", err)
	}
	if err := private.SetXattr("user.lictor.x", "1"); !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		t.Errorf("SetXattr on root's: %v", err)
	}
	if err := private.Kill(); !errors.Is(err, unix.EACCES) {
		t.Errorf("Kill of root's: %v", err)
	}
	if err := own.SetXattr("user.lictor.x", "1"); err != nil {
		t.Errorf("SetXattr on one's own: %v", err)
	}
	if t.Failed() {
		return
	}
	os.Stdout.WriteString("about to kill\n")
	t.Errorf("still here after %v", own.Kill())
}
