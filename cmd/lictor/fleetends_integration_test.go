//go:build integration

package main

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

// oomKills reads from the kernel log when which process was killed for memory, on CLOCK_MONOTONIC. It has to be read while it is
// written: the dumps of a burst are more than the kernel keeps.
func oomKills(from *bufio.Reader, n int) (map[int]time.Duration, error) {
	kills := map[int]time.Duration{}
	for len(kills) < n {
		line, err := from.ReadString('\n')
		if errors.Is(err, syscall.EPIPE) { // some were overwritten
			continue
		}
		if err != nil {
			return kills, err
		}
		head, text, _ := strings.Cut(line, ";")
		_, rest, ok := strings.Cut(text, "Killed process ")
		fields := strings.Split(head, ",")
		if !ok || len(fields) < 3 {
			continue
		}
		pid, _ := strconv.Atoi(strings.Fields(rest)[0])
		us, _ := strconv.ParseInt(fields[2], 10, 64)
		kills[pid] = time.Duration(us) * time.Microsecond
	}
	return kills, nil
}

// kernelTime is the clock of the kernel log.
func kernelTime() time.Duration {
	text, err := os.ReadFile("/proc/uptime") // a hundredth of a second; without suspend it is the same clock
	must(err)
	var s float64
	_, _ = fmt.Sscan(string(text), &s)
	return time.Duration(s * float64(time.Second))
}

// burst lets n runs, one after the other, die for memory, and returns how long after each kill its record was on disk.
func (f *benchFleet) burst(n int, over time.Duration) []time.Duration {
	f.Helper()
	gate := filepath.Join(f.TempDir(), "gate")
	if out, err := exec.Command("mkfifo", gate).CombinedOutput(); err != nil {
		f.Fatalf("%v: %s", err, out)
	}
	hold, err := os.OpenFile(gate, os.O_RDWR, 0)
	must(err)
	defer hold.Close()
	f.add(n, []string{"-m", "12M"}, "sh", "-c", "read x < "+gate+"; exec tail /dev/zero")
	kmsg, err := os.Open("/dev/kmsg")
	must(err)
	defer kmsg.Close()
	_, err = kmsg.Seek(0, 2)
	must(err)
	store, err := events.OpenSQLiteReadOnly(filepath.Join(os.Getenv("LICTOR_STATE_DIR"), "lictor.db"))
	must(err)
	defer store.Close()
	var cursor int64
	_, err = store.Events(f.Context(), events.EventQuery{Last: 1, Cursor: &cursor})
	must(err)
	type seen struct {
		kills map[int]time.Duration
		err   error
	}
	log := make(chan seen, 1)
	go func() {
		kills, err := oomKills(bufio.NewReaderSize(kmsg, 16<<10), n)
		log <- seen{kills, err}
	}()
	go func() {
		for range n {
			_, _ = hold.WriteString("x\n")
			time.Sleep(over / time.Duration(n))
		}
	}()
	recorded := map[events.RunID]time.Duration{}
	for deadline := time.Now().Add(3 * time.Minute); len(recorded) < n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.Fatalf("%d of %d ends are on record", len(recorded), n)
		}
		es, err := store.Events(f.Context(), events.EventQuery{After: cursor, Cursor: &cursor, Kinds: []events.Kind{events.KindEnded}})
		must(err)
		for _, e := range es {
			recorded[e.Run] = kernelTime()
		}
	}
	kernel := <-log
	must(kernel.err)
	var late []time.Duration
	for id, at := range recorded {
		run, err := store.Run(f.Context(), id)
		must(err)
		if run.Reason != events.ReasonOOM {
			f.Errorf("%s ended as %s %s", id, run.State, run.Reason)
		}
		killed, ok := kernel.kills[*run.LeaderPID]
		if !ok {
			f.Errorf("the kernel did not kill %d of %s", *run.LeaderPID, id)
			continue
		}
		late = append(late, at-killed)
	}
	slices.Sort(late)
	return late
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(math.Ceil(q*float64(len(sorted))))-1]
}

