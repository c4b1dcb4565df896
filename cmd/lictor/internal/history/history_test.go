package history

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/scidex/lictor/events"
)

// However long a run lives, a ring has the last samples, of earlier ones ever fewer, in order, and never more than its size.
func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 5000).Draw(t, "n")
		var r Ring
		for i := range n {
			r.Add(Sample{time.Duration(i) * time.Second, uint64(i) << 20})
		}
		all := r.Samples()
		if len(all) > recent+older || n <= recent+older && len(all) != n {
			t.Fatalf("%d of %d samples", len(all), n)
		}
		if !slices.IsSortedFunc(all, func(a, b Sample) int { return int(a.At - b.At) }) {
			t.Fatal("not in order")
		}
		if n > 0 && all[0].At != 0 {
			t.Fatalf("it begins at %v", all[0].At)
		}
		for i := range min(n, recent) {
			if want := time.Duration(n-1-i) * time.Second; all[len(all)-1-i].At != want {
				t.Fatalf("%d before the last: %v, want %v", i, all[len(all)-1-i].At, want)
			}
		}
	})
}

func TestMoved(t *testing.T) {
	for _, c := range []struct {
		a, b uint64
		want bool
	}{
		{0, 0, false}, {0, 64 << 10, false}, {0, 65 << 10, true}, {1 << 30, 1<<30 + 1<<20, false}, {1 << 30, 1<<30 + 11<<20, true}, {1 << 30, 0, true},
	} {
		if got := moved(c.a, c.b); got != c.want {
			t.Errorf("from %d to %d: %v", c.a, c.b, got)
		}
	}
}

// A run that moves is read once a second; one that lies still is not read at all, until a look finds that it has moved.
func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var size, reads atomic.Uint64
		size.Store(1 << 20)
		s := NewSampler(func(run events.RunID) (uint64, error) {
			if run == "gone" {
				return 0, errors.New("gone")
			}
			reads.Add(1)
			return size.Load(), nil
		}, func() time.Duration { return time.Since(begin) })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			s.Run(ctx, 10*time.Minute)
			close(done)
		}()
		s.Add("gone")
		s.Add("run")
		wait := func(d time.Duration) uint64 {
			before := reads.Load()
			time.Sleep(d)
			synctest.Wait()
			return reads.Load() - before
		}
		if n := wait(time.Minute); n != still {
			t.Errorf("a run that lies still was read %d times, want %d", n, still)
		}
		if n := wait(time.Hour); n != 6 {
			t.Errorf("then %d times in an hour, want 6", n)
		}
		size.Store(50 << 20)
		wait(9 * time.Minute)
		for range 10 {
			size.Add(10 << 20)
			wait(time.Second)
		}
		if n := wait(time.Minute); n < still || n > still+3 {
			t.Errorf("after it has moved: %d times", n)
		}
		all := s.Samples("run")
		if n := len(all); n < 15 || all[n-1].Bytes != 150<<20 {
			t.Errorf("%d samples: %v", n, all)
		}
		if r := s.Take("run"); r == nil || len(r.Samples()) != len(all) || s.Samples("run") != nil || s.Take("run") != nil {
			t.Error("not taken")
		}
		cancel()
		<-done
	})
}
