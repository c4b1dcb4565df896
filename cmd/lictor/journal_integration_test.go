//go:build integration

package main

import (
	"os/exec"
	"testing"

	"github.com/scidex/lictor/events"
)

// TestJournalWhileAlive: journald is told of a run while it lives, not when its keeper ends.
func TestJournalWhileAlive(t *testing.T) {
	eachManager(t, func(b *bed) {
		p := b.start("run", "--analysis-id", "told", "--", "sleep", "600")
		id := b.live()
		b.eventually("journald has the start", func() bool {
			out, err := exec.Command("journalctl", "-q", "-o", "cat", "LICTOR_RUN="+string(id), "LICTOR_KIND="+string(events.KindStarted)).Output()
			return err == nil && len(out) > 0
		})
		b.lictor("stop", "told")
		b.want(b.finishCommand(p), 143, events.StateKilled, events.ReasonStop, "uid "+b.user.Uid)
	})
}
