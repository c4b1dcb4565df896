//go:build integration

package main

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// TestW1: many live runs, the daemon that keeps them is SIGKILLed again and again while they end in all ways. Each has one
// end on record, with its reason, and nothing is left. The long test has 100 runs and 20 kills.
func TestW1(t *testing.T) {
	asRoot(t, func(b *bed) {
		each, kills := 4, 10
		if longer() {
			each, kills = 20, 20
		}
		d := b.daemon()
		all, want := launches{}, ends{}
		begin := func(id string, reason events.Reason, args ...string) { all[id], want[id] = args, reason }
		for i := range each {
			n, delay := strconv.Itoa(i), strconv.Itoa(12+(3+each/4)*i) // a time limit counts while the launchers wait for each other
			begin("oom-"+n, events.ReasonOOM, "--on-owner-exit", "keep", "-m", "12M", "--", "sh", "-c", "sleep "+delay+"; tail /dev/zero")
			begin("timeout-"+n, events.ReasonTimeout, "--on-owner-exit", "keep", "-t", delay, "--", "sleep", "600")
			begin("stubborn-"+n, events.ReasonTimeout, "--on-owner-exit", "keep", "-t", delay, "--grace", "2", "--",
				"sh", "-c", "trap '' TERM; while :; do sleep 600; done")
			begin("stop-"+n, events.ReasonStop, "--on-owner-exit", "keep", "--", "sleep", "600")
			begin("abandoned-"+n, events.ReasonAbandoned, "--", "sleep", "600")
		}
		started, ids := b.launch(all)
		var abandoned []string
		for id, p := range started {
			if want[id] == events.ReasonAbandoned {
				abandoned = append(abandoned, id)
				continue
			}
			b.signal(p, syscall.SIGKILL)
			b.finishCommand(p)
		}
		for i := range kills {
			time.Sleep(time.Duration(rand.IntN(2500)) * time.Millisecond) // any instant will do
			b.end(d, syscall.SIGKILL)
			for id, run := range ids {
				if want[id] == events.ReasonStop && rand.IntN(kills-i) == 0 {
					b.lictor("stop", string(run))
				}
			}
			for n := (len(abandoned) + kills - i - 1) / (kills - i); n > 0; n-- {
				p := started[abandoned[0]]
				b.signal(p, syscall.SIGKILL)
				b.finishCommand(p)
				abandoned = abandoned[1:]
			}
			d = b.daemon()
		}
		defer b.end(d, syscall.SIGTERM)
		b.wantEnds(ids, want)
		b.atBaseline(d)
	})
}

// TestW13: the daemon is replaced by a new binary and started again while runs start and end. Nothing is lost.
func TestW13(t *testing.T) {
	asRoot(t, func(b *bed) {
		binary := filepath.Join(filepath.Dir(installed()), "new-"+realName)
		must(os.Mkdir(binary, 0o755))
		binary = filepath.Join(binary, realName)
		renew := func() {
			in, err := os.Open(installed())
			must(err)
			defer in.Close()
			out, err := os.OpenFile(binary+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
			must(err)
			_, err = io.Copy(out, in)
			must(err)
			must(out.Close())
			must(os.Rename(binary+".tmp", binary))
		}
		renew()
		daemon := func() *process {
			p := b.prepare("watch", "--sweep", "10s")
			p.Path = binary
			return b.watching(p)
		}
		d := daemon()
		stop := make(chan struct{})
		var load sync.WaitGroup
		endLoad := sync.OnceFunc(func() {
			close(stop)
			load.Wait()
		})
		defer endLoad()  // whatever fails: the next test is to find nothing
		load.Go(func() { // runs with a launcher
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				p := b.prepare("run", "-q", "--analysis-id", "own-"+strconv.Itoa(i), "-m", "8M", "--", "tail", "/dev/zero")
				if err := p.Run(); p.ProcessState.ExitCode() != 137 {
					b.Errorf("own-%d: %v: %s", i, err, p.err.String())
				}
			}
		})
		g := b.gate()
		all, want := launches{}, ends{}
		for i := range 4 {
			id := "left-" + strconv.Itoa(i)
			all[id], want[id] = append([]string{"--on-owner-exit", "keep", "-m", "12M", "--"}, g.then("exec tail /dev/zero")...), events.ReasonOOM
			id = "timeout-" + strconv.Itoa(i)
			all[id], want[id] = []string{"--on-owner-exit", "keep", "-t", strconv.Itoa(8 + 2*i), "--", "sleep", "600"}, events.ReasonTimeout
		}
		ids := b.leave(all)
		for i := range 4 {
			renew()
			b.end(d, syscall.SIGTERM)
			d = daemon()
			if i == 2 {
				g.open()
			}
		}
		defer b.end(d, syscall.SIGTERM)
		b.wantEnds(ids, want)
		endLoad()
		for _, run := range b.runs() {
			if strings.HasPrefix(run.AnalysisID, "own-") {
				b.wantRun(run, events.StateKilled, events.ReasonOOM, "kernel")
			}
		}
		b.atBaseline(d)
	})
}

