//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// daemon starts `lictor watch` and waits until it watches. It is ended with the test, if it is not before.
func (b *bed) daemon() *process {
	b.Helper()
	p := b.prepare("watch", "--sweep", "10s")
	log, err := os.CreateTemp(b.dir, "watch-*.log")
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	p.Stdout, p.Stderr = log, log
	if err := p.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if text, err := os.ReadFile(log.Name()); err == nil && b.Failed() {
			b.Logf("the daemon said:\n%s", text)
		}
	})
	b.eventually("the daemon watches", func() bool {
		text, _ := os.ReadFile(log.Name())
		return strings.Contains(string(text), "msg=watching")
	})
	return p
}

// end ends a daemon with a signal, and waits for it.
func (b *bed) end(p *process, sig syscall.Signal) {
	b.Helper()
	_ = p.Process.Signal(sig)
	if r := b.finishCommand(p); sig == syscall.SIGTERM && r.code != 0 {
		b.Errorf("the daemon ended with exit status %d", r.code)
	}
}

// left starts a run that lives on when its launcher is killed, and kills that one.
func (b *bed) left(id string, args ...string) scope.RunID {
	b.Helper()
	before := map[scope.RunID]bool{}
	for _, run := range b.ledgers() {
		before[run] = true
	}
	p := b.start(append([]string{"run", "--on-owner-exit", "keep", "--analysis-id", id}, args...)...)
	var found scope.RunID
	b.eventually("the run is alive", func() bool {
		for _, run := range b.ledgers() {
			if !before[run] && len(b.members(run)) > 0 {
				found = run
			}
		}
		return found != ""
	})
	_ = p.Process.Kill()
	b.finishCommand(p)
	return found
}

func (b *bed) record(id scope.RunID) *events.Run {
	b.Helper()
	run, err := b.open().Run(context.Background(), events.RunID(id))
	if err != nil {
		b.Fatal(err)
	}
	return run
}

func (b *bed) ended(id scope.RunID) *events.Run {
	b.Helper()
	var run *events.Run
	b.eventually("the end of "+string(id)+" is on record", func() bool {
		run = b.record(id)
		return run.State.Final()
	})
	return run
}

// TestK21: the launcher is SIGKILLed. The daemon ends the run, or keeps it to its end.
func TestK21(t *testing.T) {
	eachManager(t, func(b *bed) {
		d := b.daemon()
		defer b.end(d, syscall.SIGTERM)
		p := b.start("run", "--", "sleep", "600")
		id := b.live()
		_ = p.Process.Kill()
		b.finishCommand(p)
		run := b.ended(id)
		b.wantRun(run, events.StateKilled, events.ReasonAbandoned, "lictor")
		if owner := fmt.Sprintf(`"owner":{"pid":%d`, p.Process.Pid); !strings.Contains(evidenceOf(run, "intent"), owner) {
			b.Errorf("intent %s, want %s", evidenceOf(run, "intent"), owner)
		}
		b.steps(run, "term", "empty")
	})
	eachManager(t, func(b *bed) {
		d := b.daemon()
		defer b.end(d, syscall.SIGTERM)
		oom := b.left("keep-oom", "-m", "40M", "--", "python3", "-c", "import time\ntime.sleep(3)\n"+hog(80))
		slow := b.left("keep-timeout", "-t", "4", "--", "sleep", "600")
		b.wantRun(b.ended(oom), events.StateKilled, events.ReasonOOM, "kernel")
		b.wantRun(b.ended(slow), events.StateKilled, events.ReasonTimeout, "systemd")
		stopped := b.left("keep-stop", "--", "sleep", "600")
		if r := b.lictor("stop", string(stopped)); r.code != 0 {
			b.Errorf("stop: %+v", r)
		}
		b.wantRun(b.ended(stopped), events.StateKilled, events.ReasonStop, "uid "+b.user.Uid)
	})
}

// TestK21Owner: a named owner ends, and the run with it; no daemon is needed for that.
func TestK21Owner(t *testing.T) {
	eachManager(t, func(b *bed) {
		owner := b.command("sleep", "600")
		if err := owner.Start(); err != nil {
			b.Fatal(err)
		}
		p := b.start("run", "--owner-pid", strconv.Itoa(owner.Process.Pid), "--", "sleep", "600")
		b.live()
		_ = owner.Process.Kill()
		_ = owner.Wait()
		run := b.want(b.finishCommand(p), 143, events.StateKilled, events.ReasonAbandoned, "lictor")
		if !strings.Contains(evidenceOf(run, "intent"), `"comm":"sleep"`) {
			b.Errorf("intent %s, want the owner in it", evidenceOf(run, "intent"))
		}
	})
}

func evidenceOf(run *events.Run, source string) string {
	var text bytes.Buffer
	for _, e := range run.Evidence {
		if e.Source == source {
			_ = json.Compact(&text, e.Values)
		}
	}
	return text.String()
}

