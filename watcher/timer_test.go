package watcher

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scidex/lictor/cgroup"
)

func newDeadline(t *testing.T, at time.Duration) *Deadline {
	t.Helper()
	d, err := NewDeadline(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestDeadlineFires(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   time.Duration
	}{{"soon", 30 * time.Millisecond}, {"past", -time.Second}, {"now", 0}} {
		t.Run(tt.name, func(t *testing.T) {
			at := cgroup.Boottime() + tt.in
			d := newDeadline(t, at)
			if err := d.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if now := cgroup.Boottime(); now < at {
				t.Errorf("fired %v early", at-now)
			}
		})
	}
}

func TestDeadlineBeforeBoot(t *testing.T) {
	for _, at := range []time.Duration{0, -time.Hour} {
		if err := newDeadline(t, at).Wait(t.Context()); err != nil {
			t.Errorf("deadline at %v: %v", at, err)
		}
	}
}

func TestDeadlineFiresOnce(t *testing.T) {
	d := newDeadline(t, 1)
	if err := d.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := d.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second Wait: %v, want the context's error", err)
	}
	if err := d.Reset(1); err != nil {
		t.Fatal(err)
	}
	if err := d.Wait(t.Context()); err != nil {
		t.Errorf("Wait after Reset: %v", err)
	}
}

func TestDeadlineResetWhileWaiting(t *testing.T) {
	defer goleak.VerifyNone(t)
	d := newDeadline(t, cgroup.Boottime()+time.Hour)
	done := make(chan error)
	go func() { done <- d.Wait(t.Context()) }()
	if err := d.Reset(cgroup.Boottime() + time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("Wait: %v", err)
	}
}

func TestDeadlineResetForgets(t *testing.T) {
	d := newDeadline(t, 1)
	if err := d.Reset(cgroup.Boottime() + time.Hour); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := d.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait: %v, want the context's error", err)
	}
}

// TestDeadlineCancel: a cancelled Wait never looks like a deadline, nor does it disturb the next one.
func TestDeadlineCancel(t *testing.T) {
	defer goleak.VerifyNone(t)
	d := newDeadline(t, cgroup.Boottime()+time.Hour)
	cause := errors.New("cause")
	for range 1000 {
		ctx, cancel := context.WithCancelCause(t.Context())
		go cancel(cause)
		if err := d.Wait(ctx); !errors.Is(err, cause) {
			t.Fatalf("Wait: %v, want %v", err, cause)
		}
	}
	if err := d.Reset(1); err != nil {
		t.Fatal(err)
	}
	if err := d.Wait(t.Context()); err != nil {
		t.Errorf("Wait: %v", err)
	}
}

func TestDeadlineClose(t *testing.T) {
	defer goleak.VerifyNone(t)
	d := newDeadline(t, cgroup.Boottime()+time.Hour)
	done := make(chan error)
	go func() { done <- d.Wait(t.Context()) }()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Wait: %v, want os.ErrClosed", err)
	}
	if err := d.Reset(1); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Reset: %v, want os.ErrClosed", err)
	}
}

func TestDeadlineDescriptors(t *testing.T) {
	before := openFiles(t)
	for range 100 {
		if err := newDeadline(t, 1).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
