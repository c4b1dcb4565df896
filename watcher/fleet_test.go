package watcher

import (
	"testing"
	"time"
)

func TestPollPause(t *testing.T) {
	for polled, want := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 100: time.Second, 101: 1010 * time.Millisecond, 1000: 10 * time.Second, 10_000: 100 * time.Second,
	} {
		if got := pollPause(polled); got != want {
			t.Errorf("%d: got %v, want %v", polled, got, want)
		}
	}
}
