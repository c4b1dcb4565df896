//go:build integration

package main

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

// obeysLater notes a SIGTERM and ends some time after it, on a word.
const obeysLater = "import os, signal, time\n" +
	"signal.signal(signal.SIGTERM, lambda *a: open('told', 'w'))\n" + saysReady +
	"while not os.path.exists('go'): time.sleep(0.05)\n"

// TestW3: the keeper is stopped with SIGSTOP. systemd enforces without it; when it goes on, it kills nobody twice, nor anybody
// who has obeyed by then.
func TestW3(t *testing.T) {
	eachManager(t, func(b *bed) {
		p := b.start("run", "-t", "3", "--grace", "2", "--", "sleep", "600")
		id := b.live()
		b.signal(p, syscall.SIGSTOP)
		b.eventually("systemd has ended it", func() bool { return len(b.members(id)) == 0 })
		b.signal(p, syscall.SIGCONT)
		run := b.want(b.finishCommand(p), 124, events.StateKilled, events.ReasonTimeout, "systemd")
		if got := b.events(run.Run, events.KindIntent, events.KindTerm, events.KindKill); len(got) != 0 {
			b.Errorf("the keeper acted: %+v", got)
		}
	})
	asRoot(t, func(b *bed) {
		owner := b.command("sleep", "600")
		must(owner.Start())
		p := b.start(b.pythonArgs([]string{"--grace", "1", "--owner-pid", strconv.Itoa(owner.Process.Pid)}, obeysLater)...)
		b.eventually("the handler is set", func() bool { return b.has("ready") })
		_ = owner.Process.Kill()
		_ = owner.Wait()
		b.eventually("it is told to end", func() bool { return b.has("told") })
		b.signal(p, syscall.SIGSTOP)
		b.touch("go")
		id := b.ledgers()[0]
		b.eventually("it has obeyed", func() bool { return len(b.members(id)) == 0 })
		b.signal(p, syscall.SIGCONT)
		run := b.want(b.finishCommand(p), 0, events.StateKilled, events.ReasonAbandoned, "lictor")
		b.steps(run, "term", "empty")
		if kills := b.events(run.Run, events.KindKill); len(kills) != 0 {
			b.Errorf("killed though it had obeyed: %+v", kills)
		}
	})
}

// TestDaemonStopped: with the daemon stopped and the launchers killed, limits and time limits still end analyses; when it is
// back, those ends are recorded with their right reasons and times.
func TestDaemonStopped(t *testing.T) {
	asRoot(t, func(b *bed) {
		d := b.daemon()
		g := b.gate()
		keep := []string{"--on-owner-exit", "keep"}
		began := time.Now()
		ids := b.leave(launches{
			"oom":     append(append(keep, "-m", "24M", "--"), g.then("exec tail /dev/zero")...),
			"timeout": append(keep, "-t", "6", "--", "sleep", "600"),
			"lives":   append(keep, "--", "sleep", "600"),
		})
		b.end(d, syscall.SIGTERM)
		g.open()
		for _, id := range []string{"oom", "timeout"} {
			b.eventually(id+" has ended", func() bool { return len(b.members(ids[id])) == 0 })
		}
		over := time.Now()
		time.Sleep(1500 * time.Millisecond) // so that the time of the look and that of the end are not the same
		d = b.daemon()
		defer b.end(d, syscall.SIGTERM)
		b.wantEnds(ids, ends{"oom": events.ReasonOOM, "timeout": events.ReasonTimeout})
		for _, id := range []string{"oom", "timeout"} {
			run := b.record(ids[id])
			if run.EndedAt == nil || run.EndedAt.Before(began) || run.EndedAt.After(over.Add(time.Second)) {
				b.Errorf("%s ended at %v, want between %v and %v", id, run.EndedAt, began, over)
			}
			if w := run.Usage.WallSeconds; w == nil || *w > over.Sub(began).Seconds() || id == "timeout" && *w < 6 {
				b.Errorf("%s lasted %v seconds", id, w)
			}
			if run.Usage.MemoryPeakBytes == nil {
				b.Errorf("%s: the peak is not known", id)
			}
		}
		if r := b.lictor("stop", string(ids["lives"])); r.code != 0 || len(b.members(ids["lives"])) != 0 {
			b.Errorf("stop: %+v", r)
		}
		b.wantEnds(ids, ends{"lives": events.ReasonStop})
		if strings.Contains(d.said(), "level=ERROR") {
			b.Errorf("the daemon said:\n%s", d.said())
		}
		b.eventually("the ledgers are released", b.released)
	})
}
