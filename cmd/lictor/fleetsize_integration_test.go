//go:build integration

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestW14: what a run costs the daemon while it lives is bounded: memory, descriptors, and threads and idle time not at all. There are 60
// runs, 1,000 in the long test; LICTOR_TEST_RUNS says another number. All but a few are there when the daemon comes, which takes them
// over at once. The ends of more than 2,000 are not waited for: a guest that had so many is to be thrown away.
func TestW14(t *testing.T) {
	n := 60
	if os.Getenv("LICTOR_TEST_LONG") != "" {
		n = 1000
	}
	if text := os.Getenv("LICTOR_TEST_RUNS"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		must(err)
	}
	const few = 10
	limits := []string{"-t", "infinity"}
	sweeps := "5s"
	idle := n >= 1000
	if idle {
		sweeps = "150s" // the idle time is measured between two
		watchable(t, 10*n)
	}
	f := newBenchFleet(t, sweeps)
	f.add(few, limits, "sleep", "36000")
	one := f.size(idle)
	f.stop()
	begun := time.Now()
	f.add(n-few, limits, "sleep", "36000")
	t.Logf("%d adopted in %v", n-few, time.Since(begun))
	kept := f.count("msg=keeping")
	begun = time.Now()
	f.start()
	t.Logf("watching after %v", time.Since(begun))
	f.await("the daemon keeps them all", func() bool { return f.count("msg=keeping") == kept+n })
	t.Logf("all kept after %v", time.Since(begun))
	all := f.size(idle)
	t.Logf("%d runs: %v; %d runs: %v", few, one, n, all)
	const noise = 12 << 10 // KiB, of a heap that garbage is collected in
	if grown := all.resident - one.resident; grown > noise+20*float64(n-few) {
		t.Errorf("%.0f KiB for %d more runs", grown, n-few)
	}
	if grown := all.descriptors - one.descriptors; grown > 6*(n-few) {
		t.Errorf("%d descriptors for %d more runs", grown, n-few)
	}
	// A thread for each system call at a time, whatever the number of runs: those of the takeovers, and of as many looks of a sweep.
	if all.threads > one.threads+2*attendants {
		t.Errorf("%d threads for %d runs, %d for %d", all.threads, n, one.threads, few)
	}
	const idleNoise = 60 * time.Millisecond // far more than an idle daemon uses in a minute, far less than one that polls
	if all.idle > one.idle+idleNoise {
		t.Errorf("%v of processor time in an idle minute for %d runs, %v for %d", all.idle, n, one.idle, few)
	}
}

// watchable lets root have n inotify watches, of which systemd needs its share.
func watchable(t *testing.T, n int) {
	const file = "/proc/sys/fs/inotify/max_user_watches"
	before, err := os.ReadFile(file)
	must(err)
	if had, err := strconv.Atoi(strings.TrimSpace(string(before))); err == nil && had >= n {
		return
	}
	must(os.WriteFile(file, []byte(strconv.Itoa(n)), 0))
	t.Cleanup(func() { _ = os.WriteFile(file, before, 0) })
}

// fleetSize is what a daemon holds, and how long it takes to look at everything.
type fleetSize struct {
	resident, peak       float64 // KiB
	descriptors, threads int
	sweep                time.Duration
	idle                 time.Duration // of processor time, in a minute between two sweeps; 0 if it was not measured
}

func (s fleetSize) String() string {
	text := fmt.Sprintf("%.1f MiB (at most %.1f), %d descriptors, %d threads, a sweep in %v", s.resident/1024, s.peak/1024, s.descriptors, s.threads, s.sweep)
	if s.idle > 0 {
		text += fmt.Sprintf(", %v of processor time in an idle minute", s.idle)
	}
	return text
}

// size measures after two sweeps, and the idle time if it is asked to.
func (f *benchFleet) size(idle bool) fleetSize {
	f.Helper()
	swept := f.count("msg=swept")
	f.await("two sweeps", func() bool { return f.count("msg=swept") >= swept+2 })
	pid := strconv.Itoa(f.daemon.Process.Pid)
	open, _ := filepath.Glob("/proc/" + pid + "/fd/*")
	tasks, _ := filepath.Glob("/proc/" + pid + "/task/*")
	s := fleetSize{resident: f.memory("VmRSS"), peak: f.memory("VmHWM"), descriptors: len(open), threads: len(tasks), sweep: f.lastSweep()}
	if idle {
		s.idle = f.idle()
	}
	return s
}
