//go:build integration

package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestW14: what a run costs the daemon while it lives is bounded: memory, descriptors, and threads not at all. There are 60 runs, 1,000
// in the long test; LICTOR_TEST_RUNS says another number.
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
	sweeps := "5s"
	if n > 1000 {
		sweeps = "30s" // as it is shipped
	}
	f := newBenchFleet(t, sweeps)
	limits := []string{"-t", "infinity"}
	measure := func() (resident float64, descriptors, threads int, sweep time.Duration) {
		swept := f.count("msg=swept")
		f.await("two sweeps", func() bool { return f.count("msg=swept") >= swept+2 })
		pid := strconv.Itoa(f.daemon.Process.Pid)
		open, _ := filepath.Glob("/proc/" + pid + "/fd/*")
		tasks, _ := filepath.Glob("/proc/" + pid + "/task/*")
		return f.resident(), len(open), len(tasks), f.lastSweep()
	}
	f.add(few, limits, "sleep", "36000")
	resident, descriptors, threads, sweep := measure()
	f.add(n-few, limits, "sleep", "36000")
	more, open, tasks, longer := measure()
	t.Logf("%d runs: %.1f MiB, %d descriptors, %d threads, a sweep in %v; %d runs: %.1f MiB, %d descriptors, %d threads, %v",
		few, resident/1024, descriptors, threads, sweep, n, more/1024, open, tasks, longer)
	const noise = 12 << 10 // KiB, of a heap that garbage is collected in
	if grown := more - resident; grown > noise+48*float64(n-few) {
		t.Errorf("%.0f KiB for %d more runs", grown, n-few)
	}
	if grown := open - descriptors; grown > 6*(n-few) {
		t.Errorf("%d descriptors for %d more runs", grown, n-few)
	}
	if tasks > threads+12 {
		t.Errorf("%d threads for %d runs, %d for %d", tasks, n, threads, few)
	}
}