// TestDaemonLeavesRunsAlone: a run whose launcher lives is the launcher's, and the end of the daemon touches nothing.
func TestDaemonLeavesRunsAlone(t *testing.T) {
	eachManager(t, func(b *bed) {
		d := b.daemon()
		p := b.start("run", "--", "sleep", "4")
		id := b.live()
		kept := b.left("kept", "--", "sleep", "600")
		b.eventually("the daemon keeps it", func() bool { return b.keeperOf(kept) == d.Process.Pid })
		if got := b.keeperOf(id); got != p.Process.Pid {
			b.Errorf("keeper of a run whose launcher lives: got %d, want %d", got, p.Process.Pid)
		}
		if r := b.lictor("watch"); r.code == 0 || !strings.Contains(r.stderr, "another lictor watch") {
			b.Errorf("a second daemon: %+v, want it refused", r)
		}
		b.end(d, syscall.SIGTERM)
		if len(b.members(kept)) == 0 {
			b.Error("the end of the daemon ended a run")
		}
		b.want(b.finishCommand(p), 0, events.StateDone, events.ReasonNone, "")
		b.lictor("stop", string(kept))
		b.wantRun(b.ended(kept), events.StateKilled, events.ReasonStop, "uid "+b.user.Uid)
	})
}

// keeperOf reads who keeps a run from its ledger.
func (b *bed) keeperOf(id scope.RunID) (pid int) {
	b.Helper()
	text := make([]byte, 256)
	n, err := unix.Getxattr(b.fleet()+"/"+id.Ledger(), "user.lictor.keeper", text)
	if err != nil {
		b.Fatal(err)
	}
	_, _ = fmt.Sscanf(string(text[:n]), `{"pid":%d`, &pid)
	return pid
}

// TestW1: many live runs, the daemon that keeps them is SIGKILLed again and again while they end in all ways. Each has one
// end on record, with its reason, and nothing is left.
func TestW1(t *testing.T) {
	asRoot(t, func(b *bed) {
		const each, kills = 6, 10
		want := map[scope.RunID]events.Reason{}
		d := b.daemon()
		for i := range each {
			delay := strconv.Itoa(4 + 3*i)
			want[b.left("w1-oom-"+delay, "-m", "12M", "--", "sh", "-c", "sleep "+delay+"; tail /dev/zero")] = events.ReasonOOM
			want[b.left("w1-timeout-"+delay, "-t", delay, "--", "sleep", "600")] = events.ReasonTimeout
			want[b.left("w1-stop-"+delay, "--", "sleep", "600")] = events.ReasonStop
		}
		for i := range kills {
			time.Sleep(time.Duration(rand.IntN(2500)) * time.Millisecond) // any instant will do
			b.end(d, syscall.SIGKILL)
			for id, reason := range want {
				if reason == events.ReasonStop && rand.IntN(kills-i) == 0 {
					b.lictor("stop", string(id))
				}
			}
			d = b.daemon()
		}
		defer b.end(d, syscall.SIGTERM)
		for id, reason := range want {
			run := b.ended(id)
			if run.State != events.StateKilled || run.Reason != reason {
				b.Errorf("run %s (%s): %s %q, want killed %q", id, run.AnalysisID, run.State, run.Reason, reason)
			}
		}
		// A daemon that was killed in the middle of a release leaves a failed scope, which the next sweep finds.
		b.eventually("all units are released", func() bool { return len(b.ledgers()) == 0 && b.units() == "" })
		if n := openFiles(b.T, d.Process.Pid); n > 40 {
			b.Errorf("the daemon has %d open files when nothing is left to keep", n)
		}
	})
}

func openFiles(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestDaemonAsAService: under the unit that is shipped the daemon is ready in time, is started again when it is killed or
// stands still, and its stop touches no run.
func TestDaemonAsAService(t *testing.T) {
	asRoot(t, func(b *bed) {
		text, err := os.ReadFile(filepath.Join(os.Getenv("LICTOR_REPO"), "deploy/lictor.service"))
		if err != nil {
			b.Fatal(err)
		}
		const unit = "/run/systemd/system/lictor.service"
		service := strings.NewReplacer("/usr/bin/lictor", "@"+installed()+" "+realName, "WatchdogSec=30", "WatchdogSec=10").
			Replace(string(text)) + "\n[Service]\nEnvironment=LICTOR_STATE_DIR=" + b.store + "\n"
		if err := os.WriteFile(unit, []byte(service), 0o644); err != nil {
			b.Fatal(err)
		}
		b.systemctl("daemon-reload")
		b.Cleanup(func() {
			b.systemctl("stop", "lictor.service")
			_ = os.Remove(unit)
			b.systemctl("daemon-reload")
		})
		property := func(name string) string {
			return strings.TrimSpace(b.systemctl("show", "-P", name, "lictor.service"))
		}
		running := func() bool { return property("SubState") == "running" && property("MainPID") != "0" }
		b.systemctl("start", "lictor.service") // Type=notify: returns when it is ready
		if !running() {
			b.Fatalf("not running: %s", b.systemctl("status", "lictor.service"))
		}
		kept := b.left("kept", "--", "sleep", "600")
		for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} { // SIGSTOP: the watchdog ends it
			pid, err := strconv.Atoi(property("MainPID"))
			if err != nil || syscall.Kill(pid, sig) != nil {
				b.Fatalf("main pid %d: %v", pid, err)
			}
			b.eventually("it was started again", func() bool { return running() && property("MainPID") != strconv.Itoa(pid) })
			b.eventually("it keeps the run", func() bool { return strconv.Itoa(b.keeperOf(kept)) == property("MainPID") })
		}
		b.systemctl("stop", "lictor.service")
		if len(b.members(kept)) != 1 {
			b.Error("the stop of the daemon ended a run")
		}
		b.systemctl("start", "lictor.service")
		b.lictor("stop", string(kept))
		b.wantRun(b.ended(kept), events.StateKilled, events.ReasonStop, "uid 0")
		b.eventually("its ledger is released", func() bool { return len(b.ledgers()) == 0 })
	})
}
