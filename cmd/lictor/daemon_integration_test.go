//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// daemon starts `lictor watch` and waits until it watches.
func (b *bed) daemon() *process {
	b.Helper()
	return b.daemonUnder("10s")
}

// daemonUnder is daemon with a pause between its sweeps, executed by another program (prlimit …) if one is named.
func (b *bed) daemonUnder(sweep string, program ...string) *process {
	b.Helper()
	p := b.prepare("watch", "--sweep", sweep)
	if len(program) > 0 {
		p.Args = append(p.Args, "--socket", noSocket) // which takes descriptors, too
		under := b.command(program[0], append(append(program[1:], installed()), p.Args[1:]...)...)
		p.Path, p.Args, p.Err = under.Path, under.Args, under.Err
	}
	return b.watching(p)
}

// watching starts a daemon that was prepared and waits until it watches.
func (b *bed) watching(p *process) *process {
	b.Helper()
	log, err := os.CreateTemp(b.dir, "watch-*.log")
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	p.Stdout, p.Stderr, p.log = log, log, log.Name()
	if err := p.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if b.Failed() {
			b.Logf("the daemon said:\n%s", p.said())
		}
		_ = p.Process.Kill() // one that the test has not ended because it failed
	})
	b.eventually("the daemon watches", func() bool { return strings.Contains(p.said(), "msg=watching") })
	return p
}

// said is what a daemon has said so far.
func (p *process) said() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

// end ends a daemon with a signal, and waits for it.
func (b *bed) end(p *process, sig syscall.Signal) {
	b.Helper()
	_ = p.Process.Signal(sig)
	if r := b.finishCommand(p); sig == syscall.SIGTERM && r.code != 0 {
		b.Errorf("the daemon ended with exit status %d (%v); stderr: %s", r.code, p.ProcessState, r.stderr)
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
	s := b.open()
	defer s.Close()
	run, err := s.Run(context.Background(), events.RunID(id))
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

// TestS13: a run whose launcher lives is the launcher's, though both write to one database; a second daemon on it is refused; and the end
// of the daemon touches nothing.
func TestS13(t *testing.T) {
	eachManager(t, func(b *bed) {
		d := b.daemon()
		p := b.start("run", "--", "sh", "-c", "while ! test -e go; do sleep 0.2; done")
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
		must(os.WriteFile(filepath.Join(b.dir, "go"), nil, 0o644))
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

func openFiles(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
