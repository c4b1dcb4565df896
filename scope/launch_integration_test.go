//go:build integration

package scope

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scidex/lictor/cgroup"
)

// These tests need root and a real systemd: they run in a guest of the test bed, as root with the system manager, and again
// as alice with hers.

const guestPatience = 2 * time.Minute

// inBothManagers runs a test with the system manager, and executes it anew as alice for the user manager.
func inBothManagers(t *testing.T, test func(*testing.T, *Launcher)) {
	t.Helper()
	const asUser = "LICTOR_TEST_AS_USER"
	manager := System
	if os.Getenv(asUser) != "" {
		manager = User
	} else {
		t.Run("user", func(t *testing.T) { again(t, asUser, "alice") })
	}
	t.Run(string(manager)+" manager", func(t *testing.T) {
		leaveNothing(t)
		l, err := NewLauncher(manager)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Disconnect) // after those of the test
		test(t, l)
	})
}

// again runs the calling test in this binary as another user, whose manager lingers.
func again(t *testing.T, mark, name string) {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Skipf("no user %s: %v", name, err)
	}
	if out, err := exec.Command("loginctl", "enable-linger", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	bus := "/run/user/" + u.Uid + "/bus"
	waitFor(t, bus, func() bool { _, err := os.Stat(bus); return err == nil })
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "test")
	copyProgram(t, binary)
	top, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.Command(binary, "-test.run", "^"+top+"$", "-test.v")
	cmd.Dir, cmd.Env = "/", []string{mark + "=1", "PATH=/usr/bin:/bin", "HOME=" + u.HomeDir, "CI=" + os.Getenv("CI"),
		"XDG_RUNTIME_DIR=/run/user/" + u.Uid}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{uint32(gid)}}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+top) {
		t.Errorf("as %s: %v\n%s", name, err, out)
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(guestPatience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not so after %v: %s", guestPatience, what)
		}
	}
}

func launch(t *testing.T, l *Launcher, spec Spec) *Scope {
	t.Helper()
	s, err := l.Launch(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Signal(os.Kill)
		_, _ = s.Wait(context.Background())
		if err := s.Release(context.Background()); err != nil {
			t.Errorf("release: %v", err)
		}
		s.Close()
	})
	return s
}

// released fails the test if systemd or the kernel still knows a run.
func released(t *testing.T, l *Launcher, run RunID) {
	t.Helper()
	waitFor(t, "the ledger is gone", func() bool {
		led, err := l.Ledger(run)
		if err == nil {
			led.Group.Close()
		}
		return errors.Is(err, cgroup.ErrGone)
	})
	if _, err := l.UnitState(t.Context(), run); !errors.Is(err, ErrNoUnit) {
		t.Errorf("state of the released unit: got %v", err)
	}
}

func waitEnd(t *testing.T, s *Scope) Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), guestPatience)
	defer cancel()
	exit, err := s.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

func TestLaunchForReal(t *testing.T) {
	inBothManagers(t, func(t *testing.T, l *Launcher) {
		spec := shell("exit 7")
		spec.AnalysisID, spec.MemoryMax, spec.TasksMax, spec.CPUQuota = "SDA-117 ä", 100<<20, 40, 0.8
		s := launch(t, l, spec)
		if exit := waitEnd(t, s); exit.Code != 7 || exit.Signal != 0 {
			t.Errorf("exit: got %+v", exit)
		}
		t.Logf("degraded: %q", s.Degraded)
		led, err := l.Ledger(s.Spec.Run)
		if err != nil {
			t.Fatal(err)
		}
		defer led.Group.Close()
		if f := led.Facts; !led.HasFacts || f.AnalysisID != spec.AnalysisID || f.MemoryMax != 100<<20 || f.Leader != s.Leader ||
			f.UID != uint32(os.Getuid()) || f.Deadline == nil || !led.Keeper.Alive() || f.Leader.Alive() {
			t.Errorf("facts: got %+v, keeper %+v", f, led.Keeper)
		}
		if err := s.Release(t.Context()); err != nil {
			t.Error(err)
		}
		released(t, l, s.Spec.Run)
	})
}