// usage is what a daemon holds.
type usage struct {
	files, watches, goroutines int
	store                      int // files too, but those of the store
	anon                       int // kB
}

func (b *bed) usage(d *process) (u usage) {
	b.Helper()
	dir := fmt.Sprintf("/proc/%d", d.Process.Pid)
	for _, name := range openNames(d) {
		if strings.Contains(name, "/lictor.db") {
			u.store++
		} else {
			u.files++
		}
	}
	infos, _ := filepath.Glob(dir + "/fdinfo/*")
	for _, info := range infos {
		text, _ := os.ReadFile(info)
		u.watches += strings.Count(string(text), "inotify wd:")
	}
	status, _ := os.ReadFile(dir + "/status")
	if _, rest, ok := strings.Cut(string(status), "RssAnon:"); ok {
		_, _ = fmt.Sscan(rest, &u.anon)
	}
	before := strings.Count(d.said(), "goroutines=")
	b.signal(d, syscall.SIGUSR1)
	b.eventually("it says how many goroutines it has", func() bool { return strings.Count(d.said(), "goroutines=") > before })
	said := d.said()
	_, _ = fmt.Sscan(said[strings.LastIndex(said, "goroutines=")+len("goroutines="):], &u.goroutines)
	return u
}

// storeFiles is how many descriptors the store has at most: three for its writer, and for each of its readers. SQLite may close
// that of the database itself only when no connection holds a lock on it (POSIX locks end with any close), so one that was open
// is kept for the next connection.
const storeFiles = 3 * (1 + 4)

// openNames are the targets of a process's descriptors.
func openNames(d *process) []string {
	dir := fmt.Sprintf("/proc/%d/fd", d.Process.Pid)
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		name, _ := os.Readlink(filepath.Join(dir, e.Name()))
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// tellGoroutines has a lictor of the tests say on SIGUSR1 how many goroutines it has.
func tellGoroutines() {
	if len(os.Args) < 2 || os.Args[1] != "watch" {
		return
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() {
		for range asked {
			fmt.Fprintf(os.Stderr, "goroutines=%d\n", runtime.NumGoroutine())
		}
	}()
}

// profile has a daemon of the tests write a profile of the processor time that it has used, when it ends: LICTOR_TEST_PROFILE=FILE.
func profile(file string) (stop func()) {
	if file == "" || len(os.Args) < 2 || os.Args[1] != "watch" {
		return func() {}
	}
	f, err := os.Create(file)
	must(err)
	must(pprof.StartCPUProfile(f))
	return func() {
		pprof.StopCPUProfile()
		must(f.Close())
	}
}

// atBaseline asserts that the daemon holds no more than one that has never had a run.
func (b *bed) atBaseline(d *process) {
	b.Helper()
	b.eventually("all ledgers are released", b.released)
	var now, fresh usage
	other := b.prepareOther()
	fresh = b.usage(other)
	b.end(other, syscall.SIGTERM)
	slim := func() bool {
		now = b.usage(d)
		return now.watches <= fresh.watches && now.goroutines <= fresh.goroutines+2 && now.files <= fresh.files+4 && now.store <= storeFiles
	}
	for deadline := time.Now().Add(60 * time.Second); !slim(); time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			b.Fatalf("idle: %+v; one that has just started: %+v; open: %s", now, fresh, openNames(d))
		}
	}
	if now.anon > fresh.anon+24<<10 {
		b.Errorf("the daemon holds %d kB, one that has just started %d kB", now.anon, fresh.anon)
	}
	b.Logf("idle: %+v; one that has just started: %+v", now, fresh)
}

