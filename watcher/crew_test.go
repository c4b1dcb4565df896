package watcher

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A crew goes through everything once, with so many at a time and no more, while whoever asked goes on.
func TestCrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, n := range []int{0, 1, crewSize, 10 * crewSize} {
			var work sync.WaitGroup
			var mu sync.Mutex
			now, most, done := 0, 0, map[int]int{}
			list := make([]int, n)
			for i := range list {
				list[i] = i
			}
			var c crew[int]
			c.round(work.Go, func() []int { return list }, func(i int) {
				mu.Lock()
				now++
				most = max(most, now)
				done[i]++
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				now--
				mu.Unlock()
			})
			work.Wait()
			if want := min(n, crewSize); most != want {
				t.Errorf("%d at a time of %d, want %d", most, n, want)
			}
			for i := range n {
				if done[i] != 1 {
					t.Errorf("%d of %d was done %d times", i, n, done[i])
				}
			}
		}
	})
}

// However often a round is asked for while there is one, one follows, with what is there by then.
func TestCrewAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var work sync.WaitGroup
		var mu sync.Mutex
		rounds, did := 0, 0
		var c crew[int]
		ask := func() {
			c.round(work.Go, func() []int { rounds++; return make([]int, rounds) }, func(int) {
				time.Sleep(time.Second)
				mu.Lock()
				did++
				mu.Unlock()
			})
		}
		for range 5 {
			ask()
		}
		work.Wait()
		if rounds != 2 || did != 1+2 {
			t.Errorf("%d rounds for %d, want 2 for 3", rounds, did)
		}
		ask()
		work.Wait()
		if rounds != 3 || did != 1+2+3 {
			t.Errorf("after another: %d rounds for %d, want 3 for 6", rounds, did)
		}
	})
}
