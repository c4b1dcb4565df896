package watcher

import (
	"testing"
	"time"
)

func TestPollPause(t *testing.T) {
	for polled, want := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 200: time.Second, 201: 1005 * time.Millisecond, 1000: 5 * time.Second, 10_000: 50 * time.Second,
	} {
		if got := pollPause(polled); got != want {
			t.Errorf("%d: got %v, want %v", polled, got, want)
		}
	}
}
