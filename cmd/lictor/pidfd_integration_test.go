//go:build integration

package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// TestExitOfOthers: a daemon keeps a run whose launcher is dead, and one that was adopted. Both exit by themselves: since Linux 6.15
// the kernel says how, before that nobody can know.
func TestExitOfOthers(t *testing.T) {
	asRoot(t, func(b *bed) {
		d := b.daemon()
		defer b.end(d, syscall.SIGTERM)
		g := b.gate()
		left := b.leave(launches{"left": append([]string{"--on-owner-exit", "keep", "--"}, g.then("exit 7")...)})["left"]
		cmd := b.wildPython(saysReady + "import sys\nopen(" + fmt.Sprintf("%q", g.path) + ").read()\nsys.exit(7)")
		adopted := b.adopt(cmd)
		b.eventually("the daemon keeps them", func() bool { return strings.Count(d.said(), "msg=keeping") == 2 })
		g.open()
		_ = cmd.Wait()
		for id, unknown := range map[scope.RunID]events.State{left: events.StateLost, adopted: events.StateEnded} {
			run := b.ended(id)
			if !kernelTellsExit() {
				if run.State != unknown || run.Exit.Kind != events.ExitUnknown {
					b.Errorf("%s: %s, exit %+v, want %s and not known", id, run.State, run.Exit, unknown)
				}
				continue
			}
			b.wantRun(run, events.StateFailed, events.ReasonNone, "")
			if run.Exit.Code == nil || *run.Exit.Code != 7 || evidenceOf(run, "pidfd") == "" {
				b.Errorf("%s: exit %+v, evidence %s, want 7 by its pidfd", id, run.Exit, evidence(run))
			}
		}
	})
}

// kernelTellsExit reports whether the kernel keeps exit statuses for those who hold a pidfd.
func kernelTellsExit() bool {
	var u unix.Utsname
	must(unix.Uname(&u))
	var major, minor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	must(err)
	return major > 6 || major == 6 && minor >= 15
}
