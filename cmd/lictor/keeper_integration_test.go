//go:build integration

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// stubborn leaves a process behind that ignores SIGTERM, and exits 0.
const stubborn = "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" +
	"if os.fork() == 0:\n os.setsid()\n time.sleep(600)\n"

// TestW2: the keeper is killed at each step of ending a left-over process. Whoever looks next finishes: a listing where
// nobody is left, watch --once where somebody is.
func TestW2(t *testing.T) {
	for _, step := range crashSteps {
		t.Run(step, func(t *testing.T) {
			eachManager(t, func(b *bed) {
				p := b.prepare(b.pythonArgs([]string{"--grace", "1"}, stubborn)...)
				p.Env = append(p.Env, "LICTOR_TEST_CRASH="+step)
				if err := p.Start(); err != nil {
					b.Fatal(err)
				}
				if r := b.finishCommand(p); r.code != -1 {
					b.Fatalf("the keeper was not killed at %s: %+v", step, r)
				}
				ids := b.ledgers()
				if len(ids) != 1 {
					b.Fatalf("ledgers %v, want the one of the dead keeper", ids)
				}
				b.look(ids[0])
				run := b.runs()[0]
				b.wantRun(run, events.StateDone, events.ReasonNone, "")
				if n := len(b.events(run.Run, events.KindOrphans)); n != 1 {
					b.Errorf("%d orphans events, want 1: %s", n, b.lictor("events", "--json").stdout)
				}
			})
		})
	}
}

// look has the next process that comes by finish a run: a listing if nobody is left, else watch --once.
func (b *bed) look(id scope.RunID) {
	b.Helper()
	if len(b.members(id)) == 0 {
		b.lictor("ps")
		return
	}
	if r := b.lictor("ps", "-q"); !strings.Contains(r.stdout, string(id)) {
		b.Errorf("ps does not list %s as alive: %+v", id, r)
	}
	if r := b.lictor("watch", "--once"); r.code != exitActed {
		b.Errorf("watch --once: %+v, want exit status 3", r)
	}
	if r := b.lictor("watch", "--once"); r.code != 0 || r.stdout != "" {
		b.Errorf("a second watch --once: %+v, want nothing to do", r)
	}
}

// TestW2Limits: with the keeper dead the kernel and systemd still enforce, and the next look knows why it ended.
func TestW2Limits(t *testing.T) {
	for _, tt := range []struct {
		name, program string
		flags         []string
		state         events.State
		reason        events.Reason
		by            string
	}{
		{"oom", "import time\ntime.sleep(2)\n" + hog(80), []string{"-m", "40M"}, events.StateKilled, events.ReasonOOM, "kernel"},
		{"timeout", "import time\ntime.sleep(600)", []string{"-t", "4"}, events.StateKilled, events.ReasonTimeout, "systemd"},
		{"exit", "import time\ntime.sleep(2)", nil, events.StateLost, events.ReasonNone, "unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachManager(t, func(b *bed) {
				p := b.start(b.pythonArgs(tt.flags, tt.program)...)
				id := b.live()
				if err := p.Process.Kill(); err != nil {
					b.Fatal(err)
				}
				b.finishCommand(p)
				b.eventually("the run has ended", func() bool { return len(b.members(id)) == 0 })
				b.eventually("its scope is gone", func() bool { _, err := os.Stat(b.scopeDir(id)); return err != nil })
				other := b.lictor("run", "--", "true") // the next lictor that looks
				if other.code != 0 {
					b.Errorf("another run: %+v", other)
				}
				run, err := b.open().Run(context.Background(), events.RunID(id))
				if err != nil {
					b.Fatal(err)
				}
				b.wantRun(run, tt.state, tt.reason, tt.by)
				if run.EndedAt == nil || run.Usage.WallSeconds == nil || *run.Usage.WallSeconds < 1 || *run.Usage.WallSeconds > 60 {
					b.Errorf("ended at %v after %v, want when its cgroup went", run.EndedAt, run.Usage.WallSeconds)
				}
			})
		})
	}
}