// prepareOther starts a daemon for another store, in which there is nothing.
func (b *bed) prepareOther() *process {
	b.Helper()
	was := b.store
	defer func() { b.store = was }()
	b.store = filepath.Join(b.dir, "other-state")
	return b.watching(b.prepare("watch", "--sweep", "10s", "--socket", noSocket))
}

// TestW17: many short runs, 5,000 in the long test, while the daemon looks on. What it holds, and what systemd holds, is at the
// baseline afterwards. D13: the runs that die for memory leave no failed unit and no ledger.
func TestW17(t *testing.T) {
	asRoot(t, func(b *bed) {
		const at = 8
		rounds := 6
		if longer() {
			rounds = 5000 / at
		}
		d := b.daemon()
		defer b.end(d, syscall.SIGTERM)
		units := func() int { return strings.Count(b.systemctl("list-units", "--all", "--no-legend", "--plain"), "\n") }
		before := units()
		var wg sync.WaitGroup
		for i := range at {
			wg.Go(func() {
				for round := range rounds {
					args := []string{"run", "-q", "--analysis-id", fmt.Sprintf("w17-%d-%d", i, round), "--"}
					command := []string{"true"}
					if (round+i)%2 == 0 {
						args, command = slices.Insert(args, 1, "-m", "4M"), []string{"tail", "/dev/zero"}
					}
					p := b.prepare(append(args, command...)...)
					_ = p.Run()
				}
			})
		}
		wg.Wait()
		runs := b.runs()
		if len(runs) != rounds*at {
			b.Errorf("%d runs on record, want %d", len(runs), rounds*at)
		}
		count := map[events.State]int{}
		for _, run := range runs {
			count[run.State]++
		}
		if count[events.StateDone] != rounds*at/2 || count[events.StateKilled] != rounds*at/2 {
			b.Errorf("%v, want half of each", count)
		}
		b.atBaseline(d)
		b.eventually("systemd has as many units as before", func() bool { return units() <= before+2 }) // a session may have begun
		if out := b.systemctl("list-units", "--failed", "--no-legend", "lictor*"); strings.TrimSpace(out) != "" {
			b.Errorf("failed units: %s", out)
		}
	})
}

// TestF2: runs sit at their memory limit and have the kernel change memory.events all the time. The daemon sleeps through most of it
// and ends others in time.
func TestF2(t *testing.T) {
	asRoot(t, func(b *bed) {
		d := b.daemon()
		defer b.end(d, syscall.SIGTERM)
		thrash := []string{"--on-owner-exit", "keep", "-m", "12M", "--", "sh", "-c",
			"f=" + b.dir + "/file.$$; dd if=/dev/zero of=$f bs=1M count=24 status=none; while :; do cat $f; done > /dev/null"} // one each: a page is charged to one
		all := launches{"limit": {"--on-owner-exit", "keep", "-t", "12", "--", "sleep", "600"}}
		for i := range 3 {
			all["thrash-"+strconv.Itoa(i)] = thrash
		}
		ids := b.leave(all)
		max := func() (n int) { return b.memoryEvent(ids["thrash-0"], "max") }
		b.eventually("it is at its limit", func() bool { return max() > 100 })
		touched, used := max(), cpuTicks(b.T, d.Process.Pid)
		start := time.Now()
		run := b.ended(ids["limit"])
		took := time.Since(start)
		share := float64(cpuTicks(b.T, d.Process.Pid)-used) / 100 / took.Seconds()
		b.Logf("%d times at the limit, %.1f %% of a core in %v", max()-touched, 100*share, took.Round(time.Second))
		if share > 0.3 {
			b.Errorf("the daemon used %.0f %% of a core", 100*share)
		}
		if max() == touched {
			b.Error("nothing happened at the limit")
		}
		b.wantRun(run, events.StateKilled, events.ReasonTimeout, "systemd")
		if w := run.Usage.WallSeconds; w == nil || *w < 12 || *w > 16 {
			b.Errorf("the one with a time limit lasted %v seconds, want 12", w)
		}
		for _, id := range slices.Sorted(maps.Keys(ids)) {
			if id != "limit" {
				b.lictor("stop", string(ids[id]))
				b.wantEnds(ids, ends{id: events.ReasonStop})
			}
		}
	})
}

// memoryEvent reads a counter of a run's ledger.
func (b *bed) memoryEvent(id scope.RunID, name string) (n int) {
	text, _ := os.ReadFile(filepath.Join(b.fleet(), id.Ledger(), "memory.events"))
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, _ = strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return n
}
