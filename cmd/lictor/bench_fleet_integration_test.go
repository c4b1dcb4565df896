//go:build integration

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// benchFleet is a daemon and runs that it keeps, to be measured.
type benchFleet struct {
	testing.TB
	line   []string  // of the daemon
	daemon *exec.Cmd // nil while it is away
	socket string
	log    string
	mains  []*exec.Cmd // the main processes
}

// underQuota gives a daemon the processor time of its unit.
var underQuota = []string{"systemd-run", "--scope", "--quiet", "-p", "CPUQuota=10%"}

// newBenchFleet starts a daemon; words are put before its command line (systemd-run …).
func newBenchFleet(b testing.TB, sweep string, words ...string) *benchFleet {
	b.Helper()
	b.Setenv("LICTOR_STATE_DIR", b.TempDir())
	b.Setenv("LICTOR_HOST", noHost)
	b.Setenv("LICTOR_DEBUG", "1")
	f := &benchFleet{TB: b, socket: filepath.Join(b.TempDir(), "s"), log: filepath.Join(b.TempDir(), "log")}
	f.line = append(slices.Clone(words), benchBinary(), "watch", "--socket", f.socket, "--sweep", sweep)
	b.Cleanup(func() {
		_ = exec.Command("sh", "-c", "echo 1 | tee /sys/fs/cgroup/lictor.slice/lictor-*.slice/cgroup.kill").Run()
		for _, p := range f.mains {
			_ = p.Process.Kill() // if it was not adopted
			_ = p.Wait()
		}
		if len(f.mains) > 2000 {
			// systemd's time for a unit grows with those beside it: to release all would take hours
			_ = f.daemon.Process.Kill()
			_ = f.daemon.Wait()
			return
		}
		f.await("the ledgers are released", func() bool {
			left, _ := filepath.Glob("/sys/fs/cgroup/lictor.slice/lictor-*.slice")
			return len(left) == 0
		})
		f.stop()
	})
	f.start()
	return f
}

// start starts the daemon, and returns when it watches.
func (f *benchFleet) start() {
	f.Helper()
	log, err := os.OpenFile(f.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(err)
	defer log.Close()
	watching := f.count("msg=watching")
	f.daemon = exec.Command(f.line[0], f.line[1:]...)
	f.daemon.Stdout, f.daemon.Stderr = log, log
	must(f.daemon.Start())
	f.await("the daemon watches", func() bool { return f.count("msg=watching") > watching })
}

// stop stops the daemon.
func (f *benchFleet) stop() {
	_ = f.daemon.Process.Signal(os.Interrupt)
	_ = f.daemon.Wait()
	f.daemon = nil
}

// await waits for minutes, and for as long again as so many runs may take.
func (f *benchFleet) await(what string, ok func() bool) {
	f.Helper()
	patience := 5*time.Minute + time.Duration(len(f.mains))*300*time.Millisecond
	begun := time.Now()
	for {
		asked := time.Now()
		if ok() {
			return
		}
		if time.Since(begun) > patience {
			f.Fatalf("not in time: %s", what)
		}
		time.Sleep(max(100*time.Millisecond, 20*time.Since(asked))) // the processor is the daemon's
	}
}

func (f *benchFleet) count(word string) int {
	text, _ := os.ReadFile(f.log)
	return strings.Count(string(text), word)
}

// adopt has the daemon adopt a process, as lictor adopt does for a user. No process is started for it, which would take longer than all the
// rest.
func (f *benchFleet) adopt(limits []string, pid int) error {
	app, o := newApp(), boxOptions(limits)
	_, run, err := app.spec(o, app.commandOf(f.Context(), pid))
	must(err)
	c, err := client.New(f.socket, "")
	must(err)
	_, err = c.Adopt(f.Context(), &client.Adoption{PID: pid, Run: run, Properties: o.properties})
	return err
}

func boxOptions(args []string) *launchOptions {
	o, flags := &launchOptions{}, pflag.NewFlagSet("", pflag.ContinueOnError)
	o.addBox(flags)
	must(flags.Parse(args))
	return o
}

// adoptAllCommand is a command of the tests' lictor: it adopts the processes whose numbers it reads, without a daemon, as lictor adopt
// does for one.
const adoptAllCommand = "adopt-all"

func adoptAll(app *App, limits []string) {
	ctx := context.Background()
	l, err := app.actor()
	must(err)
	tell := app.startTelling("", nil)
	defer tell.close()
	rec, err := tell.recorder()
	must(err)
	pids := make(chan int)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for pid := range pids {
				spec, run, err := app.spec(boxOptions(limits), app.commandOf(ctx, pid))
				must(err)
				must(adoptProcess(ctx, l, rec, scope.AdoptSpec{Spec: spec, PID: pid}, run))
			}
		})
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		pid, err := strconv.Atoi(in.Text())
		must(err)
		pids <- pid
	}
	close(pids)
	wg.Wait()
}

