//go:build integration

package watcher

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cgroup"
)

// TestDeadlineClockStep: whoever sets the clock neither hurries nor delays a deadline.
func TestDeadlineClockStep(t *testing.T) {
	inTestBed(t)
	for _, step := range []time.Duration{24 * time.Hour, -time.Hour} {
		at := cgroup.Boottime() + 2*time.Second
		d := newDeadline(t, at)
		done := make(chan error, 1)
		go func() { done <- d.Wait(t.Context()) }()
		stepClock(t, step)
		err := <-done
		stepClock(t, -step)
		if late := cgroup.Boottime() - at; err != nil || late < 0 || late > eventually {
			t.Errorf("clock set by %v: fired %v late, error %v", step, late, err)
		}
	}
}

func stepClock(t *testing.T, by time.Duration) {
	t.Helper()
	ts := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		t.Fatal(err)
	}
}