// BenchmarkBurst reports how long after the kernel has killed the record is on disk, while 200 runs die within 10 seconds. None
// may be missing.
func BenchmarkBurst(b *testing.B) {
	f := newBenchFleet(b, "30s")
	for b.Loop() {
		late := f.burst(200, 10*time.Second)
		b.ReportMetric(ms(quantile(late, 0.5)), "median-ms")
		b.ReportMetric(ms(quantile(late, 0.99)), "p99-ms")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkFleetThrash reports what the daemon, with the CPUQuota of its unit, uses while 64 runs thrash at their limits, and how long
// after it the record of a kill elsewhere is on disk.
func BenchmarkFleetThrash(b *testing.B) {
	f := newBenchFleet(b, "30s", underQuota...)
	dir := b.TempDir()
	f.add(64, []string{"-m", "8M"}, "sh", "-c", "f="+dir+"/$$; truncate -s 24M $f; while :; do cat $f; done >/dev/null") // a file each: a page is charged to one
	time.Sleep(5 * time.Second)
	for b.Loop() {
		used, touched, start := f.cpu(), limitTouched(), time.Now()
		time.Sleep(time.Minute)
		took := time.Since(start)
		b.ReportMetric(100*float64(f.cpu()-used)/float64(took), "%-of-a-core")
		b.ReportMetric(float64(limitTouched()-touched)/took.Seconds(), "max/s")
		if limitTouched() == touched {
			b.Error("nobody is at the limit")
		}
		late := f.burst(5, 5*time.Second)
		b.ReportMetric(ms(quantile(late, 0.5)), "median-ms")
		b.ReportMetric(ms(late[len(late)-1]), "worst-ms")
	}
	b.ReportMetric(0, "ns/op")
}

// TestCrowd: somebody kills many runs at once, and nothing of the kernel's or systemd's explains it, while the daemon has the processor
// time of its unit. Each has one end, and systemd answers in time. There are 20 runs, 150 in the long test.
func TestCrowd(t *testing.T) {
	n := 20
	if longer() {
		n = 150
	}
	all, used := crowd(t, n)
	t.Logf("%d ends on record after %v, with %v of processor time", n, all, used)
}

// BenchmarkCrowd reports how long it takes until the ends are on record of 150 runs that somebody kills at once, and what processor
// time each costs: nothing but the journal could explain them, and the daemon has the CPUQuota of its unit.
func BenchmarkCrowd(b *testing.B) {
	for b.Loop() {
		all, used := crowd(b, 150)
		b.ReportMetric(all.Seconds(), "s")
		b.ReportMetric(ms(used)/150, "cpu-ms/run")
	}
	b.ReportMetric(0, "ns/op")
}

// crowd has n runs killed at once, and returns how long it took until all ends were on record, and what processor time the daemon used.
func crowd(tb testing.TB, n int) (all, used time.Duration) {
	tb.Helper()
	f := newBenchFleet(tb, "30s", underQuota...)
	f.stop()
	f.add(n, []string{"-t", "infinity"}, "sleep", "36000")
	f.start()
	f.await("the daemon keeps them all", func() bool { return f.count("msg=keeping") == n })
	store, err := events.OpenSQLiteReadOnly(filepath.Join(os.Getenv("LICTOR_STATE_DIR"), "lictor.db"))
	must(err)
	defer store.Close()
	begun, before := time.Now(), f.cpu()
	for _, p := range f.mains {
		must(p.Process.Kill())
	}
	for _, p := range f.mains {
		_ = p.Wait()
	}
	var ended []events.Event
	f.await("all ends are on record", func() bool {
		ended, err = store.Events(f.Context(), events.EventQuery{Kinds: []events.Kind{events.KindEnded}})
		must(err)
		return len(ended) >= n
	})
	all, used = time.Since(begun), f.cpu()-before
	seen := map[events.RunID]bool{}
	for _, e := range ended {
		run, err := store.Run(f.Context(), e.Run)
		must(err)
		if seen[e.Run] {
			f.Errorf("%s ended twice", e.Run)
		}
		seen[e.Run] = true
		if run.Reason != events.ReasonNone && run.Reason != events.ReasonSignal { // a signal where the kernel tells strangers
			f.Errorf("%s ended as %s %s", e.Run, run.State, run.Reason)
		}
	}
	if again := f.count("unit not monitored"); again > 0 { // and everything else that was asked for then
		f.Errorf("%d times systemd did not answer in time", again)
	}
	return all, used
}
