package cgroup_test

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
)

// afterComm is a line of /proc/PID/stat from the state on.
const afterComm = " S 1 4711 4700 34816 4711 4194304 98 0 0 0 7 3 0 0 20 0 2 0 123456 2560000 250 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"

func TestParseStat(t *testing.T) {
	for _, comm := range []string{"sleep", "a b", ") S 1 2 3", "((", "))", "", "x\ny", "(sd-pam)", "\xff\xfe"} {
		got, err := cgroup.ParseStat([]byte("4711 (" + comm + ")" + afterComm))
		if err != nil {
			t.Errorf("%q: %v", comm, err)
			continue
		}
		want := cgroup.Stat{
			PID: 4711, Comm: comm, State: 'S', PPID: 1, PGRP: 4711, Session: 4700,
			UserTicks: 7, SysTicks: 3, Threads: 2, StartTicks: 123456, RSSPages: 250,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", comm, diff)
		}
	}
}

func TestParseStatRejects(t *testing.T) {
	good := "4711 (x)" + afterComm
	for _, in := range []string{
		"", "4711", "4711 (x", "4711 x)", "(x)" + afterComm, "4711(x)" + afterComm, ") (",
		"4711 (x) S 1 2 3\n",
		strings.Replace(good, " S ", " SS ", 1),
		strings.Replace(good, "123456", "-1", 1),
		strings.Replace(good, "4711 (", "x (", 1),
		strings.Replace(good, " 34816 4711 4194304 98 0 0 0 7", " 34816 4711 4194304 98 0 0 0 seven", 1),
	} {
		if got, err := cgroup.ParseStat([]byte(in)); err == nil || got != (cgroup.Stat{}) {
			t.Errorf("%q: got %+v, %v; want an error", in, got, err)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("4711 (python3 (x) y)" + afterComm))
	f.Add([]byte("1 ()" + afterComm))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := cgroup.ParseStat(b)
		if err == nil && !strings.Contains(string(b), "("+s.Comm+")") {
			t.Errorf("%q: comm %q", b, s.Comm)
		}
	})
}

// A process that starts now carries the start ticks of now, on the clock of Boottime.
func TestReadStatOfChild(t *testing.T) {
	const tick = 10 * time.Millisecond
	before := cgroup.Boottime()
	child := startSleep(t)
	after := cgroup.Boottime()
	s, err := cgroup.ReadStat(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	start := cgroup.TicksToDuration(s.StartTicks)
	if start < before-2*tick || start > after+2*tick {
		t.Errorf("start %v, want between %v and %v", start, before, after)
	}
	if s.PID != child.Process.Pid || s.PPID != os.Getpid() {
		t.Errorf("got %+v", s)
	}
	if ticks, err := cgroup.StartTicks(s.PID); ticks != s.StartTicks || err != nil {
		t.Errorf("StartTicks = %d, %v; want %d", ticks, err, s.StartTicks)
	}
}

func TestReadStatOfNobody(t *testing.T) {
	pid := deadPID(t)
	if _, err := cgroup.ReadStat(pid); !errors.Is(err, cgroup.ErrNoProcess) {
		t.Errorf("got %v, want ErrNoProcess", err)
	}
}

func TestTicksPerSecondIsTheKernels(t *testing.T) {
	out, err := exec.Command("getconf", "CLK_TCK").Output()
	if err != nil {
		t.Skipf("getconf: %v", err)
	}
	if got, want := cgroup.TicksToDuration(cgroup.TicksPerSecond()), time.Second; got != want || strings.TrimSpace(string(out)) != "100" {
		t.Errorf("%d ticks are %v; getconf says %s", cgroup.TicksPerSecond(), got, out)
	}
}

func TestBootID(t *testing.T) {
	id, err := cgroup.BootID()
	if err != nil || len(id) != 36 || strings.TrimSpace(id) != id {
		t.Errorf("got %q, %v", id, err)
	}
	again, _ := cgroup.BootID()
	if id != again {
		t.Errorf("%q, then %q", id, again)
	}
}

// startSleep starts a process that ends with the test.
func startSleep(t testing.TB) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

// deadPID is the number of a process that has ended.
func deadPID(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// endedBy returns the signal that ended the process, and waits for it.
func endedBy(cmd *exec.Cmd) unix.Signal {
	cmd.Wait()
	return cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
}

func itoa(n int) string { return strconv.Itoa(n) }

func isAlive(pid int) bool {
	s, err := cgroup.ReadStat(pid)
	return err == nil && s.State != 'Z'
}
