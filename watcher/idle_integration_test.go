//go:build integration

package watcher

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
)

// TestIdle: with everything open and nothing happening, nothing wakes up.
func TestIdle(t *testing.T) {
	n := runNotifier(t)
	log := openKernelLog(t)
	g := newTestGroup(t, "/lictor-test-idle", nil)
	n.mustAdd(t, g.dir, "cgroup.events", "memory.events", "pids.events")
	d := newDeadline(t, cgroup.Boottime()+time.Hour)
	go func() { _ = d.Wait(t.Context()) }()
	const while = 5 * time.Second
	time.Sleep(time.Second) // the runtime winds down
	before := switches(t)
	time.Sleep(while)
	if got := float64(switches(t)-before) / while.Seconds(); got > 10 {
		t.Errorf("%.1f context switches a second", got)
	} else {
		t.Logf("%.1f context switches a second", got)
	}
	if kills := mustKills(t, log); len(kills) > 0 {
		t.Errorf("kills %+v", kills)
	}
}

func switches(t *testing.T) int64 {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return u.Nvcsw + u.Nivcsw
}