// add starts processes and has them adopted, so that nobody but the daemon keeps them, once it is there.
func (f *benchFleet) add(n int, limits []string, command ...string) {
	f.Helper()
	fresh := make([]*exec.Cmd, n)
	for i := range fresh {
		fresh[i] = exec.Command(command[0], command[1:]...)
		must(fresh[i].Start())
	}
	f.mains = append(f.mains, fresh...)
	if f.daemon == nil {
		f.adoptAll(limits, fresh)
		return
	}
	before := f.count("msg=keeping")
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 4 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := f.adopt(limits, fresh[i].Process.Pid); err != nil {
					f.Errorf("adopt: %v", err)
				}
			}
		})
	}
	wg.Wait()
	f.await("the daemon keeps them", func() bool { return f.count("msg=keeping") == before+n })
}

func (f *benchFleet) adoptAll(limits []string, mains []*exec.Cmd) {
	f.Helper()
	var pids strings.Builder
	for _, p := range mains {
		fmt.Fprintln(&pids, p.Process.Pid)
	}
	cmd := exec.Command(installed(), append([]string{adoptAllCommand}, limits...)...)
	cmd.Stdin = strings.NewReader(pids.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		f.Fatalf("%s: %v: %s", adoptAllCommand, err, out)
	}
}

// cpu is what a process has used, by the scheduler's own account.
func (f *benchFleet) cpu() time.Duration {
	var sum time.Duration
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", f.daemon.Process.Pid))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		var ns int64
		_, _ = fmt.Sscan(string(text), &ns)
		sum += time.Duration(ns)
	}
	return sum
}

// idle is the processor time that the daemon uses in a minute, a little later.
func (f *benchFleet) idle() time.Duration {
	time.Sleep(20 * time.Second)
	used := f.cpu()
	time.Sleep(time.Minute)
	return f.cpu() - used
}

// memory reads a line of /proc/PID/status, see proc_pid_status(5).
func (f *benchFleet) memory(name string) (kB float64) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.daemon.Process.Pid))
	if _, rest, ok := strings.Cut(string(status), name+":"); ok {
		_, _ = fmt.Sscan(rest, &kB)
	}
	return kB
}

// lastSweep is how long the last sweep took.
func (f *benchFleet) lastSweep() time.Duration {
	f.Helper()
	text, err := os.ReadFile(f.log)
	must(err)
	_, took, _ := strings.Cut(string(text)[strings.LastIndex(string(text), "msg=swept"):], "took=")
	took, _, _ = strings.Cut(took, "\n")
	d, err := time.ParseDuration(took)
	must(err)
	return d
}

// BenchmarkFleet reports what 10 and what 1,000 idle runs cost the daemon: resident memory, processor time in a minute between
// two sweeps, and how long a sweep takes.
func BenchmarkFleet(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			f := newBenchFleet(b, "150s")
			f.add(n, []string{"-t", "infinity"}, "sleep", "36000")
			swept := f.count("msg=swept")
			for b.Loop() {
				f.await("a sweep is over", func() bool { return f.count("msg=swept") > swept })
				b.ReportMetric(ms(f.idle()), "idle-cpu-ms/min")
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(f.memory("VmRSS")/1024, "MiB-resident")
			b.ReportMetric(ms(f.lastSweep()), "sweep-ms")
		})
	}
}

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
