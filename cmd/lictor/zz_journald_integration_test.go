//go:build integration

package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// TestD14: journald is stopped, hangs, or takes one entry and no more. Ends come in time, the store has all, and journald is told again
// when it is back.
func TestD14(t *testing.T) {
	asRoot(t, func(b *bed) {
		d := b.daemon()
		defer b.end(d, syscall.SIGTERM)
		b.journaldHas(b.endsIn("healthy"))

		units := []string{"systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald-audit.socket", "systemd-journald.service"}
		b.Cleanup(func() { b.systemctl(append([]string{"start"}, units...)...) })
		b.systemctl(append([]string{"stop"}, units...)...)
		b.endsIn("stopped")
		b.systemctl(append([]string{"start"}, units...)...)

		b.systemctl("kill", "-s", "STOP", "systemd-journald.service")
		b.Cleanup(func() { b.systemctl("kill", "-s", "CONT", "systemd-journald.service") })
		b.endsIn("hung")
		b.systemctl("kill", "-s", "CONT", "systemd-journald.service")

		const conf = "/run/systemd/journald.conf.d/lictor-test.conf"
		must(os.MkdirAll("/run/systemd/journald.conf.d", 0o755))
		must(os.WriteFile(conf, []byte("[Journal]\nRateLimitIntervalSec=600\nRateLimitBurst=1\n"), 0o644))
		b.Cleanup(func() {
			_ = os.Remove(conf)
			b.systemctl("restart", "systemd-journald")
		})
		b.systemctl("restart", "systemd-journald")
		b.endsIn("limited")
		must(os.Remove(conf))
		b.systemctl("restart", "systemd-journald")
		b.journaldHas(b.endsIn("back"))
	})
}

// endsIn has one run end at its time limit and one at its memory limit, one kept by its launcher and one by the daemon, and
// returns the latter.
func (b *bed) endsIn(name string) scope.RunID {
	b.Helper()
	left := b.leave(launches{name: {"--on-owner-exit", "keep", "-t", "3", "--", "sleep", "600"}})[name]
	run := b.want(b.lictor("run", "-m", "12M", "--analysis-id", name+"-oom", "--", "tail", "/dev/zero"), 137,
		events.StateKilled, events.ReasonOOM, "kernel")
	timeout := b.ended(left)
	b.wantRun(timeout, events.StateKilled, events.ReasonTimeout, "systemd")
	if w := timeout.Usage.WallSeconds; w == nil || *w < 3 || *w > 6 {
		b.Errorf("%s: it lasted %v seconds, want 3", name, w)
	}
	for _, id := range []events.RunID{run.Run, timeout.Run} {
		if n := len(b.events(id, events.KindStarted, events.KindEnded)); n != 2 {
			b.Errorf("%s: %d of start and end are in the store", name, n)
		}
	}
	return left
}

// journaldHas waits until journald has the end of a run, while the daemon that told it goes on.
func (b *bed) journaldHas(id scope.RunID) {
	b.Helper()
	b.eventually("journald has the end of "+string(id), func() bool {
		out, err := exec.Command("journalctl", "-q", "-o", "cat", "LICTOR_RUN="+string(id), "LICTOR_KIND=ended").Output()
		return err == nil && strings.Count(string(out), "\n") == 1
	})
}
