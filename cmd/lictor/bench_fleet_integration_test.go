//go:build integration

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/scidex/lictor/cmd/lictor/client"
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
		if f.daemon == nil {
			f.start() // who else would release them?
		}
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