// X6: of ours, the analysis finds its run and nothing else, and descriptors 0, 1 and 2.
func TestX6WhatTheAnalysisFinds(t *testing.T) {
	inBothManagers(t, func(t *testing.T, l *Launcher) {
		t.Setenv("NOTIFY_SOCKET", "/run/nothing")
		t.Setenv("LISTEN_FDS", "1")
		t.Setenv("LICTOR_DATABASE", "x")
		leak, err := syscall.Open("/dev/null", syscall.O_RDONLY, 0) // not close-on-exec
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(leak)
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		spec := shell("ls /proc/self/fd; env; cat /proc/self/cgroup")
		spec.Stdout = out
		s := launch(t, l, spec)
		waitEnd(t, s)
		b, _ := os.ReadFile(out.Name())
		text := string(b)
		if !strings.HasPrefix(text, "0\n1\n2\n3\n") { // 3 is the directory that ls lists
			t.Errorf("descriptors: got %q", text[:min(len(text), 40)])
		}
		for _, no := range []string{"NOTIFY_SOCKET", "LISTEN_FDS", "LICTOR_DATABASE"} {
			if strings.Contains(text, no+"=") {
				t.Errorf("%s is in the environment", no)
			}
		}
		for _, yes := range []string{"LICTOR_RUN=" + string(s.Spec.Run) + "\n", "/" + s.Spec.Run.Ledger() + "/" + s.Unit() + "\n"} {
			if !strings.Contains(text, yes) {
				t.Errorf("%q is missing from:\n%s", yes, text)
			}
		}
	})
}

func TestStopForReal(t *testing.T) {
	inBothManagers(t, func(t *testing.T, l *Launcher) {
		bystander := launch(t, l, shell("exec sleep 600"))
		s := launch(t, l, shell("exec sleep 600"))
		if st, err := s.UnitState(t.Context()); err != nil || st.ActiveState != "active" || st.StopJob {
			t.Errorf("state: got %+v, %v", st, err)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if exit := waitEnd(t, s); exit.Signal != syscall.SIGTERM {
			t.Errorf("exit: got %+v, want SIGTERM", exit)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Errorf("second stop: %v", err)
		}
		if !bystander.Leader.Alive() {
			t.Error("the bystander was stopped, too")
		}
	})
}

func TestMonitorSeesAForeignStop(t *testing.T) {
	inBothManagers(t, func(t *testing.T, l *Launcher) {
		s := launch(t, l, shell("exec sleep 600"))
		seen := &watched{}
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan error, 1)
		go func() { end <- l.Monitor(ctx, s.Spec.Run, seen.add) }()
		waitFor(t, "it is monitored", func() bool {
			select {
			case err := <-end:
				t.Fatal(err)
			default:
			}
			return l.monitor(s.Spec.Run) != nil
		})
		args := []string{"stop", s.Unit()}
		if l.Manager() == User {
			args = append([]string{"--user"}, args...)
		}
		if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		stopJob := func() bool {
			for _, st := range seen.last(100) {
				if st.StopJob {
					return true
				}
			}
			return false
		}
		waitFor(t, "the stop job is told", stopJob)
		cancel()
		wantError(t, <-end, context.Canceled)
		t.Logf("told: %+v", seen.last(100))
		if exit := waitEnd(t, s); exit.Signal != syscall.SIGTERM {
			t.Errorf("exit: got %+v", exit)
		}
	})
}

func TestLaunchTwentyAtOnceForReal(t *testing.T) {
	inBothManagers(t, func(t *testing.T, l *Launcher) {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				spec := shell("exit 3")
				spec.TasksMax = 1 // fewer than the child has threads
				s, err := l.Launch(t.Context(), spec)
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				if exit := waitEnd(t, s); exit.Code != 3 {
					t.Errorf("exit: got %+v", exit)
				}
				if err := s.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		waitFor(t, "no ledger is left", func() bool {
			runs, err := l.Ledgers()
			return err == nil && len(runs) == 0
		})
	})
}

// D6 on a real bus: a copy of the expected signal, from another connection, reaches us and is not believed.
func TestD6ForgeryOnARealBus(t *testing.T) {
	b, err := dial(t.Context(), System.busEndpoint())
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	stranger, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	done := b.signals.expect(testUnit)
	for range 1000 {
		if err := stranger.Emit(managerPath, jobRemoved, uint32(1), dbus.ObjectPath("/a"), testUnit, "done"); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the forged signals have arrived", func() bool {
		b.signals.mu.Lock()
		defer b.signals.mu.Unlock()
		return b.signals.dropped >= 1000
	})
	select {
	case r := <-done:
		t.Errorf("believed: %q", r)
	default:
	}
}
