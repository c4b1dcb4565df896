//go:build integration

package main

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"syscall"
)

// setClock sets the wall clock forward, and back when the test ends.
func (b *bed) setClock(by time.Duration) {
	b.Helper()
	set := func(to time.Time) {
		tv := unix.NsecToTimeval(to.UnixNano())
		must(unix.Settimeofday(&tv))
	}
	wall, boot := time.Now().Round(0), cgroup.Boottime()
	b.Cleanup(func() { set(wall.Add(cgroup.Boottime() - boot)) })
	set(wall.Add(by))
}

// TestW9: the clock is set while runs live, back or forward. Nobody is ended early, late or for an orphan, and how long a run
// lasted is right, whether its keeper was there, the daemon, or nobody.
func TestW9(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, 24 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			asRoot(t, func(b *bed) {
				const limit, slack = 7, 60 // seconds; slack is what a loaded machine may take
				bystander := b.start("run", "--analysis-id", "bystander", "--", "sleep", "600")
				limited := []string{"--on-owner-exit", "keep", "-t", fmt.Sprint(limit), "--", "sleep", "600"}
				started, ids := b.launch(launches{"own": limited, "daemon": limited, "nobody": limited,
					"before": {"--on-owner-exit", "keep", "-m", "8M", "--", "sh", "-c", "sleep 1; exec tail /dev/zero"}})
				for _, id := range []string{"daemon", "nobody", "before"} {
					b.signal(started[id], syscall.SIGKILL)
					b.finishCommand(started[id])
				}
				b.eventually("one has ended before the step", func() bool { return len(b.members(ids["before"])) == 0 })
				b.setClock(by)
				b.lictor("ps") // settles that one
				lasted := func(id string, least, most float64) {
					run := b.record(ids[id])
					if w := run.Usage.WallSeconds; w == nil {
						b.Errorf("it is not known how long %s lasted", id)
					} else if *w < least || *w > most {
						b.Errorf("%s lasted %v seconds, want %v and a little", id, *w, least)
					}
				}
				b.wantRun(b.record(ids["before"]), events.StateKilled, events.ReasonOOM, "kernel")
				lasted("before", 1, slack) // a step is an hour and more
				b.want(b.finishCommand(started["own"]), 124, events.StateKilled, events.ReasonTimeout, "systemd")
				b.eventually("all have ended", func() bool {
					return len(b.members(ids["daemon"])) == 0 && len(b.members(ids["nobody"])) == 0
				})
				d := b.daemon()
				b.wantEnds(ids, ends{"daemon": events.ReasonTimeout, "nobody": events.ReasonTimeout})
				for _, id := range []string{"own", "daemon", "nobody"} {
					lasted(id, limit, limit+slack)
				}
				b.stillLives("bystander")
				b.end(d, syscall.SIGTERM)
				b.signal(bystander, syscall.SIGINT)
				b.finishCommand(bystander)
			})
		})
	}
}

// stillLives asserts that a run was not ended.
func (b *bed) stillLives(analysis string) scope.RunID {
	b.Helper()
	id := b.alive()[analysis]
	if id == "" || len(b.members(id)) == 0 {
		b.Errorf("%s was ended", analysis)
	}
	return id
}
