//go:build integration

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/scidex/lictor/events"
)

// What is asserted after every test, whatever it was about.

// finish asserts what must hold after every case: nothing else was touched, every run has one end, nothing is left.
func (b *bed) finish() {
	b.Helper()
	if b.canary.ProcessState != nil || b.canary.Process.Signal(syscall.Signal(0)) != nil {
		b.Error("the canary outside of every run was killed")
	}
	_ = b.canary.Process.Kill()
	_ = b.canary.Wait()
	b.nothingLeft()
	b.oneEndEach()
	if !b.Failed() {
		_ = os.RemoveAll(b.dir)
	}
}

// units lists the units of runs that systemd knows.
func (b *bed) units() string {
	b.Helper()
	var units []string
	for line := range strings.Lines(b.systemctl("list-units", "--all", "--no-legend", "--plain", "lictor-*")) {
		if !strings.HasPrefix(line, "lictor-forward.service") {
			units = append(units, strings.TrimSpace(line))
		}
	}
	return strings.Join(units, "\n")
}

// released reports whether no run has a ledger or a unit any more. A scope can fail after its release; a daemon's sweep finds it.
func (b *bed) released() bool {
	b.Helper()
	return len(b.ledgers()) == 0 && b.units() == ""
}

func (b *bed) nothingLeft() {
	b.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !b.released() && time.Now().Before(deadline) { // systemd forgets stopped units a moment after it has removed their cgroups
		time.Sleep(50 * time.Millisecond)
	}
	units := b.units()
	if units != "" {
		b.Errorf("units are left:\n%s", units)
	}
	if ids := b.ledgers(); len(ids) > 0 {
		b.Errorf("ledgers are left: %v", ids)
	}
	if out, _ := exec.Command("pgrep", "-fa", "^lictor-barrier").Output(); len(out) > 0 {
		b.Errorf("processes wait at the barrier:\n%s", out)
	}
	if units != "" { // not to be found by the next test, too
		b.systemctl("stop", "lictor-*")
		b.systemctl("reset-failed", "lictor-*")
	}
}

func (b *bed) oneEndEach() {
	b.Helper()
	if _, err := os.Stat(filepath.Join(b.store, "lictor.db")); err != nil {
		return
	}
	for _, run := range b.runs() {
		if !run.State.Final() {
			b.Errorf("run %s has no end record: %s", run.Run, run.State)
		}
		if n := len(b.events(run.Run, events.KindEnded)); n != 1 {
			b.Errorf("run %s has %d ended events, want 1", run.Run, n)
		}
	}
}