// TestW2Abandoned: the launcher is SIGKILLed and the analysis lives; watch --once terminates it.
func TestW2Abandoned(t *testing.T) {
	eachManager(t, func(b *bed) {
		p := b.start("run", "--", "sleep", "600")
		id := b.live()
		_ = p.Process.Kill()
		b.finishCommand(p)
		b.look(id)
		b.wantRun(b.runs()[0], events.StateKilled, events.ReasonAbandoned, "lictor")
	})
}

// TestW2Launch: the launcher is SIGKILLed while its child waits at the barrier. Nothing runs, and in time nothing is left.
func TestW2Launch(t *testing.T) {
	asRoot(t, func(b *bed) {
		for i := range 8 {
			p := b.start("run", "--", "sh", "-c", "echo ran >> "+b.dir+"/ran; sleep 1")
			time.Sleep(time.Duration(i) * 60 * time.Millisecond) // any instant will do
			_ = p.Process.Kill()
			b.finishCommand(p)
		}
		b.eventually("nothing waits at the barrier", func() bool {
			return exec.Command("pgrep", "-f", "^lictor-barrier").Run() != nil
		})
		b.eventually("all is settled", func() bool {
			b.lictor("watch", "--once")
			for _, id := range b.ledgers() { // a ledger without facts is released when it is old enough
				if len(b.members(id)) == 0 && exec.Command("touch", "-d", "10 minutes ago", b.fleet()+"/"+id.Ledger()).Run() != nil {
					b.Logf("touch %s", id)
				}
			}
			return len(b.ledgers()) == 0
		})
	})
}

// TestK2: 8 at once × 10 rounds, in the long test 50, each dies of OOM within milliseconds of its start: every one is on record.
// Through the daemon half as many rounds.
func TestK2(t *testing.T) {
	rounds := 10
	if longer() {
		rounds = 50
	}
	asRoot(t, func(b *bed) { b.dieAtOnce(rounds) })
	throughDaemon(t, func(b *bed) { b.dieAtOnce(rounds / 2) })
}

func (b *bed) dieAtOnce(rounds int) {
	const at = 8
	var wg sync.WaitGroup
	for i := range at {
		wg.Go(func() {
			for round := range rounds {
				cmd := b.prepare("run", "-q", "-m", "4M", "--analysis-id", fmt.Sprintf("k2-%d-%d", i, round), "--", "tail", "/dev/zero")
				_ = cmd.Run()
			}
		})
	}
	wg.Wait()
	runs := b.runs()
	if len(runs) != rounds*at {
		b.Errorf("%d runs on record, want %d", len(runs), rounds*at)
	}
	named := 0
	for _, run := range runs {
		b.wantRun(run, events.StateKilled, events.ReasonOOM, "kernel")
		b.ownOOM(run)
		if run.Usage.MemoryPeakBytes == nil || run.Usage.WallSeconds == nil || run.EndedAt == nil {
			b.Errorf("run %s: peak, duration or end is missing: %+v", run.Run, run.Usage)
		}
		if len(run.Victims) > 0 && run.Victims[0].Source == "kernel-log" {
			named++
		}
		if b.Failed() {
			b.FailNow()
		}
	}
	b.Logf("%d of %d recorded as oom, once each; the kernel log named %d of the victims", len(runs), rounds*at, named)
	if out := b.systemctl("list-units", "--failed", "--no-legend", "lictor*"); strings.TrimSpace(out) != "" {
		b.Errorf("failed units: %s", out)
	}
}

// TestD17: without a unified cgroup hierarchy everything is refused in one plain message.
func TestD17(t *testing.T) {
	asRoot(t, func(b *bed) {
		cmd := b.command("unshare", "--mount", "sh", "-c",
			"umount -l /sys/fs/cgroup && mount -t tmpfs none /sys/fs/cgroup && exec "+installed()+" run -- touch "+b.dir+"/ran")
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != exitRefused || !strings.Contains(string(out), "hint: lictor doctor") {
			b.Errorf("%v: %s: want 125 and a hint", err, out)
		}
		if _, err := os.Stat(b.dir + "/ran"); err == nil {
			b.Error("it ran unconfined")
		}
	})
}
